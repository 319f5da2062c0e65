//! `serve`: starts the daemon step by step, waits for signals, drains it.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::commit::committer::{Committer, CommitterError};
use crate::commit::handover::Handover;
use crate::commit::queue;
use crate::config::{self, Config, Endpoint, Finding, Secret, Severity, Sources};
use crate::exit::{Exit, Failed};
use crate::http::{self, Site};
use crate::limiter::terms::Terms;
use crate::notify::dispatcher::Notifications;
use crate::notify::error_reports::Reporter;
use crate::server::answer::Answerer;
use crate::server::listener::Network;
use crate::server::signals::{Signals, Wish};
use crate::slots::Slots;
use crate::status::quotas;
use crate::system::privileges::{self, Identity};
use crate::system::signals::{self, Held};
use crate::system::sockets::{self, Bound};
use crate::system::systemd::{self, ServiceManager};
use crate::telemetry::FINDING;
use crate::telemetry::log_throttle::{self, warn_limited};
use crate::telemetry::logging::{self, Logging};
use crate::telemetry::metrics::{Elsewhere, Metrics};

/// File descriptors kept for the database, the logs and the listening sockets.
const SPARE_DESCRIPTORS: u64 = 64;
/// The most connections served at once, however many file descriptors there are.
const MAX_CONNECTIONS: u64 = 65_536;
/// Time beyond DECISION_TIMEOUT for connections, and again for the last commit, when the daemon stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for the last notifications when the daemon stops.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the start waits for METRICS_LISTEN to be open; its name may not resolve.
const PAGE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for the last message to the service manager.
const MANAGER_TIMEOUT: Duration = Duration::from_millis(200);
/// Time for the last lines of the log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// The most that a stop takes after its connections are drained: last commit, notifications, service manager, Sentry, log.
const LAST_STEPS: Duration = Duration::from_secs(10);
/// Between two updates of the status that `systemctl status` shows.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// Between two reports of lines left out of the log, and two checks of the host's time zone.
const QUIET_INTERVAL: Duration = Duration::from_secs(60);

pub fn run(sources: Sources) -> Result<Exit, Failed> {
    let os_error = |error: &dyn std::fmt::Display| Failed::new(Exit::OsError, error);
    let held = signals::hold().map_err(|error| os_error(&error))?;
    let loaded = config::load(&sources).map_err(|error| Failed::new(Exit::Config, error))?;
    let config = loaded.config;
    let identity = Identity::for_root(&config.sockets).map_err(|error| os_error(&error))?;
    let bound = sockets::listen(&config.sockets, identity.as_ref()).map_err(|error| os_error(&error))?;
    let descriptors = privileges::raise_open_files().unwrap_or(1024);
    privileges::withdraw(identity.as_ref()).map_err(|error| os_error(&error))?;
    let logging = Logging::start(&config.logging, systemd::under_systemd_journal())
        .map_err(|error| Failed::new(Exit::IoError, error))?;
    logging::log_panics();
    let reporter = Reporter::start(&config.notify).map(Arc::new);
    if let Some(reporter) = &reporter {
        reporter.watch(&logging);
    }
    loaded.warnings.iter().for_each(log_finding);
    let manager = ServiceManager::start(|key, warning| warn_limited(key, warning))
        .map_err(|error| no_thread("systemd", &error))?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::new(Exit::OsError, format_args!("cannot start the runtime: {error}")))?;
    let page = config.status.listen.as_ref().map_or(0, |_| http::MAX_CONNECTIONS as u64);
    let connections = descriptors.saturating_sub(SPARE_DESCRIPTORS + page).clamp(1, MAX_CONNECTIONS);
    let connections = usize::try_from(connections).unwrap_or(1024);
    let served = runtime.block_on(serve(&sources, config, bound, held, &logging, &manager, connections));
    // A database that hangs must not keep the process running.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match &served {
        Err(Failed { exit: Exit::Config, message }) => log::error!(target: FINDING, "{message}"),
        Err(failed) => log::error!("{}", failed.message),
        Ok(_) => {}
    }
    manager.flush(MANAGER_TIMEOUT);
    log_throttle::report_all();
    log::info!("stopped");
    if let Some(reporter) = reporter {
        reporter.flush(FLUSH_TIMEOUT);
    }
    logging.flush(FLUSH_TIMEOUT);
    served
}

