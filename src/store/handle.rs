//! The store: one connection to one database. What is done on it is in files of its own.

use std::time::Duration;

use super::batch::Batch;
use super::connection::Connection;
use super::dialect::Session;
use super::failure::Failure;
use super::lock_timeout::LockTimeout;
use super::long_log::{LONG, LongLog};
use super::script::Script;
use super::servers::Servers;
use super::sqlite::Files;
use super::write_back::{self, WriteBack};
use crate::config;

/// A connection that comes when it is needed and goes when it is of no more use. There is no pool: the committer is one
/// task that asks one question at a time.
pub struct Store {
    pub(super) servers: Servers,
    /// Whether it only reads.
    reading: bool,
    connection: Option<Connection>,
    session: Session,
    /// As they were when the connection was last used.
    files: Files,
    long_log: LongLog,
    write_back: WriteBack,
    /// True while COMMIT is under way: nobody who gives up on the connection then can know its outcome.
    committing: bool,
    /// The last that was begun.
    batch: Batch,
}

/// How long the statements of a transaction wait for rows that somebody else holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// [`super::dialect::LOCK_TIMEOUT`]: mail may wait for it.
    Short,
    /// The same, for what counts: notes a batch, at a time in seconds since 1970.
    Batch { now: i64 },
    /// As long as the server lets it.
    Long,
}

impl Store {
    /// A store that is not connected yet.
    pub fn new(database: &config::Database) -> Store {
        Store::with(database, false)
    }

    /// One that only reads: makes no file and no table, and writes no row.
    pub fn reading(database: &config::Database) -> Store {
        Store::with(database, true)
    }

    fn with(database: &config::Database, reading: bool) -> Store {
        Store {
            servers: Servers::new(database, reading),
            reading,
            connection: None,
            session: Session::default(),
            files: Files::default(),
            long_log: LongLog::default(),
            write_back: WriteBack::default(),
            committing: false,
            batch: Batch::before_the_first(),
        }
    }

    /// Where the database is, for messages.
    pub fn place(&self) -> String {
        self.servers.place()
    }

    /// Where it was used last, for machines: a host and its port, a socket, or a file.
    pub fn host(&self) -> String {
        self.servers.current().host()
    }

    /// Whether there is another server to turn to.
    pub fn has_other_servers(&self) -> bool {
        self.servers.are_several()
    }

    /// Drops the connection at once, in whatever state it is: its server was waited for in vain. True if a COMMIT was under way
    /// on it.
    pub fn abandon(&mut self) -> bool {
        self.leave_replaced_file();
        self.servers.avoid_current();
        self.connection = None;
        std::mem::take(&mut self.committing)
    }

    /// The last batch that was begun, see [`Store::committed`].
    pub fn batch(&self) -> Batch {
        self.batch
    }

