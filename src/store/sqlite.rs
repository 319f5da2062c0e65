//! SQLite: the embedded database, for one host.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use super::dialect::{Dialect, Rows, STANDARD, Time};
use super::failure::Failure;
use crate::config;

pub mod adopt;

/// In bytes, the least that [`packed`] makes of a row: `["",[1]],`.
pub const LEAST_PACKED: usize = 9;
/// Packets of prepared statements kept per connection. A batch has up to three, and each statement in them one of seven numbers
/// of rows.
const STATEMENTS_KEPT: usize = 100;
/// How long a statement waits for another process (`cleanup`, `sender set`) that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// In bytes: a longer log is written back, and cut to this. A page that was written many times meanwhile goes over once; a
/// thousand active senders keep writing the same 3,000 pages.
pub const MAX_LOG: u64 = 64 << 20;
/// Memory for pages, in KiB as SQLite has it (a negative number), taken as it is needed: a thousand active senders among a
/// million touch some 3,000 pages of 4 KiB.
const CACHE: &str = "-16000";

pub static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

pub const DIALECT: Dialect = Dialect {
    in_process: true,
    // Takes the write lock at once: a transaction that begins by reading could not get it later.
    begin: &["BEGIN IMMEDIATE"],
    least: "min",
    greatest: "max",
    // The index by sender is of refused messages alone: of all messages it would touch a page for each sender of a batch.
    messages_found: " AND blocked = 1",
    rows: Rows::Padded,
    time: Time::Text(written),
    to_epoch: ("CAST(strftime('%s', ", ") AS BIGINT)"),
    tables_among: "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ",
    columns_found: "SELECT s.name, c.name FROM sqlite_master AS s, pragma_table_info(s.name) AS c \
                    WHERE s.type = 'table' AND s.name IN ('ratelimits', 'messages', 'notices')",
    rows_found: Some(("rowid IN (SELECT rowid", ")")),
    ..STANDARD
};

pub fn options(database: &config::Database, reading: bool) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new()
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .pragma("cache_size", CACHE)
        .statement_cache_capacity(STATEMENTS_KEPT);
    let options = match database.name.as_str() {
        config::IN_MEMORY => options.in_memory(true),
        path => options.filename(path),
    };
    if reading {
        // Not opened read-only: that would need the files that a daemon which does not run has taken away. The file keeps
        // the journal that it has.
        return options.pragma("query_only", "ON");
    }
    options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // An answer that was sent must survive a loss of power.
        .synchronous(SqliteSynchronous::Full)
        // Not within a COMMIT.
        .pragma("wal_autocheckpoint", "0")
        .pragma("journal_size_limit", MAX_LOG.to_string())
}

/// False if there is no file yet. Where it could not be made either, and where it cannot be looked at, opening it says why.
pub fn exists(options: &SqliteConnectOptions) -> bool {
    let file = options.get_filename();
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    file.try_exists().unwrap_or(true) || !folder.is_dir()
}

/// A file by its device and inode.
type Inode = (u64, u64);

/// The files of a database, as they are there now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Files {
    pub database: Option<Inode>,
    /// What is committed and not in the database yet.
    log: Option<Inode>,
    /// How long that is, in bytes.
    pub log_bytes: u64,
}

impl Files {
    /// Looks at the files: two calls to the kernel, a microsecond.
    pub fn of(options: &SqliteConnectOptions) -> Files {
        let inode = |file: &fs::Metadata| (file.dev(), file.ino());
        let log = beside(options, "-wal").metadata().ok();
        Files {
            database: options.get_filename().metadata().ok().as_ref().map(inode),
            log: log.as_ref().map(inode),
            log_bytes: log.map_or(0, |log| log.len()),
        }
    }

    /// Removes the log of a database that was removed or replaced, unless another one is there: SQLite would take it for
    /// that of the file which is there now.
    pub fn remove_log(self, options: &SqliteConnectOptions) {
        if self.log.is_none() || Files::of(options).log != self.log {
            return;
        }
        for path in ["-wal", "-shm"].map(|end| beside(options, end)) {
            if let Err(error) = fs::remove_file(&path) {
                log::warn!("removing {}: {error}", path.display());
            }
        }
    }
}

/// A file that SQLite keeps beside a database.
fn beside(options: &SqliteConnectOptions, end: &str) -> PathBuf {
    let mut path = options.get_filename().as_os_str().to_owned();
    path.push(end);
    path.into()
}

/// A point in time, in seconds since 1970, as SQLite's `datetime()` writes it.
fn written(seconds: i64) -> String {
    /// The last second that is written with four digits of a year.
    const LAST: i64 = 253_402_207_200;
    let time = Timestamp::from_second(seconds.clamp(0, LAST)).unwrap_or_default();
    // In the form of RFC 3339, 2027-01-15T12:00:00Z.
    time.to_string().trim_end_matches('Z').replacen('T', " ", 1)
}

/// The columns of a SELECT that packs all its rows, each a text and some whole numbers, into one: each row by itself would
/// be a message between two threads, and waking one up costs more than reading the row.
pub fn packed(text: &str, numbers: &str) -> String {
    format!("json_group_array(json_array({text}, json_array({numbers})))")
}

/// The same for all columns of a SELECT that goes up to its condition; the closing bracket is left to the caller.
pub fn packing(columns: &str, select: &str) -> String {
    format!("SELECT json_group_array(json_array({columns})) FROM ({select}")
}

/// The rows that [`packed`] or [`packing`] made one of.
pub fn unpacked<T: DeserializeOwned>(rows: &str) -> Result<Vec<T>, Failure> {
    serde_json::from_str(rows).map_err(|error| Failure::Refused(format!("reading what SQLite packed: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::ConnectOptions as _;

    #[test]
    fn no_commit_writes_the_log_back() {
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().join("test.db").display().to_string();
        let database = config::Database::sqlite(name);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pages: i64 = runtime.block_on(async {
            let mut connection = options(&database, false).connect().await.unwrap();
            sqlx::query_scalar("PRAGMA wal_autocheckpoint").fetch_one(&mut connection).await.unwrap()
        });
        assert_eq!(pages, 0);
    }
}
