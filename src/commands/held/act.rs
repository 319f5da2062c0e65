//! `held release` and `held delete`.

use serde_json::{Value, json};

use super::by_quota::Room;
use super::find::{compromised, find, wanted};
use super::postfix::{Done, Postqueue, Postsuper, Verb};
use super::summary::{OfSender, by_sender, others};
use crate::cli::{HeldDelete, HeldHow, HeldRelease};
use crate::clock;
use crate::commands::database;
use crate::commands::output::{confirmed, print, print_json};
use crate::commands::table::clean;
use crate::config::{Audit, Config, Held, Sources};
use crate::exit::{Exit, Failed};
use crate::queue::matching::{Found, Left, Matched, Place, Wanted, is_in_place};
use crate::store::Store;
use crate::store::queued::State;

pub fn release(sources: &Sources, options: &HeldRelease) -> Result<Exit, Failed> {
    if options.by_quota && database::load(sources)?.held == Held::Keep {
        print("HELD=keep: held mail waits for a person. With HELD=release it goes on as the quota has room.\n")?;
        return Ok(Exit::Ok);
    }
    let only = if options.by_quota { Only::WhatTheQuotaTakes } else { Only::All };
    run(sources, Verb::Release, &options.how, only, |config| {
        let wanted = wanted(config, &options.choice)?;
        Ok(Wanted { without_compromised: !options.even_compromised, by_quota: options.by_quota, ..wanted })
    })
}

pub fn delete(sources: &Sources, options: &HeldDelete) -> Result<Exit, Failed> {
    run(sources, Verb::Delete, &options.how, Only::All, |config| wanted(config, &options.choice))
}

fn run(
    sources: &Sources,
    verb: Verb,
    how: &HeldHow,
    only: Only,
    wanted: impl FnOnce(&Config) -> Result<Wanted, Failed>,
) -> Result<Exit, Failed> {
    let tools = match (how.dry_run, only) {
        (true, _) => Tools::to_look(verb),
        (false, Only::All) => Tools::to_act(verb).map_err(|failed| failed.and("--dry-run does without it")),
        // Goes with no --dry-run.
        (false, Only::WhatTheQuotaTakes) => Tools::to_act(verb),
    }?;
    let acted = database::with_tables(sources, async |config, store| {
        let wanted = wanted(config)?;
        let asks = wanted.names.is_empty() && !how.yes && only == Only::All;
        tools.act(config, store, wanted, only, asks).await
    })?;
    if how.output.json {
        print_json(&acted.json())?
    } else {
        print(&acted.told())?
    }
    acted.failed.map_or(Ok(Exit::Ok), Err)
}

/// Which of the messages that were found are acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    All,
    /// Those for which there is room now.
    WhatTheQuotaTakes,
}

/// Postfix's commands, started while this process was root.
pub struct Tools {
    verb: Verb,
    queue: Postqueue,
    /// None to look only.
    postsuper: Option<Postsuper>,
}

impl Tools {
    pub fn to_act(verb: Verb) -> Result<Tools, Failed> {
        Ok(Tools { verb, postsuper: Some(Postsuper::begin(verb)?), queue: Postqueue::begin()? })
    }

    fn to_look(verb: Verb) -> Result<Tools, Failed> {
        Ok(Tools { verb, postsuper: None, queue: Postqueue::begin()? })
    }

