//! `sender block`: stops a sender's mail, or a domain's.

use jiff::tz::TimeZone;
use serde_json::json;

use super::named;
use crate::cli;
use crate::clock;
use crate::commands::database;
use crate::commands::output::{print, print_json};
use crate::commands::table;
use crate::config::Sources;
use crate::exit::{Exit, Failed};
use crate::limiter::blocks;
use crate::policy::duration;
use crate::status::about::BlockJson;
use crate::status::words;
use crate::store::blocks::NewBlock;
use crate::system::privileges;

pub fn run(sources: &Sources, options: &cli::SenderBlock) -> Result<Exit, Failed> {
    let person = privileges::person();
    let (block, replaced) = database::with_tables(sources, async |config, store| {
        let account = named::key(config, &options.sender.name)?;
        named::refuse_wildcard(&account)?;
        let now = clock::now();
        let new = NewBlock {
            account,
            until: options.lasts.map(|lasts| now.saturating_add(duration::seconds(lasts))),
            action: options.action.word().to_owned(),
            text: options.text.clone().unwrap_or_default(),
            reason: options.reason.clone(),
            set_by: person.clone(),
            note: options.note.clone().unwrap_or_default(),
        };
        database::insist(store, async |store| store.block(&new, now).await).await
    })?;
    if options.sender.output.json {
        let replaced: Vec<BlockJson> = replaced.iter().map(BlockJson::from).collect();
        print_json(&json!({ "block": BlockJson::from(&block), "replaced": replaced }))?;
        return Ok(Exit::Ok);
    }
    let zone = TimeZone::system();
    print(&format!("{}\n", table::clean(&words::blocked(&block, &zone))))?;
    for replaced in &replaced {
        print(&format!("In the place of: {}\n", table::clean(&words::blocked(replaced, &zone))))?;
    }
    print(&format!("To end it: {}\n", blocks::command_to_end(&block.account)))?;
    Ok(Exit::Ok)
}
