//! The daemon's counters at one time: what the page, `watch`, `systemctl status` and the last line in the log show. They name no
//! account. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::labels::Outcome;
use crate::limiter::verdict::FailOpen;

/// What is said in words while `database_up` is false. `systemctl status` shows it, and `doctor` looks for it there.
pub const DATABASE_AWAY: &str = "the database is away, counting in memory";

/// The counters at one time; all of them count from the daemon's start.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counters {
    pub version: String,
    /// In seconds since 1970.
    pub started: i64,
    /// Requests answered.
    pub decisions: u64,
    /// By what Postfix was told, see [`Strictness::name`](crate::protocol::reply::Strictness::name).
    pub actions: BTreeMap<&'static str, u64>,
    /// By [`Outcome`].
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Answered with ACTION_ON_ERROR, by reason; only reasons that there were.
    pub fail_open: BTreeMap<&'static str, u64>,
    /// Counted in memory because the database was away.
    pub from_memory: u64,
    pub queue_depth: u64,
    pub connections: u64,
    pub connections_limit: u64,
    /// Whether counts go into the database.
    pub database_up: bool,
    /// Since when, in seconds since 1970; 0 where that is not told.
    pub database_since: i64,
    /// Where the database is: a host and its port, a socket, or a file.
    pub database_host: String,
    /// Whether what is answered without the database is written down.
    pub journal_up: bool,
    /// Requests in the outage journal that wait to be charged.
    pub journal_requests: u64,
    /// Counted in memory, and never to be charged.
    pub journal_lost: u64,
    pub transactions: u64,
    /// The time that all transactions took.
    pub transaction_seconds: f64,
    /// The time that all decisions took.
    pub decision_seconds: f64,
    /// Log lines that came faster than they could be written.
    pub log_lines_lost: u64,
}

/// What happened between two readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rate {
    /// Per second.
    pub decisions: f64,
    /// The mean of those that there were, in seconds.
    pub transaction: Option<f64>,
    pub decision: Option<f64>,
}

impl Counters {
    /// What happened since `earlier`, which was read `seconds` ago. None if the daemon was restarted meanwhile.
    pub fn since(&self, earlier: &Counters, seconds: f64) -> Option<Rate> {
        if self.started != earlier.started || seconds <= 0.0 {
            return None;
        }
        let decisions = self.decisions.checked_sub(earlier.decisions)? as f64;
        let transactions = self.transactions.checked_sub(earlier.transactions)? as f64;
        let mean = |number: f64, sum: f64| (number > 0.0).then(|| (sum / number).max(0.0));
        Some(Rate {
            decisions: decisions / seconds,
            transaction: mean(transactions, self.transaction_seconds - earlier.transaction_seconds),
            decision: mean(decisions, self.decision_seconds - earlier.decision_seconds),
        })
    }
}

/// One line for people: `12 connections; 3456 accepted, 7 blocked, 0 not counted; let through in doubt: deadline 2`.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = |outcome: Outcome| self.outcomes.get(outcome.name()).copied().unwrap_or(0);
        write!(
            f,
            "{} connections; {} accepted, {} blocked, {} not counted",
            self.connections,
            outcome(Outcome::Accepted),
            outcome(Outcome::Blocked),
            outcome(Outcome::NotCounted),
        )?;
        if !self.database_up {
            write!(f, "; {DATABASE_AWAY}")?;
        }
        if self.journal_requests > 0 {
            write!(f, "; {} in the journal to be charged", self.journal_requests)?;
        }
        if self.journal_lost > 0 {
            write!(f, "; {} never to be charged", self.journal_lost)?;
        }
        if self.from_memory > 0 {
            write!(f, "; {} judged from memory", self.from_memory)?;
        }
        let opened = FailOpen::ALL.iter().filter_map(|reason| self.fail_open.get_key_value(reason.name()));
        for (number, (reason, count)) in opened.enumerate() {
            write!(f, "{}{reason} {count}", if number == 0 { "; let through in doubt: " } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_difference_of_two_looks() {
        let before = Counters { started: 5, decisions: 100, transactions: 10, ..Counters::default() };
        let after = Counters { decisions: 160, transactions: 30, transaction_seconds: 0.1, ..before.clone() };
        let rate = after.since(&before, 2.0).unwrap();
        assert!((rate.decisions - 30.0).abs() < 1e-9 && (rate.transaction.unwrap() - 0.005).abs() < 1e-9);
        assert_eq!(before.since(&before, 2.0).unwrap().transaction, None);
        assert_eq!(Counters { started: 6, ..after.clone() }.since(&before, 2.0), None, "it was started anew");
        assert_eq!(before.since(&after, 2.0), None);
        assert_eq!(after.since(&before, 0.0), None);
    }
}
