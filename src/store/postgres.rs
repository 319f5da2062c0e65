//! PostgreSQL, 13 or newer.

use std::time::Instant;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};

use super::charset::Charset;
use super::dialect::{
    Addition, Dialect, LOCK_TIMEOUT, MAX_ROUND_TRIP, Rows, STANDARD, STATEMENT_TIMEOUT, Session, Time, host_and_port,
};
use super::failure::Failure;
use super::literal;
use crate::config;

/// In milliseconds: when the server ends a session whose client is silent within a transaction, or takes no more packets. The
/// rows that it holds are everybody's.
const ABANDONED: u32 = 5000;

pub static MIGRATOR: Migrator = sqlx::migrate!("migrations/postgres");

pub const DIALECT: Dialect = Dialect {
    checks_at_commit: true,
    literal: Some(literal::postgres),
    // The settings of a session may be lost on the way: a pooler lends one session to many clients.
    begin: &["BEGIN", "SET LOCAL lock_timeout = 150", "SET LOCAL idle_in_transaction_session_timeout = 5000"],
    rows: Rows::Arrays,
    time: Time::Function("to_timestamp(", ")"),
    to_epoch: ("CAST(FLOOR(EXTRACT(EPOCH FROM ", ")) AS BIGINT)"),
    tables_among: "SELECT CAST(tablename AS TEXT) FROM pg_tables \
                   WHERE schemaname = ANY (current_schemas(false)) AND tablename IN ",
    columns_found: "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT) FROM information_schema.columns \
                    WHERE table_schema = ANY (current_schemas(false)) AND table_name IN ('ratelimits', 'messages', 'notices')",
    rows_found: Some(("ctid = ANY (ARRAY (SELECT ctid", "))")),
    ..STANDARD
};

/// A foreign key of `messages` has each row of it look for its sender and lock it, a third of the work of writing the row. Whoever
/// deletes a sender parts the messages from it first.
const UNREFERENCED: &str = "ALTER TABLE messages DROP CONSTRAINT IF EXISTS messages_ratelimit_id_fkey";

/// What the tables of an older version have otherwise. To change it takes a moment, which may be long in coming while somebody
/// reads the whole table.
pub async fn lacking_indexes(connection: &mut PgConnection) -> Result<Vec<Addition>, sqlx::Error> {
    let sql = "SELECT 1 FROM pg_constraint WHERE conname = 'messages_ratelimit_id_fkey' \
               AND conrelid = to_regclass('messages')";
    if connection.fetch_optional(sql).await?.is_none() {
        return Ok(Vec::new());
    }
    let used = connection.fetch_optional("SELECT 1 FROM messages LIMIT 1").await?.is_some();
    Ok(vec![Addition {
        name: "table messages without a foreign key".to_owned(),
        sql: UNREFERENCED.to_owned(),
        slow: used,
    }])
}

pub fn options(database: &config::Database, place: &config::Place) -> PgConnectOptions {
    // Not from PGHOST and its like, nor from ~/.pgpass: the settings alone say where the database is.
    let mut options = PgConnectOptions::new_without_pgpass()
        .application_name("policyd-rate-guard")
        // A pooler may lend each statement another session.
        .statement_cache_capacity(0)
        // PgBouncer as installed refuses start-up parameters that it does not know: this one, and `options`.
        .extra_float_digits(None)
        .username(&database.user)
        .database(&database.name)
        .port(database.port.unwrap_or(5432))
        .ssl_mode(match database.tls {
            // A unix socket ends on this machine, and PostgreSQL knows no TLS on it.
            _ if matches!(place, config::Place::Socket(_)) => PgSslMode::Disable,
            config::Tls::Off => PgSslMode::Disable,
            config::Tls::Prefer => PgSslMode::Prefer,
            config::Tls::Require => PgSslMode::Require,
            config::Tls::Verify => PgSslMode::VerifyFull,
        });
    if let Some(ca) = &database.tls_ca {
        options = options.ssl_root_cert(ca);
    }
    options = match place {
        config::Place::Socket(socket) => options.socket(socket),
        config::Place::Host(host) => options.host(host),
    };
    match &database.password {
        Some(password) => options.password(password.reveal()),
        None => options,
    }
}

pub fn host(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => host_and_port(options.get_host(), options.get_port()),
    }
}

pub fn name(options: &PgConnectOptions) -> Option<&str> {
    let must_bear_it = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull);
    (!must_bear_it && options.get_socket().is_none()).then(|| options.get_host())
}

pub fn database(options: &PgConnectOptions) -> String {
    format!("PostgreSQL database {} at", options.get_database().unwrap_or_default())
}

/// To compile the statement that reads many senders' minutes takes seconds, to run it a fifth of one. Not by SET, which is an error
/// where the setting is not known.
const NO_JIT: &str = "SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = 'jit'";

/// Connects, sets the session up, and looks at what the database can hold.
pub async fn connect(options: &PgConnectOptions) -> Result<(PgConnection, Session), sqlx::Error> {
    let mut connection = options.connect().await?;
    let (lock, statement) = (LOCK_TIMEOUT.as_millis(), STATEMENT_TIMEOUT.as_millis());
    let sql = format!(
        "SET lock_timeout = {lock}; SET statement_timeout = {statement}; SET tcp_user_timeout = {ABANDONED}; \
         SET idle_in_transaction_session_timeout = {ABANDONED}; SHOW server_encoding; SHOW transaction_read_only; {NO_JIT}"
    );
    let asked = Instant::now();
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut connection).await?;
    let round_trip = asked.elapsed().min(MAX_ROUND_TRIP);
    let shown: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let holds = match shown.first().map(String::as_str) {
        Some("UTF8") => Charset::Utf8mb4,
        Some("WIN1252") => Charset::Latin1,
        _ => Charset::Ascii,
    };
    // Also on where the server follows another one.
    let takes_writes = shown.get(1).is_none_or(|read_only| read_only == "off");
    Ok((connection, Session { keys: holds, texts: holds, round_trip, takes_writes, ..Session::default() }))
}

/// Whether somebody else holds the row of a key, or is making it in a transaction of its own. Asks without waiting.
pub async fn is_held(connection: &mut PgConnection, key: &str) -> Result<bool, Failure> {
    let key = literal::postgres(key);
    let sql = format!(
        "SELECT (SELECT count(*) FROM ratelimits WHERE lower(sender) = {key}), (SELECT count(*) FROM \
         (SELECT 1 FROM ratelimits WHERE lower(sender) = {key} FOR UPDATE SKIP LOCKED) AS free)"
    );
    let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&mut *connection).await?;
    let (there, free): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    if there > 0 {
        return Ok(free == 0);
    }
    // A row that another transaction is inserting is seen only by an INSERT of the same key.
    let sql = format!(
        "BEGIN; SET LOCAL lock_timeout = 5; INSERT INTO ratelimits (sender) VALUES ({key}) ON CONFLICT DO NOTHING"
    );
    let made = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await.map_err(Failure::from);
    connection.execute(sqlx::raw_sql("ROLLBACK")).await?;
    match made {
        Ok(_) => Ok(false),
        Err(Failure::Locked(_)) => Ok(true),
        Err(failure) => Err(failure),
    }
}
