//! Waiting for something to become true, with a bound and without guessing how long it takes.

use std::thread;
use std::time::{Duration, Instant};

/// Asks `probe` until it gives a value; after `limit` the test fails with `what` it was waiting for.
pub fn until<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
