//! The transaction of a batch: counters up, rows and histories read, the judgement, what it writes, COMMIT. And, where it did
//! not come about, who holds what it needs.

use sqlx::{ColumnIndex, Database, Decode, Encode, Executor, Type};

use super::Failure;
use super::backend::Backend;
use super::charset::{Charset, narrow};
use super::counters::{self, Row, Sum};
use super::dialect::{ConnectionOf, Dialect, commit_failure, failure};
use super::lock_timeout::LockTimeout;
use super::messages::{self, AuditRow};
use super::script::Script;
use super::usage::{self, HistoryRows, SeenRow, Since, UsageRow};

/// What a judgement writes.
#[derive(Debug, Default)]
pub struct Writes {
    pub audit: Vec<AuditRow>,
    pub usage: Vec<UsageRow>,
    pub seen: Vec<SeenRow>,
}

/// Judges the requests of a transaction between its reads and its writes. Pure: the store gives it all it knows.
pub trait Judge: Send {
    type Ruled: Send;

    /// Sees the rows as they stand after the sums were added, in the order of the sums (none for a sender that was only
    /// looked at and has no row), and says which histories it needs.
    fn history(&mut self, rows: &[Option<Row>]) -> Option<Since>;

    /// Judges, and says what is to be written.
    fn rule(self, rows: &[Option<Row>], history: HistoryRows) -> (Self::Ruled, Writes);
}

impl<D: Dialect> Backend<D>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    pub async fn settle<J: Judge>(
        &mut self,
        sums: &[Sum],
        new_quota: u32,
        now: i64,
        judge: J,
    ) -> Result<J::Ruled, Failure> {
        let mut connection = self.take_connection().await?;
        let narrowed: Vec<Sum>;
        let sums = match self.session.keys {
            Charset::Utf8mb4 => sums,
            _ => {
                narrowed = sums.iter().map(|sum| self.narrowed_sum(sum)).collect();
                &narrowed
            }
        };
        let result = self.transact(&mut connection, sums, new_quota, now, judge).await;
        self.put_back(connection, &result);
        result
    }

    async fn transact<J: Judge>(
        &mut self,
        connection: &mut ConnectionOf<D>,
        sums: &[Sum],
        new_quota: u32,
        now: i64,
        mut judge: J,
    ) -> Result<J::Ruled, Failure> {
        let lock_timeout = LockTimeout::<D> { options: &self.options, session: self.session.id };
        let mut script = Script::<D>::new(connection, lock_timeout);
        let written = async {
            script.begin().await?;
            let mark = counters::add(&mut script, sums, new_quota, now).await?;
            let mut rows = counters::read(&mut script, sums).await?;
            counters::inherit(&mut script, sums, &mut rows, mark).await?;
            counters::mend_windows(&mut script, &mut rows, now).await?;
            let history = match judge.history(&rows) {
                Some(since) => usage::read(&mut script, since).await?,
                None => HistoryRows::default(),
            };
            let (ruled, writes) = judge.rule(&rows, history);
            usage::add(&mut script, &writes.usage).await?;
            usage::see(&mut script, &writes.seen).await?;
            if writes.audit.len() > 1 {
                // Together they would be a new statement for every pair of sizes.
                script.send().await?;
            }
            messages::insert(&mut script, &writes.audit, now, self.session.texts).await?;
            Ok(ruled)
        }
        .await;
        match written {
            Ok(ruled) => {
                self.committing = true;
                let committed = script.commit().await;
                self.committing = false;
                match committed {
                    Ok(()) => Ok(ruled),
                    Err(error) if D::IN_PROCESS => Err(undone(&mut script, &error).await),
                    Err(error) => Err(commit_failure::<D>(&error)),
                }
            }
            Err(error) => Err(undone(&mut script, &error).await),
        }
    }

    pub async fn locked(&mut self, senders: &[String]) -> Result<Vec<String>, Failure> {
        let mut connection = self.take_connection().await?;
        let senders: Vec<(&str, String)> =
            senders.iter().map(|sender| (sender.as_str(), narrow(sender, self.session.keys).into_owned())).collect();
        let result = counters::locked::<D>(&mut connection, &senders).await.map_err(|error| failure::<D>(&error));
        self.put_back(connection, &result);
        result
    }

    pub async fn table_is_free(&mut self) -> Result<(), Failure> {
        let mut connection = self.take_connection().await?;
        let result = match counters::is_table_locked::<D>(&mut connection).await {
            Ok(false) => Ok(()),
            Ok(true) => Err(Failure::Away("somebody has locked the table ratelimits".to_owned())),
            Err(failure) => Err(failure),
        };
        self.put_back(connection, &result);
        result
    }
}

/// Rolls back after an error, and sorts it.
pub(super) async fn undone<D: Dialect>(script: &mut Script<'_, D>, error: &sqlx::Error) -> Failure
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
{
    let failure = failure::<D>(error);
    match script.roll_back().await {
        Ok(()) => failure,
        // The connection is gone; what the database said before that still stands.
        Err(error) if matches!(failure, Failure::Away(_)) => {
            log::debug!("rolling back: {error}");
            failure
        }
        Err(error) => Failure::Away(format!("{failure}, and then {error}")),
    }
}
