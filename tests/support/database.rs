//! A test database of any kind: the settings by which the daemon reaches it, and reading and writing its rows without the
//! daemon. Blocking, because tests are.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tokio::runtime::{Builder, Runtime};

/// A database, and how the daemon is to reach it.
#[derive(Debug, Clone)]
pub struct Database {
    options: Options,
    settings: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
enum Options {
    Sqlite(SqliteConnectOptions),
    Mysql(MySqlConnectOptions),
    Postgres(PgConnectOptions),
}

/// Who the daemon is to a database server.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    pub user: &'a str,
    pub password: &'a str,
    pub database: &'a str,
}

/// A sender's row in `ratelimits`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    pub quota: i64,
    pub quota_reset: i64,
    pub quota_locked: bool,
    pub msg_counter: i64,
    pub rcpt_counter: i64,
    pub msg_total: i64,
    pub rcpt_total: i64,
}

/// A row in `messages`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub msgid: String,
    pub sender: String,
    pub rcpt_count: i64,
    pub blocked: bool,
    pub from_addr: String,
    pub to_addr: String,
    pub client_address: String,
    pub client_name: String,
    pub action: String,
    pub reason: String,
}

impl Database {
    /// An SQLite file, which need not exist until it is read.
    pub fn sqlite(file: &Path) -> Database {
        let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(10));
        Database {
            options: Options::Sqlite(options),
            settings: settings(&[("DB_DRIVER", "sqlite"), ("DB_DATABASE", &file.display().to_string())]),
        }
    }

    /// A MariaDB or MySQL database behind a unix socket.
    pub fn mysql(socket: &Path, credentials: Credentials<'_>) -> Database {
        let mut options =
            MySqlConnectOptions::new().socket(socket).username(credentials.user).database(credentials.database);
        if !credentials.password.is_empty() {
            options = options.password(credentials.password);
        }
        Database {
            options: Options::Mysql(options),
            settings: server_settings("mysql", credentials, &[("DB_SOCKET", &socket.display().to_string())]),
        }
    }

    /// A PostgreSQL database behind the unix socket of `port` in `folder`.
    pub fn postgres(folder: &Path, port: u16, credentials: Credentials<'_>) -> Database {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(folder)
            .port(port)
            .username(credentials.user)
            .password(credentials.password)
            .database(credentials.database);
        let socket = folder.display().to_string();
        let place = [("DB_SOCKET", socket.as_str()), ("DB_PORT", &port.to_string())];
        Database { options: Options::Postgres(options), settings: server_settings("postgres", credentials, &place) }
    }

    /// The same database, reached by the daemon over TCP at `address`: the server's own or a proxy's. The test's own
    /// queries go on directly.
    pub fn over_tcp(&self, address: SocketAddr) -> Database {
        let mut database = self.clone();
        database.settings.retain(|(name, _)| !["DB_SOCKET", "DB_HOST", "DB_PORT"].contains(&name.as_str()));
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        database.settings.extend(settings(&[("DB_HOST", &host), ("DB_PORT", &port)]));
        database
    }

    /// The same database, reached by the daemon through another unix socket. For PostgreSQL that is a folder.
    pub fn over_unix(&self, socket: &Path) -> Database {
        let mut database = self.clone();
        database.settings.retain(|(name, _)| name != "DB_SOCKET");
        database.settings.extend(settings(&[("DB_SOCKET", &socket.display().to_string())]));
        database
    }

    /// The DB_* lines of a settings file.
    pub fn settings(&self) -> Vec<(String, String)> {
        self.settings.clone()
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<PathBuf> {
        match &self.options {
            Options::Sqlite(options) => Some(options.get_filename().to_owned()),
            Options::Mysql(_) | Options::Postgres(_) => None,
        }
    }

    /// A connection of its own, for statements that belong together.
    pub fn session(&self) -> Session {
        self.try_session().unwrap_or_else(|error| panic!("connecting to the test database: {error}"))
    }

    pub fn try_session(&self) -> sqlx::Result<Session> {
        Session::open(&self.options)
    }

    /// A connection over TCP to where the settings lead: after [`Database::over_tcp`], through the proxy. Without TLS, so that
    /// the proxy sees what passes.
    pub fn session_as_set(&self) -> Session {
        let value =
            |wanted: &str| self.settings.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let value = |wanted| value(wanted).unwrap_or_else(|| panic!("{wanted} is not set"));
        let (host, port) = (value("DB_HOST"), value("DB_PORT").parse().expect("a port"));
        let (user, password, name) = (value("DB_USER"), value("DB_PASSWORD"), value("DB_DATABASE"));
        let options = match &self.options {
            Options::Sqlite(_) => panic!("SQLite has no connection over TCP"),
            Options::Mysql(_) => Options::Mysql(
                MySqlConnectOptions::new()
                    .host(host)
                    .port(port)
                    .username(user)
                    .password(password)
                    .database(name)
                    .ssl_mode(MySqlSslMode::Disabled),
            ),
            Options::Postgres(_) => Options::Postgres(
                PgConnectOptions::new_without_pgpass()
                    .host(host)
                    .port(port)
                    .username(user)
                    .password(password)
                    .database(name),
            ),
        };
        Session::open(&options).unwrap_or_else(|error| panic!("connecting to {host}:{port}: {error}"))
    }

    /// Runs one or more statements, separated by semicolons.
    pub fn execute(&self, sql: &str) {
        self.session().execute(sql);
    }

    /// The first column of the first row, as a number.
    pub fn number(&self, sql: &str) -> i64 {
        self.session().number(sql)
    }

    /// The number of rows in a table.
    pub fn rows(&self, table: &str) -> i64 {
        self.number(&format!("SELECT COUNT(*) FROM {table}"))
    }

    /// All rows, all columns as text and empty for NULL. The columns are named because each is converted by the server.
    pub fn select(&self, columns: &[&str], rest: &str) -> Vec<Vec<String>> {
        self.session().select(columns, rest)
    }

    /// A sender's row in `ratelimits`, if there is one.
    pub fn counters(&self, sender: &str) -> Option<Counters> {
        let columns =
            ["quota", "quota_reset", "quota_locked", "msg_counter", "rcpt_counter", "msg_total", "rcpt_total"];
        let rows = self.select(&columns, &format!("FROM ratelimits WHERE sender = {}", quoted(sender)));
        let row = rows.first()?;
        Some(Counters {
            quota: number(&row[0]),
            quota_reset: number(&row[1]),
            quota_locked: truth(&row[2]),
            msg_counter: number(&row[3]),
            rcpt_counter: number(&row[4]),
            msg_total: number(&row[5]),
            rcpt_total: number(&row[6]),
        })
    }

    /// A sender's rows in `messages`, oldest first.
    pub fn messages(&self, sender: &str) -> Vec<Message> {
        let columns = [
            "msgid",
            "sender",
            "rcpt_count",
            "blocked",
            "from_addr",
            "to_addr",
            "client_address",
            "client_name",
            "action",
            "reason",
        ];
        let rows = self.select(&columns, &format!("FROM messages WHERE sender = {} ORDER BY id", quoted(sender)));
        let message = |row: Vec<String>| Message {
            msgid: row[0].clone(),
            sender: row[1].clone(),
            rcpt_count: number(&row[2]),
            blocked: truth(&row[3]),
            from_addr: row[4].clone(),
            to_addr: row[5].clone(),
            client_address: row[6].clone(),
            client_name: row[7].clone(),
            action: row[8].clone(),
            reason: row[9].clone(),
        };
        rows.into_iter().map(message).collect()
    }
}