/// Serves until a signal ends it, or until the committer ends, without which nothing is counted.
async fn serve(
    sources: &Sources,
    config: Config,
    bound: Vec<Bound>,
    held: Held,
    logging: &Logging,
    manager: &ServiceManager,
    connections: usize,
) -> Result<Exit, Failed> {
    let mut signals = Signals::new(held).map_err(|error| Failed::new(Exit::OsError, error))?;
    let lists = config::load_lists(&config).map_err(|error| Failed::new(Exit::Config, error))?;
    let (terms, terms_now) = watch::channel(Arc::new(config.terms(lists, TimeZone::system())));
    let (queue, waiting) = queue::queue(connections);
    let metrics = Arc::new(Metrics::default());
    metrics.limit_connections(connections);
    let committer =
        Committer::start(config.database.clone(), config.journal.clone(), waiting, terms_now.clone(), metrics.clone())
            .await
            .map_err(|error| Failed::new(Exit::Unavailable, error))?
            .with_handover(Handover::new(&config.state_directory));
    let committer = match systemd::watchdog_interval() {
        Some(interval) => {
            let manager = manager.clone();
            committer.with_heartbeat(interval, move || manager.keep_alive())
        }
        None => committer,
    };
    let blocks = committer.blocks();
    let mut committing = tokio::spawn(committer.run());

    let (notifier, notifications) =
        Notifications::start(&config, metrics.clone()).map_err(|error| no_thread("notifications", &error))?;
    let (token, token_now) = watch::channel(config.status.token.clone());
    let answerer = Arc::new(Answerer::new(queue, terms_now.clone(), blocks, metrics, notifier));
    let slots = Slots::new(connections);
    let network = Network::new(answerer.clone(), slots.clone());
    if let Some(listen) = &config.status.listen {
        let tried = show_status(listen, &config, &answerer, slots, network.ending.stop.clone(), terms_now, token_now)?;
        let _ = tokio::time::timeout(PAGE_TIMEOUT, tried).await;
    }
    let names: Vec<String> = bound.iter().map(ToString::to_string).collect();
    let mut paths = Vec::new();
    for Bound { listener, name, path, .. } in bound {
        network.listen(listener, name).map_err(|error| Failed::new(Exit::OsError, error))?;
        paths.extend(path);
    }
    log::info!(
        "{} {} is ready on {}, for {connections} connections",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_VERSION"),
        names.join(", ")
    );
    manager.ready(&answerer.metrics.counters().to_string());

    let mut running = Running { sources, config, terms, token, logging, manager, notifications: &notifications };
    let ended = running.until_stopped(&mut signals, &answerer, &mut committing).await;

    let timeout = running.config.answers.decision_timeout + DRAIN_TIMEOUT;
    manager.stopping(timeout + LAST_STEPS);
    for path in &paths {
        if let Err(error) = path.remove() {
            log::debug!("{}: not removed: {error}", path.path().display());
        }
    }
    let deadline = tokio::time::Instant::now() + timeout;
    let cut = network.drain(tokio::time::sleep_until(deadline)).await;
    if cut > 0 {
        log::warn!("{cut} connections did not end within {timeout:?} and were cut off");
    }
    log::info!("{}", answerer.metrics.counters());
    if let Some(failed) = ended {
        return Err(failed);
    }
    // The answerer holds the last sender of the queue; without it the committer settles what is left and ends.
    drop(answerer);
    let settled = match tokio::time::timeout_at(deadline + DRAIN_TIMEOUT, &mut committing).await {
        Ok(ended) => committer_ended(ended).map_or(Ok(Exit::Ok), Err),
        Err(_) => {
            log::warn!("the last transaction did not end in time");
            Ok(Exit::Ok)
        }
    };
    notifications.drain(NOTIFY_TIMEOUT).await;
    settled
}

/// Shows the figures at METRICS_LISTEN until the process ends. The receiver it returns is told of the first attempt to open it.
fn show_status(
    listen: &Endpoint,
    config: &Config,
    answerer: &Arc<Answerer>,
    slots: Arc<Slots>,
    stopping: CancellationToken,
    terms: watch::Receiver<Arc<Terms>>,
    token: watch::Receiver<Option<Secret>>,
) -> Result<oneshot::Receiver<()>, Failed> {
    let metrics = answerer.metrics.clone();
    // Weak: the committer ends when no strong reference to its queue is left.
    let waiting = Arc::downgrade(answerer);
    metrics.read_elsewhere(Elsewhere {
        queue_depth: Box::new(move || waiting.upgrade().map_or(0, |answerer| answerer.waiting() as u64)),
        connections_displaced: Box::new(move || slots.displaced()),
    });
    let name = listen.name().map(str::to_owned);
    Site::new(metrics, stopping, name, config.database.clone(), terms, token)
        .and_then(|site| http::start(site, listen.clone()))
        .map_err(|error| no_thread("the page", &error))
}

/// What a reload works on.
struct Running<'a> {
    sources: &'a Sources,
    config: Config,
    terms: watch::Sender<Arc<Terms>>,
    /// STATUS_TOKEN.
    token: watch::Sender<Option<Secret>>,
    logging: &'a Logging,
    manager: &'a ServiceManager,
    notifications: &'a Notifications,
}

