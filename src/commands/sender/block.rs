//! `sender block`: stops a sender's mail, or a domain's.
//!
//! An account that was taken over may be blocked again, for another time or with `--queue` on another host. The block then stays
//! `compromised`, which protects its mail, unless another reason is named.

use jiff::tz::TimeZone;
use serde_json::json;

use super::named;
use crate::cli;
use crate::clock;
use crate::commands::database;
use crate::commands::held::retro::{self, Contained};
use crate::commands::output::{print, print_json};
use crate::commands::table;
use crate::config::Sources;
use crate::exit::{Exit, Failed};
use crate::limiter::blocks::{self, COMPROMISED, DECIDED};
use crate::limiter::usual;
use crate::policy::duration;
use crate::status::about::{self, BlockJson};
use crate::status::words;
use crate::store::Store;
use crate::store::blocks::NewBlock;
use crate::system::privileges;

/// The reason of a block where none is named.
const MANUAL: &str = "manual";

pub fn run(sources: &Sources, options: &cli::SenderBlock) -> Result<Exit, Failed> {
    let person = privileges::person();
    let postsuper = options.queue.map(|_| retro::begin()).transpose();
    let postsuper =
        postsuper.map_err(|failed| failed.and("nobody is blocked; without --queue it works from any host"))?;
    let (block, replaced, contained, is_known) = database::with_tables(sources, async |config, store| {
        let account = named::key(config, &options.sender.name)?;
        named::refuse_wildcard(&account)?;
        let now = clock::now();
        let before = database::insist(store, async |store| store.blocks_of(&[&account], about::BLOCKS).await).await?;
        let was_compromised = before.iter().any(|block| block.over(now).is_none() && block.reason == COMPROMISED);
        let reason = options.reason.clone().unwrap_or_else(|| {
            let reason = if was_compromised { COMPROMISED } else { MANUAL };
            reason.to_owned()
        });
        let new = NewBlock {
            account,
            until: options.lasts.map(|lasts| now.saturating_add(duration::seconds(lasts))),
            action: options.action.word().to_owned(),
            text: options.text.clone().unwrap_or_default(),
            reason,
            set_by: person.clone(),
            note: options.note.clone().unwrap_or_default(),
        };
        let (block, replaced) = database::insist(store, async |store| store.block(&new, now).await).await?;
        let contained = match (options.queue, postsuper) {
            (Some(within), Some(postsuper)) => {
                let reason = format!("{DECIDED}{}", block.reason);
                let contained = retro::contain(store, &config.host, &block.account, within, &reason, postsuper).await;
                Some(contained.map_err(|failed| failed.and("the block counts all the same"))?)
            }
            _ => None,
        };
        if block.reason == COMPROMISED {
            let forget = async |store: &mut Store| store.forget_compromised(usual::untaught(now)).await;
            let forgotten = database::insist(store, forget).await;
            forgotten.map_err(|failed| failed.and("the block counts all the same"))?;
        }
        let is_known = named::is_known(store, &block.account).await?;
        Ok((block, replaced, contained, is_known))
    })?;
    if !is_known {
        named::tell_that_it_is_unknown(&block.account);
    }
    if options.sender.output.json {
        let replaced: Vec<BlockJson> = replaced.iter().map(BlockJson::from).collect();
        print_json(&json!({ "block": BlockJson::from(&block), "replaced": replaced, "queue": contained }))?;
        return Ok(Exit::Ok);
    }
    let zone = TimeZone::system();
    print(&format!("{}\n", table::clean(&words::blocked(&block, &zone))))?;
    for replaced in &replaced {
        print(&format!("In the place of: {}\n", table::clean(&words::blocked(replaced, &zone))))?;
    }
    if let Some(Contained { messages, recipients }) = contained {
        print(&format!("Put on hold from the queue: {messages} messages, {recipients} recipients\n"))?;
    }
    print(&format!("To end it: {}\n", table::clean(&blocks::command_to_end(&block.account))))?;
    Ok(Exit::Ok)
}
