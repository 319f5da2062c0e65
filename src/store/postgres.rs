//! PostgreSQL, 13 or newer.

use sqlx::migrate::{Migrate, MigrateError};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, error::DatabaseError};

use super::charset::Charset;
use super::dialect::{Dialect, LOCK_TIMEOUT, STATEMENT_TIMEOUT, Session, failure};
use super::{Failure, STATEMENTS_KEPT};
use crate::config;

#[derive(Debug)]
pub struct Postgres;

impl Dialect for Postgres {
    type Db = sqlx::Postgres;
    type Options = PgConnectOptions;

    const BEGIN: &'static str = "BEGIN";
    const INTEGER: &'static str = "BIGINT";
    const LEAST: &'static str = "LEAST";
    const GREATEST: &'static str = "GREATEST";
    const SENDER: &'static str = "lower(sender)";
    const USAGE: &'static str = "usage";
    const TABLES_NAMED: &'static str =
        "SELECT count(*) FROM pg_tables WHERE schemaname = ANY (current_schemas(false)) AND tablename = ";
    const FROM_EPOCH: (&'static str, &'static str) = ("to_timestamp(", ")");
    const INSERT_ABSENT: (&'static str, &'static str) = ("INSERT", " ON CONFLICT DO NOTHING");

    fn on_conflict(key: &str) -> String {
        format!(" ON CONFLICT ({key}) DO UPDATE SET ")
    }

    fn brought(column: &str) -> String {
        format!("excluded.{column}")
    }

    fn epoch(column: &str) -> String {
        format!("CAST(FLOOR(EXTRACT(EPOCH FROM {column})) AS BIGINT)")
    }

    fn rows_affected(result: &sqlx::postgres::PgQueryResult) -> u64 {
        result.rows_affected()
    }

    fn options(database: &config::Database) -> PgConnectOptions {
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
        match &database.password {
            Some(password) => options.password(password.reveal()),
            None => options,
        }
    }

    fn reading(database: &config::Database) -> PgConnectOptions {
        Self::options(database).options([("default_transaction_read_only", "on")])
    }

    fn place(options: &PgConnectOptions) -> String {
        let at = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        format!("PostgreSQL database {} at {at}", options.get_database().unwrap_or_default())
    }

    async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
        options.connect().await
    }

    async fn session(connection: &mut PgConnection) -> Result<Session, sqlx::Error> {
        let encoding: String = sqlx::query_scalar("SHOW server_encoding").fetch_one(connection).await?;
        let holds = match encoding.as_str() {
            "UTF8" => Charset::Utf8mb4,
            "WIN1252" => Charset::Latin1,
            _ => Charset::Ascii,
        };
        Ok(Session { id: None, keys: holds, texts: holds })
    }

    async fn is_held(connection: &mut PgConnection, key: &str) -> Result<bool, sqlx::Error> {
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
        let made = made.execute(&mut *attempt).await;
        attempt.rollback().await?;
        match made {
            Ok(_) => Ok(false),
            Err(error) if matches!(failure::<Postgres>(&error), Failure::Locked(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn classify(error: &dyn DatabaseError) -> Option<Failure> {
        let words = error.message().to_owned();
        let code = error.code()?;
        // SQLSTATE, appendix A of PostgreSQL's manual.
        Some(match code.as_ref() {
            "40001" | "40P01" => Failure::Transient(words), // serialization_failure, deadlock_detected
            "55P03" => Failure::Locked(words),              // lock_not_available
            "54000" => Failure::Refused(words),             // program_limit_exceeded
            // Data exceptions, constraints, and two keys of one statement that are one to lower().
            class if ["21", "22", "23"].iter().any(|refused| class.starts_with(refused)) => Failure::Refused(words),
            _ => Failure::Away(words),
        })
    }

    async fn lock(connection: &mut PgConnection) -> Result<(), MigrateError> {
        Migrate::lock(connection).await
    }

    async fn unlock(connection: &mut PgConnection) -> Result<(), MigrateError> {
        Migrate::unlock(connection).await
    }

    fn migrator() -> &'static sqlx::migrate::Migrator {
        static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("migrations/postgres");
        &MIGRATOR
    }
}
