//! `migrate`: brings the tables to this version, or lists what it would do.

use super::{database, print, print_json};
use crate::cli;
use crate::config::Sources;
use crate::exit::{Exit, Failed};

pub fn run(sources: &Sources, options: &cli::Migrate) -> Result<Exit, Failed> {
    let steps = database::with_store(sources, async |_, mut store| {
        let steps = if options.status { store.migrations().await } else { store.migrate(true).await };
        let steps = steps.map_err(|error| database::unusable(&store.place(), &error));
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
            print(&format!("{state}  {:04} {}\n", step.version, step.name))?;
        }
    }
    Ok(Exit::Ok)
}
