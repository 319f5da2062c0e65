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
mod counters;
pub mod dialect;
pub mod maintenance;
mod messages;
pub mod migrate;
mod mysql;
mod patience;
mod postgres;
mod sqlite;
mod usage;

use crate::config;
use backend::Backend;
use maintenance::{Chunk, Worked};

/// The greatest value a counter takes: the end of PolicydRateGuard's INT UNSIGNED columns. Counters stay there and never wrap.
pub const COUNTER_MAX: i64 = u32::MAX as i64;

/// What one transaction adds to one sender's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// The key as `limiter::subject` made it.
    pub sender: String,
    pub messages: u32,
    pub recipients: u32,
    /// False only looks: no row is made and none is changed.
    pub count: bool,
}

/// A sender's row as it stands after a transaction's sums were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub id: i64,
    /// [`config::UNLIMITED`] means no limit.
    pub quota: u32,
    pub messages: u32,
    pub recipients: u32,
    /// Never reset: they tell whether anybody else has charged this sender.
    pub total_messages: u32,
    pub total_recipients: u32,
    /// Where `sender reset` begins anew, in seconds since 1970; 0 where it never did.
    pub window_from: i64,
}

/// Which histories are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    pub rows: Vec<i64>,
    /// From this time on, in seconds since 1970; the begin of a minute.
    pub time: i64,
    /// Whether networks are wanted too.
    pub networks: bool,
}

/// What was read of `usage` and `networks`.
#[derive(Debug, Default)]
pub struct HistoryRows {
    /// The rows that were asked about; one without usage has none.
    pub rows: Vec<i64>,
    pub usage: Vec<UsageRow>,
    pub seen: Vec<SeenRow>,
}

/// What a sender had let through in a minute (counted from 1970).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageRow {
    pub ratelimit_id: i64,
    pub minute: i64,
    pub messages: i64,
    pub recipients: i64,
    pub bytes: i64,
}

/// A network that a sender was seen from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRow {
    pub ratelimit_id: i64,
    pub network: String,
    pub last_seen: i64,
}

/// What a judgement writes.
#[derive(Debug, Default)]
pub struct Writes {
    pub audit: Vec<AuditRow>,
    pub usage: Vec<UsageRow>,
    pub seen: Vec<SeenRow>,
}

/// Judges the requests of a transaction between its reads and its writes. Pure: the store gives it all it knows.
pub trait Judge: Send {
    type Ruled: Send;

    /// Sees the rows as they stand after the sums were added, in the order of the sums (none for a sender that was only
    /// looked at and has no row), and says which histories it needs.
    fn history(&mut self, rows: &[Option<Row>]) -> Option<Since>;

    /// Judges, and says what is to be written.
    fn rule(self, rows: &[Option<Row>], history: HistoryRows) -> (Self::Ruled, Writes);
}

/// A row of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    pub ratelimit_id: i64,
    pub queue_id: String,
    pub sender: String,
    pub recipients: u32,
    pub blocked: bool,
    pub from: String,
    pub to: String,
    pub client_address: String,
    pub client_name: String,
    pub action: String,
    pub reason: String,
}

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

    /// Where the database is, for messages.
    pub fn place(&self) -> String {
        with_backend!(self, backend => backend.place())
    }

    /// Connects, if not connected.
    pub async fn connect(&mut self) -> Result<(), Failure> {
        with_backend!(self, backend => backend.connect().await)
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

    /// Brings the tables to this program's version and says which steps it ran. Without `slowly` it leaves out what takes
    /// long on a large adopted table; the daemon works without that.
    pub async fn migrate(&mut self, slowly: bool) -> Result<Vec<migrate::Step>, migrate::MigrateError> {
        with_backend!(self, backend => backend.migrate(slowly).await)
    }

    /// Every migration this program knows, and whether the database has it.
    pub async fn migrations(&mut self) -> Result<Vec<migrate::Step>, migrate::MigrateError> {
        with_backend!(self, backend => backend.migrations().await)
    }

    /// Proves that the database takes writes: stores `now` under `meta.heartbeat`.
    pub async fn heartbeat(&mut self, now: i64) -> Result<(), Failure> {
        with_backend!(self, backend => backend.set_meta("heartbeat", &now.to_string()).await)
    }

    /// Claims the reset of all counters for this process, unless somebody did after `before` (seconds since 1970) and not
    /// `always`. Gives the time of the reset before, for [`Store::unclaim_reset`].
    pub async fn claim_reset(&mut self, now: i64, before: i64, always: bool) -> Result<Option<i64>, Failure> {
        with_backend!(self, backend => backend.claim_reset(now, before, always).await)
    }

    /// Takes a claimed reset back.
    pub async fn unclaim_reset(&mut self, previous: i64) -> Result<(), Failure> {
        with_backend!(self, backend => backend.unclaim_reset(previous).await)
    }

    /// When all counters were last reset, in seconds since 1970; none if never.
    pub async fn last_reset(&mut self) -> Result<Option<i64>, Failure> {
        with_backend!(self, backend => backend.last_reset().await)
    }

    /// Does the next rows of a maintenance work, beyond the row `after`; none when nothing is left.
    pub async fn chunk(&mut self, chunk: Chunk, after: i64) -> Result<Option<Worked>, Failure> {
        with_backend!(self, backend => backend.chunk(chunk, after).await)
    }
}

/// The statement sizes in use are powers of two, so that a few prepared statements serve every batch.
/// Splits `items` into slices of such sizes, the greatest first.
fn in_statement_sizes<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    const MOST: usize = 128;
    std::iter::from_fn(move || {
        let size = (items.len().min(MOST) + 1).next_power_of_two() / 2;
        let (slice, rest) = items.split_at_checked(size)?;
        items = rest;
        (!slice.is_empty()).then_some(slice)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn statement_sizes_are_powers_of_two_and_lose_nothing(count in 0usize..1000) {
            let items: Vec<usize> = (0..count).collect();
            let slices: Vec<&[usize]> = in_statement_sizes(&items).collect();
            prop_assert!(slices.iter().all(|slice| slice.len().is_power_of_two() && slice.len() <= 128));
            prop_assert_eq!(slices.concat(), items);
        }
    }
}
