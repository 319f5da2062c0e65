//! `sender show --held`: the queue ids of a sender's held mail, for postsuper(1).

use std::collections::HashSet;

use jiff::tz::TimeZone;

use super::named;
use crate::cli;
use crate::clock;
use crate::commands::database;
use crate::commands::output::print;
use crate::config::{Audit, Sources};
use crate::exit::{Exit, Failed};
use crate::limiter::moment;
use crate::policy::duration;
use crate::protocol::queue_id::QueueId;

/// The most queue ids that are printed at once.
const MAX_IDS: u32 = 100_000;
const DAY: u64 = 24 * 3600;

/// What was found.
struct Held {
    ids: Vec<QueueId>,
    since: i64,
    /// When the first message was held, as far as the audit log reaches back.
    first: Option<i64>,
}

pub fn run(sources: &Sources, options: &cli::SenderShow) -> Result<Exit, Failed> {
    // MySQL has no time before 1970.
    let since = clock::now().saturating_sub(duration::seconds(options.since)).max(0);
    let (ids, first, audit) = database::with_tables(sources, async |config, store| {
        let row = named::row(config, store, &options.sender.name).await?;
        let ids = database::insist(store, async |store| store.held(row.id, since, MAX_IDS).await).await?;
        let first = database::insist(store, async |store| store.first_held(row.id).await).await?;
        Ok((ids, first, config.audit.clone()))
    })?;
    let held = Held { ids: for_postsuper(ids), since, first };
    eprintln!("{}", told(&held, options.since, &audit, &TimeZone::system()));
    print(&held.ids.iter().map(|id| format!("{id}\n")).collect::<String>())?;
    Ok(Exit::Ok)
}

/// Each queue id once, and nothing else: the list is piped into a command of root's, and rows may be older than this program.
fn for_postsuper(ids: Vec<String>) -> Vec<QueueId> {
    let mut seen = HashSet::new();
    ids.iter().filter_map(|id| QueueId::parse(id)).filter(|id| seen.insert(id.clone())).collect()
}

/// Says what the list leaves out: an empty list would look as if there were no held mail.
fn told(held: &Held, since: std::time::Duration, audit: &Audit, zone: &TimeZone) -> String {
    let at = |time| moment::local(time, zone);
    let mut text = format!("{} held since {} ({})", held.ids.len(), at(held.since), duration::show(since));
    if held.ids.len() >= MAX_IDS as usize {
        text.push_str(", and perhaps more: these are the oldest");
    }
    if let Some(first) = held.first.filter(|&first| first < held.since) {
        text.push_str(&format!("; others before, from {} on: --since names a longer time", at(first)));
    }
    if !audit.message_log {
        text.push_str("; MESSAGE_LOG is off, so held mail is not known here: postqueue -p lists it");
    } else if audit.message_retention > 0 && since.as_secs() > u64::from(audit.message_retention) * DAY {
        text.push_str(&format!(
            "; what is older than {} days is not known (MESSAGE_RETENTION)",
            audit.message_retention
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOON: i64 = 1_800_014_400; // 2027-01-15 12:00 UTC
    const WEEK: Duration = Duration::from_secs(7 * DAY);

    fn told_of(ids: usize, first: Option<i64>, since: Duration, message_log: bool) -> String {
        let audit = Audit { message_log, message_retention: 30, usage_retention: 7 };
        let held =
            Held { ids: vec![QueueId::parse("4F9D1A").unwrap(); ids], since: NOON - since.as_secs() as i64, first };
        told(&held, since, &audit, &TimeZone::UTC)
    }

    #[test]
    fn what_is_not_listed_is_told() {
        assert_eq!(told_of(2, Some(NOON - 60), WEEK, true), "2 held since 2027-01-08 12:00 (7d)");
        assert_eq!(told_of(0, None, WEEK, true), "0 held since 2027-01-08 12:00 (7d)");
        let older = told_of(0, Some(NOON - 8 * DAY as i64), WEEK, true);
        assert!(older.ends_with("; others before, from 2027-01-07 12:00 on: --since names a longer time"), "{older}");
        assert!(told_of(0, None, WEEK, false).contains("MESSAGE_LOG is off"));
        assert!(told_of(0, None, 5 * WEEK, true).contains("older than 30 days"));
        assert!(told_of(MAX_IDS as usize, None, WEEK, true).contains("perhaps more"));
    }

    #[test]
    fn only_queue_ids_reach_a_command_of_roots() {
        let (one, other) = ("4g6Yxn0WN4z9vD", "4g6yxn0WN4z9vD");
        let ids = [one, "ALL", "deferred", "4F9D1A; rm", "", other, one, "-r"].map(str::to_owned).to_vec();
        let ids: Vec<String> = for_postsuper(ids).iter().map(ToString::to_string).collect();
        assert_eq!(ids, [one, other], "a queue id may differ in case alone");
    }
}
