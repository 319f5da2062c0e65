//! All SQL. Everything outside speaks of senders, counters and messages; here they become statements.
//!
//! One generic code path, [`backend::Backend`], runs over the concrete sqlx drivers; [`dialect::Dialect`] holds the few words
//! that differ, one file per database. What is common to all statements:
//!
//! - **Write first, read second**, in one transaction: the upsert takes the row locks, the SELECT then sees our own change and
//!   every committed one. Exact on every database, and no `RETURNING`.
//! - Time is an argument, in seconds since 1970; no statement asks the database for it.
//! - Keys are compared by the database. What it folds together (an adopted table keeps its collation) shares a row.

pub mod backend;
pub mod backfill;
mod charset;
pub mod counters;
pub mod dialect;
mod lock_timeout;
pub mod maintenance;
pub mod messages;
mod meta;
pub mod migrate;
mod mysql;
pub mod notices;
pub mod policyd;
mod postgres;
pub mod refusals;
pub mod report;
mod reset;
mod script;
pub mod senders;
pub mod settle;
mod sqlite;
pub mod takeover;
pub mod usage;

use crate::config;
use backend::Backend;
use backfill::Filled;
use counters::Sum;
use maintenance::{Aged, Chunk, Worked};
use notices::{Claim, Claimed};
use refusals::Refusals;
use report::{By, Logged, Part, Top, Totals};
use senders::{Change, Listed, Listing, SenderRow};
use settle::Judge;
use takeover::Taken;
use usage::{HistoryRows, Since};

/// Why a transaction did not come to a good end. What to do about it is the committer's business.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Rolled back by the database for a reason that passes: deadlock, serialization, busy. Trying again is right.
    #[error("the database asks to try again: {0}")]
    Transient(String),
    /// Rolled back since somebody holds a row that is needed.
    #[error("a row is locked by somebody else: {0}")]
    Locked(String),
    /// Rolled back since the database refuses a value.
    #[error("the database refuses a value: {0}")]
    Refused(String),
    /// The database cannot be reached or used; nothing was written.
    #[error("the database cannot be used: {0}")]
    Away(String),
    /// The connection was lost while COMMIT was under way: written or not, nobody knows. Never to be tried again.
    #[error("the connection was lost while committing: {0}")]
    Unknown(String),
}

impl Failure {
    /// Whether the database itself undid the work, and is there.
    pub fn rolled_back(&self) -> bool {
        matches!(self, Failure::Transient(_) | Failure::Locked(_) | Failure::Refused(_))
    }
}

/// The store of the chosen database.
pub enum Store {
    Sqlite(Backend<sqlite::Sqlite>),
    Mysql(Backend<mysql::Mysql>),
    Postgres(Backend<postgres::Postgres>),
}

/// Runs the same expression on whichever backend this is: the only place where the three are told apart.
macro_rules! with_backend {
    ($store:expr, $backend:ident => $body:expr) => {
        match $store {
            Store::Sqlite($backend) => $body,
            Store::Mysql($backend) => $body,
            Store::Postgres($backend) => $body,
        }
    };
}

impl Store {
    /// A store that is not connected yet.
    pub fn new(database: &config::Database) -> Store {
        match database.driver {
            config::Driver::Sqlite => Store::Sqlite(Backend::new(database)),
            config::Driver::Mysql => Store::Mysql(Backend::new(database)),
            config::Driver::Postgres => Store::Postgres(Backend::new(database)),
        }
    }

    /// The same for whoever only looks: makes no file and no table, and writes no row.
    pub fn reading(database: &config::Database) -> Store {
        match database.driver {
            config::Driver::Sqlite => Store::Sqlite(Backend::reading(database)),
            config::Driver::Mysql => Store::Mysql(Backend::reading(database)),
            config::Driver::Postgres => Store::Postgres(Backend::reading(database)),
        }
    }

    /// Where the database is, for messages.
    pub fn place(&self) -> String {
        with_backend!(self, backend => backend.place())
    }

    /// Drops the connection at once, in whatever state it is. True if a COMMIT was under way on it.
    pub fn abandon(&mut self) -> bool {
        with_backend!(self, backend => backend.abandon())
    }

    /// Ends the connection politely.
    pub async fn close(&mut self) {
        with_backend!(self, backend => backend.close().await)
    }

    /// One transaction: adds `sums` (sorted by sender), reads the rows as they then stand, lets `judge` rule, writes what it
    /// says, and commits.
    ///
    /// `now` is in seconds since 1970; `new_quota` goes into rows made here. Without a connection it connects first.
    pub async fn settle<J: Judge>(
        &mut self,
        sums: &[Sum],
        new_quota: u32,
        now: i64,
        judge: J,
    ) -> Result<J::Ruled, Failure> {
        with_backend!(self, backend => backend.settle(sums, new_quota, now, judge).await)
    }

