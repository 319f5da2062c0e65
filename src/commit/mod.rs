//! From a charge to a committed verdict: group commit.
//!
//! Connections put a [`charge::Charge`] into the bounded [`queue`] and wait. One task, the [`committer`], takes all that waits,
//! settles it in one transaction of the store, and only then answers. So a lone request costs one commit, and load makes its
//! own batches. What is to be done next is decided by [`rounds`], a state machine without a clock, a channel or a database; the
//! committer carries it out.
//!
//! No two files use each other, not even through a third.

pub mod batch;
pub mod blocks;
pub mod breaker;
pub mod charge;
pub mod coarsening;
pub mod committer;
pub mod database;
pub mod days;
pub mod deduplication;
pub mod handover;
pub mod journaling;
pub mod known_strikes;
pub mod late;
pub mod learning;
pub mod locks;
pub mod memory;
pub mod probe;
pub mod queue;
pub mod quotas;
pub mod rounds;
pub mod standings;
pub mod upkeep;
