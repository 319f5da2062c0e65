//! What the service manager is told, and what it asks for. All of it does nothing where there is no systemd.
//!
//! The environment is left as it is: NOTIFY_SOCKET is needed for as long as the daemon runs.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use nix::sys::stat::fstat;
use sd_notify::NotifyState;

/// The most messages that wait for a manager that does not read.
const ROOM: usize = 64;
/// From so many on, what is told again soon anyway is left out, so that there is room for what is told once.
const CROWDED: usize = 16;

/// Logs a warning about a key, and not too often.
pub type Warn = fn(key: &str, warning: fmt::Arguments<'_>);

/// The way to the service manager. It never waits: a manager that does not read NOTIFY_SOCKET must hold up neither mail nor
/// signals, so a thread of its own does the writing, in the order in which it was told.
#[derive(Debug, Clone)]
pub struct ServiceManager {
    /// None if there is no manager.
    teller: Option<Teller>,
}

#[derive(Debug, Clone)]
struct Teller {
    messages: SyncSender<Message>,
    waiting: Arc<AtomicUsize>,
    warn: Warn,
}

enum Message {
    /// Lines of NAME=value.
    Say(String),
    /// All before it was written.
    Reached(SyncSender<()>),
}

impl ServiceManager {
    /// Starts the thread, so privileges must have been dropped before. What it cannot tell the manager is warned of.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(warn: Warn) -> io::Result<ServiceManager> {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(ServiceManager { teller: None });
        }
        let (messages, told) = sync_channel(ROOM);
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = waiting.clone();
        thread::Builder::new().name("systemd".to_owned()).spawn(move || write_all(&told, &counted, warn))?;
        Ok(ServiceManager { teller: Some(Teller { messages, waiting, warn }) })
    }

    /// The daemon can answer (again): after start-up, and after a reload. `status` is what `systemctl status` shows.
    pub fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// What the daemon is doing, for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.tell_again(&[NotifyState::Status(&one_line(text))]);
    }

    /// A reload has begun; [`ServiceManager::ready`] must follow, also when it failed and the old settings stay.
    pub fn reloading(&self) {
        // systemd tells a new reload from an old one by this time.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => log::warn!("cannot tell systemd about the reload: no monotonic clock: {error}"),
        }
    }

    /// The daemon is ending, and may take so long, whatever TimeoutStopSec= says.
    pub fn stopping(&self, longest: Duration) {
        let longest = u32::try_from(longest.as_micros()).unwrap_or(u32::MAX);
        self.tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(longest)]);
    }

    /// The daemon makes progress; systemd restarts it when this stays away.
    pub fn keep_alive(&self) {
        self.tell_again(&[NotifyState::Watchdog]);
    }

    /// Waits until all is written, but no longer than `most`: for the end of the process.
    pub fn flush(&self, most: Duration) {
        let (reached, end) = sync_channel(1);
        if self.push(Message::Reached(reached)) {
            let _ = end.recv_timeout(most);
        }
    }

    /// What is told once.
    fn tell(&self, states: &[NotifyState<'_>]) {
        let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
        self.push(Message::Say(lines.join("\n")));
    }

    /// What is told at an interval.
    fn tell_again(&self, states: &[NotifyState<'_>]) {
        if self.teller.as_ref().is_some_and(|teller| teller.waiting.load(Ordering::Relaxed) < CROWDED) {
            self.tell(states);
        }
    }

    /// Whether there was room.
    fn push(&self, message: Message) -> bool {
        let Some(Teller { messages, waiting, warn }) = &self.teller else { return false };
        waiting.fetch_add(1, Ordering::Relaxed);
        let pushed = messages.try_send(message).is_ok();
        if !pushed {
            waiting.fetch_sub(1, Ordering::Relaxed);
            let problem = "systemd is not told how the daemon does: it does not read NOTIFY_SOCKET";
            warn("NOTIFY_SOCKET", format_args!("{problem}"));
        }
        pushed
    }
}

/// Writes messages until all senders are gone. Blocks for as long as the manager does not read.
fn write_all(messages: &Receiver<Message>, waiting: &AtomicUsize, warn: Warn) {
    for message in messages {
        match message {
            Message::Say(lines) => {
                if let Err(error) = send(&lines) {
                    warn("NOTIFY_SOCKET", format_args!("cannot reach systemd on NOTIFY_SOCKET: {error}"));
                }
            }
            Message::Reached(reached) => drop(reached.send(())),
        }
        waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sends lines to NOTIFY_SOCKET: a path, or `@name` in the abstract namespace.
fn send(lines: &str) -> io::Result<()> {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(format!("{lines}\n").as_bytes(), &address).map(drop)
}

/// How often [`ServiceManager::keep_alive`] must be called: half of what WatchdogSec= asks of this process. None without a
/// watchdog.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|interval| !interval.is_zero())
}

/// Whether standard error goes to the journal, which takes a line's priority from a `<N>` before it.
pub fn under_systemd_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|stat| names_stream(&stream, stat.st_dev, stat.st_ino))
}

/// JOURNAL_STREAM is inherited by children whose standard error was redirected: only device and inode prove it.
fn names_stream(journal_stream: &OsStr, device: u64, inode: u64) -> bool {
    journal_stream.to_str() == Some(&format!("{device}:{inode}"))
}

/// A message to systemd is lines of NAME=value: a text must not begin another one.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_stays_one_line() {
        assert_eq!(one_line("5 connections\nMAINPID=1\r\0 ü"), "5 connections MAINPID=1   ü");
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        assert!(names_stream(OsStr::new("9:4711"), 9, 4711));
        assert!(!names_stream(OsStr::new("9:4711"), 9, 471));
        assert!(!names_stream(OsStr::new(""), 0, 0));
    }
}