    /// Which of these senders' rows somebody else holds locked right now. Asks without waiting.
    pub async fn locked(&mut self, senders: &[String]) -> Result<Vec<String>, Failure> {
        with_backend!(self, backend => backend.locked(senders).await)
    }

    /// Looks whether somebody holds the whole table of counters: then the database is [`Failure::Away`].
    pub async fn table_is_free(&mut self) -> Result<(), Failure> {
        with_backend!(self, backend => backend.table_is_free().await)
    }

    /// Brings the tables to this program's version and says which steps it ran. Without `slowly` it leaves out what takes
    /// long on a large adopted table; the daemon works without that.
    pub async fn migrate(&mut self, slowly: bool) -> Result<Vec<migrate::Step>, migrate::MigrateError> {
        with_backend!(self, backend => backend.migrate(slowly).await)
    }

    /// Every migration this program knows, and whether the database has it; and what tables that it adopts lack. Only reads.
    pub async fn migrations(&mut self) -> Result<Vec<migrate::Step>, migrate::MigrateError> {
        with_backend!(self, backend => backend.migrations().await)
    }

    /// Proves that the database takes writes: stores `now`, in seconds since 1970, under `meta.heartbeat`.
    pub async fn heartbeat(&mut self, now: i64) -> Result<(), Failure> {
        with_backend!(self, backend => backend.heartbeat(now).await)
    }

    /// Claims the reset of all counters for this process; false if another process is at it, or somebody reset at `unless`
    /// (seconds since 1970) or later. Without `unless` it is claimed in any case.
    pub async fn claim_reset(&mut self, now: i64, unless: Option<i64>) -> Result<bool, Failure> {
        with_backend!(self, backend => backend.claim_reset(now, unless).await)
    }

    /// Keeps the claim for some two minutes more.
    pub async fn keep_reset(&mut self, now: i64) -> Result<(), Failure> {
        with_backend!(self, backend => backend.keep_reset(now).await)
    }

    /// Ends the claim: counters are reset as of a time (seconds since 1970), or not.
    pub async fn end_reset(&mut self, as_of: Option<i64>) -> Result<(), Failure> {
        with_backend!(self, backend => backend.end_reset(as_of).await)
    }

    /// When the counters were last reset, or counting began here, in seconds since 1970.
    pub async fn last_reset(&mut self, now: i64) -> Result<Option<i64>, Failure> {
        with_backend!(self, backend => backend.last_reset(now).await)
    }

    /// Deletes the next of what is from before a time (seconds since 1970); none when nothing is left.
    pub async fn expire(&mut self, aged: Aged, before: i64) -> Result<Option<Worked>, Failure> {
        with_backend!(self, backend => backend.expire(aged, before).await)
    }

    /// Fills `usage` from the messages since a time (seconds since 1970), once in a database's life; what takes long only
    /// `slowly`.
    pub async fn fill_usage(&mut self, since: i64, now: i64, slowly: bool) -> Result<Filled, Failure> {
        with_backend!(self, backend => backend.fill_usage(since, now, slowly).await)
    }

    /// Whether [`Store::fill_usage`] still has something to do for `migrate`.
    pub async fn lacks_usage(&mut self) -> Result<bool, Failure> {
        with_backend!(self, backend => backend.lacks_usage().await)
    }

    /// Adds what another program counted of some senders (sorted by their keys, each once), and stores in `meta`, under the
    /// name, how far this has come: all of it or nothing.
    pub async fn take_over(
        &mut self,
        taken: &[Taken],
        new_quota: u32,
        now: i64,
        progress: (&str, &str),
    ) -> Result<(), Failure> {
        with_backend!(self, backend => backend.take_over(taken, new_quota, now, progress).await)
    }

    /// The value stored in `meta` under a name.
    pub async fn meta(&mut self, name: &str) -> Result<Option<String>, Failure> {
        with_backend!(self, backend => backend.meta(name).await)
    }

    /// The row that the database finds for a sender's key.
    pub async fn sender(&mut self, key: &str) -> Result<Option<SenderRow>, Failure> {
        with_backend!(self, backend => backend.sender(key).await)
    }

    /// The sender's row of this number.
    pub async fn sender_by_id(&mut self, id: i64) -> Result<Option<SenderRow>, Failure> {
        with_backend!(self, backend => backend.sender_by_id(id).await)
    }

    /// Lists senders.
    pub async fn list(&mut self, listing: &Listing) -> Result<Vec<Listed>, Failure> {
        with_backend!(self, backend => backend.list(listing).await)
    }

    /// Changes a sender's row or makes it, and gives it as it was and as it is. See [`Backend::set`].
    pub async fn set(
        &mut self,
        key: &str,
        change: Change,
        new_quota: u32,
        now: i64,
    ) -> Result<(Option<SenderRow>, Option<SenderRow>), Failure> {
        with_backend!(self, backend => backend.set(key, change, new_quota, now).await)
    }

