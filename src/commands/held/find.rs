//! What is wanted of the queue, and what there is of it.

use std::collections::HashSet;

use crate::account::named_key;
use crate::cli::HeldChoice;
use crate::clock;
use crate::commands::database;
use crate::config::Config;
use crate::exit::{Exit, Failed};
use crate::limiter::blocks::COMPROMISED;
use crate::policy::duration;
use crate::queue::listing::Entry;
use crate::queue::matching::{EARLIER, LATER, Matched, Wanted, is_in_place, matched};
use crate::store::Store;
use crate::store::queued::MAX_IDS;

/// Returns what is wanted, in the terms of the queue.
pub fn wanted(config: &Config, choice: &HeldChoice) -> Result<Wanted, Failed> {
    let key = |name: &String| {
        named_key(name, &config.accounts)
            .ok_or_else(|| Failed::new(Exit::Usage, "NAME is empty; name a login, or @domain"))
    };
    Ok(Wanted {
        host: config.host.clone(),
        names: choice.names.iter().map(key).collect::<Result<_, _>>()?,
        since: choice.since.map(|since| clock::now().saturating_sub(duration::seconds(since))),
        reason: choice.reason.clone(),
        rewritten: choice.rewritten,
        ..Wanted::default()
    })
}

/// Returns the accounts and domains that are blocked as compromised now.
pub async fn compromised(store: &mut Store) -> Result<HashSet<String>, Failed> {
    let now = clock::now();
    let blocks = database::insist(store, async |store| store.blocks(now).await).await?;
    Ok(blocks.into_iter().filter(|block| block.reason == COMPROMISED).map(|block| block.account).collect())
}

/// Reads the audit rows of the entries, a part of them at a time, and compares the two.
pub async fn find(store: &mut Store, entries: &[Entry], wanted: &Wanted) -> Result<Matched, Failed> {
    let mut in_place: Vec<&Entry> = entries.iter().filter(|entry| is_in_place(entry, wanted.place)).collect();
    // Parts of neighbours: each then asks for the rows of a short time, which the database finds by their index.
    in_place.sort_by_key(|entry| entry.arrived);
    let mut rows = Vec::new();
    for part in in_place.chunks(MAX_IDS) {
        let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
        let ids: Vec<&str> = part.iter().map(|entry| entry.id.as_str()).collect();
        let (from, until) = (first.arrived.saturating_sub(EARLIER), last.arrived.saturating_add(LATER));
        rows.extend(database::insist(store, async |store| store.queued(&ids, from, until).await).await?);
    }
    Ok(matched(entries, &rows, wanted))
}
