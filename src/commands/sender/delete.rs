//! `sender delete`: deletes a sender's row and history; with the messages, or without.

use serde_json::json;

use super::named;
use crate::cli;
use crate::commands::database;
use crate::commands::output::{confirmed, print, print_json};
use crate::commands::table;
use crate::config::Sources;
use crate::exit::{Exit, Failed};

pub fn run(sources: &Sources, options: &cli::SenderDelete) -> Result<Exit, Failed> {
    let (sender, deleted, block) = database::with_tables(sources, async |config, store| {
        let row = named::row(config, store, &options.sender.name).await?;
        if !options.yes && !confirmed(&question(&row.sender, options.messages))? {
            return Ok((row.sender, None, None));
        }
        // A few at a time, before the row goes: its foreign keys would have to touch them all at once.
        let (mut messages, mut last) = (0, 0);
        while let Some(parted) =
            database::insist(store, async |store| store.part_messages(row.id, options.messages, last).await).await?
        {
            messages += parted.rows;
            last = parted.last;
        }
        while database::insist(store, async |store| store.delete_history(row.id).await).await? > 0 {}
        database::insist(store, async |store| store.delete_sender(row.id).await).await?;
        let block = named::block_that_remains(config, store, &row.sender).await?;
        // Messages that are kept were only parted from the row.
        Ok((row.sender, Some(if options.messages { messages } else { 0 }), block))
    })?;
    if options.sender.output.json {
        let messages = deleted.unwrap_or(0);
        print_json(&json!({ "sender": sender, "deleted": deleted.is_some(), "messages_deleted": messages }))?;
    } else if let Some(messages) = deleted {
        let messages = if options.messages { format!(", with {messages} messages") } else { String::new() };
        print(&format!("{} is deleted{messages}; the next mail makes a new row\n", table::clean(&sender)))?;
    } else {
        print("Nothing was deleted.\n")?;
    }
    named::tell_block_that_remains(block.as_ref());
    Ok(Exit::Ok)
}

fn question(sender: &str, messages: bool) -> String {
    let what = if messages { "row, history and messages" } else { "row and history" };
    format!("Delete {what} of {}?", table::clean(sender))
}