    /// Ends the connection politely.
    pub async fn close(&mut self) {
        self.leave_replaced_file();
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    /// Connects if there is no connection.
    pub async fn reach(&mut self) -> Result<(), Failure> {
        self.connect().await.map(drop)
    }

    /// Connects if there is no connection, and returns what is known of it.
    pub(super) async fn connect(&mut self) -> Result<Session, Failure> {
        self.leave_replaced_file();
        let connected = match self.connection {
            Some(_) => self.servers.back_to_first(self.reading).await,
            None => Some(self.servers.connect(self.reading).await?),
        };
        if let Some((connection, session)) = connected {
            // Whose end nobody needs to wait for.
            self.connection.replace(connection).map(|former| tokio::spawn(former.close()));
            self.session = session;
            self.files = self.servers.current().files();
        }
        self.write_log_back().await;
        Ok(self.session)
    }

    /// Connects if there is no connection, and says whether the server may refuse the next login although it took this one.
    pub async fn may_be_refused_next_time(&mut self) -> Result<bool, Failure> {
        let mut connection = self.take_connection().await?;
        let may = self.servers.current().may_refuse_the_next_login(&mut connection).await;
        self.put_back(connection);
        Ok(may)
    }

    /// Has SQLite's log written back when it is long. It is short for one that only reads, or somebody else's concern.
    async fn write_log_back(&mut self) {
        if self.reading || !self.write_back.is_due(self.files.log_bytes, self.servers.current()).await {
            return;
        }
        let Some(connection) = &mut self.connection else { return };
        if let Err(failure) = write_back::pass(connection).await {
            log::debug!("{}: writing the rest of the log back: {failure}", self.place());
        }
    }

    /// Leaves a file that somebody has removed or replaced (to begin anew, or with a backup): what was counted in it,
    /// nobody would ever see.
    fn leave_replaced_file(&mut self) {
        let there = self.servers.current().files();
        if self.connection.is_some() && there.database != self.files.database {
            log::warn!("{}: the file was removed or replaced; what is there now is opened", self.place());
            self.servers.current().remove_log(self.files);
            // Left open: to close it would remove the log of the file that is there now, which has the same name.
            std::mem::forget(self.connection.take());
        }
        self.files = there;
        if self.long_log.is_news(there.log_bytes) {
            log::warn!(
                "{}: its write-ahead log has grown to {} MB: another process reads the file for long, and keeps the log from being \
                 written back. Mail goes on; end that process (`fuser` names it) before the disk is full",
                self.place(),
                there.log_bytes >> 20
            );
        }
    }

    /// In bytes, how long SQLite's write-ahead log is, if it is far longer than it should be.
    pub fn long_log(&self) -> Option<u64> {
        Some(self.servers.current().files().log_bytes).filter(|bytes| *bytes >= LONG)
    }

    /// The connection, taken out: a method that is cancelled or fails leaves none behind, and the next one connects anew.
    pub(super) async fn take_connection(&mut self) -> Result<Connection, Failure> {
        self.connect().await?;
        self.connection.take().ok_or_else(|| Failure::Away("there is no connection".to_owned()))
    }

    /// Keeps a connection for the next time.
    pub(super) fn put_back(&mut self, connection: Connection) {
        self.connection = Some(connection);
    }

    /// Keeps a connection for the next time, unless `result` says that it is of no more use.
    fn put_back_if_good<T>(&mut self, connection: Connection, result: &Result<T, Failure>) {
        if !matches!(result, Err(Failure::Away(_) | Failure::Unknown(_))) {
            self.put_back(connection);
        }
    }

    /// Does something on the connection, and keeps the connection if it is still good.
    pub(super) async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut connection = self.take_connection().await?;
        let result = work(&mut connection).await;
        self.put_back_if_good(connection, &result);
        result
    }

    /// How long a question takes on its way to the database and back, as the last connection found it.
    pub fn round_trip(&self) -> Duration {
        self.session.round_trip
    }

    /// Asks one question that no lock may hold up for long.
    pub(super) async fn look<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut connection = self.take_connection().await?;
        let result = LockTimeout::new(self.servers.current(), self.session).keep(&mut connection, question).await;
        self.put_back_if_good(connection, &result);
        result
    }

    /// Does something in one transaction: all of it, or nothing.
    pub(super) async fn transact<T>(
        &mut self,
        patience: Patience,
        work: impl AsyncFnOnce(&mut Script<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.reading {
            return Err(Failure::Refused("this connection only reads".to_owned()));
        }
        let mut connection = self.take_connection().await?;
        let lock_timeout = match patience {
            Patience::Short | Patience::Batch { .. } => LockTimeout::new(self.servers.current(), self.session),
            Patience::Long => LockTimeout::Server,
        };
        let mut script = Script::new(&mut connection, lock_timeout, self.session.loses_transactions);
        script.begin();
        let dialect = script.dialect();
        // Only a server can lose a transaction and answer as if it had not, or a connection within COMMIT.
        let noted_at = match patience {
            _ if dialect.in_process => None,
            Patience::Batch { now } => Some(now),
            Patience::Short | Patience::Long => self.session.loses_transactions.then_some(0),
        };
        let mut proof = None;
        let written = async {
            if let Some(now) = noted_at {
                self.batch = self.batch.next();
                script.run(self.batch.noted(dialect, now)).await?;
                proof = Some(self.batch.proof(dialect));
            }
            work(&mut script).await
        };
        let result = match written.await {
            Ok(done) => {
                self.committing = true;
                let committed = script.commit(proof).await;
                self.committing = false;
                committed.map(|()| done)
            }
            Err(failure) => Err(script.roll_back(failure).await),
        };
        self.put_back_if_good(connection, &result);
        result
    }
}