    /// Gives the next logins of a domain, beyond the row `after`, their `@domain` row's quotas; none when none is left.
    pub async fn apply_domain(&mut self, domain: &str, once: bool, after: i64) -> Result<Option<Worked>, Failure> {
        with_backend!(self, backend => backend.apply_domain(domain, once, after).await)
    }

    /// Frees a sender at once; history stays. None if there is no such row.
    pub async fn free(&mut self, key: &str, now: i64) -> Result<Option<SenderRow>, Failure> {
        with_backend!(self, backend => backend.free(key, now).await)
    }

    /// Parts the next messages from a sender's row, or deletes them; gives how many, 0 when none is left.
    pub async fn part_messages(&mut self, id: i64, delete: bool) -> Result<u64, Failure> {
        with_backend!(self, backend => backend.part_messages(id, delete).await)
    }

    /// Deletes a sender's row and history.
    pub async fn delete_sender(&mut self, id: i64) -> Result<(), Failure> {
        with_backend!(self, backend => backend.delete_sender(id).await)
    }

    /// The histories of some senders.
    pub async fn histories(&mut self, since: Since) -> Result<HistoryRows, Failure> {
        with_backend!(self, backend => backend.histories(since).await)
    }

    /// The senders who sent most since a time (seconds since 1970).
    pub async fn top(&mut self, by: By, since: i64, most: u32) -> Result<Vec<Top>, Failure> {
        with_backend!(self, backend => backend.top(by, since, most).await)
    }

    /// All that was let through since a time (seconds since 1970).
    pub async fn totals(&mut self, since: i64) -> Result<Totals, Failure> {
        with_backend!(self, backend => backend.totals(since).await)
    }

    /// What some senders had let through, in parts of `minutes` minutes since the minute `first`.
    pub async fn parts(&mut self, ids: &[i64], first: i64, minutes: i64) -> Result<Vec<Part>, Failure> {
        with_backend!(self, backend => backend.parts(ids, first, minutes).await)
    }

    /// A sender's last messages that were held or refused, the latest first.
    pub async fn blocked(&mut self, id: i64, most: u32) -> Result<Vec<Logged>, Failure> {
        with_backend!(self, backend => backend.blocked(id, most).await)
    }

    /// What was held or refused since a time (seconds since 1970), of the newest messages.
    pub async fn refusals(&mut self, since: i64, most: u32) -> Result<Refusals, Failure> {
        with_backend!(self, backend => backend.refusals(since, most).await)
    }

    /// The senders, `most` at the most, who had mail let through since a minute (counted from 1970).
    pub async fn active(&mut self, since_minute: i64, most: u32) -> Result<Vec<i64>, Failure> {
        with_backend!(self, backend => backend.active(since_minute, most).await)
    }

    /// The usual quotas other than this one, and how many senders have each; the most frequent first.
    pub async fn quotas_but(&mut self, quota: u32) -> Result<Vec<(u32, i64)>, Failure> {
        with_backend!(self, backend => backend.quotas_but(quota).await)
    }

    /// How many senders there are.
    pub async fn count_senders(&mut self) -> Result<i64, Failure> {
        with_backend!(self, backend => backend.count_senders().await)
    }

    /// The queue ids of a sender's mail that was held since a time (seconds since 1970), the oldest first.
    pub async fn held(&mut self, id: i64, since: i64, most: u32) -> Result<Vec<String>, Failure> {
        with_backend!(self, backend => backend.held(id, since, most).await)
    }

    /// When the first of a sender's mail was held that the audit log knows, in seconds since 1970.
    pub async fn first_held(&mut self, id: i64) -> Result<Option<i64>, Failure> {
        with_backend!(self, backend => backend.first_held(id).await)
    }

    /// Claims notices (sorted by sender) for this daemon, in one transaction: what another has told is not told again.
    pub async fn claim_notices(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, Failure> {
        with_backend!(self, backend => backend.claim_notices(claims).await)
    }

    /// Forgets what was told in periods that began before a time, in seconds since 1970.
    pub async fn forget_notices(&mut self, before: i64) -> Result<(), Failure> {
        with_backend!(self, backend => backend.forget_notices(before).await)
    }

    /// Does the next rows of a maintenance work, beyond the row `after`; none when nothing is left.
    pub async fn chunk(&mut self, chunk: Chunk, after: i64) -> Result<Option<Worked>, Failure> {
        with_backend!(self, backend => backend.chunk(chunk, after).await)
    }
}

/// The most rows in one statement. Each number of rows is a statement of its own, prepared once per connection; so many of
/// each kind are worth keeping, and a batch of the usual size is one round trip.
const MAX_ROWS: usize = 64;

/// Prepared statements kept per connection: [`MAX_ROWS`] of each of the five kinds on the hot path.
pub(crate) const STATEMENTS_KEPT: usize = 5 * MAX_ROWS;

/// Splits `items` into slices for one statement each.
fn in_statements<T>(items: &[T]) -> std::slice::Chunks<'_, T> {
    items.chunks(MAX_ROWS)
}
