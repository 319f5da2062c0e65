//! `migrate`: brings the tables to this version, or lists what it would do.

use super::database;
use super::output::{print, print_json};
use crate::cli;
use crate::clock;
use crate::commit::days;
use crate::config::{Config, Sources};
use crate::exit::{Exit, Failed};
use crate::limiter::retention;
use crate::policy::limit::longest_window;
use crate::store::Store;
use crate::store::backfill::Filled;
use crate::store::migrate::Step;

pub fn run(sources: &Sources, options: &cli::Migrate) -> Result<Exit, Failed> {
    let steps = database::with_store(sources, async |config, store| {
        let mut store = if options.status { Store::reading(&config.database) } else { store };
        let steps = match options.status {
            true => store.migrations().await.map_err(|error| database::unusable(&store.place(), &error)),
            false => migrate(&config, &mut store).await,
        };
        store.close().await;
        steps
    })?;
    if options.output.json {
        print_json(&steps)?;
    } else if steps.is_empty() {
        print("Nothing to do: the database is up to date.\n")?;
    } else {
        for step in &steps {
            let state = if step.applied { "done   " } else { "pending" };
            let number = step.version.map(|version| format!("{version:04} ")).unwrap_or_default();
            print(&format!("{state}  {number}{}\n", step.name))?;
        }
    }
    Ok(Exit::Ok)
}

/// Does what is to be done, and says before what takes long that it does.
async fn migrate(config: &Config, store: &mut Store) -> Result<Vec<Step>, Failed> {
    let place = store.place();
    let unusable = |error| database::unusable(&place, &error);
    for step in store.migrations().await.map_err(unusable)?.iter().filter(|step| step.slow && !step.applied) {
        eprintln!("Making {step}: on a large table this takes minutes. Mail goes on meanwhile.");
    }
    let steps = store.migrate(true, clock::now()).await.map_err(unusable)?;
    fill_usage(config, store).await?;
    learn(config, store).await?;
    Ok(steps)
}

/// Learns from the messages what is usual for senders, unless that was done before. Mail has the first claim on the database.
async fn learn(config: &Config, store: &mut Store) -> Result<(), Failed> {
    let (now, ignored) = (clock::now(), &config.quota.networks_ignore);
    let make = async |store: &mut Store| days::make_of_messages(store, ignored, now, days::BESIDE_MAIL).await;
    let learnt = database::insist(store, make).await?;
    if let Some(days) = learnt.filter(|days| *days > 0) {
        eprintln!("What is usual was learnt from the messages: {days} days of senders.");
    }
    Ok(())
}

/// Fills the history of an adopted database from its messages, unless the daemon has done so.
async fn fill_usage(config: &Config, store: &mut Store) -> Result<(), Failed> {
    if database::insist(store, async |store| store.lacks_usage().await).await? {
        eprintln!(
            "Filling in the history of sliding windows from the messages: of many this takes minutes. Mail goes on."
        );
    }
    let window = longest_window(config.quota.window, &config.quota.limits).unwrap_or_default();
    let now = clock::now();
    let since = retention::filled_since(now, window);
    if let Filled::Now(minutes) =
        database::insist(store, async |store| store.fill_usage(since, now, true).await).await?
    {
        eprintln!("History of {minutes} minutes of senders filled in from the messages.");
    }
    Ok(())
}
