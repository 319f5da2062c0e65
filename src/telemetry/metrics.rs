//! What the daemon does, in numbers: the one source for `/metrics`, for `systemctl status` and for the last line in the log.
//!
//! The counters are atomics, found without a search; a histogram takes a lock for some nanoseconds. No label holds text from
//! the network: a scrape shows no sender, and has as many lines tomorrow as today. docs/metrics.md says what each one means.

use std::fmt::{self, Write as _};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::clock;
use crate::limiter::verdict::FailOpen;
use crate::protocol::reply::Strictness;

const PREFIX: &str = "policyd_rate_guard";
/// What [`Metrics`] say in words while `database_up` is 0. `systemctl status` shows it, and `doctor` looks for it there.
pub const DATABASE_AWAY: &str = "the database is away, counting in memory";

/// Buckets of times, in seconds: a decision takes about one commit.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// How a request was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Counted, and within its limits.
    Accepted,
    /// Counted, and over a limit.
    Blocked,
    /// Nobody is charged for it.
    NotCounted,
    /// Answered with ACTION_ON_ERROR.
    InDoubt,
}

impl Outcome {
    const NAMES: [&str; 4] = ["accepted", "blocked", "not_counted", "in_doubt"];
}

/// The names of [`Strictness`], in its order: what Postfix was told to do.
const ACTIONS: [&str; 5] = ["pass", "warn", "hold", "defer", "reject"];

/// Ways by which people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Webhook,
    /// To NOTIFY_MAIL_TO.
    Mail,
    /// To the sender whose quota it is.
    SenderMail,
}

impl Channel {
    const NAMES: [&str; 3] = ["webhook", "mail", "sender_mail"];

    /// In metrics and in the log.
    pub fn name(self) -> &'static str {
        Channel::NAMES.get(self as usize).copied().unwrap_or_default()
    }
}

/// What became of one notification, or of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Delivered,
    /// An attempt failed, and there will be another.
    Retried,
    /// Refused, or given up.
    Failed,
    /// There was no room to keep it.
    Dropped,
}

impl Delivery {
    const NAMES: [&str; 4] = ["delivered", "retried", "failed", "dropped"];
}

/// What became of an event that people want to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Told,
    /// By this daemon or another, in the same period.
    AlreadyTold,
    /// Told by a summary only.
    LeftOut,
    Dropped,
}

impl Heard {
    const NAMES: [&str; 4] = ["told", "already_told", "left_out", "dropped"];
}

/// Counters that any task may raise.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    connections: Gauge,
    connections_limit: Gauge,
    decisions: [[Counter; ACTIONS.len()]; Outcome::NAMES.len()],
    decision_seconds: Histogram,
    from_memory: Counter,
    fail_open: [Counter; FailOpen::ALL.len()],
    batch_requests: Histogram,
    transaction_seconds: Histogram,
    database_up: Gauge,
    database_since: Gauge<f64, AtomicU64>,
    events: [Counter; Heard::NAMES.len()],
    notifications: [[Counter; Delivery::NAMES.len()]; Channel::NAMES.len()],
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix(PREFIX);
        let r = &mut registry;
        let build = add(r, "build_info", "The running version", Family::<Vec<Label>, Gauge>::default());
        build.get_or_create_owned(&vec![("version", env!("CARGO_PKG_VERSION"))]).set(1);
        let start = Gauge::<f64, AtomicU64>::default();
        start.set(since_1970());
        let database_since = Gauge::<f64, AtomicU64>::default();
        database_since.set(since_1970());
        r.register_with_unit(
            "database_since",
            "When the database last came or went, since 1970",
            Unit::Seconds,
            database_since.clone(),
        );
        r.register_with_unit("start_time", "When the daemon started, since 1970", Unit::Seconds, start);

        let decisions = family(r, "decisions", "Requests answered, by outcome and by what Postfix was told");
        let fail_open = family(r, "fail_open", "Requests answered with ACTION_ON_ERROR, by reason");
        let events = family(r, "notification_events", "Events that people want to hear of, by outcome");
        let notifications = family(r, "notifications", "Notifications, by channel and outcome");
        Metrics {
            connections: add(r, "connections", "Connections from Postfix that are open", Gauge::default()),
            connections_limit: add(
                r,
                "connections_limit",
                "The most connections served at once, which is also the room in the queue",
                Gauge::default(),
            ),
            decisions: Outcome::NAMES.map(|outcome| {
                ACTIONS.map(|action| decisions.get_or_create_owned(&vec![("outcome", outcome), ("action", action)]))
            }),
            decision_seconds: seconds(r, "decision", "From a request's arrival to its answer"),
            from_memory: add(
                r,
                "judged_from_memory",
                "Requests counted in memory because the database was away",
                Counter::default(),
            ),
            fail_open: FailOpen::ALL.map(|reason| fail_open.get_or_create_owned(&vec![("reason", reason.name())])),
            batch_requests: add(
                r,
                "batch_requests",
                "Requests settled in one transaction",
                Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            ),
            transaction_seconds: seconds(r, "transaction", "For one transaction of the database, retries included"),
            database_up: add(
                r,
                "database_up",
                "1 while counts go into the database, 0 while they are kept in memory",
                Gauge::default(),
            ),
            database_since,
            events: Heard::NAMES.map(|outcome| events.get_or_create_owned(&vec![("outcome", outcome)])),
            notifications: Channel::NAMES.map(|channel| {
                Delivery::NAMES
                    .map(|outcome| notifications.get_or_create_owned(&vec![("channel", channel), ("outcome", outcome)]))
            }),
            registry: Mutex::new(registry),
        }
    }
}

