//! Puts on hold what a sender sent before it was blocked and what is still in the queue.
//!
//! Mail that was let through just before the block is still on its way into the queue: so the queue is read again until nothing more
//! turns up.

use std::collections::HashSet;
use std::time::Duration;

use super::find::find;
use super::postfix::{Done, Postqueue, Postsuper, Verb, Working};
use crate::clock;
use crate::commands::database;
use crate::exit::Failed;
use crate::policy::duration;
use crate::queue::matching::{Found, Place, Wanted, is_in_place};
use crate::store::Store;
use crate::store::queued::State;

/// How often the queue is read at the most, and how long is waited before the next time.
const PASSES: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// What was put on hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Contained {
    pub messages: u64,
    pub recipients: i64,
}

/// Starts what puts mail on hold. To be called as root, before the database is opened.
pub fn begin() -> Result<Postsuper, Failed> {
    Postsuper::begin(Verb::Hold)
}

/// Puts on hold what an account, or the logins of `@domain`, sent within some time, and notes that it is held for `reason`.
///
/// Reads the queue as USER, which must be Postfix's own user: a process that may gain no privileges starts postqueue(1) without
/// its group, by which other users read the queue.
pub async fn contain(
    store: &mut Store,
    host: &str,
    name: &str,
    within: Duration,
    reason: &str,
    postsuper: Postsuper,
) -> Result<Contained, Failed> {
    let since = clock::now().saturating_sub(duration::seconds(within));
    let wanted = Wanted {
        place: Place::Moving,
        host: host.to_owned(),
        names: vec![name.to_owned()],
        since: Some(since),
        // The mail is the account's, whatever its sender is called now.
        rewritten: true,
        ..Wanted::default()
    };
    let mut working = postsuper.work(None)?;
    let mut found: Vec<Found> = Vec::new();
    let looked = hold(store, &wanted, since, &mut working, &mut found).await;
    // Also after an error: what was put on hold and is not noted is not ours to `held`.
    let Done { ids, failure } = working.end();
    found.retain(|one| ids.contains(&one.id));
    let rows: Vec<i64> = found.iter().flat_map(|one| one.rows.iter().copied()).collect();
    let now = clock::now();
    let note = async |store: &mut Store| store.note_queue_state(&rows, State::Held, now, Some(reason)).await;
    let noted = database::insist(store, note).await;
    let noted = noted.map_err(|failed| failed.and("so `held` does not know what was put on hold"));
    match looked.err().or(failure).or(noted.err()) {
        Some(failed) => Err(failed),
        None => {
            Ok(Contained { messages: found.len() as u64, recipients: found.iter().map(|one| one.recipients).sum() })
        }
    }
}

/// Reads the queue until nothing more turns up. What was handed to postsuper(1) is in `found`, also after an error.
async fn hold(
    store: &mut Store,
    wanted: &Wanted,
    since: i64,
    working: &mut Working,
    found: &mut Vec<Found>,
) -> Result<(), Failed> {
    let mut seen = HashSet::new();
    for pass in 0..PASSES {
        if pass > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let entries =
            Postqueue::begin()?.entries(|entry| is_in_place(entry, Place::Moving) && entry.arrived >= since)?;
        let mut new = find(store, &entries, wanted).await?.found;
        new.retain(|one| seen.insert(one.id.clone()));
        for one in &new {
            if !working.act_on(&one.id) {
                break;
            }
        }
        let is_last = pass > 0 && new.is_empty();
        found.append(&mut new);
        if is_last {
            break;
        }
    }
    Ok(())
}
