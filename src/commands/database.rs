//! What every command that opens the database does first.

use std::future::Future;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::runtime::{Builder, Runtime};

use crate::config::{self, Config, Driver, Sources};
use crate::exit::{Exit, Failed};
use crate::limiter::terms::Terms;
use crate::policy::lists::Lists;
use crate::store::migrate::MigrateError;
use crate::store::{Failure, Store};
use crate::system::privileges;

/// Reads the settings; all that is wrong with them comes back at once.
pub fn load(sources: &Sources) -> Result<Config, Failed> {
    match config::load(sources) {
        Ok(loaded) => Ok(loaded.config),
        Err(error) => Err(Failed::new(Exit::Config, error)),
    }
}

/// As root becomes USER, before a database is asked; and keeps others out of files and memory. Before there is a second thread.
pub fn become_user(config: &Config) -> Result<(), Failed> {
    privileges::become_user(&config.sockets).map(drop).map_err(|error| Failed::new(Exit::OsError, error))
}

/// For a command that does one thing after the other.
pub fn runtime() -> Result<Runtime, Failed> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failed::new(Exit::OsError, format_args!("cannot start the runtime: {error}")))
}

/// The terms on which this host's daemon answers. To be called as USER, who reads the lists. What is asked about senders can
/// be told without the lists, too: where they cannot be read, that is said on standard error.
pub fn terms(config: &Config) -> Terms {
    let lists = config::load_lists(config).unwrap_or_else(|error| {
        eprintln!("policyd-rate-guard: what follows knows nothing of ALLOWLIST and DENYLIST: {error}");
        Lists::default()
    });
    config.terms(lists, TimeZone::system())
}

/// Reads the settings, becomes USER if started as root, and runs `work` with a store that is not connected yet.
///
/// The database is opened as USER: a file made by root could not be written by the daemon, and root would follow a link that
/// USER has planted.
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

/// What to do when the database cannot be used: its file is USER's, and closed to everybody else. SQLite does not say whether
/// that was the reason.
fn advice(config: &Config) -> Option<String> {
    let in_a_file = config.database.driver == Driver::Sqlite && !config.database.is_in_memory();
    (in_a_file && !privileges::is_user(&config.sockets))
        .then(|| format!("if it is a matter of permission, run this as root or {}", config.sockets.user))
}

/// As [`with_store`], with tables that are up to date; and the connection is ended politely.
pub fn with_tables<T>(
    sources: &Sources,
    work: impl AsyncFnOnce(&Config, &mut Store) -> Result<T, Failed>,
) -> Result<T, Failed> {
    with_store(sources, async |config, mut store| {
        let done = match store.migrate(false).await {
            Ok(_) => work(&config, &mut store).await,
            Err(error) => Err(unusable(&store.place(), &error)),
        };
        store.close().await;
        done
    })
}

/// Does one thing on the database, again and again for a while if the database asks for that: mail comes first.
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

/// A failed migration, for people.
pub fn unusable(place: &str, error: &MigrateError) -> Failed {
    Failed::new(Exit::Unavailable, format_args!("{place}: {error}"))
}
