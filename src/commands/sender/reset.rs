//! `sender reset`: lets a sender send again at once.

use super::named;
use crate::cli;
use crate::clock;
use crate::commands::database;
use crate::commands::output::{print, print_json};
use crate::commands::table;
use crate::config::Sources;
use crate::exit::{Exit, Failed};
use crate::policy::quota;
use crate::status::about::Row;

pub fn run(sources: &Sources, options: &cli::SenderName) -> Result<Exit, Failed> {
    let row = database::with_tables(sources, async |config, store| {
        let key = named::key(config, &options.name)?;
        let row = database::insist(store, async |store| store.free(&key, clock::now()).await).await?;
        row.ok_or_else(|| named::no_such_sender(&key))
    })?;
    if options.output.json {
        print_json(&Row::from(&row))?;
        return Ok(Exit::Ok);
    }
    print(&format!("{}: counted from zero again, quota {}\n", table::clean(&row.sender), quota::written(row.quota)))?;
    if row.quota == 0 {
        print("A quota of 0 lets nothing through; `sender set` changes it.\n")?;
    }
    Ok(Exit::Ok)
}