fn since_1970() -> f64 {
    clock::since_1970().as_secs_f64()
}

type Label = (&'static str, &'static str);

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn family(registry: &mut Registry, name: &str, help: &str) -> Family<Vec<Label>, Counter> {
    add(registry, name, help, Family::default())
}

fn seconds(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let histogram = Histogram::new(SECONDS);
    registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
}

impl Metrics {
    /// Counts a connection for as long as the guard lives.
    pub fn connection(&self) -> Connected<'_> {
        self.connections.inc();
        Connected(self)
    }

    /// How many connections there may be.
    pub fn limit_connections(&self, most: usize) {
        self.connections_limit.set(i64::try_from(most).unwrap_or(i64::MAX));
    }

    /// A request was answered, `after` its arrival.
    pub fn decided(&self, outcome: Outcome, action: Strictness, after: Duration) {
        if let Some(counter) = self.decisions.get(outcome as usize).and_then(|row| row.get(action as usize)) {
            counter.inc();
        }
        self.decision_seconds.observe(after.as_secs_f64());
    }

    /// Why a request was answered with ACTION_ON_ERROR.
    pub fn fail_open(&self, reason: FailOpen) {
        if let Some(counter) = self.fail_open.get(reason as usize) {
            counter.inc();
        }
    }

    /// A request was judged by the daemon's own memory.
    pub fn judged_from_memory(&self) {
        self.from_memory.inc();
    }

    /// So many requests took the database so long.
    pub fn transaction(&self, requests: usize, took: Duration) {
        self.batch_requests.observe(f64::from(u32::try_from(requests).unwrap_or(u32::MAX)));
        self.transaction_seconds.observe(took.as_secs_f64());
    }

    /// Whether counts go into the database.
    pub fn database_is_up(&self, up: bool) {
        if self.database_up.set(i64::from(up)) != i64::from(up) {
            self.database_since.set(since_1970());
        }
    }

    /// See [`Metrics::database_is_up`].
    pub fn is_database_up(&self) -> bool {
        self.database_up.get() == 1
    }

    /// An event that people want to hear of.
    pub fn event(&self, outcome: Heard) {
        if let Some(counter) = self.events.get(outcome as usize) {
            counter.inc();
        }
    }

    /// A notification, or an attempt at one.
    pub fn notification(&self, channel: Channel, outcome: Delivery) {
        if let Some(counter) = self.notifications.get(channel as usize).and_then(|row| row.get(outcome as usize)) {
            counter.inc();
        }
    }

    /// A gauge that is read when somebody asks for it.
    pub fn gauge_from(&self, name: &'static str, help: &'static str, read: impl Fn() -> u64 + Send + Sync + 'static) {
        self.collect(Live { name, help, counts_up: false, read: Box::new(read) });
    }

    /// A counter that is kept elsewhere.
    pub fn counter_from(&self, name: &'static str, help: &'static str, read: impl Fn() -> u64 + Send + Sync + 'static) {
        self.collect(Live { name, help, counts_up: true, read: Box::new(read) });
    }

    fn collect(&self, live: Live) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register_collector(Box::new(live));
    }

    /// All figures in OpenMetrics 1.0.
    pub fn open_metrics(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = text::encode(&mut text, &registry) {
            // Only a String that cannot grow would refuse.
            log::debug!("metrics: {error}");
        }
        text
    }

    /// All figures in Prometheus' text format 0.0.4, for who does not ask for OpenMetrics.
    pub fn prometheus_text(&self) -> String {
        classic(&self.open_metrics())
    }
}

