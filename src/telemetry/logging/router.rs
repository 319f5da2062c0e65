//! The global logger: which lines are logged, in what form, to which queues.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::console::Console;
use super::error::LogError;
use super::file::LogFile;
use super::line::Line;
use super::queue::Queue;
use super::syslog::Syslog;
use super::writer::{self, Sink, Tell};
use crate::config;
use crate::telemetry::DECISION;

/// How our own modules begin; other crates are heard from `Warn` on, unless everything is wanted.
const OURS: &str = env!("CARGO_CRATE_NAME");

/// Crates of which nothing below `Warn` is logged: the HTTP client, as it begins.
const SECRETIVE: [&str; 1] = ["ureq"];

pub(super) struct Router {
    routes: RwLock<Routes>,
    under_systemd: bool,
    /// How many bytes may wait for a sink.
    room: usize,
    /// Sees each error.
    observer: OnceLock<Observer>,
}

/// See [`super::Logging::on_error`].
pub(super) type Observer = Box<dyn Fn(&Record<'_>) + Send + Sync>;

struct Routes {
    level: LevelFilter,
    /// LOG_MSG_PREFIX.
    prefix: bool,
    outlets: Vec<Outlet>,
}

#[derive(Clone)]
struct Outlet {
    target: Target,
    queue: Arc<Queue>,
}

/// Where lines can go.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Console,
    File(PathBuf),
    Syslog(PathBuf),
}

impl Router {
    pub fn new(under_systemd: bool, room: usize) -> Arc<Router> {
        let routes = Routes { level: LevelFilter::Off, prefix: false, outlets: Vec::new() };
        Arc::new(Router { routes: RwLock::new(routes), under_systemd, room, observer: OnceLock::new() })
    }

    /// Takes on level, prefix and sinks. Sinks that stay keep their queue, connection and file.
    ///
    /// A log file that cannot be opened is left out and told on the other sinks, or on standard error if there is none: a
    /// daemon that does not start for its sake would let all mail pass unchecked. The next call tries again.
    pub fn configure(self: &Arc<Router>, config: &config::Logging, file: Option<&Path>) -> Result<(), LogError> {
        let mut wanted = Vec::new();
        wanted.extend(file.map(|path| Target::File(path.to_owned())));
        wanted.extend(config.syslog.as_ref().map(|path| Target::Syslog(path.clone())));
        if config.console || wanted.is_empty() {
            wanted.push(Target::Console);
        }
        let present = self.outlets();
        let outlet = |target: Target| match present.iter().find(|outlet| outlet.target == target) {
            Some(outlet) => Ok(outlet.clone()),
            None => self.open(target),
        };
        let mut outlets = Vec::with_capacity(wanted.len());
        let mut unopened = None;
        for target in wanted {
            match outlet(target.clone()) {
                Ok(outlet) => outlets.push(outlet),
                Err(error @ LogError::File { .. }) => unopened = Some((target, error)),
                Err(error) => return Err(error),
            }
        }
        if outlets.is_empty() {
            outlets.push(outlet(Target::Console)?);
        }
        let kept: Vec<Target> = outlets.iter().map(|outlet| outlet.target.clone()).collect();
        let routes = Routes { level: config.level, prefix: config.message_prefix, outlets };
        *self.routes.write().unwrap_or_else(PoisonError::into_inner) = routes;
        for outlet in present.iter().filter(|outlet| !kept.contains(&outlet.target)) {
            outlet.queue.close();
        }
        if let Some((target, error)) = unopened {
            tell_others(Arc::downgrade(self), target)(Level::Error, error.to_string());
        }
        Ok(())
    }

    pub fn on_error(&self, observer: Observer) {
        let _already = self.observer.set(observer);
    }

    pub fn reopen(&self) {
        self.outlets().iter().for_each(|outlet| outlet.queue.reopen());
    }

    /// Waits for all sinks together no longer than `most`; says whether all is written.
    pub fn flush(&self, most: Duration) -> bool {
        let deadline = Instant::now() + most;
        // Each sink has its turn, also after one that did not make it in time.
        self.outlets().iter().filter(|outlet| !outlet.queue.flush(deadline)).count() == 0
    }

