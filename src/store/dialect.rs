//! The few words in which the three databases differ.

use std::future::Future;
use std::time::Duration;

use sqlx::{ConnectOptions, Connection, Database, IntoArguments};

use super::Failure;
use super::charset::Charset;
use crate::config;

/// How long a transaction waits for a row that somebody else holds. Long enough for another daemon's commit, short enough
/// that the others in the batch hardly notice.
pub const LOCK_TIMEOUT: Duration = Duration::from_millis(150);

/// How long the server itself lets a statement run, so that it ends what the client has given up.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// What a database's SQL and driver do differently from the others'.
pub trait Dialect: Send + Sync + Sized + 'static {
    type Db: Database<Arguments: IntoArguments<Self::Db>>;
    /// How to reach the database; made from the settings once.
    type Options: ConnectOptions;

    /// Whether the database runs in this process: several statements go in one call, and each of its errors is certain.
    const IN_PROCESS: bool = false;
    /// Begins a transaction that is going to write.
    const BEGIN: &'static str;
    /// The type to CAST a whole number to, so that it is read as a signed 64-bit one whatever its column is.
    const INTEGER: &'static str;
    /// The function that gives the lesser of two numbers.
    const LEAST: &'static str;
    /// The function that gives the greater of two numbers.
    const GREATEST: &'static str;
    /// What of `ratelimits` is compared with a key (and is unique).
    const SENDER: &'static str;
    /// The table `usage`, whose name is a reserved word in one of them.
    const USAGE: &'static str;
    /// Around a number of seconds since 1970 to make a column's point in time of it.
    const FROM_EPOCH: (&'static str, &'static str);
    /// Before a table's name in quotes: counts the tables of that name, 0 or 1.
    const TABLES_NAMED: &'static str;
    /// The words around an INSERT that leaves a row as it is if it is there already.
    const INSERT_ABSENT: (&'static str, &'static str);

    /// Begins the part of an upsert that says what to do with a row that is there already.
    fn on_conflict(key: &str) -> String;
    /// The value that an upsert brought for a column.
    fn brought(column: &str) -> String;
    /// A column's point in time as whole seconds since 1970.
    fn epoch(column: &str) -> String;
    /// How many rows a statement changed.
    fn rows_affected(result: &<Self::Db as Database>::QueryResult) -> u64;

    fn options(database: &config::Database) -> Self::Options;
    /// The same for a connection that only reads.
    fn reading(database: &config::Database) -> Self::Options {
        Self::options(database)
    }
    /// False if there is no database yet, and the first who writes makes it. A server speaks for itself.
    fn exists(options: &Self::Options) -> bool {
        let _ = options;
        true
    }
    /// Where the database is, in words.
    fn place(options: &Self::Options) -> String;
    /// Connects and sets the session up: time-outs, isolation, UTC.
    fn connect(
        options: &Self::Options,
    ) -> impl Future<Output = Result<<Self::Db as Database>::Connection, sqlx::Error>> + Send;
    /// Has the server refuse to write in this session, and end what takes long: a reader that gives up leaves its statement
    /// behind. Only where [`Dialect::reading`] cannot say so.
    fn only_read(
        connection: &mut <Self::Db as Database>::Connection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send {
        let _ = connection;
        async { Ok(()) }
    }
    /// Sorts an error of this database. `None` for one that every database has in common.
    fn classify(error: &dyn sqlx::error::DatabaseError) -> Option<Failure>;

    /// What is to be known about a connection and the tables it finds.
    fn session(
        connection: &mut <Self::Db as Database>::Connection,
    ) -> impl Future<Output = Result<Session, sqlx::Error>> + Send {
        let _ = connection;
        async { Ok(Session::default()) }
    }

    /// Interrupts the statement that a session waits for. Only for a server that cannot be told [`LOCK_TIMEOUT`] itself.
    fn interrupt(options: &Self::Options, session: i64) -> impl Future<Output = Result<(), sqlx::Error>> + Send {
        let _ = (options, session);
        async { Ok(()) }
    }

    /// Whether somebody else holds the row of a key, or is making it in a transaction of its own. Asks without waiting.
    fn is_held(
        connection: &mut <Self::Db as Database>::Connection,
        key: &str,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send {
        let _ = (connection, key);
        async { Ok(false) }
    }

    /// What tables that PolicydRateGuard made lack: migrations leave a table that is there as it is. Only reads.
    fn lacking(
        connection: &mut <Self::Db as Database>::Connection,
    ) -> impl Future<Output = Result<Vec<Addition>, sqlx::Error>> + Send {
        let _ = connection;
        async { Ok(Vec::new()) }
    }

    /// Waits until no other process changes the tables' structure, and keeps all others from it until [`Dialect::unlock`].
    fn lock(
        connection: &mut <Self::Db as Database>::Connection,
    ) -> impl Future<Output = Result<(), sqlx::migrate::MigrateError>> + Send;
    /// Lets others change the tables' structure.
    fn unlock(
        connection: &mut <Self::Db as Database>::Connection,
    ) -> impl Future<Output = Result<(), sqlx::migrate::MigrateError>> + Send;

    /// Whether `messages` can be searched by time without reading all of it.
    fn finds_messages_by_time(
        connection: &mut <Self::Db as Database>::Connection,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send {
        let _ = connection;
        async { Ok(true) }
    }

    /// The migrations of this database.
    fn migrator() -> &'static sqlx::migrate::Migrator;
}

/// What a table lacks.
#[derive(Debug)]
pub struct Addition {
    /// In words, for people.
    pub name: String,
    /// The statement that makes it.
    pub sql: String,
    /// Whether that takes long on a large table.
    pub slow: bool,
}

/// What is known about a connection and the tables it finds.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    /// By which [`Dialect::interrupt`] finds it; none where the server itself keeps to [`LOCK_TIMEOUT`].
    pub id: Option<i64>,
    /// What `ratelimits.sender` can hold.
    pub keys: Charset,
    /// What the text columns of `messages` can hold.
    pub texts: Charset,
}

impl Default for Session {
    fn default() -> Session {
        Session { id: None, keys: Charset::Utf8mb4, texts: Charset::Utf8mb4 }
    }
}

/// Sorts an sqlx error, of a statement other than COMMIT.
pub fn failure<D: Dialect>(error: &sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Database(database) => {
            D::classify(&**database).unwrap_or_else(|| Failure::Away(database.message().to_owned()))
        }
        sqlx::Error::Encode(error) => Failure::Refused(error.to_string()),
        other => Failure::Away(describe(other)),
    }
}

/// Sorts an error of COMMIT. Only a deadlock, a failed certification or a refused value mean that nothing was written; after
/// anything else (a lost connection, a server that ends, a statement that was interrupted) the outcome is open.
pub fn commit_failure<D: Dialect>(error: &sqlx::Error) -> Failure {
    match failure::<D>(error) {
        certain @ (Failure::Transient(_) | Failure::Refused(_)) => certain,
        Failure::Locked(words) | Failure::Away(words) | Failure::Unknown(words) => Failure::Unknown(words),
    }
}

/// An error in words, with what lies beneath it.
fn describe(error: &sqlx::Error) -> String {
    use std::error::Error;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The connection of a dialect.
pub type ConnectionOf<D> = <<D as Dialect>::Db as Database>::Connection;

/// Ends a connection politely, whatever comes of it.
pub async fn close<D: Dialect>(connection: ConnectionOf<D>) {
    if let Err(error) = connection.close().await {
        log::debug!("closing the database connection: {error}");
    }
}
