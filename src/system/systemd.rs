//! What the service manager is told, and what it asks for. Every call does nothing where there is no systemd.
//!
//! The environment is left as it is: NOTIFY_SOCKET is needed for as long as the daemon runs.

use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use nix::sys::stat::fstat;
use sd_notify::NotifyState;

/// The daemon can answer (again): after start-up, and after a reload. `status` is what `systemctl status` shows.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// What the daemon is doing, for `systemctl status`.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(&one_line(text))]);
}

/// A reload has begun; [`ready`] must follow, also when it failed and the old settings stay.
pub fn reloading() {
    // systemd tells a new reload from an old one by this time.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => log::warn!("cannot tell systemd about the reload: no monotonic clock: {error}"),
    }
}

/// The daemon is ending.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// How often [`keep_alive`] must be called: half of what WatchdogSec= asks of this process. None without a watchdog.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|interval| !interval.is_zero())
}

/// The daemon makes progress; systemd restarts it when this stays away.
pub fn keep_alive() {
    tell(&[NotifyState::Watchdog]);
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

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("cannot reach systemd on NOTIFY_SOCKET: {error}");
    }
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
