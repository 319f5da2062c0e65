//! PostgreSQL, 13 or newer.

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, error::DatabaseError};

use super::Failure;
use super::dialect::{Dialect, LOCK_PATIENCE, STATEMENT_PATIENCE};
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
    const FROM_EPOCH: (&'static str, &'static str) = ("to_timestamp(", ")");
    const SKIP_LOCKED: &'static str = " FOR UPDATE SKIP LOCKED";

    fn on_conflict(key: &str) -> String {
        format!(" ON CONFLICT ({key}) DO UPDATE SET ")
    }

    fn brought(column: &str) -> String {
        format!("excluded.{column}")
    }

    fn options(database: &config::Database) -> PgConnectOptions {
        // Not from PGHOST and its like, nor from ~/.pgpass: the settings alone say where the database is.
        let mut options = PgConnectOptions::new_without_pgpass()
            .application_name("policyd-rate-guard")
            .username(&database.user)
            .database(&database.name)
            .port(database.port.unwrap_or(5432))
            .ssl_mode(match database.tls {
                config::Tls::Off => PgSslMode::Disable,
                config::Tls::Prefer => PgSslMode::Prefer,
                config::Tls::Require => PgSslMode::Require,
                config::Tls::Verify => PgSslMode::VerifyFull,
            })
            .options([
                ("lock_timeout", LOCK_PATIENCE.as_millis().to_string()),
                ("statement_timeout", STATEMENT_PATIENCE.as_millis().to_string()),
                ("idle_in_transaction_session_timeout", STATEMENT_PATIENCE.as_millis().to_string()),
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

    fn classify(error: &dyn DatabaseError) -> Option<Failure> {
        let words = error.message().to_owned();
        let code = error.code()?;
        // SQLSTATE, appendix A of PostgreSQL's manual.
        Some(match code.as_ref() {
            "40001" | "40P01" => Failure::Transient(words), // serialization_failure, deadlock_detected
            "55P03" => Failure::Locked(words),              // lock_not_available
            "54000" => Failure::Refused(words),             // program_limit_exceeded
            class if class.starts_with("22") || class.starts_with("23") => Failure::Refused(words),
            _ => Failure::Away(words),
        })
    }

    fn migrator() -> &'static sqlx::migrate::Migrator {
        static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("migrations/postgres");
        &MIGRATOR
    }
}
