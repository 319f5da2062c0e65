//! A connection to one of the three databases: the only place where their drivers are told apart.

use std::net::IpAddr;

use futures_util::{Stream, TryStreamExt as _};
use sqlx::migrate::{Migrate, Migrator};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Either, Executor as _, Row as _};

use super::apart::apart;
use super::dialect::{Addition, Dialect, Session, SessionId};
use super::failure::Failure;
use super::sql::{Sql, Value};
use super::sqlite::Files;
use super::{mysql, postgres, sqlite};
use crate::config;

/// Runs the same expression on whichever variant of an enum this is.
macro_rules! each {
    ($of:ident, $value:expr, $inner:ident => $body:expr) => {
        match $value {
            $of::Sqlite($inner) => $body,
            $of::Mysql($inner) => $body,
            $of::Postgres($inner) => $body,
        }
    };
}

/// What a packet of statements came to.
pub struct Answer<R = Row> {
    /// All rows that were found.
    pub rows: Vec<R>,
    /// How many rows the last statement changed.
    pub changed: u64,
    /// How many rows there were when each statement ended.
    ends: Vec<usize>,
}

impl<R> Answer<R> {
    /// Of no statement.
    pub fn none() -> Answer<R> {
        Answer { rows: Vec::new(), changed: 0, ends: Vec::new() }
    }

    /// The rows of each of the last statements, so many of them.
    pub fn of_last(mut self, statements: usize) -> Vec<Vec<R>> {
        let mut of_each = Vec::with_capacity(statements);
        while of_each.len() < statements && self.ends.pop().is_some() {
            let begin = self.ends.last().copied().unwrap_or(0);
            of_each.push(self.rows.split_off(begin.min(self.rows.len())));
        }
        of_each.reverse();
        of_each
    }
}

/// A packet of statements of which one failed.
pub struct Broken {
    /// How many came to a good end before. No other was begun.
    pub ended: usize,
    pub error: sqlx::Error,
}

/// Collects what a driver answers: how many rows each statement has changed, and the rows. Others have their turn in between:
/// where the server is faster there would be no end to it.
async fn collect<R>(
    mut answers: impl Stream<Item = Result<Either<u64, R>, sqlx::Error>> + Unpin,
) -> Result<Answer<R>, Broken> {
    let mut answer = Answer::none();
    loop {
        tokio::task::consume_budget().await;
        match answers.try_next().await {
            Ok(Some(Either::Left(changed))) => {
                answer.ends.push(answer.rows.len());
                answer.changed = changed;
            }
            Ok(Some(Either::Right(row))) => answer.rows.push(row),
            Ok(None) => return Ok(answer),
            Err(error) => return Err(Broken { ended: answer.ends.len(), error }),
        }
    }
}

/// Runs statements on one of the connections, and collects what comes of them.
macro_rules! collected {
    ($connection:expr, $query:expr, $row:path) => {{
        let answers = $connection.fetch_many($query);
        collect(answers.map_ok(|one| one.map_either(|done| done.rows_affected(), $row))).await
    }};
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Failure {
        broken.error.into()
    }
}

/// How to reach a database on one server; made from the settings once.
#[derive(Clone)]
pub enum Options {
    Sqlite(SqliteConnectOptions),
    Mysql(MySqlConnectOptions),
    Postgres(PgConnectOptions),
}

impl Options {
    /// The settings' database on a server; `reading` for a connection that only reads, and makes no file.
    pub fn new(database: &config::Database, place: &config::Place, reading: bool) -> Options {
        // The driver would log each statement that takes long, which is all of them while somebody else has the database.
        match database.driver {
            config::Driver::Sqlite => Options::Sqlite(sqlite::options(database, reading).disable_statement_logging()),
            config::Driver::Mysql => Options::Mysql(mysql::options(database, place).disable_statement_logging()),
            config::Driver::Postgres => {
                Options::Postgres(postgres::options(database, place).disable_statement_logging())
            }
        }
    }

    /// The database in words, to be followed by where it is.
    pub fn database(&self) -> String {
        match self {
            Options::Sqlite(_) => "SQLite file".to_owned(),
            Options::Mysql(options) => mysql::database(options),
            Options::Postgres(options) => postgres::database(options),
        }
    }

    /// Where it is: a host and its port, a socket, or a file.
    pub fn host(&self) -> String {
        match self {
            Options::Sqlite(options) => options.get_filename().display().to_string(),
            Options::Mysql(options) => mysql::host(options),
            Options::Postgres(options) => postgres::host(options),
        }
    }

    /// The host's name, which may stand for several addresses. None for an address or a socket, and where the server has to
    /// prove that it bears the name.
    pub fn name(&self) -> Option<&str> {
        let name = match self {
            Options::Sqlite(_) => None,
            Options::Mysql(options) => mysql::name(options),
            Options::Postgres(options) => postgres::name(options),
        };
        name.filter(|name| !name.starts_with('/') && name.parse::<IpAddr>().is_err())
    }

