//! Charging what an outage journal holds: what was answered while the database was away. Nothing is decided any more; counters
//! rise, history gets its minutes and the audit log its rows, and with them, in the same transaction, how far it has come.

use super::counters::{self, Outlived, Row, Sum};
use super::days;
use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::{Patience, Store};
use super::messages;
use super::meta;
use super::reset::LAST_RESET;
use super::script::Script;
use super::settle::Writes;
use super::sql::Sql;
use super::usage;

/// Some records of a journal that follow each other, by their numbers: `from` of them are charged before, `to` after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The journal's own number, a random one.
    pub journal: i64,
    pub from: i64,
    pub to: i64,
}

/// What a part of a journal writes beside the sums.
#[derive(Debug, Default)]
pub struct Late {
    pub writes: Writes,
    pub outlived: Vec<Outlived>,
}

impl Store {
    /// Charges a part of a journal: `sums` (sorted by sender), and what `write` makes of the rows as they then stand and of
    /// the time of the last reset of all counters, in seconds since 1970.
    ///
    /// Returns how many records of the journal are charged. If that is not where the part begins, nothing was written:
    /// the part, or more, was charged before, or the database is an older copy.
    pub async fn charge(
        &mut self,
        part: Part,
        sums: &[Sum],
        new_quota: u32,
        now: i64,
        write: impl FnOnce(&[Option<Row>], Option<i64>) -> Late + Send,
    ) -> Result<i64, Failure> {
        let session = self.connect().await?;
        let sums: Vec<Sum> = sums.iter().map(|sum| sum.narrowed(session.keys)).collect();
        self.transact(Patience::Batch { now }, async |script| {
            let charged = lock(script, part.journal, now).await?;
            if charged != part.from {
                return Ok(charged);
            }
            script.run(moving(script.dialect(), part)).await?;
            let reset = meta::time(script.connection().await?, LAST_RESET, now).await?;
            let (mut rows, _) = counters::charge(script, &sums, new_quota, now, session.lowered).await?;
            counters::mend_windows(script, &mut rows, now).await?;
            let Late { writes, outlived } = write(&rows, reset);
            counters::take_off(script, &outlived).await?;
            usage::add(script, &writes.usage).await?;
            usage::add_parts(script, &writes.parts).await?;
            let arrived = usage::not_seen(script, writes.arrived).await?;
            usage::see(script, &writes.seen, now).await?;
            usage::arrive(script, &arrived).await?;
            if let Some(first) = writes.usage.iter().map(|row| row.minute).min() {
                days::changed_since(script, first).await?;
            }
            messages::insert(script, &writes.audit, session.texts).await?;
            Ok(part.to)
        })
        .await
    }
}

/// Takes the lock of a journal's row, made if it is missing, and returns how many of its records are charged.
async fn lock(script: &mut Script<'_>, journal: i64, now: i64) -> Result<i64, Failure> {
    let dialect = script.dialect();
    let mut sql = script.sql("INSERT INTO journals (journal, charged, seen_at) VALUES ");
    sql.push_list([journal, 0, now]).push(dialect.on_conflict("journal"));
    sql.push("seen_at = ").push(dialect.brought("seen_at"));
    script.run(sql).await?;
    let mut sql = script.sql("SELECT charged FROM journals WHERE journal = ");
    sql.push_bind(journal);
    let rows = script.rows(sql).await?;
    rows.first().map_or(Ok(0), |row| row.try_get(0))
}

/// The statement that notes a part as charged.
fn moving(dialect: &'static Dialect, part: Part) -> Sql {
    let mut sql = Sql::new(dialect, "UPDATE journals SET charged = ");
    sql.push_bind(part.to).push(" WHERE journal = ").push_bind(part.journal);
    sql
}
