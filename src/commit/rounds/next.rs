//! What is to be done next, as [`super::Rounds`] says it, and what it answers.

use std::time::Duration;

use crate::commit::batch::BatchDecider;
use crate::commit::breaker::Outage;
use crate::commit::charge::Charge;
use crate::commit::deduplication::New;
use crate::commit::journaling::Task;
use crate::limiter::verdict::Verdict;
use crate::store::blocks::Revision;
use crate::store::counters::Sum;

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since the start of the committer.
    pub elapsed: Duration,
    /// In Unix seconds.
    pub unix: i64,
}

/// What is to be done next.
pub enum Next<'a, R> {
    /// Send this answer.
    Answer(Answered<R>),
    /// Settle this, and report it by [`super::Rounds::settled`].
    Settle(Transaction<'a, R>),
    /// Ask whether what was settled last has been committed, and report it by [`super::Rounds::found_out`].
    FindOut { limit: Duration },
    /// Read the blocks unless this revision of them is the present one, and report them by [`super::Rounds::looked`].
    LookAtBlocks { known: Option<Revision>, limit: Duration },
    /// Ask whose rows somebody else holds, and report it by [`super::Rounds::held`].
    FindHeld { accounts: Vec<String>, limit: Duration },
    /// The database is away: get it back, from `Outage::pause` on, and report that by [`super::Rounds::database_is_back`].
    OpenBreaker { reason: String, outage: Outage },
    /// Do this with the journal, and report it by [`super::Rounds::journaled`].
    Journal(Task),
    /// Counts go into the database again; the outage is over.
    CloseBreaker(Outage),
    /// Wait until this time.
    Pause(Duration),
    /// The round is over: wait for charges, until this time if there is one.
    Receive(Option<Duration>),
}

/// An answer to a charge.
#[derive(Debug)]
pub struct Answered<R> {
    pub charge: Charge<R>,
    pub verdict: Verdict,
    /// What was new about it; None for a repeat.
    pub new: Option<New>,
}

/// Charges that are settled in one transaction.
pub struct Transaction<'a, R> {
    pub sums: &'a [Sum],
    pub decider: BatchDecider<'a, R>,
    /// For rows that it makes.
    pub new_quota: u32,
    /// How many charges it has.
    pub charges: usize,
    /// How long the database may take.
    pub limit: Duration,
}
