//! From a charge to a committed verdict: group commit.
//!
//! Connections put a [`queue::Charge`] into the bounded queue and wait. One task, the [`committer`], takes all that waits,
//! settles it in one transaction of the store, and only then answers. So a lone request costs one commit, and load makes its
//! own batches. [`repeats`] keeps a message that is asked about twice from being charged twice; [`breaker`] and [`standin`]
//! answer while the database is away.

pub mod batch;
pub mod breaker;
pub mod committer;
pub mod histories;
pub mod locks;
pub mod queue;
pub mod repeats;
pub mod standin;
