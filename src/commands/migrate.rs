//! `migrate`: brings the tables to this version, or lists what it would do.

use super::{database, print, print_json};
use crate::cli;
use crate::commit::breaker;
use crate::config::{Config, Sources};
use crate::exit::{Exit, Failed};
use crate::limiter::limit::longest_window;
use crate::limiter::retention;
use crate::store::Store;
use crate::store::backfill::Filled;

pub fn run(sources: &Sources, options: &cli::Migrate) -> Result<Exit, Failed> {
    let steps = database::with_store(sources, async |config, store| {
        let mut store = if options.status { Store::reading(&config.database) } else { store };
        let steps = if options.status { store.migrations().await } else { store.migrate(true).await };
        let steps = steps.map_err(|error| database::unusable(&store.place(), &error));
        let filled = match &steps {
            Ok(_) if !options.status => fill_usage(&config, &mut store).await,
            _ => Ok(()),
        };
        store.close().await;
        filled.and(steps)
    })?;
    if options.output.json {
        print_json(&steps)?;
    } else if steps.is_empty() {
        print("Nothing to do: the database is up to date.\n")?;
    } else {
        for step in &steps {
            let state = if step.applied { "done   " } else { "pending" };
            print(&format!("{state}  {:04} {}\n", step.version, step.name))?;
        }
    }
    Ok(Exit::Ok)
}

/// Fills the history of an adopted database from its messages, unless the daemon has done so.
async fn fill_usage(config: &Config, store: &mut Store) -> Result<(), Failed> {
    let window = longest_window(config.quota.window, &config.quota.limits).unwrap_or_default();
    let now = breaker::now();
    let since = retention::filled_since(now, window);
    if let Filled::Now(minutes) =
        database::insist(store, async |store| store.fill_usage(since, now, true).await).await?
    {
        eprintln!("History of {minutes} minutes of senders filled in from the messages.");
    }
    Ok(())
}
