//! What is usual for an account: the most that it sent within an hour, and within 24 hours, in the last five weeks.
//!
//! It is kept by the day, in UTC: a day has the highest sums of the windows that end in it. Today and yesterday are left out,
//! so that what a stolen account sends is not usual before somebody could look. A window is what the one of a limit is, see
//! [`super::window`]: the minute that is an hour, or 24 hours, ago and all that follow.
//!
//! Only mail that went its way is to be added: what was held or refused does not become usual.

use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::window::{CLOCKS_DIFFER, first_minute};
use crate::policy::limit::{Limit, Measure, USUAL_WINDOWS};
use crate::policy::quota;

const MINUTES_OF_DAY: i64 = 24 * 60;
const DAY: i64 = 24 * 60 * 60;
/// So many days back it is looked, today counted: what happens once a month is usual.
const DAYS: i64 = 35;
/// Today and yesterday.
const LEFT_OUT: i64 = 2;
/// So many days the database must know before limits that learn do more than warn.
pub const LEARNING: i64 = 14;
/// So long days are kept, and the networks that an account was seen in. In seconds.
pub const KEPT: i64 = (DAYS + 1) * DAY;
/// Minutes are needed for so long until a day is made of them: those of the day, of the one before, and some hours.
pub const MINUTES_FOR: Duration = Duration::from_secs(50 * 60 * 60);

/// The day that a minute belongs to, counted from 1970, in UTC.
pub fn day_of(minute: i64) -> i64 {
    minute.div_euclid(MINUTES_OF_DAY)
}

/// The first minute of a day.
pub fn first_minute_of(day: i64) -> i64 {
    day.saturating_mul(MINUTES_OF_DAY)
}

/// The day of a time in seconds since 1970.
pub fn today(now: i64) -> i64 {
    now.div_euclid(DAY)
}

/// The days that count at a time, in seconds since 1970.
pub fn days(now: i64) -> RangeInclusive<i64> {
    let today = today(now);
    today.saturating_sub(DAYS)..=today.saturating_sub(LEFT_OUT)
}

/// The first day that is not over yet where the clock is furthest behind. Time is in seconds since 1970.
pub fn ended(now: i64) -> i64 {
    today(now.saturating_sub(CLOCKS_DIFFER))
}

/// The days of which the mail of an account does not become usual that was found taken over at a time, in seconds since 1970:
/// that day and the one before, since whoever finds it may only come in the morning.
pub fn untaught(found: i64) -> RangeInclusive<i64> {
    let found = today(found);
    found.saturating_sub(1)..=found
}

/// When an account was found taken over whose mail of any of these days does not become usual, in seconds since 1970.
pub fn found_for(days: &RangeInclusive<i64>) -> Range<i64> {
    let first_second = |day: i64| day.saturating_mul(DAY);
    first_second(*days.start())..first_second(days.end().saturating_add(2))
}

/// When limits by what is usual begin to act, in seconds since 1970, if this is the first day that the database knows.
pub fn acts_from(first_day: i64) -> i64 {
    first_day.saturating_add(LEARNING).saturating_mul(DAY)
}

/// When limits on new networks begin to act, if it is noted since this time where accounts are seen. In seconds since 1970.
pub fn acts_on_networks_from(networks_since: i64) -> i64 {
    networks_since.saturating_add(LEARNING * DAY)
}

/// An amount of mail in some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    pub messages: u64,
    pub recipients: u64,
}

impl Sums {
    fn plus(self, other: Sums) -> Sums {
        Sums {
            messages: self.messages.saturating_add(other.messages),
            recipients: self.recipients.saturating_add(other.recipients),
        }
    }

    fn less(self, other: Sums) -> Sums {
        Sums {
            messages: self.messages.saturating_sub(other.messages),
            recipients: self.recipients.saturating_sub(other.recipients),
        }
    }

    /// Of each the greater.
    fn max(self, other: Sums) -> Sums {
        Sums { messages: self.messages.max(other.messages), recipients: self.recipients.max(other.recipients) }
    }
}

/// The highest sums within an hour and within 24 hours; of messages and of recipients, which may be those of other times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peaks {
    pub hour: Sums,
    pub day: Sums,
}

impl Peaks {
    /// Of each the greater.
    pub fn max(self, other: Peaks) -> Peaks {
        Peaks { hour: self.hour.max(other.hour), day: self.day.max(other.day) }
    }

