//! The signals that steer the daemon.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::system::signals::Held;

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// SIGTERM, SIGINT: answer what was asked, commit, end.
    Stop,
    /// SIGHUP: read the settings again, and reopen logs.
    Reload,
    /// SIGUSR1: logs were rotated.
    ReopenLogs,
}

#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
}

impl Signals {
    /// Takes the signals over from their defaults, and hears those that came before.
    pub fn new(held: Held) -> io::Result<Signals> {
        let signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
        };
        held.release()?;
        Ok(signals)
    }

    /// The next wish. Cancel-safe.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hangup.recv() => Wish::Reload,
            _ = self.user1.recv() => Wish::ReopenLogs,
        }
    }
}
