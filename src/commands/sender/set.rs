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
use crate::status::about::Row;
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
}

pub fn run(sources: &Sources, options: &cli::SenderSet) -> Result<Exit, Failed> {
    let (before, after, logins, listed) = database::with_tables(sources, async |config, store| {
        let key = named::key(config, &options.sender.name)?;
        refuse_wildcard(&key)?;
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
        Ok((before, after, logins, database::terms(config).listed(&key, now)))
    })?;
    // A quota has no effect on a sender that is on a list.
    if let Some(listed) = &listed {
        eprintln!("policyd-rate-guard: {}", table::clean(&words::on_list(listed)));
    }
    if options.sender.output.json {
        print_json(&Changed { row: (&after).into(), made: before.is_none(), logins_changed: logins })?;
        return Ok(Exit::Ok);
    }
    print(&format!("{}\n", told(before.as_ref(), &after)))?;
    if let Some(logins) = logins {
        print(&format!("{logins} logins of {} changed; locked ones keep theirs\n", table::clean(&after.sender)))?;
    }
    Ok(Exit::Ok)
}

/// A name with `*` matches no login: its row would limit no sender.
fn refuse_wildcard(key: &str) -> Result<(), Failed> {
    let Some((_, after)) = key.rsplit_once('*') else { return Ok(()) };
    let domain = after.trim_start_matches(['@', '.']);
    let domain = if domain.is_empty() { "example.com" } else { domain };
    Err(Failed::new(
        Exit::Usage,
        format_args!(
            "{} is taken literally, and no login has that name; write @{} for all logins of a domain",
            table::clean(key),
            table::clean(domain)
        ),
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_refused_with_what_to_write() {
        for (key, advice) in [
            ("*@example.com", "@example.com"),
            ("alice*@example.com", "@example.com"),
            ("*.example.com", "@example.com"),
            ("*", "@example.com"),
            ("sales-*", "@example.com"),
            ("@*.example.org", "@example.org"),
        ] {
            let error = refuse_wildcard(key).unwrap_err().message;
            assert!(error.contains(&format!("write {advice} ")), "{error}");
        }
        assert!(["alice@example.com", "@example.com", "alice"].iter().all(|key| refuse_wildcard(key).is_ok()));
    }
}
