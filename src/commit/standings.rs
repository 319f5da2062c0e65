//! Where the accounts that are sending stand, as their last transaction left them. Pure.
//!
//! Their histories are kept from batch to batch, so that a sliding window costs the same whatever a sender has sent. And while
//! the database is away, decisions go on from here ([`super::memory`]).
//!
//! Other daemons write the same tables. Each charge of a message or of recipients raises a sender's totals, so a row whose
//! totals are where our last transaction left them has a history that nobody else has added to. Anything else is read
//! again; and so are bytes, which END-OF-MESSAGE charges without raising a total. (Nor is one raised by a message that LIMITS refused
//! at DATA, that Postfix let pass in spite of that, and that is let through at END-OF-MESSAGE: other daemons see it when they next read
//! the history.)

use std::collections::HashMap;
use std::time::Duration;

use ipnet::IpNet;
use lru::LruCache;

use crate::limiter::decide::Standing;
use crate::limiter::history::{self, Blocked, History, Minute, Reach, Seen};
use crate::limiter::usual::{self, Peaks, Usual};
use crate::limiter::window;
use crate::policy::duration::seconds;
use crate::store::counters::{COUNTER_MAX, Row};
use crate::store::usage::{Coarse, HistoryRows, LearntSince, SeenRow, Since, UsageRow};

/// The most memory for all accounts, in bytes; those that did not send for the longest time are forgotten first.
const MAX_BYTES: usize = 32 << 20;
/// How long a history is trusted, in seconds: a hand that changed `usage` itself is noticed by then.
const TRUSTED_FOR: i64 = 600;

/// Which state of a row a history belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    messages: u32,
    recipients: u32,
    from: i64,
}

impl Version {
    /// Of a row as it stood before this much was added to its totals. None once a total has reached its end: it then no
    /// longer tells whether anybody else has added to it.
    pub fn before(row: &Row, messages: u64, recipients: u64) -> Option<Version> {
        let before = |after: u32, added: u64| {
            (i64::from(after) < COUNTER_MAX).then(|| u32::try_from(u64::from(after).checked_sub(added)?).ok())?
        };
        Some(Version {
            messages: before(row.total_messages, messages)?,
            recipients: before(row.total_recipients, recipients)?,
            from: row.window_from,
        })
    }
}

/// Which history of these rows is to be read.
pub fn since(reach: &Reach, rows: Vec<i64>, now: i64) -> Since {
    let begin = |length: Duration| window::begin_of_minute(now.saturating_sub(seconds(length)));
    Since {
        rows,
        time: begin(reach.window),
        coarse: (reach.window > window::EXACT).then(|| Coarse {
            // In the database minutes are told apart until days are made of them.
            most: window::most_sums(reach.window, reach.exact.max(usual::MINUTES_FOR)),
            before: window::coarse_before(now, reach.exact),
        }),
        networks: reach.networks.map(begin),
        learnt: reach.learns.then(|| learnt_since(now)),
    }
}

/// What decisions at a time, in Unix seconds, need of what was learnt.
pub fn learnt_since(now: i64) -> LearntSince {
    LearntSince { days: usual::days(now), arrivals: history::new_since(now) }
}

/// The histories that were read at `now`, of every row that was asked about. `from` says where `sender reset` began a row
/// anew.
pub fn from_rows(read: HistoryRows, from: &HashMap<i64, i64>, now: i64) -> HashMap<i64, History> {
    let mut minutes = minutes_by_row(read.usage);
    let knows = read.learnt.is_some();
    let learnt = read.learnt.unwrap_or_default();
    let mut new = minutes_by_row(learnt.new);
    let peaks: HashMap<i64, Peaks> = learnt.peaks.into_iter().collect();
    let arrived: HashMap<(i64, String), i64> =
        read.arrived.into_iter().map(|one| ((one.ratelimit_id, one.network), one.first_seen)).collect();
    let mut networks: HashMap<i64, HashMap<IpNet, Seen>> = HashMap::new();
    for SeenRow { ratelimit_id, network, last_seen } in read.seen {
        if let Ok(place) = network.parse() {
            // One that has not arrived lately was known before.
            let first = arrived.get(&(ratelimit_id, network)).copied().unwrap_or(0);
            networks.entry(ratelimit_id).or_default().insert(place, Seen { first, last: last_seen });
        }
    }
    let (first_day, networks_since) = (learnt.first_day, learnt.networks_since);
    let history = |id: &i64| {
        let peaks = peaks.get(id).copied().unwrap_or_default();
        let usual = Usual { today: usual::today(now), first_day, networks_since, peaks };
        let [minutes, new] = [&mut minutes, &mut new].map(|minutes| minutes.remove(id).unwrap_or_default());
        let networks = networks.remove(id).unwrap_or_default();
        let from = from.get(id).copied().unwrap_or(0);
        (*id, History::new(minutes, new, networks, knows.then_some(usual), from))
    };
    read.rows.iter().map(history).collect()
}

