//! How far a takeover of counts has come: kept in `meta`, in the same transaction as the counts, so that each is taken over once.

use crate::clock;
use crate::commands::database;
use crate::config::Config;
use crate::exit::Failed;
use crate::store::Store;
use crate::store::takeover::Taken;

/// Senders taken over in one transaction.
const AT_A_TIME: usize = 50;

/// Adds these counts (in the order of their keys), a few senders at a time, which are of the times `since` to `until`. `name` is
/// where `meta` has how far it has come: until when everything was taken over; while it goes on also since when, and the last key
/// that is done.
pub async fn hand_over(
    config: &Config,
    store: &mut Store,
    name: &str,
    due: &[Taken],
    (since, until): (i64, i64),
) -> Result<(), Failed> {
    let mut rest = due;
    while !rest.is_empty() {
        let (these, others) = rest.split_at(rest.len().min(AT_A_TIME));
        rest = others;
        let last = these.last().map(|taken| taken.sum.sender.clone()).unwrap_or_default();
        let reached =
            if rest.is_empty() { Progress::Done { until } } else { Progress::Underway { since, until, last } };
        let (written, now, quota) = (reached.to_string(), clock::now(), config.quota.default);
        database::insist(store, async |store| store.take_over(these, quota, now, (name, &written)).await).await?;
    }
    Ok(())
}

/// What was taken over so far. Times are the other program's, in seconds since 1970.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// All before this time is taken over; 0 if nothing is.
    Done { until: i64 },
    /// Of the events between these times, those of the senders up to this key.
    Underway { since: i64, until: i64, last: String },
}

impl Progress {
    /// Reads what is in `meta`; nothing there means that nothing is done.
    pub fn parse(written: &str) -> Progress {
        let mut words = written.splitn(3, ' ');
        let mut number = || words.next().and_then(|word| word.parse().ok());
        let (first, second) = (number().unwrap_or(0), number());
        match (second, words.next()) {
            (Some(until), Some(last)) => Progress::Underway { since: first, until, last: last.to_owned() },
            _ => Progress::Done { until: first },
        }
    }

    /// An interrupted run is continued with the same events.
    pub fn until(&self) -> Option<i64> {
        match self {
            Progress::Done { .. } => None,
            Progress::Underway { until, .. } => Some(*until),
        }
    }

    /// Whether a key is still to be done.
    pub fn is_due(&self, key: &str) -> bool {
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