    /// The highest sum within a window. None where that is not known: see [`USUAL_WINDOWS`].
    pub fn of(self, measure: Measure, window: Duration) -> Option<u64> {
        let [hour, day] = USUAL_WINDOWS;
        let sums = match window {
            window if window == hour => self.hour,
            window if window == day => self.day,
            _ => return None,
        };
        match measure {
            Measure::Recipients => Some(sums.recipients),
            Measure::Messages => Some(sums.messages),
            _ => None,
        }
    }

    /// The most that counted against a quota in its time: messages or recipients, whichever is more. Between two resets lies a day.
    /// None where that is not known, or nothing was sent.
    pub fn of_quota(&self, window: quota::Window) -> Option<u64> {
        let [_, day] = USUAL_WINDOWS;
        let window = match window {
            quota::Window::Reset => day,
            quota::Window::Sliding(window) => window,
        };
        let of = |measure| self.of(measure, window);
        of(Measure::Messages).max(of(Measure::Recipients)).filter(|&most| most > 0)
    }
}

/// A day of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Day {
    /// Counted from 1970, in UTC.
    pub day: i64,
    /// Of the windows that end in this day.
    pub peaks: Peaks,
    pub total: Sums,
}

impl Day {
    /// Of each the greater, of two that tell of the same day.
    pub fn max(self, other: Day) -> Day {
        Day { day: self.day, peaks: self.peaks.max(other.peaks), total: self.total.max(other.total) }
    }
}

/// What is known of the past of an account, for decisions on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usual {
    /// The day of those decisions.
    pub today: i64,
    /// The first of the last days of which the database knows anything, of any account.
    pub first_day: Option<i64>,
    /// Since when it is noted where accounts are seen for the first time, in seconds since 1970.
    pub networks_since: Option<i64>,
    pub peaks: Peaks,
}

impl Usual {
    /// Whether it is for decisions at this time, in seconds since 1970.
    pub fn is_for(&self, now: i64) -> bool {
        self.today == today(now)
    }

    /// From when on a limit that learns does more than warn, in seconds since 1970. None if nothing is known yet.
    pub fn acts_from(&self, limit: &Limit) -> Option<i64> {
        if limit.measure.is_from_new_networks() {
            self.networks_since.map(acts_on_networks_from)
        } else {
            self.first_day.map(acts_from)
        }
    }
}

/// The days of one account, made of its minutes. Pure, and as exact as a list of all its mail.
#[derive(Debug, Clone)]
pub struct Record {
    hour: Sliding,
    day: Sliding,
    /// In ascending order; those without mail are left out.
    days: VecDeque<Day>,
}

impl Default for Record {
    fn default() -> Record {
        let [hour, day] = USUAL_WINDOWS.map(Sliding::new);
        Record { hour, day, days: VecDeque::new() }
    }
}

impl Record {
    /// Adds what went its way in a minute. Minutes come in ascending order, each as often as one likes; one that comes too late
    /// counts in the last minute that was added.
    pub fn add(&mut self, minute: i64, sums: Sums) {
        let minute = self.day.held.back().map_or(minute, |(last, _)| minute.max(*last));
        let peaks = Peaks { hour: self.hour.add(minute, sums), day: self.day.add(minute, sums) };
        let day = day_of(minute);
        if self.days.back().is_none_or(|last| last.day != day) {
            self.days.push_back(Day { day, ..Day::default() });
            while self.days.front().is_some_and(|first| first.day < day.saturating_sub(DAYS)) {
                self.days.pop_front();
            }
        }
        if let Some(last) = self.days.back_mut() {
            last.peaks = last.peaks.max(peaks);
            last.total = last.total.plus(sums);
        }
    }

    /// The last 36 days that had mail, up to the day of the last minute that was added.
    pub fn days(&self) -> impl DoubleEndedIterator<Item = &Day> {
        self.days.iter()
    }

    /// What is usual at a time, in seconds since 1970, from the last minute that was added on.
    pub fn usual(&self, now: i64) -> Peaks {
        let counting = days(now);
        let counting = self.days.iter().filter(|day| counting.contains(&day.day));
        counting.fold(Peaks::default(), |usual, day| usual.max(day.peaks))
    }
}

/// The sum of a window that slides over minutes.
#[derive(Debug, Clone)]
struct Sliding {
    window: Duration,
    held: VecDeque<(i64, Sums)>,
    sum: Sums,
}