fn minutes_by_row(rows: Vec<UsageRow>) -> HashMap<i64, Vec<Minute>> {
    let positive = |number: i64| u64::try_from(number).unwrap_or(0);
    let mut minutes: HashMap<i64, Vec<Minute>> = HashMap::new();
    for row in rows {
        minutes.entry(row.ratelimit_id).or_default().push(Minute {
            minute: row.minute,
            messages: positive(row.messages),
            recipients: positive(row.recipients),
            bytes: positive(row.bytes),
        });
    }
    minutes
}

/// Where a row stood after a transaction.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The account that was counted; the last one, if the database takes several for the same.
    pub account: String,
    pub standing: Standing,
    /// When that was, in Unix seconds.
    pub at: i64,
    /// What the history of `standing` is true of. None where it was not needed or cannot be trusted.
    pub history: Option<Read>,
}

/// A history that was read.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    pub version: Version,
    /// When it was read, in Unix seconds.
    pub since: i64,
    pub reach: Reach,
}

/// The rows that were used last, by their ids.
#[derive(Debug)]
pub struct Standings {
    kept: LruCache<i64, Kept>,
    rows: HashMap<String, i64>,
    bytes: usize,
    /// Whether others may write the database too.
    shared: bool,
}

/// What a batch needs of a row's history.
#[derive(Debug, Clone, Copy)]
pub struct Needed {
    pub reach: Reach,
    /// Whether its bytes are judged.
    pub bytes: bool,
}

impl Default for Standings {
    fn default() -> Standings {
        Standings { kept: LruCache::unbounded(), rows: HashMap::new(), bytes: 0, shared: true }
    }
}

impl Standings {
    /// For a database that nobody else can reach.
    pub fn of_private_database() -> Standings {
        Standings { shared: false, ..Standings::default() }
    }

    /// The history of a row, and when it was read, if it is still true of that version and holds all that is needed: a
    /// reload may have brought a longer window. Whether its sender was blocked is true in any case.
    pub fn history(
        &mut self,
        id: i64,
        version: Option<Version>,
        needed: Needed,
        now: i64,
    ) -> (Blocked, Option<(History, i64)>) {
        let Some(kept) = self.kept.get(&id) else { return Default::default() };
        let history = &kept.standing.history;
        let read = kept.history.filter(|read| {
            let fresh = now.saturating_sub(read.since) < TRUSTED_FOR && read.since <= now && !needed.bytes;
            // What is usual is another at each day.
            let of_today = !needed.reach.learns || history.usual().is_some_and(|usual| usual.is_for(now));
            Some(read.version) == version && read.reach.covers(needed.reach) && of_today && (fresh || !self.shared)
        });
        (history.blocked, read.map(|read| (history.clone(), read.since)))
    }

    /// Where an account stood after its last transaction.
    pub fn of_account(&self, account: &str) -> Option<&Kept> {
        self.kept.peek(self.rows.get(account)?)
    }

    /// Keeps where a row stands after what the journal held of its account was charged, at `now` in Unix seconds; `history` is
    /// what that was. Decisions read its history again; without the database they go on from this one.
    pub fn charged(&mut self, account: String, row: &Row, history: &History, now: i64) {
        let known = self.kept.peek(&row.id).map(|kept| kept.standing.history.clone());
        let mut merged = known.unwrap_or_default();
        merged.merge(history);
        let standing = Standing {
            quota: row.quota,
            messages: row.messages,
            recipients: row.recipients,
            history: merged.with_blocked(history.blocked),
        };
        self.keep(row.id, Kept { account, standing, at: now, history: None });
    }

    /// Keeps where a row stands.
    pub fn keep(&mut self, id: i64, kept: Kept) {
        if self.rows.get(&kept.account) != Some(&id) {
            self.rows.insert(kept.account.clone(), id);
        }
        self.bytes += kept.bytes();
        if let Some(old) = self.kept.put(id, kept) {
            self.bytes -= old.bytes();
        }
        while self.bytes > MAX_BYTES {
            let Some((id, oldest)) = self.kept.pop_lru() else { break };
            self.bytes -= oldest.bytes();
            if self.rows.get(&oldest.account) == Some(&id) {
                self.rows.remove(&oldest.account);
            }
        }
    }
}