    /// The same at one address of its name.
    pub fn at(&self, address: IpAddr) -> Options {
        match self {
            Options::Sqlite(_) => self.clone(),
            Options::Mysql(options) => Options::Mysql(options.clone().host(&address.to_string())),
            Options::Postgres(options) => Options::Postgres(options.clone().host(&address.to_string())),
        }
    }

    /// False if there is no database yet, and the first who writes makes it. A server speaks for itself.
    pub fn exists(&self) -> bool {
        match self {
            Options::Sqlite(options) => sqlite::exists(options),
            Options::Mysql(_) | Options::Postgres(_) => true,
        }
    }

    /// The files of a database that is one.
    pub fn files(&self) -> Files {
        match self {
            Options::Sqlite(options) => Files::of(options),
            Options::Mysql(_) | Options::Postgres(_) => Files::default(),
        }
    }

    /// Removes what is left of a database whose file has gone.
    pub fn remove_log(&self, files: Files) {
        if let Options::Sqlite(options) = self {
            files.remove_log(options);
        }
    }

    /// How this database writes its statements.
    pub fn dialect(&self) -> &'static Dialect {
        match self {
            Options::Sqlite(_) => &sqlite::DIALECT,
            Options::Mysql(_) => &mysql::DIALECT,
            Options::Postgres(_) => &postgres::DIALECT,
        }
    }

    /// The migrations of this database.
    pub fn migrator(&self) -> &'static Migrator {
        match self {
            Options::Sqlite(_) => &sqlite::MIGRATOR,
            Options::Mysql(_) => &mysql::MIGRATOR,
            Options::Postgres(_) => &postgres::MIGRATOR,
        }
    }

    /// Connects and sets the session up: time-outs, isolation, UTC, and that it only reads.
    pub async fn connect(&self, reading: bool) -> Result<(Connection, Session), Failure> {
        Ok(match self {
            Options::Sqlite(options) => (Connection::Sqlite(options.connect().await?), Session::default()),
            Options::Mysql(options) => {
                let (connection, session) = mysql::connect(options, reading).await?;
                (Connection::Mysql(connection), session)
            }
            Options::Postgres(options) => {
                let (connection, session) = postgres::connect(options).await?;
                (Connection::Postgres(connection), session)
            }
        })
    }

    /// Whether the server may refuse the next login although it took that of `connection`.
    pub async fn may_refuse_the_next_login(&self, connection: &mut Connection) -> bool {
        match (self, connection) {
            (Options::Mysql(options), Connection::Mysql(connection)) => {
                mysql::login::depends_on_memory(connection, options).await
            }
            _ => false,
        }
    }

    /// Interrupts the statement that a session waits for. Only for a server that cannot be told its lock time-out itself.
    pub async fn interrupt(&self, session: SessionId) -> Result<(), sqlx::Error> {
        match self {
            Options::Mysql(options) => mysql::interrupt(options, session).await,
            Options::Sqlite(_) | Options::Postgres(_) => Ok(()),
        }
    }
}

/// A connection to a database.
pub enum Connection {
    Sqlite(SqliteConnection),
    Mysql(MySqlConnection),
    Postgres(PgConnection),
}

