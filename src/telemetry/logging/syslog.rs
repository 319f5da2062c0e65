//! The log daemon, through its local socket.
//!
//! The `syslog` crate knows the protocol and the kinds of socket; what it lacks is here: a daemon that was restarted,
//! is not there for a while, or hangs. Every line is tried until it is taken; what piles up is the queue's matter.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use log::Level;
use nix::errno::Errno;
use syslog::{Facility, LogFormat, Logger, LoggerBackend, Severity};

use super::line::Line;
use super::queue::Queue;
use super::writer::{Sink, Tell};

/// The name that lines have in the system's log.
const IDENT: &str = "policyd-rate-guard";

/// A log daemon that takes no line for so long hangs. It bounds only how soon its thread notices that it should end.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The first wait after a failed connection; doubled up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

pub(super) struct Syslog {
    path: PathBuf,
    connection: Option<Logger<LoggerBackend, MailLine>>,
    tell: Tell,
    /// Trouble is told once, and then its end.
    failing: bool,
}

/// Why a line was not taken.
enum Trouble {
    /// The socket takes no line of this size, now or later.
    TooLong,
    /// The daemon is there and takes nothing.
    Hangs,
    Away(String),
}

impl Syslog {
    /// Connects with the first line: a log daemon that is not there yet is no reason not to start.
    pub fn new(path: PathBuf, tell: Tell) -> Syslog {
        Syslog { path, connection: None, tell, failing: false }
    }

    /// Tries a line, and once more on a new connection: the old one may be to a daemon that was restarted.
    fn send(&mut self, line: &Line) -> Result<(), Trouble> {
        if let Some(connection) = &mut self.connection
            && send(connection, line).is_ok()
        {
            return Ok(());
        }
        self.connection = None;
        let mut connection = connect(&self.path).map_err(|problem| Trouble::Away(explain(&problem)))?;
        match send(&mut connection, line) {
            Ok(()) => {
                self.connection = Some(connection);
                Ok(())
            }
            Err(problem) => Err(match os_error(&problem) {
                Some(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => Trouble::TooLong,
                Some(error) if error.kind() == io::ErrorKind::WouldBlock => Trouble::Hangs,
                _ => Trouble::Away(explain(&problem)),
            }),
        }
    }

    fn tell_trouble(&mut self, what: &str) {
        if !self.failing {
            self.failing = true;
            let path = self.path.display();
            (self.tell)(
                Level::Warn,
                format!("the log daemon at {path} {what}; lines for it wait, and are lost when too many"),
            );
        }
    }

    fn tell_end(&mut self) {
        if self.failing {
            self.failing = false;
            (self.tell)(Level::Info, format!("the log daemon at {} takes lines again", self.path.display()));
        }
    }
}

impl Sink for Syslog {
    fn write(&mut self, lines: &[Arc<Line>], queue: &Queue) -> usize {
        for (done, line) in lines.iter().enumerate() {
            let mut wait = FIRST_RETRY;
            loop {
                let pause = match self.send(line) {
                    Ok(()) => {
                        self.tell_end();
                        break;
                    }
                    Err(Trouble::TooLong) => {
                        queue.lose(1, 0);
                        break;
                    }
                    Err(Trouble::Hangs) => {
                        self.tell_trouble("hangs");
                        // Sending has waited already.
                        Duration::ZERO
                    }
                    Err(Trouble::Away(problem)) => {
                        self.tell_trouble(&format!("cannot be reached ({problem})"));
                        let pause = wait;
                        wait = LAST_RETRY.min(wait * 2);
                        pause
                    }
                };
                if !queue.retry_after(pause) {
                    return lines.len() - done;
                }
            }
        }
        0
    }

