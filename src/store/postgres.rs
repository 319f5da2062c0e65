//! PostgreSQL, 13 or newer.

use std::time::Instant;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, Row};

use super::charset::Charset;
use super::dialect::{Dialect, LOCK_TIMEOUT, MAX_ROUND_TRIP, STANDARD, STATEMENT_TIMEOUT, Session};
use super::failure::Failure;
use super::sql::STATEMENTS_KEPT;
use crate::config;

pub static MIGRATOR: Migrator = sqlx::migrate!("migrations/postgres");

pub const DIALECT: Dialect = Dialect {
    numbered: true,
    from_epoch: ("to_timestamp(", ")"),
    to_epoch: ("CAST(FLOOR(EXTRACT(EPOCH FROM ", ")) AS BIGINT)"),
    tables_among: "SELECT CAST(tablename AS TEXT) FROM pg_tables \
                   WHERE schemaname = ANY (current_schemas(false)) AND tablename IN ",
    rows_found: Some(("ctid = ANY (ARRAY (SELECT ctid", "))")),
    ..STANDARD
};

pub fn options(database: &config::Database, reading: bool) -> PgConnectOptions {
    // Not from PGHOST and its like, nor from ~/.pgpass: the settings alone say where the database is.
    let mut options = PgConnectOptions::new_without_pgpass()
        .application_name("policyd-rate-guard")
        .statement_cache_capacity(STATEMENTS_KEPT)
        .username(&database.user)
        .database(&database.name)
        .port(database.port.unwrap_or(5432))
        .ssl_mode(match database.tls {
            // A unix socket ends on this machine, and PostgreSQL knows no TLS on it.
            _ if database.socket.is_some() => PgSslMode::Disable,
            config::Tls::Off => PgSslMode::Disable,
            config::Tls::Prefer => PgSslMode::Prefer,
            config::Tls::Require => PgSslMode::Require,
            config::Tls::Verify => PgSslMode::VerifyFull,
        })
        .options([
            ("lock_timeout", LOCK_TIMEOUT.as_millis().to_string()),
            ("statement_timeout", STATEMENT_TIMEOUT.as_millis().to_string()),
            ("idle_in_transaction_session_timeout", STATEMENT_TIMEOUT.as_millis().to_string()),
        ]);
    if let Some(ca) = &database.tls_ca {
        options = options.ssl_root_cert(ca);
    }
    options = match &database.socket {
        Some(socket) => options.socket(socket),
        None => options.host(if database.host.is_empty() { "localhost" } else { &database.host }),
    };
    if reading {
        options = options.options([("default_transaction_read_only", "on")]);
    }
    match &database.password {
        Some(password) => options.password(password.reveal()),
        None => options,
    }
}

pub fn place(options: &PgConnectOptions) -> String {
    let at = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    format!("PostgreSQL database {} at {at}", options.get_database().unwrap_or_default())
}

/// Connects, and looks at what the database can hold.
pub async fn connect(options: &PgConnectOptions) -> Result<(PgConnection, Session), sqlx::Error> {
    let mut connection = options.connect().await?;
    let asked = Instant::now();
    let encoding: String = connection.fetch_one("SHOW server_encoding").await?.try_get(0)?;
    let round_trip = asked.elapsed().min(MAX_ROUND_TRIP);
    let holds = match encoding.as_str() {
        "UTF8" => Charset::Utf8mb4,
        "WIN1252" => Charset::Latin1,
        _ => Charset::Ascii,
    };
    Ok((connection, Session { keys: holds, texts: holds, round_trip, ..Session::default() }))
}

/// Whether somebody else holds the row of a key, or is making it in a transaction of its own. Asks without waiting.
pub async fn is_held(connection: &mut PgConnection, key: &str) -> Result<bool, Failure> {
    let (there, free): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM ratelimits WHERE lower(sender) = $1), (SELECT count(*) FROM \
         (SELECT 1 FROM ratelimits WHERE lower(sender) = $1 FOR UPDATE SKIP LOCKED) AS free)",
    )
    .bind(key)
    .fetch_one(&mut *connection)
    .await?;
    if there > 0 {
        return Ok(free == 0);
    }
    // A row that somebody is making shows itself only to whoever makes it too.
    let mut attempt = connection.begin().await?;
    attempt.execute("SET LOCAL lock_timeout = '5ms'").await?;
    let made = sqlx::query("INSERT INTO ratelimits (sender) VALUES ($1) ON CONFLICT DO NOTHING").bind(key);
    let made = made.execute(&mut *attempt).await.map_err(Failure::from);
    attempt.rollback().await?;
    match made {
        Ok(_) => Ok(false),
        Err(Failure::Locked(_)) => Ok(true),
        Err(failure) => Err(failure),
    }
}
