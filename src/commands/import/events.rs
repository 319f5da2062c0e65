//! Takes over what policyd has counted: the last 24 hours of its events, each once, however often the command is run.

use std::collections::BTreeMap;

use serde::Serialize;

use super::progress::{self, Progress};
use crate::account::{Account, Attributes, domain_key};
use crate::clock;
use crate::commands::database;
use crate::config::Config;
use crate::exit::{Exit, Failed};
use crate::store::Store;
use crate::store::counters::Sum;
use crate::store::policyd::{self, Events, Place};
use crate::store::takeover::Taken;

/// policyd's window, in seconds.
const WINDOW: i64 = 24 * 3600;
/// In `meta`: how far this has come.
const PROGRESS: &str = "policyd_events";

/// What was, or would be, taken over.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    pub logins: usize,
    pub messages: i64,
    pub recipients: i64,
}

/// Counts what there is to take over, in policyd's table.
pub fn count(place: &Place) -> Result<Summary, Failed> {
    let reading = policyd::read(place, clock::now() - WINDOW, None);
    let (events, _) = database::runtime()?.block_on(reading).map_err(unavailable)?;
    let sums = events.values().flat_map(BTreeMap::values);
    Ok(sums.fold(Summary { logins: events.len(), ..Summary::default() }, |sum, (messages, recipients)| Summary {
        messages: sum.messages + messages,
        recipients: sum.recipients + recipients,
        ..sum
    }))
}

/// Adds the events to our counters and history, a few senders at a time. An interrupted run is continued.
pub async fn take_over(config: &Config, store: &mut Store, place: &Place) -> Result<Summary, Failed> {
    let progress = database::insist(store, async |store| store.meta(PROGRESS).await).await?;
    let progress = Progress::parse(progress.as_deref().unwrap_or_default());
    let now = clock::now();
    let since = match &progress {
        Progress::Done { until } => (now - WINDOW).max(*until),
        Progress::Underway { since, .. } => *since,
    };
    let (events, until) = policyd::read(place, since, progress.until()).await.map_err(unavailable)?;
    let mut summary = Summary::default();
    let due: Vec<Taken> =
        taken(&events, config).into_iter().filter(|taken| progress.is_due(&taken.sum.sender)).collect();
    progress::hand_over(config, store, PROGRESS, &due, (since, until)).await?;
    for taken in &due {
        summary.logins += 1;
        summary.messages += taken.minutes.iter().map(|(_, messages, _)| messages).sum::<i64>();
        summary.recipients += taken.minutes.iter().map(|(_, _, recipients)| recipients).sum::<i64>();
    }
    Ok(summary)
}

fn unavailable(error: String) -> Failed {
    Failed::new(Exit::Unavailable, error)
}

/// Returns the events by our keys, in the order of the keys.
fn taken(events: &Events, config: &Config) -> Vec<Taken> {
    let mut by_key: BTreeMap<String, BTreeMap<i64, (i64, i64)>> = BTreeMap::new();
    for (login, minutes) in events {
        let attributes = Attributes { sasl_username: login, ..Attributes::default() };
        let Some(subject) = Account::of(&attributes, &config.accounts) else { continue };
        let known = by_key.entry(subject.key).or_default();
        for (minute, (messages, recipients)) in minutes {
            let sum = known.entry(*minute).or_default();
            *sum = (sum.0 + messages, sum.1 + recipients);
        }
    }
    let number = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let taken = |(sender, minutes): (String, BTreeMap<i64, (i64, i64)>)| Taken {
        sum: Sum {
            domain: domain_key(&sender).map(str::to_owned),
            sender,
            messages: number(minutes.values().map(|(messages, _)| messages).sum()),
            recipients: number(minutes.values().map(|(_, recipients)| recipients).sum()),
            count: true,
        },
        minutes: minutes.into_iter().map(|(minute, (messages, recipients))| (minute, messages, recipients)).collect(),
    };
    by_key.into_iter().map(taken).collect()
}
