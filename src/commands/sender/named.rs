//! Senders as they are named on the command line.

use jiff::tz::TimeZone;

use crate::account::named_key;
use crate::clock;
use crate::commands::{database, table};
use crate::config::Config;
use crate::exit::{Exit, Failed};
use crate::limiter::blocks;
use crate::status::{about, words};
use crate::store::Store;
use crate::store::blocks::BlockRow;
use crate::store::senders::SenderRow;

/// Returns the account that a name stands for.
pub fn key(config: &Config, name: &str) -> Result<String, Failed> {
    named_key(name, &config.accounts).ok_or_else(|| {
        Failed::new(Exit::Usage, "NAME is empty; name a login, or @domain, or a name that `sender list` shows")
    })
}

/// Returns the row of the sender of this name.
pub async fn row(config: &Config, store: &mut Store, name: &str) -> Result<SenderRow, Failed> {
    let key = key(config, name)?;
    let row = database::insist(store, async |store| store.sender(&key).await).await?;
    row.ok_or_else(|| no_such_sender(&key))
}

/// The failure for an account without a row.
pub fn no_such_sender(key: &str) -> Failed {
    Failed::new(
        Exit::NoUser,
        format_args!(
            "there is no sender {0}: a sender that has sent nothing yet has no row. \
             `policyd-rate-guard sender list --filter TEXT` finds names, `sender set` makes a row",
            table::clean(key)
        ),
    )
}

/// Whether an account has sent something, as far as the database knows. True for a domain, which is not looked for.
pub async fn is_known(store: &mut Store, account: &str) -> Result<bool, Failed> {
    if account.starts_with('@') {
        return Ok(true);
    }
    let row = database::insist(store, async |store| store.sender(account).await).await?;
    Ok(row.is_some())
}

/// Prints that this name is not known, so that a slip of the pen is seen.
pub fn tell_that_it_is_unknown(account: &str) {
    eprintln!(
        "policyd-rate-guard: {} has sent nothing here yet; if that is not the name, `policyd-rate-guard sender list --filter \
         TEXT` finds it",
        table::clean(account)
    );
}

/// A name with `*`, or `@` alone, matches no login: neither a quota nor a block of it would stop anybody.
pub fn refuse_wildcard(key: &str) -> Result<(), Failed> {
    if key == "@" {
        return Err(Failed::new(Exit::Usage, "@ names no domain; write @example.com for all logins of example.com"));
    }
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

/// Returns what is to be said of an account that is blocked, whatever else was done with it.
pub async fn block_that_remains(config: &Config, store: &mut Store, account: &str) -> Result<Option<BlockRow>, Failed> {
    let now = clock::now();
    let names: Vec<&str> = blocks::names(account).collect();
    let rows = database::insist(store, async |store| store.blocks_of(&names, about::BLOCKS).await).await?;
    Ok(about::counting(&rows, account, &config.accounts, now).cloned())
}

/// Prints that a block remains, if one does.
pub fn tell_block_that_remains(block: Option<&BlockRow>) {
    if let Some(block) = block {
        let (blocked, end) = (words::blocked(block, &TimeZone::system()), blocks::command_to_end(&block.account));
        let [blocked, end] = [blocked, end].map(|text| table::clean(&text));
        eprintln!("policyd-rate-guard: {blocked}; no quota changes that. To end it: {end}");
    }
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
        assert!(refuse_wildcard("@").is_err());
        assert!(["alice@example.com", "@example.com", "alice"].iter().all(|key| refuse_wildcard(key).is_ok()));
    }
}
