//! The log: the `log` facade's global logger, and the sinks that LOG_FILE, LOG_CONSOLE and SYSLOG name.
//!
//! The thread that logs makes its line safe and bounded (`line`) and pushes it into one bounded queue per sink (`queue`), which
//! never waits: when a sink cannot follow, lines are lost and counted, not mail. One thread per sink writes (`writer`),
//! so that a log daemon that hangs holds up neither mail nor the log file.

mod console;
mod error;
mod file;
mod line;
mod queue;
mod router;
mod syslog;
mod writer;

use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use crate::config;
pub use error::LogError;
use router::Router;

/// How many bytes of lines may wait for one sink: at 50,000 decisions a second some half a second of them.
const ROOM: usize = 8 << 20;

/// Lines that reached no sink since the process started, because they came faster than they could be written.
pub fn lost_lines() -> u64 {
    queue::lost()
}

/// Has every panic logged like any other error, with the place it happened at. It ends the task it happens in, no other.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        log::error!("this is a bug, please report it: process {}: {panic}", process::id());
    }));
}

/// The running log. It keeps running when this is dropped. Only [`Logging::flush`] waits for it.
pub struct Logging {
    router: Arc<Router>,
    file: Option<PathBuf>,
}

impl Logging {
    /// Opens the sinks as the current user and becomes the process's logger. Starts a thread per sink, so privileges
    /// must have been dropped before. `under_systemd`: standard error is the journal, JOURNAL_STREAM is set.
    pub fn start(config: &config::Logging, under_systemd: bool) -> Result<Logging, LogError> {
        let logging = Logging::open(config, under_systemd, ROOM)?;
        log::set_boxed_logger(Box::new(logging.router.clone())).map_err(|_| LogError::Started)?;
        log::set_max_level(config.level);
        Ok(logging)
    }

    fn open(config: &config::Logging, under_systemd: bool, room: usize) -> Result<Logging, LogError> {
        let router = Router::new(under_systemd, room);
        router.configure(config, config.file.as_deref())?;
        Ok(Logging { router, file: config.file.clone() })
    }

    /// Opens the log file and the connection to the log daemon anew. Returns at once; lines logged from now on are in
    /// the new file. A failure is told on the other sinks, and the old file is kept.
    pub fn reopen(&self) {
        self.router.reopen();
    }

    /// Takes on the level, the prefix and all sinks but the log file, which stays the one of the start.
    pub fn reconfigure(&self, config: &config::Logging) -> Result<(), LogError> {
        self.router.configure(config, self.file.as_deref())?;
        log::set_max_level(config.level);
        Ok(())
    }

    /// Calls the observer with each error, on the thread that logs it. A second observer is ignored.
    pub fn on_error(&self, observer: impl Fn(&log::Record<'_>) + Send + Sync + 'static) {
        self.router.on_error(Box::new(observer));
    }

    /// Waits until every line is written, but no longer than `most`; says whether all are.
    pub fn flush(&self, most: Duration) -> bool {
        self.router.flush(most)
    }
}

impl std::fmt::Debug for Logging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logging").field("file", &self.file).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::DECISION;
    use log::{Level, LevelFilter, Log, Record};
    use std::fs;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// One line through a log that is not the process's.
    fn say(logging: &Logging, target: &str, text: &str) {
        logging.router.log(
            &Record::builder()
                .level(Level::Info)
                .target(target)
                .file(Some("src/server/connection.rs"))
                .line(Some(7))
                .args(format_args!("{text}"))
                .build(),
        );
    }

    fn config(file: &Path) -> config::Logging {
        config::Logging {
            level: LevelFilter::Info,
            file: Some(file.to_owned()),
            console: false,
            syslog: None,
            message_prefix: true,
        }
    }

    fn open(config: &config::Logging) -> Logging {
        Logging::open(config, false, ROOM).unwrap()
    }

