//! What past mail teaches of accounts: their days, see [`usual`], and where they were seen. Pure.
//!
//! It is bounded: with more than `MAX_ROWS` it is too much, and nothing of it is to be kept.

use std::collections::{BTreeSet, HashMap, HashSet};

use ipnet::IpNet;

use super::intake::Charged;
use crate::limiter::blocks;
use crate::limiter::history;
use crate::limiter::usual::{self, Day, Record, Sums};
use crate::limiter::window::minute_of;

/// The most accounts, days of accounts and networks of accounts, together. About 600 MB.
const MAX_ROWS: usize = 4_000_000;
/// So many days without any mail are a gap.
const GAP: i64 = 7;

/// What was learnt of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lesson {
    pub account: String,
    /// In ascending order.
    pub days: Vec<Day>,
    /// With the time at which it was last seen there, in Unix seconds.
    pub networks: Vec<(IpNet, i64)>,
}

/// Days of which neither the logs nor the database know anything, counted from 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last day with mail before it.
    pub after: i64,
    /// The first day with mail after it.
    pub until: i64,
}

/// Past mail, as far as it teaches anything at some time.
#[derive(Debug)]
pub struct Lessons {
    now: i64,
    accounts: HashMap<String, Learnt>,
    rows: usize,
    /// The days on which anybody sent anything.
    days: BTreeSet<i64>,
    /// The times of the first and the last mail, in Unix seconds.
    pub span: Option<(i64, i64)>,
    pub messages: u64,
    pub recipients: u64,
    /// How many messages were from before the days that count.
    pub too_old: u64,
    /// The accounts whose mail of a day does not become usual, or their domains as `@domain`, each with such a day.
    compromised: HashSet<(String, i64)>,
    /// Days of accounts that had such mail.
    untaught: HashSet<(String, i64)>,
}

#[derive(Debug, Default)]
struct Learnt {
    record: Record,
    /// When it was first and last seen there, in Unix seconds.
    networks: HashMap<IpNet, (i64, i64)>,
}

impl Lessons {
    /// Of what counts from `now` on, in Unix seconds. `compromised` are the accounts whose mail of a day does not become usual, or their
    /// domains as `@domain`, each with such a day.
    pub fn new(now: i64, compromised: HashSet<(String, i64)>) -> Lessons {
        Lessons {
            now,
            accounts: HashMap::new(),
            rows: 0,
            days: BTreeSet::new(),
            span: None,
            messages: 0,
            recipients: 0,
            too_old: 0,
            compromised,
            untaught: HashSet::new(),
        }
    }

    /// Adds mail that went its way, which is none before the last. Returns false once it is too much.
    pub fn add(&mut self, charged: &Charged) -> bool {
        let Charged { at, network, mail, .. } = *charged;
        let day = usual::today(at);
        // Windows that end in the first day begin the day before.
        if day < usual::days(self.now).start().saturating_sub(1) {
            self.too_old += 1;
            return true;
        }
        let (first, _) = self.span.unwrap_or((at, at));
        self.span = Some((first, at));
        self.messages += u64::from(mail.messages);
        self.recipients += u64::from(mail.recipients);
        self.days.insert(day);
        let found = |name: &str| self.compromised.contains(&(name.to_owned(), day));
        if !self.compromised.is_empty() && blocks::names(&charged.account).any(found) {
            self.rows += usize::from(self.untaught.insert((charged.account.clone(), day)));
            return self.rows <= MAX_ROWS;
        }
        let learnt = match self.accounts.get_mut(&charged.account) {
            Some(learnt) => learnt,
            None => {
                self.rows += 1;
                self.accounts.entry(charged.account.clone()).or_default()
            }
        };
        self.rows += usize::from(learnt.record.days().next_back().is_none_or(|last| last.day != day));
        let sums = Sums { messages: mail.messages.into(), recipients: mail.recipients.into() };
        learnt.record.add(minute_of(at), sums);
        if let Some(network) = network {
            let rows = &mut self.rows;
            let seen = learnt.networks.entry(network).or_insert_with(|| {
                *rows += 1;
                (at, at)
            });
            seen.1 = at;
        }
        self.rows <= MAX_ROWS
    }

    /// Returns how many days of accounts had mail that does not become usual, since they were compromised.
    pub fn untaught(&self) -> usize {
        self.untaught.len()
    }

    /// Returns where the days of this mail and those that the database knows, the first of which is `known_from`, do not follow
    /// each other: of what lies before it, nothing says that it is still usual.
    pub fn gap(&self, known_from: Option<i64>) -> Option<Gap> {
        let today = usual::today(self.now);
        let mut until = known_from.unwrap_or(today).min(today);
        for &day in self.days.range(..until).rev() {
            if until - day > GAP {
                return Some(Gap { after: day, until });
            }
            until = day;
        }
        None
    }

