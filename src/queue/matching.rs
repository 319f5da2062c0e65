//! Audit rows and the queue's entries become the queue ids that may be acted on, and reasons why others are left.
//!
//! A queue id alone says little: short ones are used again, those of two hosts are unrelated, and others put mail on hold too. So
//! an entry is a row's message only if the host, the time and the envelope sender fit as well:
//!
//! - Postfix makes the queue file before it asks about the message, so the row is never older than its entry. An entry that is
//!   younger than the row is another message, which got the id after the first had gone.
//! - The sender in the queue is what the client wrote, unless a canonical map or a masquerade has rewritten it.

use std::collections::{HashMap, HashSet};

use super::listing::{Entry, Queue};
use crate::limiter::blocks::{COMPROMISED, DECIDED};
use crate::protocol::queue_id::QueueId;
use crate::store::queued::{Queued, State};

/// How much younger than its row an entry may be, in seconds: both times are cut to the second.
pub const EARLIER: i64 = 1;
/// How much older than its row an entry may be, in seconds: clients may be slow, and Postfix asks a last time when it has
/// the whole message.
pub const LATER: i64 = 3600;

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub place: Place,
    /// This host. A row without one, of an older version, fits any.
    pub host: String,
    /// Accounts by their keys, and domains as `@example.com`; empty for all.
    pub names: Vec<String>,
    /// Only what arrived since, in seconds since 1970.
    pub since: Option<i64>,
    /// Only what has this in its reason.
    pub reason: Option<String>,
    /// Only what the quota has held, and not a limit, a block or somebody's command.
    pub by_quota: bool,
    /// Leaves the mail of accounts that were taken over.
    pub without_compromised: bool,
    /// Accounts and domains that are blocked as taken over, whatever their mail was held for.
    pub compromised: HashSet<String>,
    /// Takes mail whose envelope sender Postfix has rewritten.
    pub rewritten: bool,
}

/// Where the mail is that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// On hold, and put there by this program.
    #[default]
    Held,
    /// On its way, and let through by this program.
    Moving,
}

/// A message that may be acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub id: QueueId,
    pub account: String,
    pub arrived: i64,
    pub from: String,
    pub recipients: i64,
    /// Why it is held, as `messages.reason` has it.
    pub reason: String,
    /// The rows about it, by `messages.id`.
    pub rows: Vec<i64>,
}

/// Why entries are left, and how many for each reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Left {
    /// On hold, and not by this program: a milter, a header check or a person did it, or the id was another message's when this
    /// program answered.
    pub not_ours: u64,
    /// Id, host and time fit, and the envelope sender is another one.
    pub rewritten: u64,
    /// Of an account that was taken over.
    pub compromised: u64,
}

/// What came of the comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matched {
    /// The oldest first, each id once.
    pub found: Vec<Found>,
    pub left: Left,
}

/// Compares. Entries of other places than the one wanted, and of other names, times and reasons, count for nothing.
pub fn matched(entries: &[Entry], rows: &[Queued], wanted: &Wanted) -> Matched {
    let mut by_id: HashMap<&str, Vec<&Queued>> = HashMap::new();
    for row in rows {
        by_id.entry(&row.queue_id).or_default().push(row);
    }
    let mut matched = Matched::default();
    let mut seen = HashSet::new();
    for entry in entries.iter().filter(|entry| is_in_place(entry, wanted.place)) {
        // A message that moves while the queue is read is listed twice.
        if !seen.insert(&entry.id) {
            continue;
        }
        let rows = by_id.get(entry.id.as_str()).map_or(&[][..], Vec::as_slice);
        match judge(entry, rows, wanted) {
            Judged::Found(found) => matched.found.push(found),
            Judged::NotOurs => matched.left.not_ours += 1,
            Judged::Rewritten => matched.left.rewritten += 1,
            Judged::Compromised => matched.left.compromised += 1,
            Judged::NotWanted => {}
        }
    }
    matched.found.sort_by(|one, other| (one.arrived, one.id.as_str()).cmp(&(other.arrived, other.id.as_str())));
    matched
}

enum Judged {
    Found(Found),
    NotOurs,
    Rewritten,
    Compromised,
    NotWanted,
}

