//! The steps that are left of a round.

use std::time::Duration;

use crate::commit::batch::{self, Decided, Due};
use crate::commit::charge::Charge;
use crate::store::counters::Sum;

/// A step of a round that is still to be made.
pub enum Step<R> {
    Settle(Attempt<R>),
    FindOut(Doubt<R>),
    FindHeld(Search<R>),
    LookAtBlocks(Look<R>),
}

/// Charges to be settled together.
pub struct Attempt<R> {
    pub part: Vec<Due<R>>,
    pub sums: Vec<Sum>,
    /// What was decided when it was tried last.
    pub decided: Option<Decided>,
    /// How often it was tried.
    pub tried: u32,
    /// A connection that turns out to be dead is replaced once, since a server closes idle ones.
    pub may_reconnect: bool,
    pub not_before: Duration,
    pub began: Duration,
    pub limit: Duration,
}

impl<R> Attempt<R> {
    pub fn new(part: Vec<Due<R>>) -> Attempt<R> {
        let sums = batch::sums(&part);
        let zero = Duration::ZERO;
        Attempt { part, sums, decided: None, tried: 0, may_reconnect: true, not_before: zero, began: zero, limit: zero }
    }
}

/// Charges that were settled, and nobody knows whether that was committed.
pub struct Doubt<R> {
    pub attempt: Attempt<R>,
    /// Why nobody knows.
    pub reason: String,
    pub not_before: Duration,
}

/// Charges whose rows somebody else may hold.
pub struct Search<R> {
    pub part: Vec<Due<R>>,
    /// What the database said of the lock; None to see whether rows that were held still are.
    pub lock: Option<String>,
    pub began: Duration,
}

/// Charges that a list decides unless their accounts are blocked.
pub struct Look<R> {
    pub charges: Vec<Charge<R>>,
    /// As in [`Attempt`].
    pub may_reconnect: bool,
}