    /// Returns what was learnt, by account: days that are over and count, and networks that are not new any more.
    pub fn into_sorted(self) -> Vec<Lesson> {
        let (counting, ended) = (usual::days(self.now), usual::ended(self.now));
        let now = self.now;
        let lesson = |(account, Learnt { record, networks }): (String, Learnt)| {
            let days = record.days().filter(|day| day.day >= *counting.start() && day.day < ended).copied();
            let known = networks.into_iter().filter(|(_, (first, last))| history::is_known(*first, *last, now));
            let mut networks = Vec::from_iter(known.map(|(network, (_, last))| (network, last)));
            networks.sort_unstable();
            Lesson { account, days: days.collect(), networks }
        };
        let lessons = self.accounts.into_iter().map(lesson);
        let mut lessons: Vec<_> =
            lessons.filter(|lesson| !lesson.days.is_empty() || !lesson.networks.is_empty()).collect();
        lessons.sort_unstable_by(|one, other| one.account.cmp(&other.account));
        lessons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;
    /// 2026-11-20 12:00 UTC.
    const NOW: i64 = 20_777 * DAY + DAY / 2;

    fn net(place: u8) -> Option<IpNet> {
        Some(format!("192.0.{place}.0/24").parse().unwrap())
    }

    #[test]
    fn days_that_are_over_and_known_networks_are_learnt() {
        let mut lessons = Lessons::new(NOW, HashSet::new());
        let ago = |days: i64| NOW - days * DAY;
        for (account, at, place, recipients) in [
            ("bo", ago(40), 1, 900),
            ("al", ago(30), 1, 3),
            ("al", ago(30) + 1800, 1, 4),
            ("al", ago(30) + 7200, 2, 5),
            ("al", ago(1), 2, 7),
            ("cy", NOW - 3600, 1, 9),
        ] {
            assert!(lessons.add(&Charged::of(account, at, net(place), recipients)));
        }
        assert_eq!((lessons.messages, lessons.recipients, lessons.too_old), (5, 28, 1));
        assert_eq!(lessons.span, Some((ago(30), NOW - 3600)));
        let learnt = lessons.into_sorted();
        let [Lesson { account, days, networks }] = learnt.as_slice() else { panic!("{learnt:?}") };
        let days: Vec<_> =
            days.iter().map(|day| (day.day, day.peaks.hour.recipients, day.peaks.day.recipients)).collect();
        assert_eq!((account.as_str(), days), ("al", vec![(20_747, 7, 12), (20_776, 7, 7)]), "today is not over");
        assert_eq!(networks, &[(net(1).unwrap(), ago(30) + 1800), (net(2).unwrap(), ago(1))]);
    }

    #[test]
    fn a_network_first_seen_today_may_still_be_new() {
        let mut lessons = Lessons::new(NOW, HashSet::new());
        lessons.add(&Charged::of("al", NOW - 2 * DAY, net(1), 1));
        lessons.add(&Charged::of("al", NOW - DAY + 60, net(2), 1));
        assert_eq!(lessons.into_sorted()[0].networks, [(net(1).unwrap(), NOW - 2 * DAY)]);
    }

    #[test]
    fn what_a_thief_sent_is_not_learnt() {
        let day = NOW / DAY;
        let compromised = [("al@a.example", day - 3), ("@b.example", day - 5)];
        let mut lessons = Lessons::new(NOW, compromised.map(|(name, day)| (name.to_owned(), day)).into());
        // Shortly before midnight, and an hour later.
        let midnight = (day - 2) * DAY;
        for (account, at, recipients) in [
            ("al@a.example", midnight - 1800, 500),
            ("al@a.example", midnight + 1800, 3),
            ("bo@b.example", midnight - 3 * DAY + 60, 500),
            ("bo@b.example", midnight - 3 * DAY - 60, 4),
            ("cy@c.example", midnight - 1800, 5),
        ] {
            assert!(lessons.add(&Charged::of(account, at, net(1), recipients)));
        }
        assert_eq!(lessons.untaught(), 2);
        let learnt = lessons.into_sorted().into_iter();
        let learnt: Vec<_> = learnt
            .map(|lesson| (lesson.account, lesson.days.iter().map(|day| day.peaks.day.recipients).collect::<Vec<_>>()))
            .collect();
        let expected = [("al@a.example", 3), ("bo@b.example", 4), ("cy@c.example", 5)];
        assert_eq!(learnt, expected.map(|(account, recipients)| (account.to_owned(), vec![recipients])));
    }

    #[test]
    fn what_is_far_from_all_that_is_known_is_a_gap() {
        let gap = |ago: &[i64], known_from: Option<i64>| {
            let mut lessons = Lessons::new(NOW, HashSet::new());
            ago.iter().for_each(|ago| assert!(lessons.add(&Charged::of("al", NOW - ago * DAY, None, 1))));
            let today = NOW / DAY;
            let gap = lessons.gap(known_from.map(|ago| today - ago));
            gap.map(|gap| (today - gap.after, today - gap.until))
        };
        assert_eq!(gap(&[20, 14, 7], None), None);
        assert_eq!(gap(&[20, 12, 5], None), Some((20, 12)));
        assert_eq!(gap(&[20, 13, 8], None), Some((8, 0)));
        assert_eq!(gap(&[20, 13], Some(6)), None);
        assert_eq!(gap(&[20, 13, 2], Some(5)), Some((13, 5)));
        assert_eq!(gap(&[3, 2], Some(30)), None, "known already");
        assert_eq!(gap(&[], None), None);
    }
}
