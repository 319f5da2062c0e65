//! What every command that opens the database does first.

use std::future::Future;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::runtime::{Builder, Runtime};

use crate::clock;
use crate::config::{self, Config, Driver, Sources};
use crate::exit::{Exit, Failed};
use crate::limiter::terms::Terms;
use crate::policy::lists::Lists;
use crate::store::migrate::MigrateError;
use crate::store::{Failure, Store};
use crate::system::privileges;

/// Reads the settings; the failure names every error in them.
pub fn load(sources: &Sources) -> Result<Config, Failed> {
    match config::load(sources) {
        Ok(loaded) => Ok(loaded.config),
        Err(error) => Err(Failed::new(Exit::Config, error)),
    }
}

/// Becomes USER if started as root, before the database is opened, and keeps other users out of files and memory. To be called
/// before there is a second thread.
pub fn become_user(config: &Config) -> Result<(), Failed> {
    privileges::become_user(&config.sockets).map(drop).map_err(|error| Failed::new(Exit::OsError, error))
}

/// A runtime for a command that does one thing after the other.
pub fn runtime() -> Result<Runtime, Failed> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failed::new(Exit::OsError, format_args!("cannot start the runtime: {error}")))
}

/// Runs `work`, and waits for the end of all threads that it had: only a process with one thread can become USER afterwards.
pub fn run_alone<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, Failed> {
    const WAITS: usize = 200;
    let runtime = runtime()?;
    let done = runtime.block_on(work);
    drop(runtime);
    let threads = || std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    // What SQLite ran in ends a moment after its connection.
    for _ in 0..WAITS {
        if threads() == 1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    done.map_err(|error| Failed::new(Exit::Unavailable, error))
}

/// Returns the terms on which this host's daemon answers. To be called as USER, as which the daemon reads the lists. If they
/// cannot be read, standard error says so, and the terms have none.
pub fn terms(config: &Config) -> Terms {
    let lists = config::load_lists(config).unwrap_or_else(|error| {
        eprintln!("policyd-rate-guard: what follows leaves ALLOWLIST and DENYLIST out: {error}");
        Lists::default()
    });
    config.terms(lists, TimeZone::system())
}

/// Reads the settings, becomes USER if started as root, and runs `work` with a store that is not connected yet.
///
/// The database is opened as USER: a file made by root could not be written by the daemon, and root would follow a link that
/// USER has made.
pub fn with_store<T, F>(sources: &Sources, work: impl FnOnce(Config, Store) -> F) -> Result<T, Failed>
where
    F: Future<Output = Result<T, Failed>>,
{
    let config = load(sources)?;
    become_user(&config)?;
    let runtime = runtime()?;
    let store = Store::new(&config.database);
    let advice = advice(&config);
    runtime.block_on(work(config, store)).map_err(|failed| match advice {
        Some(advice) if failed.exit == Exit::Unavailable => failed.and(&advice),
        _ => failed,
    })
}

/// Returns advice for a database that cannot be used: an SQLite file is readable for USER only, and SQLite does not say whether
/// that is the reason.
fn advice(config: &Config) -> Option<String> {
    let in_a_file = config.database.driver == Driver::Sqlite && !config.database.is_in_memory();
    (in_a_file && !privileges::is_user(&config.sockets))
        .then(|| format!("if it is a matter of permission, run this as root or {}", config.sockets.user))
}

/// As [`with_store`], with tables that are up to date; closes the connection at the end.
pub fn with_tables<T>(
    sources: &Sources,
    work: impl AsyncFnOnce(&Config, &mut Store) -> Result<T, Failed>,
) -> Result<T, Failed> {
    with_store(sources, async |config, mut store| {
        let done = match store.migrate(false, clock::now()).await {
            Ok(_) => work(&config, &mut store).await,
            Err(error) => Err(unusable(&store.place(), &error)),
        };
        store.close().await;
        done
    })
}

/// Runs `work` on the database, and again for some seconds while it is locked or busy: the mail has priority.
pub async fn insist<T>(
    store: &mut Store,
    mut work: impl AsyncFnMut(&mut Store) -> Result<T, Failure>,
) -> Result<T, Failed> {
    const TRIES: usize = 100;
    let mut tries = 0;
    loop {
        match work(store).await {
            Ok(done) => return Ok(done),
            Err(Failure::Transient(_) | Failure::Locked(_)) if tries < TRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(failure) => return Err(Failed::new(Exit::Unavailable, format_args!("{}: {failure}", store.place()))),
        }
    }
}

/// Returns the failure for a migration that failed.
pub fn unusable(place: &str, error: &MigrateError) -> Failed {
    Failed::new(Exit::Unavailable, format_args!("{place}: {error}"))
}
