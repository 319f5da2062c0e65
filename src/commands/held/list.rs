//! `held list`: held messages, one on a line.

use jiff::tz::TimeZone;
use serde_json::json;

use super::find::{find, wanted};
use super::postfix::Postqueue;
use super::summary::others;
use crate::cli;
use crate::commands::database;
use crate::commands::output::{print, print_json};
use crate::commands::table::{clean, table};
use crate::config::Sources;
use crate::exit::{Exit, Failed};
use crate::limiter::moment;
use crate::queue::matching::{Place, is_in_place};

pub fn run(sources: &Sources, options: &cli::HeldList) -> Result<Exit, Failed> {
    let queue = Postqueue::begin()?;
    let (matched, audit) = database::with_tables(sources, async |config, store| {
        let wanted = wanted(config, &options.choice)?;
        let entries = queue.entries(|entry| is_in_place(entry, Place::Held))?;
        Ok((find(store, &entries, &wanted).await?, config.audit.clone()))
    })?;
    if options.output.json {
        let messages = matched.found.iter().map(|one| {
            json!({
                "queue_id": one.id.as_str(),
                "sender": one.account,
                "arrived": moment::utc(one.arrived),
                "recipients": one.recipients,
                "from": one.from,
                "reason": one.reason,
            })
        });
        print_json(&json!({ "messages": messages.collect::<Vec<_>>(), "left": matched.left }))?;
        return Ok(Exit::Ok);
    }
    let zone = TimeZone::system();
    let rows = matched.found.iter().map(|one| {
        let [sender, from, reason] = [&one.account, &one.from, &one.reason].map(|text| clean(text));
        [one.id.to_string(), sender, moment::local(one.arrived, &zone), one.recipients.to_string(), from, reason]
    });
    if matched.found.is_empty() {
        print("No such message is held here.\n")?;
    } else {
        print(&table(["QUEUE ID", "SENDER", "ARRIVED", ">RCPTS", "FROM", "WHY"], rows))?;
    }
    print(&others(&matched.left, &audit))?;
    Ok(Exit::Ok)
}
