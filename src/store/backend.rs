//! One connection to one database, and the transactions on it, generic over the concrete sqlx drivers.

use sqlx::{ColumnIndex, ConnectOptions, Database, Decode, Encode, Executor, Type};

use super::charset::{Charset, narrow};
use super::dialect::{self, ConnectionOf, Dialect, Session, commit_failure, failure};
use super::patience::Patience;
use super::script::Script;
use super::{Failure, HistoryRows, Judge, Sum, counters, messages, usage};
use crate::config;

/// A connection that comes when it is needed and goes when it is of no more use. There is no pool: the committer is one
/// task that asks one question at a time.
pub struct Backend<D: Dialect> {
    pub(super) options: D::Options,
    /// Whether it only reads.
    reading: bool,
    pub(super) connection: Option<ConnectionOf<D>>,
    session: Session,
    /// True while COMMIT is under way: whoever gives up on the connection then cannot know its outcome.
    committing: bool,
}

impl<D: Dialect> Backend<D> {
    pub fn new(database: &config::Database) -> Backend<D> {
        Backend::with(D::options(database), false)
    }

    /// One that only reads.
    pub fn reading(database: &config::Database) -> Backend<D> {
        Backend::with(D::reading(database), true)
    }

    fn with(options: D::Options, reading: bool) -> Backend<D> {
        // The driver would log each statement that takes long, which is all of them while somebody else has the database.
        let options = options.disable_statement_logging();
        Backend { options, reading, connection: None, session: Session::default(), committing: false }
    }

    pub fn place(&self) -> String {
        D::place(&self.options)
    }

    pub async fn connect(&mut self) -> Result<(), Failure> {
        if self.connection.is_none() {
            let connected = async {
                let mut connection = D::connect(&self.options).await?;
                if self.reading {
                    D::only_read(&mut connection).await?;
                }
                let session = D::session(&mut connection).await?;
                Ok((connection, session))
            };
            let (connection, session) = connected.await.map_err(|error| failure::<D>(&error))?;
            self.connection = Some(connection);
            self.session = session;
        }
        Ok(())
    }

    pub fn abandon(&mut self) -> bool {
        self.connection = None;
        std::mem::take(&mut self.committing)
    }

    pub async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            dialect::close::<D>(connection).await;
        }
    }

    /// What `ratelimits.sender` can hold, as the last connection found it.
    pub(super) fn keys(&self) -> Charset {
        self.session.keys
    }

    /// A sum with keys that the table can hold.
    pub(super) fn narrowed_sum(&self, sum: &Sum) -> Sum {
        let narrow = |key: &str| narrow(key, self.session.keys).into_owned();
        Sum { sender: narrow(&sum.sender), domain: sum.domain.as_deref().map(narrow), ..sum.clone() }
    }

    /// For statements that may have to wait for others' rows.
    pub(super) fn patience(&self) -> Patience<'_, D> {
        Patience { options: &self.options, session: self.session.id }
    }

    /// The connection, taken out: a method that is cancelled or fails leaves none behind, and the next one connects anew.
    pub(super) async fn take_connection(&mut self) -> Result<ConnectionOf<D>, Failure> {
        self.connect().await?;
        self.connection.take().ok_or_else(|| Failure::Away("there is no connection".to_owned()))
    }

    /// Keeps a connection for the next time, unless `result` says that it is of no more use.
    pub(super) fn put_back<T>(&mut self, connection: ConnectionOf<D>, result: &Result<T, Failure>) {
        if !matches!(result, Err(Failure::Away(_) | Failure::Unknown(_))) {
            self.connection = Some(connection);
        }
    }

    /// Does something on the connection, and keeps the connection if it is still good.
    pub(super) async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut ConnectionOf<D>) -> Result<T, sqlx::Error>,
    ) -> Result<T, Failure> {
        let mut connection = self.take_connection().await?;
        let result = work(&mut connection).await.map_err(|error| failure::<D>(&error));
        self.put_back(connection, &result);
        result
    }
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
        let patience = Patience::<D> { options: &self.options, session: self.session.id };
        let mut script = Script::<D>::new(connection, patience);
        let written = async {
            script.begin().await?;
            let mark = counters::add(&mut script, sums, new_quota, now).await?;
            let mut rows = counters::read(&mut script, sums).await?;
            counters::inherit(&mut script, sums, &mut rows, mark).await?;
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
