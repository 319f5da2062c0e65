//! `sender unblock`: ends what blocks a sender, or a domain, and says what else stops its mail.

use jiff::tz::TimeZone;
use serde_json::json;

use super::named;
use crate::cli;
use crate::clock;
use crate::commands::database;
use crate::commands::held::act::{Acted, Only, Tools};
use crate::commands::held::postfix::Verb;
use crate::commands::output::{print, print_json};
use crate::commands::table;
use crate::config::Sources;
use crate::exit::{Exit, Failed};
use crate::limiter::blocks::COMPROMISED;
use crate::queue::matching::Wanted;
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
    /// What became of its held mail.
    acted: Option<Acted>,
}

pub fn run(sources: &Sources, options: &cli::SenderUnblock) -> Result<Exit, Failed> {
    let person = privileges::person();
    let verb = match (options.release, options.delete) {
        (true, _) => Some(Verb::Release),
        (_, true) => Some(Verb::Delete),
        _ => None,
    };
    let tools = verb.map(Tools::to_act).transpose()?;
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
        if ended.is_empty() && row.is_none() && !account.starts_with('@') {
            named::tell_that_it_is_unknown(&account);
        }
        let terms = database::terms(config);
        let next = match row.filter(|row| !row.sender.starts_with('@')) {
            Some(row) => {
                let about = database::insist(store, async |store| about::read(store, &terms, &row, now).await).await?;
                (!about.next(&terms.policy).delivers()).then(|| words::next_mail(&about, &terms.policy))
            }
            None => None,
        };
        let acted = match tools {
            Some(tools) => {
                let was_compromised = ended.iter().any(|block| block.reason == COMPROMISED);
                let wanted = Wanted {
                    host: config.host.clone(),
                    names: vec![account.clone()],
                    without_compromised: verb == Some(Verb::Release) && !options.even_compromised,
                    compromised: was_compromised.then(|| account.clone()).into_iter().collect(),
                    ..Wanted::default()
                };
                let acted = tools.act(config, store, wanted, Only::All, false).await;
                Some(acted.map_err(|failed| failed.and("the block is ended all the same"))?)
            }
            None => None,
        };
        Ok(Done { account, ended, forgiven, remains, next, acted })
    })?;
    let Done { account, ended, forgiven, remains, next, acted } = done;
    if options.sender.output.json {
        let ended: Vec<BlockJson> = ended.iter().map(BlockJson::from).collect();
        let remains = remains.as_ref().map(BlockJson::from);
        print_json(
            &json!({ "sender": account, "ended": ended, "strikes_forgotten": forgiven, "block": remains, "next": next,
            "held": acted.as_ref().map(Acted::json) }),
        )?;
        return acted.and_then(|acted| acted.failed).map_or(Ok(Exit::Ok), Err);
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
    match acted {
        Some(acted) => {
            print(&acted.told())?;
            acted.failed.map_or(Ok(Exit::Ok), Err)
        }
        None => Ok(Exit::Ok),
    }
}
