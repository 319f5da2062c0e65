//! The attempts to reach the database: at the start, and while it is away.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::breaker::PAUSE;
use crate::clock;
use crate::limiter::retention;
use crate::store::backfill::Filled;
use crate::store::migrate::MigrateError;
use crate::store::{Failure, Store};

/// For connecting: some seven round trips. With several servers, for one of them that answers late after others.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TO_ONE_OF_SEVERAL: Duration = Duration::from_secs(6);
/// For looking at the tables and writing, once connected: a database that lets us in is there, however far away it is.
const WORK_TIMEOUT: Duration = Duration::from_secs(10);
/// For writing where another server can be tried instead: one may let us in and not write, as a node without its cluster.
/// Beside [`ROUND_TRIPS`].
const WRITE_ON_ONE_OF_SEVERAL: Duration = Duration::from_secs(1);
const ROUND_TRIPS: u32 = 20;
/// The same at the start, when mail waits for it.
pub const START_TIMEOUT: Duration = Duration::from_secs(3);
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
        let error = match try_once(&mut store, WORK_TIMEOUT).await {
            Ok(()) => {
                fill_usage(&mut store, window).await;
                return store;
            }
            Err(error) => error.to_string(),
        };
        store.abandon();
        // Once per reason: an outage of hours is not worth a line per second.
        if error != told {
            log::error!("{}: {error}. Trying again until it works", store.place());
            told = error;
        }
    }
}

/// Connects; within `limit` brings the tables up to date and proves that they take writes.
pub async fn try_once(store: &mut Store, limit: Duration) -> Result<(), MigrateError> {
    let connecting = if store.has_other_servers() { CONNECT_TO_ONE_OF_SEVERAL } else { CONNECT_TIMEOUT };
    // SQLite fails here while another process sets its journal up; `migrate` connects again.
    if let Err(failure) = in_time(connecting, async { Ok(store.reach().await?) }).await
        && !matches!(&failure, MigrateError::Database(failure) if failure.rolled_back())
    {
        return Err(failure);
    }
    in_time(limit, async {
        for step in store.migrate(false, clock::now()).await? {
            log::info!("{}: {step} is done", store.place());
        }
        Ok(())
    })
    .await?;
    let limit = match store.has_other_servers() {
        true => limit.min(WRITE_ON_ONE_OF_SEVERAL + store.round_trip() * ROUND_TRIPS),
        false => limit,
    };
    in_time(limit, async { Ok(store.heartbeat(clock::now()).await?) }).await
}

async fn in_time(limit: Duration, work: impl Future<Output = Result<(), MigrateError>>) -> Result<(), MigrateError> {
    let late = || Failure::Away(format!("no answer within {} s", limit.as_secs()));
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(late().into()))
}

/// Fills the history of an adopted database from its messages, once, as far back as windows look. An error is only logged: a window
/// that begins at zero is laxer, and no mail is lost by it.
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