    /// The lines of a file without their time stamps.
    fn lines(logging: &Logging, path: &Path) -> Vec<String> {
        assert!(logging.flush(TIMEOUT));
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn a_prefix_never_stands_before_a_queue_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let logging = open(&config(&path));
        say(&logging, "policyd_rate_guard::server", "hello");
        say(&logging, DECISION, "4XyZ12abcd: client=…");
        assert_eq!(lines(&logging, &path), ["INFO server/connection.rs:7 - hello", "INFO 4XyZ12abcd: client=…"]);
    }

    #[test]
    fn lines_go_on_in_the_new_file_after_reopen() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("log"), dir.path().join("log.1"));
        let logging = open(&config(&path));
        say(&logging, DECISION, "one");
        assert_eq!(lines(&logging, &path), ["INFO one"]);
        fs::rename(&path, &old).unwrap();
        logging.reopen();
        say(&logging, DECISION, "two");
        assert_eq!(lines(&logging, &old), ["INFO one"]);
        assert_eq!(lines(&logging, &path), ["INFO two"]);
    }

    #[test]
    fn a_reopen_that_fails_is_told_on_the_other_sinks() {
        let dir = tempfile::tempdir().unwrap();
        let (path, socket) = (dir.path().join("log"), dir.path().join("dev-log"));
        let daemon = UnixDatagram::bind(&socket).unwrap();
        daemon.set_read_timeout(Some(TIMEOUT)).unwrap();
        let logging = open(&config::Logging { syslog: Some(socket), ..config(&path) });
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        logging.reopen();
        let mut datagram = [0; 1000];
        let length = daemon.recv(&mut datagram).unwrap();
        let told = std::str::from_utf8(&datagram[..length]).unwrap();
        assert!(told.starts_with("<19>") && told.contains("anew: Is a directory"), "{told}");
    }

    #[test]
    fn a_reload_changes_level_prefix_and_sinks_but_not_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, socket) = (dir.path().join("log"), dir.path().join("dev-log"));
        let daemon = UnixDatagram::bind(&socket).unwrap();
        daemon.set_read_timeout(Some(TIMEOUT)).unwrap();
        let logging = open(&config(&path));
        let other = dir.path().join("other");
        let with_syslog = config::Logging { syslog: Some(socket), message_prefix: false, ..config(&other) };
        logging.reconfigure(&with_syslog).unwrap();
        say(&logging, "policyd_rate_guard", "both");
        let mut datagram = [0; 1000];
        let length = daemon.recv(&mut datagram).unwrap();
        assert!(datagram[..length].ends_with(b"]: both"));
        logging.reconfigure(&config::Logging { level: LevelFilter::Warn, ..with_syslog.clone() }).unwrap();
        say(&logging, DECISION, "not wanted");
        logging.reconfigure(&config::Logging { syslog: None, ..with_syslog }).unwrap();
        say(&logging, DECISION, "file only");
        assert_eq!(lines(&logging, &path), ["INFO both", "INFO file only"]);
        assert!(!other.exists());
        daemon.set_nonblocking(true).unwrap();
        assert!(daemon.recv(&mut datagram).is_err());
    }

    #[test]
    fn a_log_file_that_cannot_be_opened_is_told_on_the_other_sinks_and_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, socket) = (dir.path().join("missing/log"), dir.path().join("dev-log"));
        let daemon = UnixDatagram::bind(&socket).unwrap();
        daemon.set_read_timeout(Some(TIMEOUT)).unwrap();
        let config = config::Logging { syslog: Some(socket), ..config(&path) };
        let logging = open(&config);
        let mut datagram = [0; 1000];
        let length = daemon.recv(&mut datagram).unwrap();
        let told = std::str::from_utf8(&datagram[..length]).unwrap();
        let problem = format!("cannot open the log file {}: No such file or directory", path.display());
        assert!(told.starts_with("<19>") && told.contains(&problem), "{told}");
        say(&logging, DECISION, "one");
        let length = daemon.recv(&mut datagram).unwrap();
        assert!(datagram[..length].ends_with(b"]: one"));

        fs::create_dir(dir.path().join("missing")).unwrap();
        logging.reconfigure(&config).unwrap();
        say(&logging, DECISION, "two");
        assert_eq!(lines(&logging, &path), ["INFO two"]);
    }
}
