//! The breaker: while the database is away nobody waits for it. A task of its own tries to get it back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::standin::StandIn;
use crate::store::migrate::MigrateError;
use crate::store::{Failure, Store};

/// Between two attempts to reach the database.
const PAUSE: Duration = Duration::from_millis(500);
/// For one attempt: connect, look at the tables, write.
const PATIENCE: Duration = Duration::from_secs(2);

/// The attempts to get the database back, and what answers meanwhile.
pub struct Open {
    pub since: Instant,
    pub standin: StandIn,
    probe: JoinHandle<Store>,
}

impl Open {
    /// Starts trying. `reason`, why the database is away, has been told already.
    pub fn new(store: Store, reason: &str) -> Open {
        Open {
            since: Instant::now(),
            standin: StandIn::default(),
            probe: tokio::spawn(get_back(store, reason.to_owned())),
        }
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

async fn get_back(mut store: Store, mut told: String) -> Store {
    loop {
        tokio::time::sleep(PAUSE).await;
        let error = match tokio::time::timeout(PATIENCE, try_once(&mut store)).await {
            Ok(Ok(())) => return store,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
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
    store.connect().await?;
    for step in store.migrate(false).await? {
        log::info!("{}: migration {:04} {} is done", store.place(), step.version, step.name);
    }
    store.heartbeat(now()).await?;
    Ok(())
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Whether an error at start is one that waiting does not mend.
pub fn is_final(error: &MigrateError) -> bool {
    match error {
        MigrateError::Newer(..) | MigrateError::Changed(_) => true,
        MigrateError::Database(failure) | MigrateError::Step { failure, .. } => matches!(failure, Failure::Refused(_)),
    }
}
