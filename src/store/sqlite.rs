//! SQLite: the embedded database, for one host.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, error::DatabaseError};

use super::Failure;
use super::dialect::Dialect;
use crate::config;

/// How long a statement waits for another process (`cleanup`, `sender set`) that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Sqlite;

impl Dialect for Sqlite {
    type Db = sqlx::Sqlite;
    type Options = SqliteConnectOptions;

    // Takes the write lock at once: a transaction that begins by reading could not get it later.
    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const INTEGER: &'static str = "BIGINT";
    const LEAST: &'static str = "min";
    const GREATEST: &'static str = "max";
    const SENDER: &'static str = "lower(sender)";
    const USAGE: &'static str = "usage";
    const FROM_EPOCH: (&'static str, &'static str) = ("datetime(", ", 'unixepoch')");
    const SKIP_LOCKED: &'static str = "";

    fn on_conflict(key: &str) -> String {
        format!(" ON CONFLICT ({key}) DO UPDATE SET ")
    }

    fn brought(column: &str) -> String {
        format!("excluded.{column}")
    }

    fn options(database: &config::Database) -> SqliteConnectOptions {
        let options = SqliteConnectOptions::new()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An answer that was sent must survive a loss of power.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        match database.name.as_str() {
            ":memory:" => options.in_memory(true),
            path => options.filename(path),
        }
    }

    fn place(options: &SqliteConnectOptions) -> String {
        format!("SQLite file {}", options.get_filename().display())
    }

    async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
        options.connect().await
    }

    fn classify(error: &dyn DatabaseError) -> Option<Failure> {
        let words = error.message().to_owned();
        // Extended result codes carry the primary one in their lowest byte (sqlite.org/rescode.html).
        let code: i32 = error.code()?.parse().ok()?;
        Some(match code & 0xff {
            5 | 6 => Failure::Transient(words),           // BUSY, LOCKED
            18 | 19 | 20 | 25 => Failure::Refused(words), // TOOBIG, CONSTRAINT, MISMATCH, RANGE
            _ => Failure::Away(words),
        })
    }

    fn migrator() -> &'static sqlx::migrate::Migrator {
        static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");
        &MIGRATOR
    }
}
