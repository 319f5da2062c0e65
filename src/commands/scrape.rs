//! Reads the daemon's counters over HTTP at METRICS_LISTEN.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ureq::Agent;

use crate::config::Endpoint;
use crate::limiter::verdict::FailOpen;
use crate::protocol::reply::Strictness;
use crate::telemetry::counters::Counters;
use crate::telemetry::labels::Outcome;

const PREFIX: &str = "policyd_rate_guard_";
/// For one answer, with connecting.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer, in bytes; the daemon's is a tenth of that.
const MAX_ANSWER: u64 = 256 * 1024;
/// The largest head of an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Returns the address to ask: a daemon that listens on all addresses is asked on the loopback address.
pub fn address(listens: &Endpoint) -> Endpoint {
    let mut nearest = listens.clone();
    if let Endpoint::Address(address) = &mut nearest
        && address.ip().is_unspecified()
    {
        let is_ipv4 = address.is_ipv4();
        address.set_ip(if is_ipv4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    nearest
}

/// Returns the HTTP client. It uses no proxy of the environment: the daemon is on this host.
pub fn agent() -> Agent {
    Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .max_redirects(0)
        .http_status_as_error(false)
        .max_response_header_size(MAX_HEAD)
        .proxy(None)
        .build()
        .new_agent()
}

/// Returns the counters as they are now.
///
/// # Errors
/// Why there are none, for people.
pub fn read(agent: &Agent, address: &Endpoint) -> Result<Counters, String> {
    let mut response = agent.get(format!("http://{address}/metrics")).call().map_err(|error| why(&error))?;
    if response.status() != 200 {
        return Err(format!("the answer has HTTP status {}", response.status().as_u16()));
    }
    let text = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string().map_err(|error| why(&error))?;
    parsed(&text).ok_or_else(|| "the answer is not from this daemon".to_owned())
}

/// Reads Prometheus' text or OpenMetrics; unknown series are ignored. None if it is not of this program.
fn parsed(metrics: &str) -> Option<Counters> {
    let mut counters = Counters::default();
    let mut is_ours = false;
    for line in metrics.lines() {
        let Some((name, labels, value)) = sample(line) else { continue };
        // Counts are whole numbers, small enough for a float to be exact.
        let count = value.max(0.0) as u64;
        let label = |wanted: &str| {
            let (_, rest) = labels.split_once(&format!("{wanted}=\""))?;
            rest.split('"').next()
        };
        match name {
            "build_info" => {
                is_ours = true;
                counters.version = label("version").unwrap_or_default().to_owned();
            }
            "start_time_seconds" => counters.started = value as i64,
            "decisions_total" => {
                counters.decisions += count;
                let action = known(label("action"), Strictness::ALL.map(Strictness::name));
                let outcome = known(label("outcome"), Outcome::ALL.map(Outcome::name));
                for (by, name) in [(&mut counters.actions, action), (&mut counters.outcomes, outcome)] {
                    *by.entry(name.unwrap_or_default()).or_default() += count;
                }
            }
            "fail_open_total" if count > 0 => {
                let reason = known(label("reason"), FailOpen::ALL.map(FailOpen::name));
                counters.fail_open.insert(reason.unwrap_or_default(), count);
            }
            "judged_from_memory_total" => counters.from_memory = count,
            "queue_depth" => counters.queue_depth = count,
            "connections" => counters.connections = count,
            "connections_limit" => counters.connections_limit = count,
            "database_up" => counters.database_up = count == 1,
            "database_host" => counters.database_host = label("host").unwrap_or_default().to_owned(),
            "database_since_seconds" => counters.database_since = value as i64,
            "journal_up" => counters.journal_up = count == 1,
            "journal_requests" => counters.journal_requests = count,
            "journal_lost_total" => counters.journal_lost = count,
            "transaction_seconds_count" => counters.transactions = count,
            "transaction_seconds_sum" => counters.transaction_seconds = value,
            "decision_seconds_sum" => counters.decision_seconds = value,
            "log_lines_lost_total" => counters.log_lines_lost = count,
            _ => {}
        }
    }
    is_ours.then_some(counters)
}

/// The name of ours that a label has. None for one of another version of the program.
fn known<const N: usize>(label: Option<&str>, names: [&'static str; N]) -> Option<&'static str> {
    names.into_iter().find(|name| label == Some(*name))
}

/// A line's name without our prefix, its labels, and its value. No label of ours holds a blank or a brace.
fn sample(line: &str) -> Option<(&str, &str, f64)> {
    let (series, value) = line.strip_prefix(PREFIX)?.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    Some((name, labels, value.parse().ok().filter(|value: &f64| value.is_finite())?))
}

fn why(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::ConnectionFailed => "connection refused".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::metrics::{Elsewhere, Metrics};

    #[test]
    fn reads_the_counters_that_the_daemon_writes() {
        let metrics = Metrics::default();
        let _connection = metrics.connection();
        metrics.limit_connections(64);
        metrics.read_elsewhere(Elsewhere { queue_depth: Box::new(|| 3), connections_displaced: Box::new(|| 0) });
        metrics.database_is_up(true);
        metrics.database_host("db1.example.com:3306");
        metrics.database_host("/run/mysqld/mysqld.sock");
        let quick = Duration::from_millis(2);
        metrics.decided(Outcome::Accepted, Strictness::Pass, quick);
        metrics.decided(Outcome::Blocked, Strictness::Hold, quick);
        metrics.decided(Outcome::Blocked, Strictness::Reject, quick);
        metrics.fail_open(FailOpen::Deadline);
        metrics.transaction(3, Duration::from_millis(4));
        for text in [metrics.open_metrics(), metrics.prometheus_text()] {
            let read = parsed(&text).unwrap();
            // Other tests lose lines meanwhile.
            let quiet = |counters: &Counters| Counters { log_lines_lost: 0, ..counters.clone() };
            assert_eq!(quiet(&read), quiet(&metrics.counters()));
            assert_eq!((read.decisions, read.outcomes["blocked"], read.actions["hold"]), (3, 2, 1));
            assert_eq!(read.fail_open, [("deadline", 1)].into());
            assert_eq!((read.queue_depth, read.connections, read.connections_limit), (3, 1, 64));
        }
    }

    #[test]
    fn what_is_of_no_such_daemon_is_none() {
        for text in ["", "<html>", "go_goroutines 7\n", "policyd_rate_guard_queue_depth x\n", "policyd_rate_guard_ NaN"]
        {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
