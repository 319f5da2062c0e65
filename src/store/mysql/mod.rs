//! MariaDB 10.5 or newer, and MySQL 8, by the same statements.

pub mod adopt;
pub mod login;

use std::time::{Duration, Instant};

use sqlx::migrate::Migrator;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use super::charset::Charset;
use super::dialect::{Dialect, MAX_ROUND_TRIP, STANDARD, STATEMENT_TIMEOUT, Session, SessionId, Time, host_and_port};
use super::failure::Failure;
use super::literal;
use crate::config;

/// [`super::dialect::LOCK_TIMEOUT`] for one statement. MariaDB alone reads the comment, as if it were none.
const BOUND: &str = "/*M! SET STATEMENT max_statement_time = 0.15 FOR */ ";

/// The least that both servers take. [`super::dialect::LOCK_TIMEOUT`] is shorter; this is the belt.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// In seconds: when MariaDB ends a session whose client is silent within a transaction. The rows that it holds are everybody's.
const ABANDONED: u32 = 5;
/// In seconds: when MySQL, which does not tell the two apart, ends a session whose client is silent.
const IDLE: u32 = 30;

/// In bytes: 64 rows of the audit log, their texts as long as their columns.
const MIN_PACKET: u64 = 1 << 20;

/// The column of `ratelimits` that has the sender in lower case, where `Alice` and `alice` are two to `sender`.
const LOWERED: &str = "sender_lowered";

pub static MIGRATOR: Migrator = sqlx::migrate!("migrations/mysql");

pub const DIALECT: Dialect = Dialect {
    literal: Some(literal::mysql),
    integer: "SIGNED",
    characters: "CHAR",
    sender: "sender",
    // After TRUNCATE, which needs foreign keys to be off and so leaves the history.
    reuses_ids: true,
    usage: "`usage`",
    // MariaDB 11.8 knows no time before the second 1: it makes NULL of 0, which is no earlier than anything.
    time: Time::Function("FROM_UNIXTIME(GREATEST(", ", 1))"),
    to_epoch: ("CAST(UNIX_TIMESTAMP(", ") AS SIGNED)"),
    tables_among: "SELECT CAST(table_name AS CHAR) FROM information_schema.tables \
                   WHERE table_schema = DATABASE() AND table_name IN ",
    columns_found: "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR) FROM information_schema.columns \
                    WHERE table_schema = DATABASE() AND table_name IN ('ratelimits', 'messages', 'notices')",
    text: ("CONVERT(", " USING utf8mb4)"),
    // IGNORE would turn other errors into warnings too, but the one that can happen here is a sender who has gone.
    insert_absent: ("INSERT IGNORE", ""),
    on_conflict: None,
    // VALUES() is deprecated in MySQL, but MariaDB has nothing else.
    brought: ("VALUES(", ")"),
    ..STANDARD
};

pub fn options(database: &config::Database, place: &config::Place) -> MySqlConnectOptions {
    let mut options = MySqlConnectOptions::new()
        // What this program prepares (migrations, looks at a session) is not asked twice.
        .statement_cache_capacity(0)
        .username(&database.user)
        .database(&database.name)
        .ssl_mode(match database.tls {
            // A unix socket ends on this machine, so the certificate is not checked. Some authentication methods ask for TLS
            // even there.
            _ if matches!(place, config::Place::Socket(_)) => MySqlSslMode::Preferred,
            config::Tls::Off => MySqlSslMode::Disabled,
            config::Tls::Prefer => MySqlSslMode::Preferred,
            config::Tls::Require => MySqlSslMode::Required,
            config::Tls::Verify => MySqlSslMode::VerifyIdentity,
        });
    if let Some(ca) = &database.tls_ca {
        options = options.ssl_ca(ca);
    }
    if let Some(password) = &database.password {
        options = options.password(password.reveal());
    }
    match place {
        config::Place::Socket(socket) => options.socket(socket),
        config::Place::Host(host) => options.host(host).port(database.port.unwrap_or(3306)),
    }
}

pub fn host(options: &MySqlConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => host_and_port(options.get_host(), options.get_port()),
    }
}

pub fn name(options: &MySqlConnectOptions) -> Option<&str> {
    let must_bear_it = matches!(options.get_ssl_mode(), MySqlSslMode::VerifyIdentity);
    (!must_bear_it && options.get_socket().is_none()).then(|| options.get_host())
}

pub fn database(options: &MySqlConnectOptions) -> String {
    format!("MySQL or MariaDB database {} at", options.get_database().unwrap_or_default())
}

/// Connects, sets the session up, and looks at what the tables can hold.
pub async fn connect(options: &MySqlConnectOptions, reading: bool) -> Result<(MySqlConnection, Session), sqlx::Error> {
    let mut connection = login::log_in(options).await?;
    let session = session(&mut connection).await?;
    if reading {
        only_read(&mut connection).await?;
    }
    Ok((connection, session))
}

