//! `held release` and `held delete`.

use serde_json::json;

use super::find::{find, wanted};
use super::postfix::{Done, Postqueue, Postsuper, Verb};
use super::summary::{OfSender, by_sender, others};
use crate::cli::{HeldChoice, HeldDelete, HeldHow, HeldRelease};
use crate::clock;
use crate::commands::database;
use crate::commands::output::{confirmed, print, print_json};
use crate::commands::table::clean;
use crate::config::{Audit, Sources};
use crate::exit::{Exit, Failed};
use crate::queue::matching::{Found, Left, Matched, Place, Wanted, is_in_place};
use crate::store::Store;
use crate::store::queued::State;

pub fn release(sources: &Sources, options: &HeldRelease) -> Result<Exit, Failed> {
    run(sources, Verb::Release, &options.choice, &options.how, !options.even_compromised)
}

pub fn delete(sources: &Sources, options: &HeldDelete) -> Result<Exit, Failed> {
    run(sources, Verb::Delete, &options.choice, &options.how, false)
}

fn run(
    sources: &Sources,
    verb: Verb,
    choice: &HeldChoice,
    how: &HeldHow,
    without_compromised: bool,
) -> Result<Exit, Failed> {
    let postsuper = if how.dry_run { None } else { Some(Postsuper::begin(verb)?) };
    let queue = Postqueue::begin()?;
    let acted = database::with_tables(sources, async |config, store| {
        let wanted = Wanted { without_compromised, ..wanted(config, choice)? };
        let (entries, _) = queue.entries(|entry| is_in_place(entry, Place::Held))?;
        let Matched { found, left } = find(store, &entries, &wanted).await?;
        let all = by_sender(&found);
        let audit = config.audit.clone();
        let Some(postsuper) = postsuper.filter(|_| !found.is_empty()) else {
            return Ok(Acted { senders: all, audit, left, gone: 0, failed: None });
        };
        if choice.names.is_empty() && !how.yes && !confirmed(&question(verb, found.len(), all.len()))? {
            return Ok(Acted { senders: Vec::new(), audit, left, gone: 0, failed: None });
        }
        let mut working = postsuper.work(found.len())?;
        for one in &found {
            if !working.act_on(&one.id) {
                break;
            }
        }
        let Done { ids, failure } = working.end();
        let done: Vec<&Found> = found.iter().filter(|one| ids.contains(&one.id)).collect();
        let noted = note(store, verb, &done).await.err();
        let gone = found.len() - done.len();
        Ok(Acted { senders: by_sender(done), audit, left, gone, failed: failure.or(noted) })
    })?;
    if how.output.json {
        print_json(&json!({
            "dry_run": how.dry_run,
            verb.done(): acted.senders.iter().map(|one| one.messages).sum::<u64>(),
            "senders": acted.senders,
            "gone": acted.gone,
            "left": acted.left,
        }))?;
    } else {
        print(&acted.told(verb, how.dry_run))?;
    }
    acted.failed.map_or(Ok(Exit::Ok), Err)
}

/// What was done, or would be.
struct Acted {
    senders: Vec<OfSender>,
    audit: Audit,
    left: Left,
    /// Ids that postsuper did not find any more.
    gone: usize,
    failed: Option<Failed>,
}

impl Acted {
    fn told(&self, verb: Verb, dry_run: bool) -> String {
        let would = if dry_run { "would be " } else { "" };
        let line = |one: &OfSender| {
            let (sender, messages) = (clean(&one.sender), one.messages);
            format!("{sender}: {messages} messages {would}{}, {} recipients\n", verb.done(), one.recipients)
        };
        let mut text: String = self.senders.iter().map(line).collect();
        if self.senders.is_empty() {
            text.push_str(&format!("Nothing {would}{}.\n", verb.done()));
        } else if verb == Verb::Release && !dry_run {
            text.push_str("Postfix delivers them with its next run of the queue, within queue_run_delay; `postqueue -f` makes it run now.\n");
        }
        if self.gone > 0 {
            text.push_str(&format!("{} were no longer on hold.\n", self.gone));
        }
        text + &others(&self.left, &self.audit)
    }
}

fn question(verb: Verb, messages: usize, senders: usize) -> String {
    let what = if verb == Verb::Delete { "Delete" } else { "Release" };
    format!("{what} {messages} held messages of {senders} senders?")
}

/// Notes what was done, so that what is on hold again later is not taken for ours.
async fn note(store: &mut Store, verb: Verb, done: &[&Found]) -> Result<(), Failed> {
    let state = match verb {
        Verb::Release => State::Released,
        Verb::Delete => State::Deleted,
    };
    let rows: Vec<i64> = done.iter().flat_map(|one| one.rows.iter().copied()).collect();
    let now = clock::now();
    let noted = database::insist(store, async |store| store.note_queue_state(&rows, state, now, None).await).await;
    noted.map_err(|failed| failed.and(&format!("so `sender show` does not know what was {}", verb.done())))
}