    fn routes(&self) -> RwLockReadGuard<'_, Routes> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn outlets(&self) -> Vec<Outlet> {
        self.routes().outlets.clone()
    }

    fn open(self: &Arc<Router>, target: Target) -> Result<Outlet, LogError> {
        let tell = tell_others(Arc::downgrade(self), target.clone());
        match &target {
            Target::Console => self.start(target, "console", Console::new(std::io::stderr(), self.under_systemd)),
            Target::Syslog(path) => self.start(target.clone(), "syslog", Syslog::new(path.clone(), tell)),
            Target::File(path) => {
                let file = LogFile::open(path.clone(), tell)
                    .map_err(|source| LogError::File { path: path.clone(), source })?;
                self.start(target, "file", file)
            }
        }
    }

    fn start(&self, target: Target, name: &str, sink: impl Sink + 'static) -> Result<Outlet, LogError> {
        let queue = Arc::new(Queue::new(self.room));
        writer::spawn(name, queue.clone(), sink).map_err(LogError::Thread)?;
        Ok(Outlet { target, queue })
    }
}

/// An error of one sink is logged on the others, or written to standard error if there is no other.
fn tell_others(router: Weak<Router>, teller: Target) -> Tell {
    Box::new(move |level, text| {
        let Some(router) = router.upgrade() else { return };
        if level > router.routes().level {
            return;
        }
        let line = Arc::new(Line::new(level, format_args!("{text}")));
        let mut others = router.outlets();
        others.retain(|outlet| outlet.target != teller);
        if others.is_empty() {
            Console::new(std::io::stderr(), router.under_systemd).write(&[line], &Queue::new(0));
        } else {
            others.iter().for_each(|outlet| outlet.queue.push(line.clone()));
        }
    })
}

impl Routes {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target() == DECISION
            || metadata.target().strip_prefix(OURS).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        // It would log URLs and headers, with the webhook's token in them.
        let secretive = SECRETIVE.iter().any(|name| metadata.target().starts_with(name));
        let all = ours || self.level >= LevelFilter::Debug && !secretive;
        let level = if all { self.level } else { self.level.min(LevelFilter::Warn) };
        metadata.level() <= level
    }
}

impl Log for Router {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.routes().wants(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let routes = self.routes();
        if !routes.wants(record.metadata()) {
            return;
        }
        let line = if routes.prefix && record.target() != DECISION {
            Line::prefixed(
                record.level(),
                format_args!("{}:{} - ", place(record), record.line().unwrap_or(0)),
                *record.args(),
            )
        } else {
            Line::new(record.level(), *record.args())
        };
        let line = Arc::new(line);
        routes.outlets.iter().for_each(|outlet| outlet.queue.push(line.clone()));
        // The observer may log, too.
        drop(routes);
        if let Some(observer) = self.observer.get().filter(|_| record.level() == Level::Error) {
            observer(record);
        }
    }

    fn flush(&self) {
        Router::flush(self, Duration::from_secs(1));
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.outlets().iter().for_each(|outlet| outlet.queue.close());
    }
}

/// The file below `src/` for our own code, as PolicydRateGuard names files; the target (by default the module) for
/// other crates, whose files are only known by where they were built.
fn place<'a>(record: &Record<'a>) -> &'a str {
    match record.file().and_then(|file| file.strip_prefix("src/")) {
        Some(file) => file,
        None => record.target(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(level: LevelFilter) -> Routes {
        Routes { level, prefix: true, outlets: Vec::new() }
    }

    fn wants(level: LevelFilter, target: &str, line: Level) -> bool {
        routes(level).wants(&Metadata::builder().target(target).level(line).build())
    }

    #[test]
    fn other_crates_are_heard_from_warnings_on_unless_all_is_wanted() {
        for ours in [DECISION, "policyd_rate_guard", "policyd_rate_guard::server::connection"] {
            assert!(wants(LevelFilter::Info, ours, Level::Info), "{ours}");
            assert!(!wants(LevelFilter::Info, ours, Level::Debug), "{ours}");
        }
        for other in ["sqlx::query", "policyd_rate_guard_else", "rustls"] {
            assert!(!wants(LevelFilter::Info, other, Level::Info), "{other}");
            assert!(wants(LevelFilter::Info, other, Level::Warn), "{other}");
            assert!(!wants(LevelFilter::Error, other, Level::Warn), "{other}");
            assert!(wants(LevelFilter::Debug, other, Level::Debug), "{other}");
        }
        for secretive in ["ureq::run", "ureq_proto::client"] {
            assert!(!wants(LevelFilter::Trace, secretive, Level::Debug), "{secretive}");
            assert!(wants(LevelFilter::Trace, secretive, Level::Warn), "{secretive}");
        }
    }

    #[test]
    fn the_place_is_a_file_of_ours_or_a_module_of_others() {
        let mut record = Record::builder();
        record.target("sqlx::query").file(Some("/registry/sqlx/src/query.rs"));
        assert_eq!(place(&record.build()), "sqlx::query");
        assert_eq!(place(&record.file(Some("src/server/connection.rs")).build()), "server/connection.rs");
    }
}
