//! The transaction of a batch: counters up, rows and histories read, the decisions, what they write, COMMIT. And, where it did
//! not come about, who holds what it needs.

use std::collections::HashSet;

use super::apart::apart;
use super::blocks::{self, BlockRow, Revision};
use super::charset::{Charset, narrow};
use super::counters::{self, HeldRow, Row, Sum};
use super::failure::Failure;
use super::handle::{Patience, Store};
use super::histories;
use super::messages::{self, AuditRow};
use super::script::Script;
use super::strikes::{self, Struck};
use super::usage::{self, Arrival, HistoryRows, PartsRow, SeenRow, Since, UsageRow};
use crate::limiter::strikes::Strikes;

/// The most strikes noted in one transaction, each of which takes a question or two: many senders that come over a limit at once
/// must not make the database late for all mail. The next request of a sender that is left out strikes.
const MAX_STRIKES: usize = 8;

/// What decisions write.
#[derive(Debug, Clone, Default)]
pub struct Writes {
    pub audit: Vec<AuditRow>,
    pub usage: Vec<UsageRow>,
    pub parts: Vec<PartsRow>,
    pub seen: Vec<SeenRow>,
    pub arrived: Vec<Arrival>,
    pub struck: Vec<Struck>,
    /// What strikes lead to.
    pub strikes: Strikes,
}

/// Decides the requests of a transaction between its reads and its writes, and keeps what it decided. Pure: the store hands in
/// all that it knows.
pub trait Decider: Send {
    /// Whether it knows the blocks of this revision.
    fn knows_blocks(&self, revision: Revision) -> bool;

    /// Takes the blocks of another revision.
    fn take_blocks(&mut self, revision: Revision, blocks: Vec<BlockRow>);

    /// Sees the rows as they stand after the sums were added, in the order of the sums (none for a sender that was only
    /// looked at and has no row), and says which histories it needs.
    fn history(&mut self, rows: &[Option<Row>]) -> Option<Since>;

    /// Takes a strike as it was noted: when the last of its limit was.
    fn knows_strike(&mut self, struck: Struck);

    /// Decides, and says what is to be written.
    fn decide(&mut self, rows: &[Option<Row>], history: HistoryRows) -> Writes;
}

impl Store {
    /// One transaction: adds `sums` (sorted by sender), reads the rows as they then stand, lets `decider` decide, writes what it
    /// says, and commits.
    ///
    /// `now` is in seconds since 1970; `new_quota` goes into rows made here. Without a connection it connects first.
    ///
    /// # Errors
    /// After [`Failure::Unknown`] what was decided may hold: [`Store::committed`] says whether it does.
    pub async fn settle(
        &mut self,
        sums: &[Sum],
        new_quota: u32,
        now: i64,
        decider: &mut impl Decider,
    ) -> Result<(), Failure> {
        let session = self.connect().await?;
        let narrowed: Vec<Sum>;
        let sums = match session.keys {
            Charset::Utf8mb4 => sums,
            keys => {
                narrowed = sums.iter().map(|sum| sum.narrowed(keys)).collect();
                &narrowed
            }
        };
        self.transact(Patience::Batch { now }, async |script| {
            let (mut rows, mark) = counters::charge(script, sums, new_quota, now, session.lowered).await?;
            counters::mend_windows(script, &mut rows, now).await?;
            let revision = match rows.iter().flatten().map(|row| row.blocks).max() {
                Some(revision) => revision,
                None => blocks::revision(script).await?,
            };
            if !decider.knows_blocks(revision) {
                decider.take_blocks(revision, blocks::read(script, now).await?);
            }
            let history = match decider.history(&rows) {
                Some(since) => read_histories(script, since, &counters::made(&rows, mark)).await?,
                None => HistoryRows::default(),
            };
            let items = rows.len() + history.usage.len() + history.seen.len();
            let writes = apart(items, || decider.decide(&rows, history));
            usage::add(script, &writes.usage).await?;
            usage::add_parts(script, &writes.parts).await?;
            usage::see(script, &writes.seen, now).await?;
            usage::arrive(script, &writes.arrived).await?;
            messages::insert(script, &writes.audit, session.texts).await?;
            for struck in writes.struck.into_iter().take(MAX_STRIKES) {
                let at = strikes::note(script, &struck, &writes.strikes).await?;
                decider.knows_strike(Struck { at, ..struck });
            }
            Ok(())
        })
        .await
    }

    /// The rows of these senders that another session holds locked right now. Asks without waiting.
    pub async fn locked(&mut self, senders: &[String]) -> Result<Vec<HeldRow>, Failure> {
        let keys = self.connect().await?.keys;
        let senders: Vec<(&str, String)> =
            senders.iter().map(|sender| (sender.as_str(), narrow(sender, keys).into_owned())).collect();
        self.run(async |connection| counters::locked(connection, &senders).await).await
    }

    /// Looks whether somebody holds the whole table of counters: then the database is [`Failure::Away`].
    pub async fn table_is_free(&mut self) -> Result<(), Failure> {
        self.look(async |connection| match counters::is_table_locked(connection).await? {
            false => Ok(()),
            true => Err(Failure::Away("somebody has locked the table ratelimits".to_owned())),
        })
        .await
    }
}

/// Reads histories. Rows that this transaction made have none yet.
async fn read_histories(
    script: &mut Script<'_>,
    mut since: Since,
    made: &HashSet<i64>,
) -> Result<HistoryRows, Failure> {
    let made: Vec<i64> = since.rows.extract_if(.., |id| made.contains(id)).collect();
    if since.rows.is_empty() && since.learnt.is_none() {
        return Ok(HistoryRows { rows: made, ..HistoryRows::default() });
    }
    let mut read = histories::read(script, since).await?;
    read.rows.extend(made);
    Ok(read)
}
