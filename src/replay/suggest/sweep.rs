//! How high limits would have had to be, for each account and month.
//!
//! A limit that holds mail counts what it holds. So what a window holds does not depend on the limit's amount, and one pass over
//! the mail tells for every amount whether somebody would have been touched.

use std::collections::BTreeMap;
use std::time::Duration;

use super::form::{COUNT, FORMS, Form};
use super::month;
use super::streams::Sum;
use super::walk::{Walk, mail};
use crate::limiter::history::Reach;
use crate::limiter::usual;
use crate::limiter::window;
use crate::policy::quota::UNLIMITED;

/// The time of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// As [`Streams::span`](super::streams::Streams::span) has them, in Unix seconds.
    pub begin: i64,
    pub end: i64,
}

impl Log {
    pub fn first_day(self) -> i64 {
        usual::today(self.begin)
    }

    /// When limits that learn begin to act, in Unix seconds. None if the log ends before.
    pub fn acts_from(self) -> Option<i64> {
        Some(usual::acts_from(self.first_day())).filter(|from| *from <= self.end)
    }
}

/// What the forms look at.
pub fn reach() -> Reach {
    let windows = || FORMS.iter().map(|form| form.window);
    let window: Duration = windows().max().unwrap_or_default();
    Reach {
        window,
        exact: window::exact_for(windows()),
        networks: Reach::of_networks(Some(window), true),
        learns: true,
    }
}

/// An account in a month in which it sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderMonth {
    pub account: u32,
    /// How high the limit of each form would have had to be for all mail to pass.
    pub needed: [u32; COUNT],
}

/// The sender-months of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SenderMonths {
    all: Vec<SenderMonth>,
    /// Counted from when limits that learn act.
    learnt: Vec<SenderMonth>,
}

/// An amount, and the senders that it touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    pub amount: u64,
    /// How many sender-months.
    pub touched: usize,
    /// The accounts, those that need the most first, and how much that is.
    pub accounts: Vec<(u32, u64)>,
}

impl SenderMonths {
    /// Adds an account.
    pub fn add(&mut self, account: u32, sums: &[Sum], log: Log) {
        let (mut walk, reach) = (Walk::new(UNLIMITED, log.first_day()), reach());
        let (mut all, mut learnt) = (BTreeMap::new(), BTreeMap::new());
        for sum in sums {
            let now = sum.at();
            walk.pass_to(now, &reach);
            let is_new = walk.add(sum.network, mail(sum), now);
            let needed = FORMS.map(|form| u32::try_from(form.needed(&walk.standing, is_new, now)).unwrap_or(u32::MAX));
            let note = |months: &mut BTreeMap<u32, [u32; COUNT]>, begin| {
                let highest = months.entry(month(begin, now)).or_insert([0; COUNT]);
                highest.iter_mut().zip(needed).for_each(|(highest, needed)| *highest = needed.max(*highest));
            };
            note(&mut all, log.begin);
            if let Some(from) = log.acts_from().filter(|from| now >= *from) {
                note(&mut learnt, from);
            }
        }
        self.all.extend(all.into_values().map(|needed| SenderMonth { account, needed }));
        self.learnt.extend(learnt.into_values().map(|needed| SenderMonth { account, needed }));
    }

    pub fn append(&mut self, mut other: SenderMonths) {
        self.all.append(&mut other.all);
        self.learnt.append(&mut other.learnt);
    }