impl Running<'_> {
    /// Carries out signals until one says to stop. Returns a failure if the committer ended instead.
    async fn until_stopped(
        &mut self,
        signals: &mut Signals,
        answerer: &Answerer,
        committing: &mut JoinHandle<Result<(), CommitterError>>,
    ) -> Option<Failed> {
        let mut status = tokio::time::interval(STATUS_INTERVAL);
        let mut quiet = tokio::time::interval(QUIET_INTERVAL);
        loop {
            tokio::select! {
                wish = signals.next() => match wish {
                    Wish::Stop => return None,
                    Wish::ReopenLogs => self.logging.reopen(),
                    Wish::Reload => {
                        self.manager.reloading();
                        self.reload();
                        self.manager.ready(&answerer.metrics.counters().to_string());
                    }
                },
                ended = &mut *committing => {
                    return Some(committer_ended(ended).unwrap_or_else(|| {
                        Failed::new(Exit::Software, "the committer ended unexpectedly")
                    }));
                }
                _ = status.tick() => self.manager.status(&answerer.metrics.counters().to_string()),
                _ = quiet.tick() => {
                    log_throttle::report_quiet();
                    follow_zone(&self.terms, TimeZone::system());
                }
            }
        }
    }

    /// Reads the settings again. Bad ones are reported, and the old ones stay; connections are not touched.
    fn reload(&mut self) {
        self.logging.reopen();
        let read = config::load(self.sources).and_then(|loaded| {
            let lists = config::load_lists(&loaded.config)?;
            Ok((loaded, lists))
        });
        let (loaded, lists) = match read {
            Ok(read) => read,
            Err(error) => {
                error.findings.iter().for_each(log_finding);
                log::error!(
                    "the settings were not changed: there are errors in the new ones; the old ones stay in effect"
                );
                return;
            }
        };
        loaded.warnings.iter().for_each(log_finding);
        let waiting = config::restart_needed(&self.config, &loaded.config);
        if !waiting.is_empty() {
            log::warn!("{}: changed, but takes effect only after a restart", waiting.join(", "));
        }
        if let Err(error) = self.logging.reconfigure(&loaded.config.logging) {
            log::error!("{error}");
        }
        self.notifications.reconfigure(&loaded.config);
        if loaded.config.quota.default != self.config.quota.default {
            tokio::spawn(quotas::tell_of_others(self.config.database.clone(), loaded.config.quota.default));
        }
        self.token.send_replace(loaded.config.status.token.clone());
        self.terms.send_replace(Arc::new(loaded.config.terms(lists, TimeZone::system())));
        self.config = config::in_effect(&self.config, loaded.config);
        log::info!("the settings were read again");
    }
}

/// Follows a change of the host's time zone, as the timer of `cleanup` does at once: senders must not be told the old midnight.
fn follow_zone(terms: &watch::Sender<Arc<Terms>>, zone: TimeZone) {
    // An unknown zone means that its file cannot be read at the moment.
    if zone.is_unknown() || terms.borrow().policy.zone == zone {
        return;
    }
    log::info!("the host's time zone is now {}", zone.iana_name().unwrap_or("another one"));
    terms.send_modify(|terms| Arc::make_mut(terms).policy.zone = zone);
}

fn no_thread(purpose: &str, error: &std::io::Error) -> Failed {
    Failed::new(Exit::OsError, format_args!("cannot start a thread for {purpose}: {error}"))
}

/// Returns the failure, if the committer ended with one.
fn committer_ended(ended: Result<Result<(), CommitterError>, tokio::task::JoinError>) -> Option<Failed> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(Failed::new(Exit::Software, format_args!("the committer ended: {error}"))),
        Err(error) => Some(Failed::new(Exit::Software, format_args!("the committer ended: {error}"))),
    }
}

fn log_finding(finding: &Finding) {
    match finding.severity {
        Severity::Error => log::error!(target: FINDING, "{finding}"),
        Severity::Warning => log::warn!(target: FINDING, "{finding}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::lists::Lists;

    #[tokio::test]
    async fn a_committer_that_ends_by_itself_is_a_bug_with_its_exit_status() {
        let panicked = tokio::spawn(async { panic!("an arithmetic error") }).await.unwrap_err();
        let failed = committer_ended(Err(panicked)).unwrap();
        assert!(failed.exit == Exit::Software && failed.message.contains("an arithmetic error"), "{failed:?}");
        let panicked = tokio::spawn(async { panic!("another") }).await.unwrap_err();
        let failed = committer_ended(Ok(Err(CommitterError::Probe(panicked)))).unwrap();
        assert_eq!(failed.exit, Exit::Software);
        assert!(committer_ended(Ok(Ok(()))).is_none(), "when the queue was closed it is no failure");
    }

    #[test]
    fn the_hosts_time_zone_is_followed_and_a_lost_one_is_not() {
        let sources =
            Sources { explicit: None, search: vec![], environment: vec![], is_root: false, host: String::new() };
        let config = config::load(&sources).unwrap().config;
        let (terms, now) = watch::channel(Arc::new(config.terms(Lists::default(), TimeZone::UTC)));
        let zurich = TimeZone::get("Europe/Zurich").unwrap();
        for zone in [zurich.clone(), TimeZone::unknown()] {
            follow_zone(&terms, zone);
            assert_eq!(now.borrow().policy.zone, zurich);
        }
    }
}