/// One connection; whatever transaction is open on it is rolled back when it is dropped.
pub struct Session {
    connection: RefCell<Connection>,
    runtime: Runtime,
}

enum Connection {
    Sqlite(SqliteConnection),
    Mysql(MySqlConnection),
    Postgres(PgConnection),
}

/// The same expression over the connection of each driver: sqlx gives them nothing in common that could be named.
macro_rules! with_connection {
    ($session:expr, $connection:ident => $body:expr) => {{
        let mut connection = $session.connection.borrow_mut();
        $session.runtime.block_on(async {
            match &mut *connection {
                Connection::Sqlite($connection) => $body,
                Connection::Mysql($connection) => $body,
                Connection::Postgres($connection) => $body,
            }
        })
    }};
}

impl Session {
    fn open(options: &Options) -> sqlx::Result<Session> {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connection = runtime.block_on(async {
            Ok::<_, sqlx::Error>(match options {
                Options::Sqlite(options) => Connection::Sqlite(options.connect().await?),
                Options::Mysql(options) => Connection::Mysql(options.connect().await?),
                Options::Postgres(options) => Connection::Postgres(options.connect().await?),
            })
        })?;
        Ok(Session { connection: RefCell::new(connection), runtime })
    }

    /// Runs one or more statements, separated by semicolons.
    pub fn execute(&self, sql: &str) {
        self.try_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// As [`Session::execute`]; gives the number of rows that changed.
    pub fn try_execute(&self, sql: &str) -> sqlx::Result<u64> {
        let sql = AssertSqlSafe(sql.to_owned());
        with_connection!(self, connection => connection.execute(sqlx::raw_sql(sql)).await.map(|done| done.rows_affected()))
    }

    /// The same with a table `numbers` whose rows `n` count from 1 to `most`: each server has another way to count.
    pub fn execute_with_numbers(&self, most: u32, sql: &str) {
        self.execute("CREATE TABLE numbers (n INT PRIMARY KEY); INSERT INTO numbers VALUES (1)");
        let mut last = 1;
        while last < most {
            self.execute(&format!("INSERT INTO numbers SELECT n + {last} FROM numbers WHERE n + {last} <= {most}"));
            last *= 2;
        }
        self.execute(sql);
        self.execute("DROP TABLE numbers");
    }

    /// The first column of the first row, as a number.
    pub fn number(&self, sql: &str) -> i64 {
        let asked = AssertSqlSafe(sql.to_owned());
        let value: sqlx::Result<i64> =
            with_connection!(self, connection => sqlx::query_scalar(asked).fetch_one(connection).await);
        value.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// All rows, all columns as text and empty for NULL.
    pub fn select(&self, columns: &[&str], rest: &str) -> Vec<Vec<String>> {
        let text = match &*self.connection.borrow() {
            Connection::Mysql(_) => "CHAR",
            Connection::Sqlite(_) | Connection::Postgres(_) => "TEXT",
        };
        // One text of all columns, so that every driver gives the same type. The separator occurs in no test's value.
        let column = |name: &&str| format!("COALESCE(CAST({name} AS {text}), '')");
        let columns: Vec<String> = columns.iter().map(column).collect();
        let joined = match &*self.connection.borrow() {
            Connection::Mysql(_) => format!("CONCAT_WS('\u{1f}', {})", columns.join(", ")),
            Connection::Sqlite(_) | Connection::Postgres(_) => columns.join(" || '\u{1f}' || "),
        };
        let sql = format!("SELECT {joined} {rest}");
        let asked = AssertSqlSafe(sql.clone());
        let rows: sqlx::Result<Vec<String>> =
            with_connection!(self, connection => sqlx::query_scalar(asked).fetch_all(connection).await);
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.iter().map(|row| row.split('\u{1f}').map(str::to_owned).collect()).collect()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

fn settings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn server_settings(driver: &str, credentials: Credentials<'_>, place: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut lines = settings(&[
        ("DB_DRIVER", driver),
        ("DB_USER", credentials.user),
        ("DB_PASSWORD", credentials.password),
        ("DB_DATABASE", credentials.database),
    ]);
    lines.extend(settings(place));
    lines
}

/// A text literal. All three databases double the quote; MariaDB also takes backslashes, so a test's value has none.
pub fn quoted(value: &str) -> String {
    assert!(!value.contains('\\'), "a backslash is not the same in all databases: {value}");
    format!("'{}'", value.replace('\'', "''"))
}

fn number(text: &str) -> i64 {
    i64::from_str(text).unwrap_or_else(|_| panic!("not a whole number: {text:?}"))
}

fn truth(text: &str) -> bool {
    matches!(text, "1" | "true")
}
