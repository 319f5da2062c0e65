//! `sender unblock`: ends what blocks a sender, or a domain, and says what else stops its mail.

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
use crate::status::about::{self, BlockJson};
use crate::status::words;
use crate::store::blocks::BlockRow;
use crate::system::privileges;

/// What was done, and what is left.
struct Done {
    account: String,
    ended: Vec<BlockRow>,
    /// With --forgive, how many strikes were forgotten.
    forgiven: Option<u64>,
    /// The block of its domain.
    remains: Option<BlockRow>,
    /// What the next message gets if it is held or refused all the same: the action and why.
    next: Option<String>,
}

pub fn run(sources: &Sources, options: &cli::SenderUnblock) -> Result<Exit, Failed> {
    let person = privileges::person();
    let done = database::with_tables(sources, async |config, store| {
        let account = named::key(config, &options.sender.name)?;
        let now = clock::now();
        let ended = database::insist(store, async |store| store.unblock(&account, &person, now).await).await?;
        let forgiven = match options.forgive {
            true => Some(database::insist(store, async |store| store.forgive(&account).await).await?),
            false => None,
        };
        let remains = named::block_that_remains(config, store, &account).await?;
        let row = database::insist(store, async |store| store.sender(&account).await).await?;
        let terms = database::terms(config);
        let next = match row.filter(|row| !row.sender.starts_with('@')) {
            Some(row) => {
                let about = database::insist(store, async |store| about::read(store, &terms, &row, now).await).await?;
                (!about.next(&terms.policy).delivers()).then(|| words::next_mail(&about, &terms.policy))
            }
            None => None,
        };
        Ok(Done { account, ended, forgiven, remains, next })
    })?;
    let Done { account, ended, forgiven, remains, next } = done;
    if options.sender.output.json {
        let ended: Vec<BlockJson> = ended.iter().map(BlockJson::from).collect();
        let remains = remains.as_ref().map(BlockJson::from);
        print_json(
            &json!({ "sender": account, "ended": ended, "strikes_forgotten": forgiven, "block": remains, "next": next }),
        )?;
        return Ok(Exit::Ok);
    }
    let zone = TimeZone::system();
    match ended.as_slice() {
        [] => print(&format!("{} is not blocked\n", table::clean(&account)))?,
        ended => {
            for block in ended {
                print(&format!("Ended: {}\n", table::clean(&words::blocked(block, &zone))))?;
            }
        }
    }
    if let Some(forgiven) = forgiven {
        print(&format!("{forgiven} strikes are forgotten\n"))?;
    }
    named::tell_block_that_remains(remains.as_ref());
    if let Some(next) = next.filter(|_| remains.is_none()) {
        print(&format!("Its next mail still gets {}\n", table::clean(&next)))?;
    }
    Ok(Exit::Ok)
}
