//! Takes over what another program has counted, once: its counters are sums, which do not tell later what is new.

use std::collections::BTreeMap;

use serde::Serialize;

use super::progress::{self, Progress};
use super::translation::Count;
use crate::account::domain_key;
use crate::clock;
use crate::commands::database;
use crate::config::Config;
use crate::exit::Failed;
use crate::limiter::window::minute_of;
use crate::store::Store;
use crate::store::counters::Sum;
use crate::store::takeover::Taken;

/// What was, or would be, taken over.
#[derive(Debug, Default, Serialize)]
pub struct Counts {
    pub senders: usize,
    pub recipients: i64,
}

impl Counts {
    /// All of these together.
    pub fn of(counts: &[Count]) -> Counts {
        let recipients = counts.iter().map(|count| i64::from(count.recipients)).sum();
        Counts { senders: counts.len(), recipients }
    }
}

/// Adds the counts to our counters and history, unless that was done before. An interrupted run is continued. `name` is where
/// `meta` says so.
pub async fn take_over(config: &Config, store: &mut Store, name: &str, counts: &[Count]) -> Result<Counts, Failed> {
    let progress = database::insist(store, async |store| store.meta(name).await).await?;
    let progress = Progress::parse(progress.as_deref().unwrap_or_default());
    if matches!(progress, Progress::Done { until: 1.. }) {
        return Ok(Counts::default());
    }
    let by_key: BTreeMap<&String, &Count> =
        counts.iter().filter(|count| progress.is_due(&count.key)).map(|count| (&count.key, count)).collect();
    let due: Vec<Taken> = by_key.values().map(|count| taken(count)).collect();
    let now = clock::now();
    progress::hand_over(config, store, name, &due, (now, now)).await?;
    let recipients = due.iter().map(|taken| i64::from(taken.sum.recipients)).sum();
    Ok(Counts { senders: due.len(), recipients })
}

/// As one message: their number was not counted.
fn taken(count: &Count) -> Taken {
    Taken {
        sum: Sum {
            domain: domain_key(&count.key).map(str::to_owned),
            sender: count.key.clone(),
            messages: 1,
            recipients: count.recipients,
            count: true,
        },
        minutes: vec![(minute_of(count.at), 1, i64::from(count.recipients))],
    }
}
