//! `sender set`: changes a quota, or whether it is locked. The daemons read it with the next message.

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
use crate::status::words;
use crate::store::Store;
use crate::store::senders::{Change, SenderRow};

#[derive(Serialize)]
struct Changed {
    #[serde(flatten)]
    row: Row,
    /// Whether there was no row before.
    made: bool,
    /// With --existing, how many of the domain's logins were changed.
    logins_changed: Option<u64>,
    /// The block that remains, whatever the quota.
    block: Option<BlockJson>,
}

pub fn run(sources: &Sources, options: &cli::SenderSet) -> Result<Exit, Failed> {
    let (before, after, logins, listed, block) = database::with_tables(sources, async |config, store| {
        let key = named::key(config, &options.sender.name)?;
        named::refuse_wildcard(&key)?;
        if options.existing && !key.starts_with('@') {
            return Err(Failed::new(Exit::Usage, "--existing is for a domain: write `sender set @example.com …`"));
        }
        let change = Change {
            quota: options.quota,
            once: options.once,
            locked: (options.lock || options.unlock).then_some(options.lock),
        };
        let (quota, now) = (config.quota.default, clock::now());
        let (before, after) = database::insist(store, async |store| store.set(&key, change, quota, now).await).await?;
        let after = after.ok_or_else(|| named::no_such_sender(&key))?;
        let logins = if options.existing { Some(apply(store, &key, options.once).await?) } else { None };
        let block = named::block_that_remains(config, store, &after.sender).await?;
        Ok((before, after, logins, database::terms(config).listed(&key, now), block))
    })?;
    // A quota has no effect on a sender that is on a list.
    if let Some(listed) = &listed {
        eprintln!("policyd-rate-guard: {}", table::clean(&words::on_list(listed)));
    }
    if options.sender.output.json {
        let block = block.as_ref().map(BlockJson::from);
        print_json(&Changed { row: (&after).into(), made: before.is_none(), logins_changed: logins, block })?;
        return Ok(Exit::Ok);
    }
    print(&format!("{}\n", told(before.as_ref(), &after)))?;
    if let Some(logins) = logins {
        print(&format!("{logins} logins of {} changed; locked ones keep theirs\n", table::clean(&after.sender)))?;
    }
    named::tell_block_that_remains(block.as_ref());
    Ok(Exit::Ok)
}

/// Sets a domain's quota for the logins it has, a few at a time. Returns how many were changed.
async fn apply(store: &mut Store, domain: &str, once: bool) -> Result<u64, Failed> {
    let (mut done, mut after) = (0, 0);
    while let Some(worked) =
        database::insist(store, async |store| store.apply_domain(domain, once, after).await).await?
    {
        done += worked.rows;
        after = worked.last;
    }
    Ok(done)
}

/// What was changed, in one line.
fn told(before: Option<&SenderRow>, after: &SenderRow) -> String {
    let mut text = format!("{}: quota {}", table::clean(&after.sender), quota::written(after.quota));
    match before {
        None => text.push_str(" (new)"),
        Some(before) if before.quota != after.quota => {
            text.push_str(&format!(" (was {})", quota::written(before.quota)))
        }
        Some(_) => {}
    }
    text.push_str(&words::quota_until(after));
    text
}