impl Sliding {
    fn new(window: Duration) -> Sliding {
        Sliding { window, held: VecDeque::new(), sum: Sums::default() }
    }

    /// Adds to a minute, which is none before the last, and returns what the window then holds.
    fn add(&mut self, minute: i64, sums: Sums) -> Sums {
        match self.held.back_mut() {
            Some((last, held)) if *last == minute => *held = held.plus(sums),
            _ => self.held.push_back((minute, sums)),
        }
        let first = first_minute(minute.saturating_mul(60), self.window);
        self.sum = self.sum.plus(sums);
        while let Some((_, left)) = self.held.pop_front_if(|(minute, _)| *minute < first) {
            self.sum = self.sum.less(left);
        }
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::history::History;
    use crate::limiter::increase::Increase;
    use crate::limiter::window::minute_of;
    use crate::policy::limits;
    use proptest::prelude::*;

    /// 2026-09-28 00:00 UTC.
    const BEGIN: i64 = 1_790_553_600;
    const HOUR: i64 = 3600;

    /// Mail in the order of time: seconds after the one before, recipients.
    fn stream() -> impl Strategy<Value = Vec<(i64, u32)>> {
        let pause = prop_oneof![6 => 0i64..90, 3 => 0i64..2 * HOUR, 2 => 0i64..30 * HOUR, 1 => 0i64..12 * DAY];
        prop::collection::vec((pause, 0u32..60), 1..250)
    }

    fn at(stream: &[(i64, u32)]) -> Vec<(i64, u32)> {
        let mut now = BEGIN;
        let placed = stream.iter().map(|(pause, recipients)| {
            now += pause;
            (now, *recipients)
        });
        placed.collect()
    }

    fn sums(recipients: u32) -> Sums {
        Sums { messages: 1, recipients: recipients.into() }
    }

    /// The highest sum of a window that ends with a mail of the days that count, from a plain list of all mail.
    fn highest(events: &[(i64, u32)], window: i64, now: i64) -> (u64, u64) {
        let today = now.div_euclid(DAY);
        let counts = |at: i64| (today - 35..=today - 2).contains(&at.div_euclid(DAY));
        let ends = events.iter().filter(|(at, _)| counts(*at));
        let held = |end: i64| {
            let first = (end - window).div_euclid(60) * 60;
            // Mail of the same minute is in the window, whichever came first.
            let inside = events.iter().filter(move |(at, _)| first <= *at && at.div_euclid(60) <= end.div_euclid(60));
            inside.fold((0, 0), |(messages, all), (_, recipients)| (messages + 1, all + u64::from(*recipients)))
        };
        ends.map(|(at, _)| held(*at)).fold((0, 0), |(one, two), (a, b)| (one.max(a), two.max(b)))
    }

    proptest! {
        #[test]
        fn it_is_what_a_list_of_all_mail_gives(stream in stream(), later in 0i64..40 * DAY) {
            let events = at(&stream);
            let mut record = Record::default();
            for (at, recipients) in &events {
                record.add(minute_of(*at), sums(*recipients));
                prop_assert!(record.days.len() <= 36);
            }
            let now = events.last().unwrap().0 + later;
            let usual = record.usual(now);
            for (window, sums) in [(HOUR, usual.hour), (DAY, usual.day)] {
                prop_assert_eq!((sums.messages, sums.recipients), highest(&events, window, now));
            }
            let of_days: u64 = record.days().map(|day| day.total.messages).sum();
            let last = events.last().unwrap().0.div_euclid(DAY);
            prop_assert_eq!(of_days, events.iter().filter(|(at, _)| at.div_euclid(DAY) >= last - 35).count() as u64);
        }

        /// What a window held when a mail was counted is never more than that day's highest: the two are one measure.
        #[test]
        fn a_day_has_the_highest_that_its_decisions_saw(stream in stream()) {
            let events = at(&stream);
            let mut record = Record::default();
            let mut history = History::default();
            let mut seen = Peaks::default();
            for (at, recipients) in &events {
                record.add(minute_of(*at), sums(*recipients));
                history.add(Increase { messages: 1, recipients: *recipients, bytes: 0 }, *at);
                let [hour, day] = USUAL_WINDOWS.map(|window| Sums {
                    messages: history.used(Measure::Messages, window, *at),
                    recipients: history.used(Measure::Recipients, window, *at),
                });
                seen = seen.max(Peaks { hour, day });
                prop_assert_eq!(record.days().next_back().map(|day| day.day), Some(at.div_euclid(DAY)));
            }
            let days = record.days().fold(Peaks::default(), |all, day| all.max(day.peaks));
            if events.last().unwrap().0 - BEGIN < 35 * DAY {
                prop_assert_eq!(days, seen);
            }
        }

        /// Each day made by itself, of its own minutes and those of the day before, by whichever daemon and however often:
        /// a restart, or a second daemon, changes nothing.
        #[test]
        fn a_day_is_made_of_its_own_minutes_and_those_of_the_day_before(stream in stream()) {
            let events = at(&stream);
            let mut whole = Record::default();
            events.iter().for_each(|(at, recipients)| whole.add(minute_of(*at), sums(*recipients)));
            for day in whole.days() {
                let mut alone = Record::default();
                let minutes = first_minute_of(day.day - 1)..first_minute_of(day.day + 1);
                let of_day = events.iter().filter(|(at, _)| minutes.contains(&minute_of(*at)));
                of_day.for_each(|(at, recipients)| alone.add(minute_of(*at), sums(*recipients)));
                prop_assert_eq!(alone.days().find(|made| made.day == day.day), Some(day));
            }
        }
    }

    #[test]
    fn today_and_yesterday_are_left_out_and_five_weeks_ago_is_not() {
        let noon = BEGIN + 12 * HOUR;
        let mut record = Record::default();
        record.add(minute_of(noon), sums(40));
        let usual = |days: i64| record.usual(noon + days * DAY).hour.recipients;
        assert_eq!([0, 1, 2, 34, 35, 36].map(usual), [0, 0, 40, 40, 40, 0]);
    }

    #[test]
    fn the_day_on_which_a_theft_is_found_and_the_one_before_teach_nothing() {
        let day = today(BEGIN);
        assert_eq!([0, DAY - 1].map(|second| untaught(BEGIN + second)), [day - 1..=day, day - 1..=day]);
        for found in (BEGIN - 3 * DAY..BEGIN + 4 * DAY).step_by(HOUR as usize).flat_map(|at| [at - 1, at]) {
            let concerned = untaught(found).any(|untaught| (day..=day + 1).contains(&untaught));
            assert_eq!(found_for(&(day..=day + 1)).contains(&found), concerned, "{found}");
        }
    }

    #[test]
    fn what_is_usual_of_a_quota_is_the_greater_in_its_time() {
        let sums = |messages, recipients| Sums { messages, recipients };
        let peaks = Peaks { hour: sums(3, 7), day: sums(9, 8) };
        let sliding = |hours: u64| peaks.of_quota(quota::Window::Sliding(Duration::from_secs(hours * 3600)));
        assert_eq!([1, 2, 24].map(sliding), [Some(7), None, Some(9)]);
        assert_eq!(peaks.of_quota(quota::Window::Reset), Some(9));
        assert_eq!(Peaks::default().of_quota(quota::Window::Reset), None);
    }

    #[test]
    fn fourteen_days_are_learnt() {
        let first_day = today(BEGIN);
        let networks_since = Some(BEGIN + 100);
        let usual =
            Usual { today: first_day + 14, first_day: Some(first_day), networks_since, peaks: Peaks::default() };
        let limit = |written| limits::parse(written, "").unwrap().remove(0);
        assert_eq!(usual.acts_from(&limit("3x usual messages/1h min 9")), Some(BEGIN + 14 * DAY));
        assert_eq!(usual.acts_from(&limit("9 messages/1h from new networks")), Some(BEGIN + 100 + 14 * DAY));
        let nothing = Usual { first_day: None, ..usual };
        assert_eq!(nothing.acts_from(&limit("3x usual messages/1h min 9")), None);
        assert!(usual.is_for(BEGIN + 15 * DAY - 1) && !usual.is_for(BEGIN + 15 * DAY));
    }

    #[test]
    fn no_number_is_too_large() {
        let mut record = Record::default();
        let most = Sums { messages: u64::MAX, recipients: u64::MAX };
        [i64::MIN, 0, 0, minute_of(i64::MAX), i64::MIN].into_iter().for_each(|minute| record.add(minute, most));
        assert_eq!(record.usual(i64::MAX).hour, Sums::default());
        assert_eq!(acts_from(i64::MAX), i64::MAX);
    }
}
