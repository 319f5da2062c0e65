//! The daemon's own counters, as its `/metrics` tells them: the page reads them in the daemon itself, `watch` over HTTP.
//! They name nobody. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

const PREFIX: &str = "policyd_rate_guard_";

/// The counters at one time; all of them count from the daemon's start.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Daemon {
    pub version: String,
    /// In seconds since 1970.
    pub started: i64,
    /// Requests answered.
    pub decisions: u64,
    /// By what Postfix was told: `pass`, `warn`, `hold`, `defer`, `reject`.
    pub actions: BTreeMap<String, u64>,
    /// By outcome: `accepted`, `blocked`, `not_counted`, `in_doubt`.
    pub outcomes: BTreeMap<String, u64>,
    /// Answered with ACTION_ON_ERROR, by reason; only reasons that there were.
    pub fail_open: BTreeMap<String, u64>,
    /// Counted in memory because the database was away.
    pub from_memory: u64,
    pub queue_depth: u64,
    pub connections: u64,
    pub connections_limit: u64,
    /// Whether counts go into the database.
    pub database_up: bool,
    /// Since when, in seconds since 1970; 0 where that is not told.
    pub database_since: i64,
    pub transactions: u64,
    /// For all of them.
    pub transaction_seconds: f64,
    pub decision_seconds: f64,
    /// Log lines that came faster than they could be written.
    pub log_lines_lost: u64,
}

/// What happened between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rate {
    /// Per second.
    pub decisions: f64,
    /// The mean of those that there were, in seconds.
    pub transaction: Option<f64>,
    pub decision: Option<f64>,
}

impl Daemon {
    /// Reads Prometheus' text or OpenMetrics; what is unknown in it is left out. None if it is not of this program.
    pub fn read(metrics: &str) -> Option<Daemon> {
        let mut daemon = Daemon::default();
        let mut is_ours = false;
        for line in metrics.lines() {
            let Some((name, labels, value)) = sample(line) else { continue };
            // Counts are whole, and far below where a float is not.
            let count = value.max(0.0) as u64;
            let label = |wanted: &str| {
                let (_, rest) = labels.split_once(&format!("{wanted}=\""))?;
                Some(rest.split('"').next().unwrap_or_default().to_owned())
            };
            match name {
                "build_info" => {
                    is_ours = true;
                    daemon.version = label("version").unwrap_or_default();
                }
                "start_time_seconds" => daemon.started = value as i64,
                "decisions_total" => {
                    daemon.decisions += count;
                    for (by, name) in [(&mut daemon.actions, "action"), (&mut daemon.outcomes, "outcome")] {
                        *by.entry(label(name).unwrap_or_default()).or_default() += count;
                    }
                }
                "fail_open_total" if count > 0 => {
                    daemon.fail_open.insert(label("reason").unwrap_or_default(), count);
                }
                "judged_from_memory_total" => daemon.from_memory = count,
                "queue_depth" => daemon.queue_depth = count,
                "connections" => daemon.connections = count,
                "connections_limit" => daemon.connections_limit = count,
                "database_up" => daemon.database_up = count == 1,
                "database_since_seconds" => daemon.database_since = value as i64,
                "transaction_seconds_count" => daemon.transactions = count,
                "transaction_seconds_sum" => daemon.transaction_seconds = value,
                "decision_seconds_sum" => daemon.decision_seconds = value,
                "log_lines_lost_total" => daemon.log_lines_lost = count,
                _ => {}
            }
        }
        is_ours.then_some(daemon)
    }

    /// What happened since an earlier look, `seconds` ago. None if the daemon was started anew meanwhile.
    pub fn since(&self, earlier: &Daemon, seconds: f64) -> Option<Rate> {
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

/// A line's name without our prefix, its labels, and its value. No label of ours holds a blank or a brace.
fn sample(line: &str) -> Option<(&str, &str, f64)> {
    let (series, value) = line.strip_prefix(PREFIX)?.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    Some((name, labels, value.parse().ok().filter(|value: &f64| value.is_finite())?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limiter::verdict::FailOpen;
    use crate::protocol::reply::Strictness;
    use crate::telemetry::metrics::{Metrics, Outcome};

    #[test]
    fn reads_what_the_daemon_writes() {
        let metrics = Metrics::default();
        let _connection = metrics.connection();
        metrics.limit_connections(64);
        metrics.gauge_from("queue_depth", "Waiting", || 3);
        metrics.database_is_up(true);
        let quick = Duration::from_millis(2);
        metrics.decided(Outcome::Accepted, Strictness::Pass, quick);
        metrics.decided(Outcome::Blocked, Strictness::Hold, quick);
        metrics.decided(Outcome::Blocked, Strictness::Reject, quick);
        metrics.fail_open(FailOpen::Deadline);
        metrics.transaction(3, Duration::from_millis(4));
        for text in [metrics.open_metrics(), metrics.prometheus_text()] {
            let daemon = Daemon::read(&text).unwrap();
            assert_eq!(daemon.version, env!("CARGO_PKG_VERSION"));
            assert!(daemon.started > 1_600_000_000 && daemon.database_since >= daemon.started, "{daemon:?}");
            assert_eq!((daemon.decisions, daemon.outcomes["blocked"], daemon.actions["hold"]), (3, 2, 1));
            assert_eq!(daemon.fail_open.iter().collect::<Vec<_>>(), [(&"deadline".to_owned(), &1)]);
            assert_eq!((daemon.queue_depth, daemon.connections, daemon.connections_limit), (3, 1, 64));
            assert!(daemon.database_up && daemon.transactions == 1);
            assert!((daemon.transaction_seconds - 0.004).abs() < 1e-9);
        }
    }

    #[test]
    fn a_rate_is_the_difference_of_two_looks() {
        let before = Daemon { started: 5, decisions: 100, transactions: 10, ..Daemon::default() };
        let after = Daemon { decisions: 160, transactions: 30, transaction_seconds: 0.1, ..before.clone() };
        let rate = after.since(&before, 2.0).unwrap();
        assert!((rate.decisions - 30.0).abs() < 1e-9 && (rate.transaction.unwrap() - 0.005).abs() < 1e-9);
        assert_eq!(before.since(&before, 2.0).unwrap().transaction, None);
        assert_eq!(Daemon { started: 6, ..after.clone() }.since(&before, 2.0), None, "it was started anew");
        assert_eq!(before.since(&after, 2.0), None);
        assert_eq!(after.since(&before, 0.0), None);
    }

    #[test]
    fn what_is_of_no_such_daemon_is_none() {
        for text in ["", "<html>", "go_goroutines 7\n", "policyd_rate_guard_queue_depth x\n", "policyd_rate_guard_ NaN"]
        {
            assert_eq!(Daemon::read(text), None, "{text}");
        }
    }
}