    fn reopen(&mut self) {
        self.connection = None;
    }
}

fn connect(path: &Path) -> Result<Logger<LoggerBackend, MailLine>, syslog::Error> {
    let logger = syslog::unix_custom(MailLine, path)?;
    match &logger.backend {
        LoggerBackend::Unix(socket) => socket.set_write_timeout(Some(SEND_TIMEOUT))?,
        LoggerBackend::UnixStream(stream) => stream.get_ref().set_write_timeout(Some(SEND_TIMEOUT))?,
        LoggerBackend::Udp(..) | LoggerBackend::Tcp(_) => {}
    }
    Ok(logger)
}

fn send(connection: &mut Logger<LoggerBackend, MailLine>, line: &Line) -> Result<(), syslog::Error> {
    match line.level {
        Level::Error => connection.err(line),
        Level::Warn => connection.warning(line),
        Level::Info => connection.info(line),
        Level::Debug | Level::Trace => connection.debug(line),
    }
}

fn os_error(problem: &syslog::Error) -> Option<&io::Error> {
    match problem {
        syslog::Error::Write(error) | syslog::Error::Io(error) => Some(error),
        syslog::Error::Initialization(error) => match error.downcast_ref() {
            Some(syslog::Error::Io(error)) => Some(error),
            _ => None,
        },
    }
}

fn explain(problem: &syslog::Error) -> String {
    os_error(problem).map_or_else(|| problem.to_string(), io::Error::to_string)
}

/// The form that log daemons expect on their local socket: `<priority>Mmm dd hh:mm:ss ident[pid]: text`.
///
/// Not the crate's `Formatter3164`: that one stamps UTC where local time is meant, and reads its pattern for each line.
struct MailLine;

impl LogFormat<&Line> for MailLine {
    fn format<W: io::Write>(&self, out: &mut W, severity: Severity, line: &Line) -> syslog::Result<()> {
        let at = line.at.to_zoned(TimeZone::system());
        let priority = Facility::LOG_MAIL as u8 | severity as u8;
        let stamp = at.strftime("%b %e %H:%M:%S");
        let datagram = format!("<{priority}>{stamp} {IDENT}[{}]: {}", std::process::id(), line.text);
        out.write_all(datagram.as_bytes()).map_err(syslog::Error::Write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::logging::writer;
    use std::fs;
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc;

    /// No answer takes so long; a test that would wait longer fails.
    const TIMEOUT: Duration = Duration::from_secs(30);

    struct Rig {
        _dir: tempfile::TempDir,
        path: PathBuf,
        queue: Arc<Queue>,
        told: mpsc::Receiver<String>,
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            self.queue.close();
        }
    }

    impl Rig {
        /// A sink at work, whose log daemon is not there yet.
        fn new(room: usize) -> Rig {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            let queue = Arc::new(Queue::new(room));
            let (tell, told) = mpsc::channel();
            let tell: Tell = Box::new(move |_, text| drop(tell.send(text)));
            writer::spawn("test", queue.clone(), Syslog::new(path.clone(), tell)).unwrap();
            Rig { _dir: dir, path, queue, told }
        }

        fn log_daemon(&self) -> UnixDatagram {
            let daemon = UnixDatagram::bind(&self.path).unwrap();
            daemon.set_read_timeout(Some(TIMEOUT)).unwrap();
            daemon
        }

        fn log(&self, text: &str) {
            self.queue.push(Arc::new(Line::new(Level::Warn, format_args!("{text}"))));
        }
    }

    fn receive(daemon: &UnixDatagram) -> String {
        let mut datagram = [0; 16_384];
        let length = daemon.recv(&mut datagram).expect("a line should arrive");
        String::from_utf8(datagram[..length].to_vec()).unwrap()
    }

    fn text(datagram: &str) -> &str {
        datagram.split_once("]: ").unwrap().1
    }

    #[test]
    fn a_line_has_the_form_of_syslog_3() {
        let rig = Rig::new(1 << 20);
        let daemon = rig.log_daemon();
        rig.log("hello\n<0>forged");
        let datagram = receive(&daemon);
        // LOG_MAIL is 2 << 3, LOG_WARNING 4; the day is padded with a blank.
        let rest = datagram.strip_prefix("<20>").unwrap();
        let (stamp, rest) = rest.split_at("Jan  1 00:00:00".len());
        assert!(jiff::fmt::strtime::parse("%b %d %H:%M:%S", stamp).is_ok(), "{stamp}");
        assert_eq!(rest, format!(" policyd-rate-guard[{}]: hello\\n<0>forged", std::process::id()));
    }

    #[test]
    fn lines_go_on_after_the_log_daemon_was_restarted() {
        let rig = Rig::new(1 << 20);
        let daemon = rig.log_daemon();
        rig.log("before");
        assert_eq!(text(&receive(&daemon)), "before");
        drop(daemon);
        fs::remove_file(&rig.path).unwrap();
        let daemon = rig.log_daemon();
        rig.log("after");
        assert_eq!(text(&receive(&daemon)), "after");
        assert!(rig.told.try_recv().is_err(), "a restart is no trouble");
    }

    #[test]
    fn lines_wait_for_a_log_daemon_that_is_away() {
        let rig = Rig::new(1 << 20);
        rig.log("one");
        rig.log("two");
        let told = rig.told.recv_timeout(TIMEOUT).unwrap();
        assert!(told.contains("cannot be reached (No such file or directory"), "{told}");
        let daemon = rig.log_daemon();
        assert_eq!([text(&receive(&daemon)), text(&receive(&daemon))], ["one", "two"]);
        assert!(rig.told.recv_timeout(TIMEOUT).unwrap().ends_with("takes lines again"));
    }

    #[test]
    fn a_log_daemon_that_hangs_loses_lines_and_stalls_nobody() {
        const LINES: usize = 100_000;
        let rig = Rig::new(100_000);
        let daemon = rig.log_daemon();
        // Nobody reads, so this could not end if anything on the way waited for the log daemon.
        for n in 0..LINES {
            rig.log(&format!("line {n}"));
        }
        assert!(rig.told.recv_timeout(TIMEOUT).unwrap().contains(" hangs; "));
        rig.log("to be lost or not");
        // The daemon comes to itself: every line has arrived or is counted as lost.
        let (mut arrived, mut lost) = (0, 0);
        while arrived + lost < LINES + 1 {
            let datagram = receive(&daemon);
            match text(&datagram).split_once(" log lines were lost here") {
                Some((count, _)) => lost += count.parse::<usize>().unwrap(),
                None => arrived += 1,
            }
        }
        assert_eq!(arrived + lost, LINES + 1);
        assert!(lost > LINES / 2, "{lost} lines lost");
    }

    #[test]
    fn the_longest_line_fits_a_datagram() {
        let rig = Rig::new(1 << 20);
        let daemon = rig.log_daemon();
        rig.log(&"x".repeat(100_000));
        let datagram = receive(&daemon);
        assert!(datagram.len() <= 8192 && datagram.ends_with("x…"), "{}", datagram.len());
    }

    #[test]
    fn a_stream_socket_is_served_too() {
        use std::io::Read;
        let rig = Rig::new(1 << 20);
        let daemon = std::os::unix::net::UnixListener::bind(&rig.path).unwrap();
        rig.log("hello");
        let (mut connection, _) = daemon.accept().unwrap();
        connection.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"\0") {
            connection.read_exact(&mut byte).unwrap();
            bytes.push(byte[0]);
        }
        assert!(text(std::str::from_utf8(&bytes).unwrap()).starts_with("hello"));
    }
}
