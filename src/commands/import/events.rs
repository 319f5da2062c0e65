//! Takes over what policyd has counted: the last 24 hours of its events, each once, however often the command is run.

use std::collections::BTreeMap;

use serde::Serialize;

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
/// Senders taken over in one transaction.
const AT_A_TIME: usize = 50;
/// In `meta`: until when everything was taken over; while it goes on also since when, and the last key that is done.
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
    let mut rest = due.as_slice();
    while !rest.is_empty() {
        let (these, others) = rest.split_at(rest.len().min(AT_A_TIME));
        rest = others;
        let last = these.last().map(|taken| taken.sum.sender.clone()).unwrap_or_default();
        let reached =
            if rest.is_empty() { Progress::Done { until } } else { Progress::Underway { since, until, last } };
        let written = reached.to_string();
        let quota = config.quota.default;
        database::insist(store, async |store| store.take_over(these, quota, now, (PROGRESS, &written)).await).await?;
        for taken in these {
            summary.logins += 1;
            summary.messages += taken.minutes.iter().map(|(_, messages, _)| messages).sum::<i64>();
            summary.recipients += taken.minutes.iter().map(|(_, _, recipients)| recipients).sum::<i64>();
        }
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

/// What was taken over so far. Times are policyd's, in seconds since 1970.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// All before this time is taken over; 0 if nothing is.
    Done { until: i64 },
    /// Of the events between these times, those of the senders up to this key.
    Underway { since: i64, until: i64, last: String },
}

impl Progress {
    fn parse(written: &str) -> Progress {
        let mut words = written.splitn(3, ' ');
        let mut number = || words.next().and_then(|word| word.parse().ok());
        let (first, second) = (number().unwrap_or(0), number());
        match (second, words.next()) {
            (Some(until), Some(last)) => Progress::Underway { since: first, until, last: last.to_owned() },
            _ => Progress::Done { until: first },
        }
    }

    /// An interrupted run is continued with the same events.
    fn until(&self) -> Option<i64> {
        match self {
            Progress::Done { .. } => None,
            Progress::Underway { until, .. } => Some(*until),
        }
    }

    fn is_due(&self, key: &str) -> bool {
        match self {
            Progress::Done { .. } => true,
            Progress::Underway { last, .. } => key > last.as_str(),
        }
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Progress::Done { until } => write!(f, "{until}"),
            Progress::Underway { since, until, last } => write!(f, "{since} {until} {last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_back() {
        for progress in [
            Progress::Done { until: 1_800_000_000 },
            Progress::Underway { since: 1_799_913_600, until: 1_800_000_000, last: "a b c".to_owned() },
        ] {
            assert_eq!(Progress::parse(&progress.to_string()), progress);
        }
        assert_eq!(Progress::parse(""), Progress::Done { until: 0 });
    }
}
