//! Signals that come while the daemon starts.

use std::io;

use nix::sys::signal::{SigSet, Signal};

/// SIGHUP and SIGUSR1, blocked until they are received.
#[derive(Debug)]
#[must_use]
pub struct Held(SigSet);

/// Has them wait. Until they are heard they would end the process, and a rotation of logs does not ask whether it is still
/// starting.
///
/// Must be called before the process has a second thread: each begins with the mask of the one that made it.
pub fn hold() -> io::Result<Held> {
    let held: SigSet = [Signal::SIGHUP, Signal::SIGUSR1].into_iter().collect();
    held.thread_block()?;
    Ok(Held(held))
}

impl Held {
    /// Lets those that came be heard now. To be called on the thread that held them, when they have their handlers.
    pub fn release(self) -> io::Result<()> {
        Ok(self.0.thread_unblock()?)
    }
}
