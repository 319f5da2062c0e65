//! One connection to one database, generic over the concrete sqlx drivers. What is done on it is in files of its own.

use sqlx::ConnectOptions;

use super::Failure;
use super::charset::{Charset, narrow};
use super::counters::Sum;
use super::dialect::{self, ConnectionOf, Dialect, Session, failure};
use super::lock_timeout::LockTimeout;
use crate::config;

/// A connection that comes when it is needed and goes when it is of no more use. There is no pool: the committer is one
/// task that asks one question at a time.
pub struct Backend<D: Dialect> {
    pub(super) options: D::Options,
    /// Whether it only reads.
    reading: bool,
    pub(super) connection: Option<ConnectionOf<D>>,
    pub(super) session: Session,
    /// True while COMMIT is under way: whoever gives up on the connection then cannot know its outcome.
    pub(super) committing: bool,
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
    pub(super) fn lock_timeout(&self) -> LockTimeout<'_, D> {
        LockTimeout { options: &self.options, session: self.session.id }
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