/// Sets the session up, whatever the server's own defaults are, and looks at it and at the tables: in two round trips.
async fn session(connection: &mut MySqlConnection) -> Result<Session, sqlx::Error> {
    let wait = LOCK_WAIT.as_secs();
    // A client that is gone is not noticed by MySQL while its statement waits for a table: that is bounded too.
    let sql = format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION autocommit = 1, lock_wait_timeout = {wait}, innodb_lock_wait_timeout = {wait}, sql_safe_updates = 0; \
         /*M! SET SESSION idle_transaction_timeout = {ABANDONED} */ /*!50708 SET SESSION wait_timeout = {IDLE} */; \
         SELECT 'session', CAST(CONNECTION_ID() AS CHAR), ''; \
         SHOW SESSION VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format', 'max_allowed_packet', \
         'version', 'server_uuid', 'read_only', 'wsrep_on'); SHOW STATUS LIKE 'wsrep_ready'; \
         SELECT CAST(table_name AS CHAR), COALESCE(CAST(character_set_name AS CHAR), 'binary'), \
         COALESCE(CAST(collation_name AS CHAR), 'binary') FROM information_schema.columns \
         WHERE table_schema = DATABASE() \
         AND (character_set_name IS NOT NULL OR data_type LIKE '%binary' OR data_type LIKE '%blob') \
         AND (table_name = 'messages' OR table_name = 'ratelimits' AND column_name = 'sender'); \
         SELECT 'lowered', CAST(index_name AS CHAR), '' FROM information_schema.statistics \
         WHERE table_schema = DATABASE() AND table_name = 'ratelimits' AND column_name = '{LOWERED}'"
    );
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *connection).await?;
    // By itself: to look at the tables takes the server a while.
    let asked = Instant::now();
    connection.ping().await?;
    let round_trip = asked.elapsed().min(MAX_ROUND_TRIP);
    let found: Vec<(String, String, String)> = (rows.iter())
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, if row.len() > 2 { row.try_get(2)? } else { String::new() })))
        .collect::<Result<_, sqlx::Error>>()?;
    let value = |wanted: &str| found.iter().find(|(name, ..)| name == wanted).map(|(_, value, _)| value.as_str());
    if value("log_bin") == Some("ON") && value("binlog_format") == Some("STATEMENT") {
        log_rows(connection).await?;
    }
    let packet = value("max_allowed_packet").and_then(|bytes| bytes.parse().ok()).unwrap_or(u64::MAX);
    if packet < MIN_PACKET {
        let advice = format!("the server's max_allowed_packet is {packet} bytes: set at least {MIN_PACKET} there");
        return Err(sqlx::Error::Configuration(advice.into()));
    }
    let columns = || found.iter().filter(|(.., collation)| !collation.is_empty());
    // Of several the narrowest; a table that is not there yet will hold everything.
    let of = |table: &str| {
        let named = columns().filter(|(name, ..)| name == table).map(|(_, charset, _)| Charset::named(charset));
        named.max().unwrap_or(Charset::Utf8mb4)
    };
    let is_mariadb = value("version").is_some_and(|version| version.contains("MariaDB"));
    let id = || {
        let server = u128::from_str_radix(&value("server_uuid")?.replace('-', ""), 16).ok()?;
        Some(SessionId { server, number: value("session")?.parse().ok()? })
    };
    Ok(Session {
        id: if is_mariadb { None } else { id() },
        bound: if is_mariadb { BOUND } else { "" },
        keys: of("ratelimits"),
        texts: of("messages"),
        lowered: value("lowered").map(|_| LOWERED),
        round_trip,
        loses_transactions: value("wsrep_on") == Some("ON"),
        takes_writes: value("read_only").is_none_or(|value| value == "OFF")
            && (value("wsrep_on") != Some("ON") || value("wsrep_ready") == Some("ON")),
    })
}

/// READ COMMITTED cannot be written where the binary log takes statements.
async fn log_rows(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    connection.execute("SET SESSION binlog_format = 'ROW'").await.map(drop).map_err(|error| {
        let advice = format!(
            "the server has binlog_format=STATEMENT, by which it takes nothing from a session that is READ COMMITTED. Set \
             binlog_format=ROW (or MIXED) there, or GRANT BINLOG ADMIN (in MySQL SESSION_VARIABLES_ADMIN) ON *.* to the \
             user, who may then set it for the session ({error})"
        );
        sqlx::Error::Configuration(advice.into())
    })
}

/// Has the server refuse to write in this session, and end what takes long: a reader that gives up leaves its statement
/// behind.
async fn only_read(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    let (seconds, milliseconds) = (STATEMENT_TIMEOUT.as_secs(), STATEMENT_TIMEOUT.as_millis());
    // MariaDB reads the first comment and MySQL the second, each as if it were none: their variables differ.
    let timeout = format!(
        "/*M! SET SESSION max_statement_time = {seconds} */ /*!50708 SET SESSION max_execution_time = {milliseconds} */"
    );
    connection.execute(AssertSqlSafe(format!("SET SESSION TRANSACTION READ ONLY; {timeout}"))).await?;
    Ok(())
}

/// Interrupts the statement of a session of MySQL: innodb_lock_wait_timeout counts in seconds, and one is too long for all the
/// others in a batch. Behind a balancer another server may answer, where the number is somebody else's session.
pub async fn interrupt(options: &MySqlConnectOptions, session: SessionId) -> Result<(), sqlx::Error> {
    let mut connection = login::log_in(options).await?;
    let uuid: String = sqlx::raw_sql("SELECT @@server_uuid").fetch_one(&mut connection).await?.try_get(0)?;
    if u128::from_str_radix(&uuid.replace('-', ""), 16) == Ok(session.server) {
        connection.execute(AssertSqlSafe(format!("KILL QUERY {}", session.number))).await?;
    }
    connection.close().await
}

/// Whether somebody else holds the row of a key, or is making it in a transaction of its own. Asks without waiting.
pub async fn is_held(connection: &mut MySqlConnection, key: &str) -> Result<bool, Failure> {
    // Meets rows that are not committed too. Without a transaction around it the lock is let go at once.
    let sql = format!("{BOUND}SELECT 1 FROM ratelimits WHERE sender = {} FOR UPDATE NOWAIT", literal::mysql(key));
    match sqlx::raw_sql(AssertSqlSafe(sql)).fetch_optional(connection).await.map_err(Failure::from) {
        Ok(_) => Ok(false),
        Err(Failure::Locked(_)) => Ok(true),
        Err(failure) => Err(failure),
    }
}