fn judge(entry: &Entry, rows: &[&Queued], wanted: &Wanted) -> Judged {
    let in_time = |row: &&Queued| {
        (row.host.is_empty() || row.host == wanted.host)
            && (row.at.saturating_sub(LATER)..=row.at.saturating_add(EARLIER)).contains(&entry.arrived)
    };
    let rows_in_time: Vec<&Queued> = rows.iter().copied().filter(in_time).collect();
    let same_sender = |row: &&Queued| wanted.rewritten || is_same_sender(&row.from, &entry.sender);
    let fitting: Vec<&Queued> = rows_in_time.iter().copied().filter(same_sender).collect();
    let Some(last) = fitting.iter().max_by_key(|row| row.id) else {
        return if rows_in_time.is_empty() { Judged::NotOurs } else { Judged::Rewritten };
    };
    // What this program has let go and is on hold again was put there by somebody else.
    let was_let_go = |row: &&Queued| matches!(row.state, State::Released | State::Deleted);
    let by_us = |row: &&Queued| row.action == "HOLD" || row.state == State::Held;
    let ours = !fitting.iter().any(was_let_go) && fitting.iter().any(by_us);
    if wanted.place == Place::Held && !ours {
        return Judged::NotOurs;
    }
    let holding = fitting.iter().copied().filter(by_us).max_by_key(|row| row.id).unwrap_or(last);
    let found = Found {
        id: entry.id.clone(),
        account: holding.account.clone(),
        arrived: entry.arrived,
        from: holding.from.clone(),
        recipients: fitting.iter().map(|row| row.recipients).max().unwrap_or(0),
        reason: holding.reason.clone(),
        rows: fitting.iter().map(|row| row.id).collect(),
    };
    let named = wanted.names.is_empty() || is_named(&found.account, |name| wanted.names.iter().any(|one| one == name));
    let in_reason = wanted.reason.as_ref().is_none_or(|reason| found.reason.contains(reason.as_str()));
    let by_quota = !wanted.by_quota || (is_quota(&found.reason) && holding.state == State::Untouched);
    if !named || !in_reason || !by_quota || wanted.since.is_some_and(|since| found.arrived < since) {
        return Judged::NotWanted;
    }
    if wanted.without_compromised
        && (fitting.iter().any(|row| row.reason.strip_prefix(DECIDED) == Some(COMPROMISED))
            || is_named(&found.account, |name| wanted.compromised.contains(name)))
    {
        return Judged::Compromised;
    }
    Judged::Found(found)
}

/// Whether an entry is where the mail is that is looked for.
pub fn is_in_place(entry: &Entry, place: Place) -> bool {
    match place {
        Place::Held => entry.queue == Queue::Hold,
        Place::Moving => entry.queue == Queue::Moving,
    }
}

