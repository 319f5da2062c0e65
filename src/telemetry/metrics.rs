//! What the daemon does, in numbers: counted here, and read either by [`counters`](Metrics::counters) or at `/metrics`.
//!
//! The counters are atomics, found without a search; a histogram takes a lock for some nanoseconds. No label holds text from
//! the network: a scrape shows no sender, and has as many lines tomorrow as today. docs/metrics.md says what each one means.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};

use super::counters::Counters;
use super::labels::{Channel, Delivery, Heard, Outcome};
use super::logging;
use crate::clock;
use crate::journal::depth::Depth;
use crate::limiter::verdict::FailOpen;
use crate::protocol::reply::Strictness;

const PREFIX: &str = "policyd_rate_guard";

/// Buckets of times, in seconds: a decision takes about one commit.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// Counters that any task may raise.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    connections: Gauge,
    connections_limit: Gauge,
    started: i64,
    decisions: [[Counter; Strictness::ALL.len()]; Outcome::ALL.len()],
    decision_seconds: Times,
    from_memory: Counter,
    blocks: Gauge,
    fail_open: [Counter; FailOpen::ALL.len()],
    batch_requests: Histogram,
    transaction_seconds: Times,
    database_up: Gauge,
    journal_up: Gauge,
    journal_requests: Gauge,
    journal_bytes: Gauge,
    /// When the oldest of them was answered; 0 if there is none.
    journal_since: Arc<AtomicI64>,
    journal_charged: Counter,
    journal_lost: Counter,
    database_since: Gauge<f64, AtomicU64>,
    database_hosts: Family<Vec<(&'static str, String)>, Gauge>,
    database_host: Mutex<String>,
    events: [Counter; Heard::ALL.len()],
    notifications: [[Counter; Delivery::ALL.len()]; Channel::ALL.len()],
    elsewhere: Arc<OnceLock<Elsewhere>>,
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
        r.register_with_unit("start_time", "When the daemon started, since 1970", Unit::Seconds, start.clone());

        let elsewhere = Arc::new(OnceLock::<Elsewhere>::new());
        let (queue, displaced) = (elsewhere.clone(), elsewhere.clone());
        let journal_since = Arc::new(AtomicI64::new(0));
        let since = journal_since.clone();
        for live in [
            Live {
                name: "queue_depth",
                help: "Requests that wait for the committer",
                counts_up: false,
                read: Box::new(move || queue.get().map_or(0, |elsewhere| (elsewhere.queue_depth)())),
            },
            Live {
                name: "journal_age_seconds",
                help: "For how long the oldest request in the outage journal has waited to be charged",
                counts_up: false,
                read: Box::new(move || match since.load(Ordering::Relaxed) {
                    0 => 0,
                    since => u64::try_from(clock::now().saturating_sub(since)).unwrap_or(0),
                }),
            },
            Live {
                name: "log_lines_lost",
                help: "Log lines that came faster than they could be written",
                counts_up: true,
                read: Box::new(logging::lost_lines),
            },
            Live {
                name: "connections_displaced",
                help: "Idle connections closed because others needed their slots",
                counts_up: true,
                read: Box::new(move || displaced.get().map_or(0, |elsewhere| (elsewhere.connections_displaced)())),
            },
        ] {
            r.register_collector(Box::new(live));
        }

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
            started: start.get() as i64,
            decisions: Outcome::ALL.map(|outcome| {
                Strictness::ALL.map(|action| {
                    decisions.get_or_create_owned(&vec![("outcome", outcome.name()), ("action", action.name())])
                })
            }),
            decision_seconds: seconds(r, "decision", "From a request's arrival to its answer"),
            from_memory: add(
                r,
                "judged_from_memory",
                "Requests counted in memory because the database was away",
                Counter::default(),
            ),
            blocks: add(r, "blocks", "Accounts and domains that somebody has blocked, as last read", Gauge::default()),
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
            database_hosts: add(r, "database_host", "1 for the server that is used, or was last", Family::default()),
            database_host: Mutex::default(),
            journal_up: add(
                r,
                "journal_up",
                "1 while what is answered without the database can be written down, to be charged later",
                Gauge::default(),
            ),
            journal_requests: add(
                r,
                "journal_requests",
                "Requests in the outage journal that wait to be charged",
                Gauge::default(),
            ),
            journal_bytes: add(r, "journal_bytes", "The size of the outage journal", Gauge::default()),
            journal_since,
            journal_charged: add(r, "journal_charged", "Requests charged from the outage journal", Counter::default()),
            journal_lost: add(
                r,
                "journal_lost",
                "Requests counted in memory that are in no journal, or could not be charged from it",
                Counter::default(),
            ),
            events: Heard::ALL.map(|outcome| events.get_or_create_owned(&vec![("outcome", outcome.name())])),
            notifications: Channel::ALL.map(|channel| {
                Delivery::ALL.map(|outcome| {
                    notifications.get_or_create_owned(&vec![("channel", channel.name()), ("outcome", outcome.name())])
                })
            }),
            elsewhere,
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

fn seconds(registry: &mut Registry, name: &str, help: &str) -> Times {
    let histogram = Histogram::new(SECONDS);
    registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    Times { histogram, number: AtomicU64::new(0), nanoseconds: AtomicU64::new(0) }
}

/// Times in a histogram, with their number and sum, which the histogram itself does not tell.
#[derive(Debug)]
struct Times {
    histogram: Histogram,
    number: AtomicU64,
    /// Enough for 584 years.
    nanoseconds: AtomicU64,
}

impl Times {
    fn observe(&self, time: Duration) {
        self.histogram.observe(time.as_secs_f64());
        self.number.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn sum(&self) -> f64 {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64()
    }
}

/// Figures that other modules keep; they are read when they are shown.
pub struct Elsewhere {
    /// Requests that wait for the committer.
    pub queue_depth: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Idle connections that were closed because others needed their slots.
    pub connections_displaced: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere")
    }
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
        self.decision_seconds.observe(after);
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

    /// So many blocks are known.
    pub fn blocks(&self, known: usize) {
        self.blocks.set(i64::try_from(known).unwrap_or(i64::MAX));
    }

    /// So many requests took the database so long.
    pub fn transaction(&self, requests: usize, took: Duration) {
        self.batch_requests.observe(f64::from(u32::try_from(requests).unwrap_or(u32::MAX)));
        self.transaction_seconds.observe(took);
    }

    /// Whether counts go into the database.
    pub fn database_is_up(&self, up: bool) {
        if self.database_up.set(i64::from(up)) != i64::from(up) {
            self.database_since.set(since_1970());
        }
    }

    /// Where the database is: a host and its port, a socket, or a file. True if it was elsewhere before.
    pub fn database_host(&self, host: &str) -> bool {
        let mut known = self.database_host.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == host {
            return false;
        }
        self.database_hosts.clear();
        self.database_hosts.get_or_create_owned(&vec![("host", host.to_owned())]).set(1);
        !std::mem::replace(&mut *known, host.to_owned()).is_empty()
    }

    /// What the outage journal holds.
    pub fn journal(&self, depth: Depth) {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.journal_up.set(i64::from(depth.is_written));
        self.journal_requests.set(gauge(depth.requests));
        self.journal_bytes.set(gauge(depth.bytes));
        self.journal_since.store(depth.since.unwrap_or(0), Ordering::Relaxed);
        for (counter, number) in [(&self.journal_charged, depth.charged), (&self.journal_lost, depth.lost)] {
            counter.inc_by(number.saturating_sub(counter.get()));
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

    /// Sets where the figures of other modules are read. Until then they are 0.
    pub fn read_elsewhere(&self, elsewhere: Elsewhere) {
        let _already = self.elsewhere.set(elsewhere);
    }

    /// The counters as they are now.
    pub fn counters(&self) -> Counters {
        let mut counters = Counters {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            from_memory: self.from_memory.get(),
            queue_depth: self.elsewhere.get().map_or(0, |elsewhere| (elsewhere.queue_depth)()),
            connections: u64::try_from(self.connections.get()).unwrap_or(0),
            connections_limit: u64::try_from(self.connections_limit.get()).unwrap_or(0),
            database_up: self.is_database_up(),
            database_since: self.database_since.get() as i64,
            database_host: self.database_host.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            journal_up: self.journal_up.get() == 1,
            journal_requests: u64::try_from(self.journal_requests.get()).unwrap_or(0),
            journal_lost: self.journal_lost.get(),
            transactions: self.transaction_seconds.number.load(Ordering::Relaxed),
            transaction_seconds: self.transaction_seconds.sum(),
            decision_seconds: self.decision_seconds.sum(),
            log_lines_lost: logging::lost_lines(),
            ..Counters::default()
        };
        for (outcome, row) in Outcome::ALL.iter().zip(&self.decisions) {
            for (action, counter) in Strictness::ALL.iter().zip(row) {
                counters.decisions += counter.get();
                *counters.outcomes.entry(outcome.name()).or_default() += counter.get();
                *counters.actions.entry(action.name()).or_default() += counter.get();
            }
        }
        let reasons = FailOpen::ALL.iter().zip(&self.fail_open);
        let opened = reasons.filter(|(_, counter)| counter.get() > 0);
        counters.fail_open = opened.map(|(reason, counter)| (reason.name(), counter.get())).collect();
        counters
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

    /// All figures in Prometheus' text format 0.0.4, for clients that do not ask for OpenMetrics.
    pub fn prometheus_text(&self) -> String {
        classic(&self.open_metrics())
    }
}

/// The library writes OpenMetrics only. That names a counter without the `_total` of its samples; the older format has one name
/// for both, and neither units nor an end.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let metrics = Metrics::default();
        for (number, reason) in FailOpen::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            metrics.fail_open(reason);
            let line = metrics.counters().to_string();
            assert!(line.contains(&format!("{} 1", reason.name())), "{line}");
        }
        let guard = metrics.connection();
        assert!(metrics.counters().to_string().starts_with("1 connections"));
        drop(guard);
        assert!(metrics.counters().to_string().starts_with("0 connections"));
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
        metrics.read_elsewhere(Elsewhere { queue_depth: Box::new(|| 3), connections_displaced: Box::new(|| 7) });
        let (new, old) = (metrics.open_metrics(), metrics.prometheus_text());
        assert!(new.ends_with("# EOF\n") && new.contains("# TYPE policyd_rate_guard_connections_displaced counter\n"));
        assert!(
            old.contains(
                "# HELP policyd_rate_guard_connections_displaced_total Idle connections closed because others needed their slots.\n\
                 # TYPE policyd_rate_guard_connections_displaced_total counter\n\
                 policyd_rate_guard_connections_displaced_total 7\n"
            ),
            "{old}"
        );
        assert!(old.contains("# TYPE policyd_rate_guard_queue_depth gauge\npolicyd_rate_guard_queue_depth 3\n"));
        assert!(!old.contains("# EOF") && !old.contains("# UNIT"));
        let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(samples(&new), samples(&old));
    }
}
