//! A request that must be counted. Pure.

use std::sync::Arc;
use std::time::Duration;

use crate::protocol::request::Request;

/// A request that must be counted. `R` is where its answer goes. Times are since the start of the committer.
#[derive(Debug)]
pub struct Charge<R> {
    /// The key that is counted: `ratelimits.sender`.
    pub account: String,
    pub request: Arc<Request>,
    pub arrived: Duration,
    /// When nobody waits for the answer any more.
    pub deadline: Duration,
    /// When it is decided, in Unix seconds; None for the time at which its batch is settled.
    pub decided_at: Option<i64>,
    /// Whether a list decides, unless its account is blocked: if it is not, nothing is counted.
    pub listed: bool,
    pub reply: R,
}

impl<R> Charge<R> {
    /// Until when it waits for a row that somebody else holds: for half of its time, since another daemon's commit may be
    /// slow, and never so long that the answer is late.
    pub fn waits_for_a_row_until(&self) -> Duration {
        self.arrived + self.deadline.saturating_sub(self.arrived) / 2
    }

    /// Whether there is time for another try: a quarter of it must be left, since a try may wait for a lock.
    pub fn is_in_time(&self, now: Duration) -> bool {
        now + self.deadline.saturating_sub(self.arrived) / 4 < self.deadline
    }
}