/// Whether a reason is the quota: `1x quota 1000: 1001`.
fn is_quota(reason: &str) -> bool {
    let factor = reason.split_once("x quota ").map(|(factor, _)| factor);
    factor.is_some_and(|factor| !factor.is_empty() && factor.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

/// Whether an account, or its domain, is among some names.
fn is_named(account: &str, is_one: impl Fn(&str) -> bool) -> bool {
    is_one(account) || crate::account::domain_key(account).is_some_and(is_one)
}

/// Postfix may add its own domain to a bare name, and a row is cut to its column. A name's case is the client's.
fn is_same_sender(asked: &str, queued: &str) -> bool {
    let (asked, queued) = (asked.to_lowercase(), queued.to_lowercase());
    asked == queued
        || (asked.chars().count() >= 255 && queued.starts_with(&asked))
        || (!asked.is_empty() && !asked.contains('@') && queued.rsplit_once('@').is_some_and(|(name, _)| name == asked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: i64 = 1_800_014_400;
    const MX: &str = "mx1.example.com";

    fn entry(id: &str, arrived: i64) -> Entry {
        Entry { id: QueueId::parse(id).unwrap(), queue: Queue::Hold, arrived, sender: "alice@example.com".into() }
    }

    fn row(id: i64, queue_id: &str, at: i64) -> Queued {
        Queued {
            id,
            at,
            queue_id: queue_id.into(),
            account: "alice@example.com".into(),
            from: "alice@example.com".into(),
            recipients: 3,
            client_address: String::new(),
            host: MX.into(),
            action: "HOLD".into(),
            reason: "1x quota 1000: 1001".into(),
            state: State::Untouched,
        }
    }

    fn here() -> Wanted {
        Wanted { host: MX.into(), without_compromised: true, ..Wanted::default() }
    }

    fn one(entry: Entry, row: Queued, wanted: &Wanted) -> (usize, Left) {
        let Matched { found, left } = matched(&[entry], &[row], wanted);
        (found.len(), left)
    }

    const FOUND: (usize, Left) = (1, Left { not_ours: 0, rewritten: 0, compromised: 0 });
    const NOT_OURS: (usize, Left) = (0, Left { not_ours: 1, ..FOUND.1 });
    const REWRITTEN: (usize, Left) = (0, Left { rewritten: 1, ..FOUND.1 });
    /// The reason of a row that says that the account was taken over.
    const TAKEN_OVER: &str = "blocked: compromised";
    const COMPROMISED: (usize, Left) = (0, Left { compromised: 1, ..FOUND.1 });
    const NOTHING: (usize, Left) = (0, FOUND.1);

    #[test]
    fn host_time_and_sender_must_fit() {
        let id = "4F9D195432C";
        for (arrived, expected) in [(0, FOUND), (1, FOUND), (2, NOT_OURS), (-LATER, FOUND), (-LATER - 1, NOT_OURS)] {
            assert_eq!(one(entry(id, NOON + arrived), row(1, id, NOON), &here()), expected, "{arrived}");
        }
        for (host, expected) in [("", FOUND), ("mx2.example.com", NOT_OURS)] {
            assert_eq!(one(entry(id, NOON), Queued { host: host.into(), ..row(1, id, NOON) }, &here()), expected);
        }
        for (asked, queued, expected) in [
            ("Alice@Example.com", "alice@example.com", FOUND),
            ("alice", "alice@example.com", FOUND),
            ("", "", FOUND),
            ("", "alice@example.com", REWRITTEN),
            ("bob@example.com", "alice@example.com", REWRITTEN),
        ] {
            let (entry, row) =
                (Entry { sender: queued.into(), ..entry(id, NOON) }, Queued { from: asked.into(), ..row(1, id, NOON) });
            assert_eq!(one(entry.clone(), row.clone(), &here()), expected, "{asked} {queued}");
            assert_eq!(one(entry, row, &Wanted { rewritten: true, ..here() }), FOUND);
        }
        assert_eq!(one(entry(id, NOON), row(1, "4F9D195432D", NOON), &here()), NOT_OURS, "another id");
    }

    #[test]
    fn only_what_this_program_holds_is_touched() {
        let id = "4F9D195432C";
        let let_through = Queued { action: "DUNNO".into(), reason: String::new(), ..row(1, id, NOON) };
        for (state, of_held, of_let_through) in [
            (State::Untouched, FOUND, NOT_OURS),
            (State::Held, FOUND, FOUND),
            (State::Released, NOT_OURS, NOT_OURS),
            (State::Deleted, NOT_OURS, NOT_OURS),
        ] {
            assert_eq!(one(entry(id, NOON), Queued { state, ..row(1, id, NOON) }, &here()), of_held, "{state:?}");
            assert_eq!(one(entry(id, NOON), Queued { state, ..let_through.clone() }, &here()), of_let_through);
        }
        let moving = Entry { queue: Queue::Moving, ..entry(id, NOON) };
        assert_eq!(one(moving.clone(), row(1, id, NOON), &here()), NOTHING);
        let retro = Wanted { place: Place::Moving, ..here() };
        assert_eq!(one(moving, let_through.clone(), &retro), FOUND);
        assert_eq!(one(entry(id, NOON), let_through, &retro), NOTHING);
    }

    #[test]
    fn names_reasons_and_times_choose() {
        let id = "4F9D195432C";
        let chosen = |wanted: Wanted| one(entry(id, NOON), row(1, id, NOON), &wanted);
        for (name, expected) in
            [("alice@example.com", FOUND), ("@example.com", FOUND), ("alice", NOTHING), ("@example.org", NOTHING)]
        {
            assert_eq!(chosen(Wanted { names: vec![name.into()], ..here() }), expected, "{name}");
        }
        assert_eq!(chosen(Wanted { reason: Some("quota".into()), ..here() }), FOUND);
        assert_eq!(chosen(Wanted { reason: Some("networks".into()), ..here() }), NOTHING);
        for (reason, expected) in [
            ("1x quota 1000: 1001", FOUND),
            ("1.5x quota 1000: 1501", FOUND),
            ("8 networks/1h: 9", NOTHING),
            ("blocked: quota", NOTHING),
            ("x quota 1: 2", NOTHING),
            ("", NOTHING),
        ] {
            let row = Queued { reason: reason.into(), ..row(1, id, NOON) };
            assert_eq!(one(entry(id, NOON), row, &Wanted { by_quota: true, ..here() }), expected, "{reason}");
        }
        assert_eq!(chosen(Wanted { since: Some(NOON), ..here() }), FOUND);
        assert_eq!(chosen(Wanted { since: Some(NOON + 1), ..here() }), NOTHING);
    }

    #[test]
    fn the_mail_of_an_account_that_was_taken_over_stays() {
        let id = "4F9D195432C";
        let blocked = Queued { reason: TAKEN_OVER.into(), ..row(1, id, NOON) };
        assert_eq!(one(entry(id, NOON), blocked.clone(), &here()), COMPROMISED);
        assert_eq!(one(entry(id, NOON), blocked, &Wanted { without_compromised: false, ..here() }), FOUND);
        for name in ["alice@example.com", "@example.com"] {
            let wanted = Wanted { compromised: HashSet::from([name.to_owned()]), ..here() };
            assert_eq!(one(entry(id, NOON), row(1, id, NOON), &wanted), COMPROMISED, "held for its quota before");
        }
    }

    #[test]
    fn a_message_that_was_asked_about_twice_is_one() {
        let id = "4F9D195432C";
        let rows = [row(1, id, NOON), Queued { recipients: 1, action: "DUNNO".into(), ..row(2, id, NOON + 5) }];
        let Matched { found, left } = matched(&[entry(id, NOON), entry(id, NOON)], &rows, &here());
        assert_eq!((found.len(), left), (1, Left::default()));
        assert_eq!((found[0].recipients, found[0].rows.as_slice()), (3, &[1, 2][..]));
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let queue = prop_oneof![Just(Queue::Hold), Just(Queue::Moving), Just(Queue::Other)];
        (0..6u8, queue, -9000..9000i64, prop_oneof![Just("alice@example.com"), Just("bob@example.com"), Just("")])
            .prop_map(|(id, queue, at, sender)| Entry {
                id: QueueId::parse(&format!("4F9D1{id}")).unwrap(),
                queue,
                arrived: NOON + at,
                sender: sender.into(),
            })
    }

    fn any_row() -> impl Strategy<Value = Queued> {
        let state = prop_oneof![Just(State::Untouched), Just(State::Held), Just(State::Released), Just(State::Deleted)];
        let word = |words: &'static [&'static str]| prop::sample::select(words).prop_map(str::to_owned);
        (
            (0..6u8, -9000..9000i64, any::<i64>(), state),
            word(&["alice@example.com", "bob@example.com", ""]),
            word(&["", MX, "mx2.example.com"]),
            word(&["HOLD", "DUNNO", "REJECT"]),
            word(&["1x quota 9: 10", TAKEN_OVER, ""]),
        )
            .prop_map(|((queue_id, at, id, state), from, host, action, reason)| Queued {
                from,
                host,
                action,
                reason,
                state,
                ..row(id, &format!("4F9D1{queue_id}"), NOON + at)
            })
    }

    proptest! {
        #[test]
        fn whatever_is_acted_on_fits_a_row_in_everything(
            entries in prop::collection::vec(any_entry(), 0..12),
            rows in prop::collection::vec(any_row(), 0..12),
            place in prop_oneof![Just(Place::Held), Just(Place::Moving)],
        ) {
            let wanted = Wanted { place, ..here() };
            let Matched { found, left } = matched(&entries, &rows, &wanted);
            for one in &found {
                let entry = entries.iter().find(|entry| entry.id == one.id && entry.arrived == one.arrived).unwrap();
                prop_assert!(is_in_place(entry, place));
                let of_it = || rows.iter().filter(|row| row.queue_id == one.id.as_str() && one.rows.contains(&row.id));
                prop_assert!(of_it().count() >= one.rows.len() && !one.rows.is_empty());
                for row in of_it() {
                    prop_assert!(row.host.is_empty() || row.host == MX);
                    prop_assert!(row.at >= entry.arrived - EARLIER && row.at <= entry.arrived + LATER);
                    prop_assert!(row.from == entry.sender);
                    prop_assert!(row.reason != TAKEN_OVER);
                    prop_assert!(place == Place::Moving || !matches!(row.state, State::Released | State::Deleted));
                }
                prop_assert!(
                    place == Place::Moving || of_it().any(|row| row.action == "HOLD" || row.state == State::Held)
                );
            }
            let ids: HashSet<_> = found.iter().map(|one| &one.id).collect();
            prop_assert_eq!(ids.len(), found.len(), "each id once");
            let in_place: HashSet<_> = entries.iter().filter(|one| is_in_place(one, place)).map(|one| &one.id).collect();
            let left = left.not_ours + left.rewritten + left.compromised;
            prop_assert_eq!(found.len() as u64 + left, in_place.len() as u64, "each entry is one or the other");
        }

        #[test]
        fn the_order_of_rows_and_entries_makes_no_difference(
            entries in prop::collection::vec(any_entry(), 0..8).prop_map(|mut entries| {
                entries.sort_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
                entries.dedup_by(|one, other| one.id == other.id);
                entries
            }),
            rows in prop::collection::vec(any_row(), 0..8),
        ) {
            let forwards = matched(&entries, &rows, &here());
            let mut entries = entries;
            entries.reverse();
            let mut rows = rows;
            rows.reverse();
            let mut backwards = matched(&entries, &rows, &here());
            let mut forwards = forwards;
            for one in forwards.found.iter_mut().chain(&mut backwards.found) {
                one.rows.sort_unstable();
            }
            prop_assert_eq!(forwards, backwards);
        }
    }
}
