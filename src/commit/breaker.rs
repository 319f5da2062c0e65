//! The breaker: while the database is away nobody waits for it. A task of its own tries to get it back.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::limiter::retention;
use crate::store::backfill::Filled;
use crate::store::migrate::MigrateError;
use crate::store::{Failure, Store};
use crate::system::clock;

/// Between two attempts to reach the database.
pub const PAUSE: Duration = Duration::from_millis(500);
/// Before the first attempt, at the most: see [`Return`].
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// How long the database must have settled charges until what was counted without it is forgotten.
const PROVEN_AFTER: Duration = Duration::from_secs(60);
/// For one attempt: connect, look at the tables, write.
const TIMEOUT: Duration = Duration::from_secs(2);

/// For filling in the history of an adopted database.
const FILL_TIMEOUT: Duration = Duration::from_secs(10);

/// A database that came back, and what it has done since. One that takes the attempt's small write and then no transaction
/// (a full table, a right that is missing, a locked table) would come and go twice a second.
#[derive(Debug)]
pub struct Return {
    at: Instant,
    settled: bool,
    /// Before the attempt that found it.
    pause: Duration,
}

impl Return {
    /// Notes that charges were settled. True once that has gone well for long enough.
    pub fn settles(&mut self) -> bool {
        self.settled = true;
        self.at.elapsed() >= PROVEN_AFTER
    }

    /// How long to wait before the next attempt, now that it is away again.
    pub fn next_pause(&self) -> Duration {
        if self.settled { PAUSE } else { (self.pause * 2).min(MAX_PAUSE) }
    }
}

/// The attempts to get the database back.
pub struct Open {
    since: Instant,
    /// Requests answered meanwhile.
    pub answered: u64,
    pause: Duration,
    probe: JoinHandle<Store>,
}

impl Open {
    /// Starts trying after a `pause`. `reason`, why the database is away, has been told already. `window` is the longest
    /// that decisions look at.
    pub fn new(store: Store, reason: &str, window: Duration, pause: Duration) -> Open {
        Open {
            since: Instant::now(),
            answered: 0,
            pause,
            probe: tokio::spawn(get_back(store, reason.to_owned(), window, pause)),
        }
    }

    /// Whether the database was back in between and settled nothing.
    pub fn is_relapse(&self) -> bool {
        self.pause > PAUSE
    }

    /// For how long the database has been away.
    pub fn lasted(&self) -> Duration {
        self.since.elapsed()
    }

    /// What there is to know of a database that is back now.
    pub fn ended(&self) -> Return {
        Return { at: Instant::now(), settled: false, pause: self.pause }
    }

    /// Waits until the database takes writes again. Cancel-safe.
    ///
    /// # Errors
    /// The attempts ended by themselves, which only a bug in them can bring about.
    pub async fn database_is_back(&mut self) -> Result<Store, tokio::task::JoinError> {
        (&mut self.probe).await
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.probe.abort();
    }
}

async fn get_back(mut store: Store, mut told: String, window: Duration, mut pause: Duration) -> Store {
    loop {
        tokio::time::sleep(pause).await;
        pause = PAUSE;
        let error = match tokio::time::timeout(TIMEOUT, try_once(&mut store)).await {
            Ok(Ok(())) => {
                fill_usage(&mut store, window).await;
                return store;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        };
        store.abandon();
        // Once per reason: an outage of hours is not worth a line per second.
        if error != told {
            log::error!("{}: {error}. Trying again until it works", store.place());
            told = error;
        }
    }
}

/// Connects, brings the tables up to date and proves that they take writes.
pub async fn try_once(store: &mut Store) -> Result<(), MigrateError> {
    // It connects, and tries again where SQLite's journal is just being set up by another process.
    for step in store.migrate(false).await? {
        log::info!("{}: {step} is done", store.place());
    }
    store.heartbeat(clock::now()).await?;
    Ok(())
}

/// Fills the history of an adopted database from its messages, once, as far back as windows look. Whatever comes of it, the
/// daemon goes on: a window that begins at zero is laxer, and no mail is lost by it.
pub async fn fill_usage(store: &mut Store, window: Duration) {
    let later = "`policyd-rate-guard migrate` fills the history of sliding windows from the messages; until then it begins \
                 with this start";
    let now = clock::now();
    match tokio::time::timeout(FILL_TIMEOUT, store.fill_usage(retention::filled_since(now, window), now, false)).await {
        Ok(Ok(Filled::Now(minutes))) => {
            log::info!("{}: history of {minutes} minutes of senders filled in", store.place())
        }
        Ok(Ok(Filled::Already)) => {}
        Ok(Ok(Filled::Later)) => log::warn!("{}: there are many messages: {later}", store.place()),
        Ok(Err(error)) => log::warn!("{}: {error}: {later}", store.place()),
        Err(_) => {
            store.abandon();
            log::warn!("{}: no end within {} s: {later}", store.place(), FILL_TIMEOUT.as_secs());
        }
    }
}

/// Whether an error at start is one that waiting does not mend.
pub fn is_final(error: &MigrateError) -> bool {
    match error {
        MigrateError::Newer(..) | MigrateError::Changed(_) => true,
        MigrateError::Database(failure) | MigrateError::Step { failure, .. } => matches!(failure, Failure::Refused(_)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_database_that_comes_and_settles_nothing_is_asked_less_and_less_often() {
        let back = |pause| Return { at: Instant::now(), settled: false, pause };
        let mut pause = PAUSE;
        for _ in 0..10 {
            let longer = back(pause).next_pause();
            assert!(longer > pause || longer == MAX_PAUSE);
            pause = longer;
        }
        assert_eq!(pause, MAX_PAUSE);
        let mut settling = back(pause);
        assert!(!settling.settles(), "not proven yet");
        assert_eq!(settling.next_pause(), PAUSE);
        tokio::time::advance(PROVEN_AFTER).await;
        assert!(settling.settles());
    }
}
