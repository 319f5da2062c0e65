//! SQLite: the embedded database, for one host.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, error::DatabaseError};

use super::dialect::Dialect;
use super::{Failure, STATEMENTS_KEPT};
use crate::config;

/// How long a statement waits for another process (`cleanup`, `sender set`) that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// The write-ahead log goes into the database when it has so many pages of 4 KiB: 64 MB. A page that was written many times
/// meanwhile goes over once; a thousand active senders keep writing the same 3,000 pages.
const PAGES_OF_LOG: &str = "16000";
/// In bytes, what is kept of a log that one long transaction made longer.
const MAX_LOG: &str = "67108864";
/// Memory for pages, in KiB as SQLite has it (a negative number), taken as it is needed: a thousand active senders among a
/// million touch some 3,000 pages of 4 KiB.
const CACHE: &str = "-16000";

#[derive(Debug)]
pub struct Sqlite;

/// What holds for reading, too.
fn common(database: &config::Database) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new()
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .pragma("cache_size", CACHE)
        .statement_cache_capacity(STATEMENTS_KEPT);
    match database.name.as_str() {
        config::IN_MEMORY => options.in_memory(true),
        path => options.filename(path),
    }
}

impl Dialect for Sqlite {
    type Db = sqlx::Sqlite;
    type Options = SqliteConnectOptions;

    const IN_PROCESS: bool = true;
    // Takes the write lock at once: a transaction that begins by reading could not get it later.
    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const INTEGER: &'static str = "BIGINT";
    const LEAST: &'static str = "min";
    const GREATEST: &'static str = "max";
    const SENDER: &'static str = "lower(sender)";
    const USAGE: &'static str = "usage";
    const TABLES_NAMED: &'static str = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ";
    const FROM_EPOCH: (&'static str, &'static str) = ("datetime(", ", 'unixepoch')");
    const INSERT_ABSENT: (&'static str, &'static str) = ("INSERT", " ON CONFLICT DO NOTHING");

    fn on_conflict(key: &str) -> String {
        format!(" ON CONFLICT ({key}) DO UPDATE SET ")
    }

    fn brought(column: &str) -> String {
        format!("excluded.{column}")
    }

    fn epoch(column: &str) -> String {
        format!("CAST(strftime('%s', {column}) AS BIGINT)")
    }

    fn rows_affected(result: &sqlx::sqlite::SqliteQueryResult) -> u64 {
        result.rows_affected()
    }

    fn options(database: &config::Database) -> SqliteConnectOptions {
        common(database)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An answer that was sent must survive a loss of power.
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", PAGES_OF_LOG)
            .pragma("journal_size_limit", MAX_LOG)
    }

    fn reading(database: &config::Database) -> SqliteConnectOptions {
        // Not opened read-only: that would need the files that a daemon which does not run has taken away. The file keeps
        // the journal that it has.
        common(database).pragma("query_only", "ON")
    }

    fn exists(options: &SqliteConnectOptions) -> bool {
        // Where it could not be made either, and where it cannot be looked at, opening it says why.
        let file = options.get_filename();
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        file.try_exists().unwrap_or(true) || !folder.is_dir()
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

    async fn lock(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
        Migrate::lock(connection).await
    }

    async fn unlock(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
        Migrate::unlock(connection).await
    }

    fn migrator() -> &'static sqlx::migrate::Migrator {
        static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");
        &MIGRATOR
    }
}