    /// Returns how many there are for a form.
    pub fn len(&self, form: Form) -> usize {
        self.of(form).len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns the least amount of a form that touches so many sender-months at the most. None if no mail can tell.
    pub fn tightest(&self, form: Form, at_most: usize) -> Option<Level> {
        let highest = self.highest(form);
        let amount = highest.get(at_most).map_or(0, |(_, needed)| *needed).max(1);
        (!highest.is_empty()).then(|| level(&highest, amount))
    }

    /// Returns the senders that an amount touches.
    pub fn touched(&self, form: Form, amount: u64) -> Level {
        level(&self.highest(form), amount)
    }

    fn of(&self, form: Form) -> &[SenderMonth] {
        if form.learns() { &self.learnt } else { &self.all }
    }

    /// How much each sender-month needs, the most first.
    fn highest(&self, form: Form) -> Vec<(u32, u64)> {
        let place = FORMS.iter().position(|known| *known == form);
        let needed =
            |month: &SenderMonth| place.and_then(|place| month.needed.get(place)).map_or(0, |needed| (*needed).into());
        let mut highest = Vec::from_iter(self.of(form).iter().map(|month| (month.account, needed(month))));
        highest.sort_by_key(|(account, needed)| (std::cmp::Reverse(*needed), *account));
        highest
    }
}

fn level(highest: &[(u32, u64)], amount: u64) -> Level {
    let touched = highest.iter().take_while(|(_, needed)| *needed > amount);
    let mut level = Level { amount, touched: touched.clone().count(), accounts: Vec::new() };
    let mut seen = std::collections::HashSet::new();
    level.accounts.extend(touched.filter(|(account, _)| seen.insert(*account)));
    level
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::intake::Charged;
    use crate::replay::suggest::form::{BURST, QUOTA, USUAL_HOUR};
    use crate::replay::suggest::streams::Streams;

    /// 2026-09-28 00:00 UTC.
    const BEGIN: i64 = 1_790_553_600;
    const DAY: i64 = 24 * 3600;

    fn swept(mails: &[(&str, i64, u32)]) -> (SenderMonths, Log) {
        let (mut streams, mut mails) = (Streams::default(), mails.to_vec());
        mails.sort_by_key(|(_, at, _)| *at);
        mails.iter().for_each(|(name, at, recipients)| streams.add(&Charged::of(name, BEGIN + at, None, *recipients)));
        let (begin, end) = streams.span.unwrap();
        let (mut months, log) = (SenderMonths::default(), Log { begin, end });
        let streams = streams.into_sorted();
        streams.iter().zip(0..).for_each(|(stream, account)| months.add(account, &stream.sums, log));
        (months, log)
    }

    #[test]
    fn the_tightest_amount_lets_all_but_so_many_pass() {
        let mails: Vec<_> =
            (1..=10).map(|number| (&"abcdefghij"[number - 1..number], number as i64 * 60, number as u32)).collect();
        let (months, _) = swept(&mails);
        assert_eq!(months.len(QUOTA), 10);
        assert_eq!(months.tightest(QUOTA, 0), Some(Level { amount: 10, touched: 0, accounts: Vec::new() }));
        assert_eq!(months.tightest(QUOTA, 2), Some(Level { amount: 8, touched: 2, accounts: vec![(9, 10), (8, 9)] }));
        assert_eq!(months.tightest(QUOTA, 100).map(|level| level.amount), Some(1));
        assert_eq!(months.tightest(USUAL_HOUR, 0), None, "nothing was learnt");
    }

    #[test]
    fn an_account_counts_once_in_each_month_it_sends_in() {
        let (months, _) = swept(&[("al", 0, 7), ("al", 200, 7), ("al", DAY, 3), ("al", 31 * DAY, 9), ("bo", 0, 1)]);
        assert_eq!(months.len(BURST), 3);
        let touched = months.touched(BURST, 5);
        assert_eq!((touched.touched, touched.accounts), (2, vec![(0, 14)]));
    }

    #[test]
    fn what_is_usual_is_learnt_for_fourteen_days_and_needs_no_min_then() {
        let weekly = |days: i64| ("al", days * DAY, 200);
        let (months, log) =
            swept(&[weekly(0), weekly(7), weekly(14), weekly(21), ("bo", 22 * DAY, 60), ("co", 1, 900)]);
        assert_eq!(log.acts_from(), Some(BEGIN + 14 * DAY));
        assert_eq!(months.len(USUAL_HOUR), 2, "co sent nothing since");
        let level = months.tightest(USUAL_HOUR, 0).unwrap();
        assert_eq!(level.amount, 60, "what bo needs, who has no past");
    }
}
