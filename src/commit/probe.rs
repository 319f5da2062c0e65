//! The attempts to reach the database: at the start, and while it is away.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::breaker::PAUSE;
use crate::clock;
use crate::limiter::retention;
use crate::store::backfill::Filled;
use crate::store::migrate::MigrateError;
use crate::store::{Failure, Store};

/// For one attempt: connect, look at the tables, write.
const TIMEOUT: Duration = Duration::from_secs(2);
/// For filling in the history of an adopted database.
const FILL_TIMEOUT: Duration = Duration::from_secs(10);

/// A task that tries to get the database back. It ends with this.
pub struct Probe(JoinHandle<Store>);

impl Probe {
    /// Starts trying after a `pause`. `reason`, why the database is away, has been logged already. `window` is the longest
    /// that decisions look at.
    pub fn new(store: Store, reason: String, window: Duration, pause: Duration) -> Probe {
        Probe(tokio::spawn(get_back(store, reason, window, pause)))
    }

    /// Waits until the database takes writes again. Cancel-safe.
    ///
    /// # Errors
    /// The attempts ended by themselves, which only a bug in them can bring about.
    pub async fn database_is_back(&mut self) -> Result<Store, tokio::task::JoinError> {
        (&mut self.0).await
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.abort();
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

/// Whether an error at the start is one that does not pass.
pub fn is_final(error: &MigrateError) -> bool {
    match error {
        MigrateError::Newer(..) | MigrateError::Changed(_) => true,
        MigrateError::Database(failure) | MigrateError::Step { failure, .. } => matches!(failure, Failure::Refused(_)),
    }
}