impl Connection {
    /// How this database writes its statements.
    pub fn dialect(&self) -> &'static Dialect {
        match self {
            Connection::Sqlite(_) => &sqlite::DIALECT,
            Connection::Mysql(_) => &mysql::DIALECT,
            Connection::Postgres(_) => &postgres::DIALECT,
        }
    }

    /// Begins a statement for this database.
    pub fn sql(&self, text: impl Into<String>) -> Sql {
        Sql::new(self.dialect(), text)
    }

    /// Sends one or more statements in one packet.
    pub async fn send(&mut self, sql: Sql) -> Result<Answer, Broken> {
        let text = AssertSqlSafe(sql.text);
        match self {
            Connection::Sqlite(connection) => {
                let mut query = sqlx::query(text);
                for value in sql.values {
                    query = match value {
                        Value::Number(number) => query.bind(number),
                        Value::Text(text) => query.bind(text),
                        Value::Time(seconds) => query.bind(seconds),
                        Value::Null => query.bind(None::<i64>),
                    };
                }
                collected!(connection, query, Row::Sqlite)
            }
            Connection::Mysql(connection) => collected!(connection, sqlx::raw_sql(text), Row::Mysql),
            Connection::Postgres(connection) => collected!(connection, sqlx::raw_sql(text), Row::Postgres),
        }
    }

    /// Runs a statement, and returns how many rows it changed.
    pub async fn execute(&mut self, sql: Sql) -> Result<u64, Failure> {
        Ok(self.send(sql).await?.changed)
    }

    /// Runs a statement of ours without values.
    pub async fn command(&mut self, words: impl Into<String>) -> Result<(), Failure> {
        self.send(self.sql(words)).await?;
        Ok(())
    }

    /// Every row that a statement finds.
    pub async fn fetch_all(&mut self, sql: Sql) -> Result<Vec<Row>, Failure> {
        Ok(self.send(sql).await?.rows)
    }

    /// The numbers that a statement finds.
    pub async fn fetch_ids(&mut self, sql: Sql) -> Result<Vec<i64>, Failure> {
        let rows = self.fetch_all(sql).await?;
        apart(rows.len(), || rows.into_iter().map(|row| row.try_get(0)).collect())
    }

    /// The first row that a statement finds.
    pub async fn fetch_optional(&mut self, sql: Sql) -> Result<Option<Row>, Failure> {
        Ok(self.send(sql).await?.rows.into_iter().next())
    }

    /// The row of a statement that always finds one.
    pub async fn fetch_one(&mut self, sql: Sql) -> Result<Row, Failure> {
        self.fetch_optional(sql).await?.ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// Whether somebody else holds the row of a key, or is making it in a transaction of its own. Asks without waiting.
    pub async fn is_held(&mut self, key: &str) -> Result<bool, Failure> {
        match self {
            Connection::Sqlite(_) => Ok(false),
            Connection::Mysql(connection) => mysql::is_held(connection, key).await,
            Connection::Postgres(connection) => postgres::is_held(connection, key).await,
        }
    }

    /// The indexes that tables lack which PolicydRateGuard or an older version made, and foreign keys that they no longer need:
    /// migrations leave a table that is there as it is. Only reads.
    pub async fn lacking_indexes(&mut self) -> Result<Vec<Addition>, Failure> {
        match self {
            Connection::Mysql(connection) => Ok(mysql::adopt::lacking(connection).await?),
            Connection::Sqlite(connection) => Ok(sqlite::adopt::lacking_indexes(connection).await?),
            Connection::Postgres(connection) => Ok(postgres::lacking_indexes(connection).await?),
        }
    }

    /// Leaves nothing open of an addition that failed. Only on SQLite is any of them more than one statement.
    pub async fn roll_back_addition(&mut self) {
        if let Connection::Sqlite(connection) = self {
            sqlite::adopt::roll_back(connection).await;
        }
    }

    /// What sqlx runs migrations by.
    pub fn migrating(&mut self) -> &mut (dyn Migrate + Send) {
        each!(Connection, self, connection => connection)
    }

    /// Ends the connection politely, whatever comes of it.
    pub async fn close(self) {
        if let Err(error) = each!(Connection, self, connection => connection.close().await) {
            log::debug!("closing the database connection: {error}");
        }
    }
}

/// A row that a statement found.
pub enum Row {
    Sqlite(SqliteRow),
    Mysql(MySqlRow),
    Postgres(PgRow),
}

impl Row {
    /// The value of a column, counted from 0.
    pub fn try_get<T: Column>(&self, column: usize) -> Result<T, Failure> {
        T::of(self, column)
    }
}

/// What a column can be read as.
pub trait Column: Sized {
    fn of(row: &Row, column: usize) -> Result<Self, Failure>;
}

macro_rules! column {
    ($type:ty) => {
        impl Column for $type {
            fn of(row: &Row, column: usize) -> Result<$type, Failure> {
                Ok(each!(Row, row, row => row.try_get(column))?)
            }
        }
    };
}

column!(i64);
column!(String);
column!(Vec<u8>);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use futures_util::stream;

    use super::*;

    #[test]
    fn others_have_their_turn_while_a_server_answers_faster_than_it_is_read() {
        const ROWS: u64 = 100_000;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut turns = 0;
        let answer = runtime.block_on(async {
            let rows = (0..ROWS).map(Either::Right).chain([Either::Left(5)]);
            let mut collected = pin!(collect(stream::iter(rows.map(Ok))));
            poll_fn(|context| {
                turns += 1;
                collected.as_mut().poll(context)
            })
            .await
        });
        let answer = answer.unwrap_or_else(|broken| panic!("{}", broken.error));
        assert_eq!((answer.rows.len() as u64, answer.changed, answer.ends), (ROWS, 5, vec![ROWS as usize]));
        assert!(turns > ROWS / 500, "{turns} turns");
    }

    #[test]
    fn the_rows_of_each_of_the_last_statements() {
        let answer = |ends| Answer { rows: vec!['a', 'b', 'c'], changed: 0, ends };
        assert_eq!(answer(vec![1, 1, 3]).of_last(2), [vec![], vec!['b', 'c']]);
        assert_eq!(answer(vec![1, 3]).of_last(2), [vec!['a'], vec!['b', 'c']]);
        assert_eq!(answer(vec![3]).of_last(2), [vec!['a', 'b', 'c']]);
    }
}
