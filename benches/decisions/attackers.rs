//! What others do to a daemon under load: connections that ask nothing, and guesses of its token.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::http::get;
use crate::support::wait;

/// Between two guesses of one guesser. Faster ones would show how many processors this benchmark takes from the daemon.
const PAUSE: Duration = Duration::from_millis(50);
/// A guess beyond this is not answered any more.
const LIMIT: Duration = Duration::from_secs(5);

/// Idle connections.
pub fn silent(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(address).expect("a connection")).collect()
}

/// Waits until the daemon has closed its end of them, which takes its time from whatever is measured next.
pub fn await_end(metrics: SocketAddr) {
    let open = || {
        let figures = get(metrics, "/metrics").body;
        let open = figures.lines().find_map(|line| line.strip_prefix("policyd_rate_guard_connections "));
        open.and_then(|open| open.parse::<usize>().ok()).expect("a number of connections")
    };
    wait::until(Duration::from_secs(60), "the silent connections are closed", || (open() < 100).then_some(()));
}

/// Guessers of STATUS_TOKEN, until this is dropped.
pub struct Guessers {
    threads: Vec<JoinHandle<()>>,
    ended: Arc<AtomicBool>,
}

impl Guessers {
    pub fn start(address: SocketAddr, count: usize) -> Guessers {
        let ended = Arc::new(AtomicBool::new(false));
        let guess = |ended: Arc<AtomicBool>| {
            move || {
                while !ended.load(Ordering::Relaxed) {
                    // Some lose their connection to others.
                    let _ = guess(address);
                    thread::sleep(PAUSE);
                }
            }
        };
        Guessers { threads: (0..count).map(|_| thread::spawn(guess(ended.clone()))).collect(), ended }
    }
}

fn guess(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(
        b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer a guess\r\n\r\n",
    )?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

impl Drop for Guessers {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("a guesser"));
    }
}
