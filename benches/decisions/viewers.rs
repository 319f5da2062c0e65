//! People who look at a daemon under load: `watch` in a terminal, and what the page in a browser asks for. The browser itself
//! is not there: it would take its own time of the same processors.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::daemon::Setup;
use crate::support::http::ask_as;
use crate::support::terminal::Terminal;

pub const TOKEN: &str = "a-token-that-only-this-benchmark-knows";
/// How often the page asks.
const EVERY: Duration = Duration::from_secs(2);

pub struct Viewers {
    _terminal: Terminal,
    page: Option<JoinHandle<()>>,
    closed: Arc<AtomicBool>,
}

impl Viewers {
    /// Looks at the daemon of this set-up, whose page is at `address`. Returns when both have something to show.
    pub fn open(setup: &Setup, address: SocketAddr) -> Viewers {
        let terminal = Terminal::open(200, 50, &[]);
        terminal.line(&setup.typed("watch"));
        let closed = Arc::new(AtomicBool::new(false));
        look(address);
        let page = thread::spawn({
            let closed = closed.clone();
            move || {
                while !closed.load(Ordering::Relaxed) {
                    look(address);
                    thread::park_timeout(EVERY);
                }
            }
        });
        terminal.wait_for("senders", |screen| screen.contains("@example.com"));
        Viewers { _terminal: terminal, page: Some(page), closed }
    }
}

impl Drop for Viewers {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        if let Some(page) = self.page.take() {
            page.thread().unpark();
            page.join().expect("the page is answered");
        }
    }
}

/// Asks once for what the page shows.
fn look(address: SocketAddr) {
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    for path in ["/api/daemon", "/api/status"] {
        let seen = ask_as(&address.to_string(), address, "GET", path, &token);
        assert_eq!(seen.status(), 200, "{path}: {}", seen.body);
    }
}