/// OpenMetrics names a counter without the `_total` that its samples have; the older format has one name for both, and
/// knows neither units nor an end.
fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = Some(rest);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let total = if rest.ends_with(" counter") { "_total" } else { "" };
            for (word, rest) in [("HELP", help.take()), ("TYPE", Some(rest))] {
                if let Some((name, rest)) = rest.and_then(|rest| rest.split_once(' ')) {
                    let _ = writeln!(text, "# {word} {name}{total} {rest}");
                }
            }
        } else if !line.starts_with('#') {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// A figure that is kept elsewhere.
struct Live {
    name: &'static str,
    help: &'static str,
    counts_up: bool,
    read: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Collector for Live {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let value = (self.read)();
        let help = format!("{}.", self.help);
        if self.counts_up {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(self.name, &help, None, counter.metric_type())?)
        } else {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(self.name, &help, None, gauge.metric_type())?)
        }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A connection that is open.
#[derive(Debug)]
pub struct Connected<'a>(&'a Metrics);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

/// One line for people: `12 connections; 3456 accepted, 7 blocked, 0 not counted; let through in doubt: deadline 2`.
impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = |outcome: Outcome| -> u64 {
            self.decisions.get(outcome as usize).map_or(0, |row| row.iter().map(Counter::get).sum())
        };
        write!(
            f,
            "{} connections; {} accepted, {} blocked, {} not counted",
            self.connections.get(),
            outcome(Outcome::Accepted),
            outcome(Outcome::Blocked),
            outcome(Outcome::NotCounted),
        )?;
        if self.database_up.get() == 0 {
            write!(f, "; {DATABASE_AWAY}")?;
        }
        if self.from_memory.get() > 0 {
            write!(f, "; {} judged from memory", self.from_memory.get())?;
        }
        let opened: Vec<String> = FailOpen::ALL
            .iter()
            .zip(&self.fail_open)
            .filter(|(_, counter)| counter.get() > 0)
            .map(|(reason, counter)| format!("{} {}", reason.name(), counter.get()))
            .collect();
        if !opened.is_empty() {
            write!(f, "; let through in doubt: {}", opened.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let metrics = Metrics::default();
        for (number, reason) in FailOpen::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            metrics.fail_open(reason);
            assert!(metrics.to_string().contains(&format!("{} 1", reason.name())), "{metrics}");
        }
        let guard = metrics.connection();
        assert!(metrics.to_string().starts_with("1 connections"));
        drop(guard);
        assert!(metrics.to_string().starts_with("0 connections"));
    }

    #[test]
    fn every_label_has_its_counter() {
        let metrics = Metrics::default();
        metrics.decided(Outcome::InDoubt, Strictness::Pass, Duration::from_millis(3));
        metrics.decided(Outcome::Blocked, Strictness::Reject, Duration::from_millis(3));
        metrics.event(Heard::Dropped);
        metrics.notification(Channel::SenderMail, Delivery::Dropped);
        let text = metrics.prometheus_text();
        for line in [
            r#"policyd_rate_guard_decisions_total{outcome="in_doubt",action="pass"} 1"#,
            r#"policyd_rate_guard_decisions_total{outcome="blocked",action="reject"} 1"#,
            r#"policyd_rate_guard_notification_events_total{outcome="dropped"} 1"#,
            r#"policyd_rate_guard_notifications_total{channel="sender_mail",outcome="dropped"} 1"#,
            "policyd_rate_guard_decision_seconds_count 2",
            r#"policyd_rate_guard_decision_seconds_bucket{le="0.005"} 2"#,
            concat!(r#"policyd_rate_guard_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn the_older_format_names_a_counter_as_its_samples() {
        let metrics = Metrics::default();
        metrics.counter_from("log_lines_lost", "Lost", || 7);
        metrics.gauge_from("queue_depth", "Waiting", || 3);
        let (new, old) = (metrics.open_metrics(), metrics.prometheus_text());
        assert!(new.ends_with("# EOF\n") && new.contains("# TYPE policyd_rate_guard_log_lines_lost counter\n"));
        assert!(
            old.contains(
                "# HELP policyd_rate_guard_log_lines_lost_total Lost.\n\
                 # TYPE policyd_rate_guard_log_lines_lost_total counter\n\
                 policyd_rate_guard_log_lines_lost_total 7\n"
            ),
            "{old}"
        );
        assert!(old.contains("# TYPE policyd_rate_guard_queue_depth gauge\npolicyd_rate_guard_queue_depth 3\n"));
        assert!(!old.contains("# EOF") && !old.contains("# UNIT"));
        let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(samples(&new), samples(&old));
    }
}
