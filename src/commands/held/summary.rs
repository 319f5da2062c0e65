//! `held`: how much of each sender's mail is held, since when and why.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};
use serde_json::json;

use super::find::find;
use super::postfix::Postqueue;
use crate::cli::Output;
use crate::clock;
use crate::commands::database;
use crate::commands::output::{print, print_json};
use crate::commands::table::{clean, table};
use crate::config::{Audit, Sources};
use crate::exit::{Exit, Failed};
use crate::limiter::moment;
use crate::queue::matching::{Found, Left, Place, Wanted, is_in_place};
use crate::status::story;
use crate::store::queued::Elsewhere;

/// How far back other hosts' held mail is looked for, in seconds: theirs to know for sure.
const ELSEWHERE: i64 = 7 * 24 * 3600;
/// The most other hosts that are named.
const MAX_HOSTS: u32 = 50;

/// The held mail of one sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OfSender {
    pub sender: String,
    pub messages: u64,
    pub recipients: i64,
    /// When the oldest arrived, in seconds since 1970.
    #[serde(serialize_with = "as_utc")]
    pub oldest: i64,
    /// The limits and blocks that it was held for.
    pub reasons: Vec<String>,
}

fn as_utc<S: Serializer>(at: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&moment::utc(*at))
}

/// Sums messages per sender, those with the most first.
pub fn by_sender<'a>(found: impl IntoIterator<Item = &'a Found>) -> Vec<OfSender> {
    let mut senders: BTreeMap<&str, OfSender> = BTreeMap::new();
    for one in found {
        let sender = senders.entry(&one.account).or_insert_with(|| OfSender {
            sender: one.account.clone(),
            messages: 0,
            recipients: 0,
            oldest: one.arrived,
            reasons: Vec::new(),
        });
        sender.messages += 1;
        sender.recipients = sender.recipients.saturating_add(one.recipients);
        sender.oldest = sender.oldest.min(one.arrived);
        let reason = story::limit_of(&one.reason).unwrap_or(&one.reason);
        if !sender.reasons.iter().any(|known| known == reason) && sender.reasons.len() < 5 {
            sender.reasons.push(reason.to_owned());
        }
    }
    let mut senders: Vec<OfSender> = senders.into_values().collect();
    senders.sort_by(|one, other| other.messages.cmp(&one.messages).then_with(|| one.sender.cmp(&other.sender)));
    senders
}

pub fn run(sources: &Sources, output: &Output) -> Result<Exit, Failed> {
    let queue = Postqueue::begin()?;
    let (host, audit, matched, elsewhere) = database::with_tables(sources, async |config, store| {
        let entries = queue.entries(|entry| is_in_place(entry, Place::Held))?;
        let matched = find(store, &entries, &Wanted { host: config.host.clone(), ..Wanted::default() }).await?;
        let since = clock::now().saturating_sub(ELSEWHERE);
        let elsewhere =
            database::insist(store, async |store| store.held_elsewhere(&config.host, since, MAX_HOSTS).await).await?;
        Ok((config.host.clone(), config.audit.clone(), matched, elsewhere))
    })?;
    let senders = by_sender(&matched.found);
    if output.json {
        let elsewhere = elsewhere
            .iter()
            .map(|other| json!({ "host": other.host, "held": other.held, "oldest": moment::utc(other.oldest) }));
        let elsewhere: Vec<_> = elsewhere.collect();
        print_json(&json!({ "host": host, "senders": senders, "left": matched.left, "elsewhere": elsewhere }))?;
        return Ok(Exit::Ok);
    }
    let zone = TimeZone::system();
    let rows = senders.iter().map(|one| {
        let [sender, why] = [&one.sender, &one.reasons.join(", ")].map(|text| clean(text));
        [sender, one.messages.to_string(), one.recipients.to_string(), moment::local(one.oldest, &zone), why]
    });
    if senders.is_empty() {
        print("This program holds no mail here.\n")?;
    } else {
        print(&table(["SENDER", ">HELD", ">RECIPIENTS", "OLDEST", "WHY"], rows))?;
    }
    print(&others(&matched.left, &audit))?;
    print(&on_other_hosts(&elsewhere, &zone))?;
    Ok(Exit::Ok)
}

/// Says what else is on hold.
pub fn others(left: &Left, audit: &Audit) -> String {
    let Left { not_ours, rewritten, compromised } = *left;
    let mut text = String::new();
    if !audit.message_log {
        text.push_str(
            "MESSAGE_LOG is off, so what this program holds is not known: `postqueue -p` lists all that is on hold.\n",
        );
    } else if not_ours > 0 {
        let or = match audit.message_retention {
            0 => String::new(),
            days => format!(", or more than {days} days ago (MESSAGE_RETENTION)"),
        };
        text.push_str(&format!(
            "{not_ours} more on hold, not by this program{or}: `postqueue -p` shows them, marked with `!`.\n"
        ));
    }
    if rewritten > 0 {
        text.push_str(&format!(
            "{rewritten} more whose envelope sender is not the one that was asked about: if Postfix rewrites it, see --rewritten.\n"
        ));
    }
    if compromised > 0 {
        text.push_str(&format!(
            "{compromised} more of accounts that are blocked as compromised: --even-compromised releases them, `held delete` deletes them.\n"
        ));
    }
    text
}

fn on_other_hosts(elsewhere: &[Elsewhere], zone: &TimeZone) -> String {
    let line = |one: &Elsewhere| {
        let (host, oldest) = (clean(&one.host), moment::local(one.oldest, zone));
        format!("On {host}: up to {} held in the last 7 days, the first on {oldest}. Run `held` there.\n", one.held)
    };
    elsewhere.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::queue_id::QueueId;

    fn found(account: &str, arrived: i64, reason: &str) -> Found {
        Found {
            id: QueueId::parse("4F9D195432C").unwrap(),
            account: account.into(),
            arrived,
            from: account.into(),
            recipients: 2,
            reason: reason.into(),
            rows: vec![1],
        }
    }

    #[test]
    fn messages_are_summed_per_sender() {
        let senders = by_sender(&[
            found("bob", 5, "blocked: compromised"),
            found("alice", 9, "1x quota 1000: 1001"),
            found("alice", 7, "1x quota 1000: 1002"),
            found("alice", 8, "8 networks/1h: 9"),
        ]);
        let told: Vec<_> =
            senders.iter().map(|one| (one.sender.as_str(), one.messages, one.recipients, one.oldest)).collect();
        assert_eq!(told, [("alice", 3, 6, 7), ("bob", 1, 2, 5)]);
        assert_eq!(senders[0].reasons, ["1x quota 1000", "8 networks/1h"]);
        assert_eq!(senders[1].reasons, ["blocked: compromised"]);
    }

    #[test]
    fn what_else_is_on_hold_is_told() {
        let audit = Audit { message_log: true, message_retention: 30, usage_retention: 7 };
        assert_eq!(others(&Left::default(), &audit), "");
        let text = others(&Left { not_ours: 3, rewritten: 2, compromised: 1 }, &audit);
        assert!(text.lines().count() == 3 && text.contains("more than 30 days ago"), "{text}");
        let text = others(&Left::default(), &Audit { message_log: false, ..audit });
        assert!(text.starts_with("MESSAGE_LOG is off"), "{text}");
        let elsewhere = Elsewhere { host: "mx2".into(), held: 4, oldest: 1_800_014_400 };
        assert_eq!(
            on_other_hosts(&[elsewhere], &TimeZone::UTC),
            "On mx2: up to 4 held in the last 7 days, the first on 2027-01-15 12:00. Run `held` there.\n"
        );
    }
}