impl Kept {
    /// How much memory it takes, its account's places in both maps included.
    fn bytes(&self) -> usize {
        size_of::<Kept>() + 96 + 3 * self.account.len() + self.standing.history.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::increase::Increase;
    use crate::policy::limit::Measure;

    const HOUR: Reach =
        Reach { window: Duration::from_secs(3600), exact: Duration::from_secs(3600), networks: None, learns: false };

    fn kept(version: Version, since: i64, history: History) -> Kept {
        let standing = Standing { history, ..Standing::new(1000) };
        Kept { account: "alice".into(), standing, at: since, history: Some(Read { version, since, reach: HOUR }) }
    }

    fn needed(reach: Reach) -> Needed {
        Needed { reach, bytes: false }
    }

    fn row(messages: u32, recipients: u32, window_from: i64) -> Row {
        Row {
            id: 1,
            quota: 1000,
            messages: 0,
            recipients: 0,
            total_messages: messages,
            total_recipients: recipients,
            window_from,
            blocks: 0,
        }
    }

    #[test]
    fn a_history_is_true_of_the_totals_it_was_kept_with() {
        let mut standings = Standings::default();
        let mut history = History::default();
        history.add(Increase { messages: 1, recipients: 3, bytes: 0 }, 60);
        let left = Version::before(&row(5, 9, 0), 0, 0).unwrap();
        standings.keep(1, kept(left, 60, history.clone()));
        // The next batch added 2 messages and 4 recipients; nobody else did.
        let version = |row: &Row| Version::before(row, 2, 4);
        assert!(standings.history(1, version(&row(7, 13, 0)), needed(HOUR), 61).1.is_some());
        for (stale, now) in
            [(row(8, 13, 0), 61), (row(7, 14, 0), 61), (row(7, 13, 5), 61), (row(7, 13, 0), 661), (row(7, 13, 0), 59)]
        {
            standings.keep(1, kept(left, 60, history.clone()));
            assert!(standings.history(1, version(&stale), needed(HOUR), now).1.is_none(), "{stale:?} at {now}");
        }
        assert_eq!(version(&row(u32::MAX, 13, 0)), None, "a total at its end tells nothing");
    }

    #[test]
    fn a_history_that_reaches_less_far_than_is_asked_is_read_again() {
        let version = Version::before(&row(5, 9, 0), 0, 0).unwrap();
        let mut standings = Standings::default();
        let mut found = |asked| {
            standings.keep(1, kept(version, 60, History::default()));
            standings.history(1, Some(version), needed(asked), 61).1.is_some()
        };
        assert!(found(HOUR) && found(Reach { window: Duration::from_secs(300), ..HOUR }));
        assert!(!found(Reach { window: Duration::from_secs(3601), ..HOUR }), "a longer window");
        assert!(!found(Reach { exact: Duration::from_secs(3601), ..HOUR }), "minutes further back");
        assert!(!found(Reach { networks: Some(HOUR.window), ..HOUR }), "networks that nobody read");
        assert!(!found(Reach { learns: true, ..HOUR }), "what is usual, which nobody read");
    }

    #[test]
    fn bytes_that_another_daemon_may_have_charged_are_read_again_and_a_block_is_remembered() {
        let version = Version::before(&row(5, 9, 0), 0, 0).unwrap();
        let mut history = History::default();
        history.blocked.note(Increase { bytes: 1, ..Increase::default() }, true);
        let of_bytes = Needed { bytes: true, ..needed(HOUR) };
        for (mut standings, known) in [(Standings::default(), false), (Standings::of_private_database(), true)] {
            standings.keep(1, kept(version, 60, history.clone()));
            let (blocked, found) = standings.history(1, Some(version), of_bytes, 61);
            assert_eq!((blocked.any(), found.is_some()), (true, known));
        }
    }

    #[test]
    fn what_the_journal_held_is_added_to_what_was_known_and_read_again_for_decisions() {
        let version = Version::before(&row(5, 9, 0), 0, 0).unwrap();
        let mut standings = Standings::default();
        let (mut known, mut late) = (History::default(), History::default());
        known.add(Increase { messages: 1, recipients: 3, bytes: 0 }, 60);
        late.add(Increase { messages: 1, recipients: 4, bytes: 0 }, 120);
        standings.keep(1, kept(version, 60, known));
        standings.charged("alice".to_owned(), &Row { recipients: 7, ..row(7, 13, 0) }, &late, 130);
        assert!(standings.history(1, Some(version), needed(HOUR), 131).1.is_none());
        let standing = &standings.of_account("alice").unwrap().standing;
        let held = standing.history.used(Measure::Recipients, HOUR.window, 130);
        assert_eq!((standing.recipients, held), (7, 7));
    }

    #[test]
    fn memory_is_bounded() {
        let mut standings = Standings::default();
        let version = Version::before(&row(1, 1, 0), 0, 0).unwrap();
        let mut history = History::default();
        (0..100).for_each(|minute| history.add(Increase { messages: 1, recipients: 1, bytes: 0 }, minute * 60));
        for id in 0..20_000 {
            standings.keep(id, Kept { account: format!("sender{id}"), ..kept(version, 0, history.clone()) });
        }
        assert!(standings.bytes <= MAX_BYTES && standings.kept.len() > 1000);
        assert_eq!(standings.bytes, standings.kept.iter().map(|(_, kept)| kept.bytes()).sum::<usize>());
        assert_eq!(standings.rows.len(), standings.kept.len());
        assert!(standings.of_account("sender0").is_none(), "the oldest are gone");
        assert_eq!(standings.of_account("sender19999").unwrap().standing.history, history);
    }
}
