//! `sender reset`: lets a sender send again at once.

use serde::Serialize;

use super::named;
use crate::cli;
use crate::clock;
use crate::commands::database;
use crate::commands::output::{print, print_json};
use crate::commands::table;
use crate::config::Sources;
use crate::exit::{Exit, Failed};
use crate::policy::quota;
use crate::status::about::{BlockJson, Row};

#[derive(Serialize)]
struct Freed {
    #[serde(flatten)]
    row: Row,
    /// The block that remains.
    block: Option<BlockJson>,
}

pub fn run(sources: &Sources, options: &cli::SenderName) -> Result<Exit, Failed> {
    let (row, block) = database::with_tables(sources, async |config, store| {
        let key = named::key(config, &options.name)?;
        let row = database::insist(store, async |store| store.free(&key, clock::now()).await).await?;
        let row = row.ok_or_else(|| named::no_such_sender(&key))?;
        let block = named::block_that_remains(config, store, &row.sender).await?;
        Ok((row, block))
    })?;
    if options.output.json {
        print_json(&Freed { row: Row::from(&row), block: block.as_ref().map(BlockJson::from) })?;
        return Ok(Exit::Ok);
    }
    print(&format!("{}: counted from zero again, quota {}\n", table::clean(&row.sender), quota::written(row.quota)))?;
    if row.quota == 0 {
        print("A quota of 0 lets nothing through; `sender set` changes it.\n")?;
    }
    named::tell_block_that_remains(block.as_ref());
    Ok(Exit::Ok)
}
