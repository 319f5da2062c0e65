//! All SQL. Everything outside speaks of senders, counters and messages; here they become statements.
//!
//! One code path runs over all databases: [`dialect::Dialect`] holds the few words that differ, and `connection` tells the
//! drivers apart. What is common to all statements:
//!
//! - **Write first, read second**, in one transaction: the upsert takes the row locks, the SELECT then sees our own change and
//!   every committed one. Exact on every database, and no `RETURNING`.
//! - Time is an argument, in seconds since 1970; no statement asks the database for it.
//! - Keys are compared by the database. What it folds together (an adopted table keeps its collation) shares a row.
//!
//! The files below `handle` know nothing of it; each file above it adds some of the store's methods.

mod adopt;
mod apart;
pub mod backfill;
pub mod batch;
mod batches;
pub mod blocks;
mod charset;
mod compromised;
mod connection;
pub mod counters;
pub mod days;
pub mod dialect;
mod errors;
mod failure;
pub mod foreign;
mod handle;
mod histories;
pub mod journal;
pub mod learn;
mod literal;
mod lock_timeout;
mod long_log;
pub mod maintenance;
pub mod messages;
mod meta;
pub mod migrate;
mod migration_lock;
mod mysql;
pub mod notices;
pub mod past_messages;
pub mod policyd;
mod postgres;
pub mod queued;
pub mod refusals;
pub mod report;
mod reset;
mod script;
pub mod senders;
mod servers;
pub mod settle;
mod sql;
mod sqlite;
pub mod strikes;
pub mod takeover;
pub mod usage;
mod write_back;

pub use failure::Failure;
pub use handle::Store;