    /// Finds what is wanted, acts on it, and notes what was done. `asks` for a question before.
    pub async fn act(
        self,
        config: &Config,
        store: &mut Store,
        mut wanted: Wanted,
        only: Only,
        asks: bool,
    ) -> Result<Acted, Failed> {
        let Tools { verb, queue, postsuper } = self;
        let entries = queue.entries(|entry| is_in_place(entry, Place::Held))?;
        if wanted.without_compromised {
            wanted.compromised.extend(compromised(store).await?);
        }
        let Matched { found, left } = find(store, &entries, &wanted).await?;
        let acted = Acted {
            verb,
            dry_run: false,
            senders: Vec::new(),
            audit: config.audit.clone(),
            left,
            gone: 0,
            undone: 0,
            failed: None,
        };
        let Some(postsuper) = postsuper else {
            return Ok(Acted { dry_run: true, senders: by_sender(&found), ..acted });
        };
        if found.is_empty() || (asks && !confirmed(&question(verb, &found))?) {
            return Ok(acted);
        }
        let mut working = postsuper.work(Some(found.len()))?;
        let mut chosen = 0;
        let mut failed = None;
        let mut room = (only == Only::WhatTheQuotaTakes).then(|| Room::new(store, database::terms(config)));
        for one in &found {
            let goes = match &mut room {
                Some(room) => room.takes(one).await,
                None => Ok(true),
            };
            match goes {
                Ok(true) => {
                    chosen += 1;
                    // Of those that it does not take any more it says why at its end.
                    if !working.act_on(&one.id) && only == Only::WhatTheQuotaTakes {
                        break;
                    }
                }
                Ok(false) => {}
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(room);
        let Done { ids, failure } = working.end();
        let done: Vec<&Found> = found.iter().filter(|one| ids.contains(&one.id)).collect();
        let noted = note(store, verb, &done).await.err();
        let left = usize::saturating_sub(chosen, done.len());
        let (gone, undone) = if failure.is_none() { (left, 0) } else { (0, left) };
        Ok(Acted { senders: by_sender(done), gone, undone, failed: failed.or(failure).or(noted), ..acted })
    }
}

/// What was done, or would be.
pub struct Acted {
    verb: Verb,
    dry_run: bool,
    senders: Vec<OfSender>,
    audit: Audit,
    left: Left,
    /// Ids that postsuper did not find any more.
    gone: usize,
    /// Ids of which it is not known, since postsuper failed.
    undone: usize,
    /// Why not all was done.
    pub failed: Option<Failed>,
}

impl Acted {
    pub fn json(&self) -> Value {
        json!({
            "dry_run": self.dry_run,
            self.verb.done(): self.senders.iter().map(|one| one.messages).sum::<u64>(),
            "senders": self.senders,
            "gone": self.gone,
            "undone": self.undone,
            "left": self.left,
        })
    }

    pub fn told(&self) -> String {
        let done = self.verb.done();
        let would = if self.dry_run { "would be " } else { "" };
        let line = |one: &OfSender| {
            let (sender, messages) = (clean(&one.sender), one.messages);
            format!("{sender}: {messages} messages {would}{done}, {} recipients\n", one.recipients)
        };
        let mut text: String = self.senders.iter().map(line).collect();
        if self.senders.is_empty() {
            text.push_str(&format!("Nothing {would}{done}.\n"));
        } else if self.verb == Verb::Release && !self.dry_run {
            text.push_str(
                "Postfix delivers them with its next run of the queue, within queue_run_delay; `postqueue -f` makes it run now.\n",
            );
        }
        if self.gone > 0 {
            text.push_str(&format!("{} were no longer on hold.\n", self.gone));
        }
        if self.undone > 0 {
            text.push_str(&format!("{} were not {done}.\n", self.undone));
        }
        text + &others(&self.left, &self.audit)
    }
}

fn question(verb: Verb, found: &[Found]) -> String {
    let what = if verb == Verb::Delete { "Delete" } else { "Release" };
    format!("{what} {} held messages of {} senders?", found.len(), by_sender(found).len())
}

/// Notes what was done, so that what is on hold again later is not taken for ours.
async fn note(store: &mut Store, verb: Verb, done: &[&Found]) -> Result<(), Failed> {
    let state = match verb {
        Verb::Hold => State::Held,
        Verb::Release => State::Released,
        Verb::Delete => State::Deleted,
    };
    let rows: Vec<i64> = done.iter().flat_map(|one| one.rows.iter().copied()).collect();
    let now = clock::now();
    let noted = database::insist(store, async |store| store.note_queue_state(&rows, state, now, None).await).await;
    noted.map_err(|failed| failed.and(&format!("so `sender show` does not know what was {}", verb.done())))?;
    if state == State::Released {
        let usual = database::insist(store, async |store| store.released_messages(&rows).await).await;
        return usual.map_err(|failed| failed.and("so what was released does not become usual for its senders"));
    }
    Ok(())
}
