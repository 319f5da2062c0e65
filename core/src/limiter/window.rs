//! Sliding windows over sums per minute.
//!
//! What is let through is added to the minute it came in. A window of length W at time t holds the minute of t − W
//! and all that follow, so nothing that came in within W is ever left out: at no time is more than N let through in
//! W. What came in earlier in that first minute is held as well, which makes the window up to one minute longer than
//! W.
//!
//! The last minute is the one that a host may have whose clock is [`CLOCKS_DIFFER`] ahead. What is later was written while
//! a clock was wrong, and does not count. Refused mail is in no sum, so a client that keeps retrying is free again at the
//! same moment as one that waits.
//!
//! What a window longer than [`EXACT`] holds of the time before is kept by the hour, and what lies more than a month back by the
//! day, so that the history of a sender is some 2,500 sums at the most, whatever the window: see [`kept_together`]. Such a
//! sum stands at its last minute, which makes that window up to an hour or a day stricter and never laxer.
//!
//! Times are Unix time in seconds; rounding them down loses nothing.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::policy::duration::seconds;

const MINUTE: i64 = 60;
const HOUR: Duration = Duration::from_secs(3600);
/// In minutes.
pub const MINUTES_OF_HOUR: i64 = 60;
/// In minutes.
pub const MINUTES_OF_DAY: i64 = 24 * 60;
/// So far back hours are told apart, in minutes.
const MONTH: i64 = 32 * MINUTES_OF_DAY;

/// Windows of up to this length are exact to the minute.
pub const EXACT: Duration = Duration::from_secs(25 * 3600);

/// By how much the clocks of hosts may differ, in seconds. What is later than that was written while a clock was wrong.
pub const CLOCKS_DIFFER: i64 = 3600;

/// What came in within one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinuteSum {
    /// See [`minute_of`].
    pub minute: i64,
    /// Recipients, messages or bytes; for networks the number that were last seen in this minute.
    pub sum: u64,
}

/// The minute that a time belongs to, counted from 1970.
pub fn minute_of(time: i64) -> i64 {
    time.div_euclid(MINUTE)
}

/// When the minute of a time began.
pub fn begin_of_minute(time: i64) -> i64 {
    minute_of(time).saturating_mul(MINUTE)
}

/// The first minute of a window that ends now.
pub fn first_minute(now: i64, window: Duration) -> i64 {
    minute_of(now.saturating_sub(seconds(window)))
}

/// The latest time, in seconds since 1970, that a host may have now.
pub fn latest(now: i64) -> i64 {
    now.saturating_add(CLOCKS_DIFFER)
}

/// The minutes that count in a window that ends now.
pub fn minutes(now: i64, window: Duration) -> RangeInclusive<i64> {
    first_minute(now, window)..=minute_of(latest(now))
}

/// How far back minutes are told apart for these windows: as far as any of them reaches that is exact to the minute, and at
/// least an hour.
pub fn exact_for(windows: impl Iterator<Item = Duration>) -> Duration {
    windows.filter(|window| *window <= EXACT).max().unwrap_or_default().max(HOUR)
}

/// Before this minute, sums are kept by the hour, and before the second one by the day, where minutes are told apart for as
/// long as `exact`.
pub fn coarse_before(now: i64, exact: Duration) -> (i64, i64) {
    let hours = begin(first_minute(now, exact), MINUTES_OF_HOUR);
    (hours, days_before(hours))
}

/// Before which minute sums are kept by the day, if before `hours` they are kept by the hour.
pub fn days_before(hours: i64) -> i64 {
    begin(hours.saturating_sub(MONTH), MINUTES_OF_DAY)
}

fn begin(minute: i64, length: i64) -> i64 {
    minute.div_euclid(length).saturating_mul(length)
}

/// The minutes that are kept in one sum with this one, `coarse_before` being as [`coarse_before`] says.
pub fn kept_together(minute: i64, coarse_before: (i64, i64)) -> RangeInclusive<i64> {
    let length = match minute {
        minute if minute < coarse_before.1 => MINUTES_OF_DAY,
        minute if minute < coarse_before.0 => MINUTES_OF_HOUR,
        _ => 1,
    };
    let first = begin(minute, length);
    first..=first.saturating_add(length - 1)
}

/// The most sums that the history of a sender has for a window, if minutes are told apart for as long as `exact`: two hours
/// more than that, the hours of a month and two days, and the days before.
pub fn most_sums(window: Duration, exact: Duration) -> u64 {
    let minutes = seconds(exact).div_euclid(MINUTE) + 2 * MINUTES_OF_HOUR;
    let days = seconds(window).div_euclid(MINUTE * MINUTES_OF_DAY);
    (minutes + 24 * days.min(34) + days).unsigned_abs()
}

/// When a minute no longer counts in a window.
pub fn leaves_at(minute: i64, window: Duration) -> i64 {
    minute.saturating_add(1).saturating_mul(MINUTE).saturating_add(seconds(window))
}

/// What counts now, of these sums.
pub fn used(sums: &[MinuteSum], window: Duration, now: i64) -> u64 {
    let counting = minutes(now, window);
    sums.iter().filter(|sum| counting.contains(&sum.minute)).fold(0, |total, sum| total.saturating_add(sum.sum))
}

/// The first moment, from now on, at which `amount` more is within what is allowed, if nothing else comes in. None if
/// it never is, because it is more than is allowed at all. The sums are in the order of their minutes.
pub fn free_at(sums: &[MinuteSum], window: Duration, allowed: u64, amount: u64, now: i64) -> Option<i64> {
    let room = allowed.checked_sub(amount)?;
    let mut held = used(sums, window, now);
    if held <= room {
        return Some(now);
    }
    let counting = minutes(now, window);
    let leaving = sums.iter().filter(|sum| counting.contains(&sum.minute)).find(|sum| {
        held = held.saturating_sub(sum.sum);
        held <= room
    });
    leaving.map(|sum| leaves_at(sum.minute, window))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const HOUR: Duration = Duration::from_secs(3600);

    fn sums(sums: &[(i64, u64)]) -> Vec<MinuteSum> {
        sums.iter().map(|&(minute, sum)| MinuteSum { minute, sum }).collect()
    }

    #[test]
    fn a_window_holds_its_first_minute_whole() {
        // An hour before 01:00:00 is 00:00:00, and before 01:00:59 is 00:00:59: both in minute 0.
        assert_eq!((first_minute(3600, HOUR), first_minute(3659, HOUR), first_minute(3660, HOUR)), (0, 0, 1));
        assert_eq!(leaves_at(0, HOUR), 3660);
        assert_eq!((minute_of(-1), first_minute(0, Duration::from_secs(1))), (-1, -1));
    }

    #[test]
    fn says_when_there_is_room_again() {
        let sums = sums(&[(0, 5), (10, 3), (20, 2)]);
        let at = |allowed, amount, now| free_at(&sums, HOUR, allowed, amount, now);
        assert_eq!(at(10, 1, 1300), Some(3660));
        assert_eq!(at(10, 5, 1300), Some(3660));
        assert_eq!(at(10, 6, 1300), Some(3660 + 600));
        assert_eq!(at(10, 10, 1300), Some(3660 + 1200));
        assert_eq!(at(10, 11, 1300), None);
        assert_eq!(at(11, 1, 1300), Some(1300));
        // What has left the window is of no account.
        assert_eq!(at(10, 5, 3660), Some(3660));
        // More was let through than is allowed now: the quota was lowered.
        assert_eq!(at(2, 1, 1300), Some(3660 + 1200));
        assert_eq!(at(0, 1, 1300), None);
    }

    #[test]
    fn what_a_wrong_clock_wrote_does_not_count() {
        let last = minute_of(1300 + CLOCKS_DIFFER);
        let sums = sums(&[(20, 1), (last, 2), (last + 1, 4), (525_600, 8)]);
        assert_eq!(used(&sums, HOUR, 1300), 3);
        assert_eq!(free_at(&sums, HOUR, 3, 1, 1300), Some(leaves_at(20, HOUR)));
        assert_eq!(free_at(&sums, HOUR, 4, 1, 1300), Some(1300));
    }

    #[test]
    fn no_number_is_too_large() {
        let end = minute_of(i64::MAX);
        let sums = sums(&[(end, u64::MAX), (end, u64::MAX)]);
        assert_eq!(used(&sums, Duration::MAX, i64::MAX), u64::MAX);
        assert_eq!(used(&sums, Duration::MAX, i64::MIN), 0);
        assert_eq!(free_at(&sums, Duration::MAX, 1, 1, i64::MAX), Some(i64::MAX));
        assert_eq!(free_at(&[], HOUR, u64::MAX, u64::MAX, 0), Some(0));
    }

    /// The store: sums per minute and nothing else, which is all that outlives a restart.
    #[derive(Default)]
    struct Store(BTreeMap<i64, u64>);

    impl Store {
        fn sums(&self) -> Vec<MinuteSum> {
            self.0.iter().map(|(&minute, &sum)| MinuteSum { minute, sum }).collect()
        }

        /// Lets `amount` through if a quota of `allowed` has room for it.
        fn ask(&mut self, window: Duration, allowed: u64, amount: u64, now: i64) -> bool {
            let fits = used(&self.sums(), window, now) + amount <= allowed;
            if fits {
                *self.0.entry(minute_of(now)).or_default() += amount;
            }
            fits
        }
    }

    fn total_since(let_through: &[(i64, u64)], from: i64) -> u64 {
        let_through.iter().filter(|(at, _)| *at >= from).map(|(_, amount)| amount).sum()
    }

    /// One request: how long after the one before, of how many recipients, at a host whose clock is how far ahead.
    fn requests(skew: i64) -> impl Strategy<Value = Vec<(i64, u64, i64)>> {
        let pause = prop_oneof![4 => 0i64..5, 4 => 0i64..90, 1 => 0i64..1000];
        prop::collection::vec((pause, 1u64..6, 0..=skew), 1..150)
    }

    fn streams() -> impl Strategy<Value = (i64, Vec<(i64, u64, i64)>)> {
        prop_oneof![Just(0i64), 1i64..50].prop_flat_map(|skew| (Just(skew), requests(skew)))
    }

    proptest! {
        #[test]
        fn never_more_than_the_quota_in_any_window_and_at_most_a_minute_stricter(
            start in 1_700_000_000i64..1_700_000_120,
            length in prop_oneof![Just(60i64), Just(90), 60i64..900],
            allowed in 1u64..40,
            (skew, requests) in streams(),
        ) {
            let window = Duration::from_secs(length.unsigned_abs());
            let mut store = Store::default();
            // The plain list: when, by a true clock, how many were let through.
            let mut let_through: Vec<(i64, u64)> = Vec::new();
            let mut now = start;
            for (pause, amount, ahead) in requests {
                now += pause;
                let longest = total_since(&let_through, now - length - MINUTE - skew + 1);
                let fits = store.ask(window, allowed, amount, now + ahead);
                prop_assert!(fits || longest + amount > allowed, "refused {} with {} of {}", amount, longest, allowed);
                if fits {
                    let_through.push((now, amount));
                    // A window with the most in it ends when something comes in. Both its ends belong to it.
                    let held = total_since(&let_through, now - length + skew);
                    prop_assert!(held <= allowed, "{} of {} at {}", held, allowed, now);
                }
            }
        }

        #[test]
        fn who_keeps_retrying_is_free_when_who_waits_is(
            start in 1_700_000_000i64..1_700_000_120,
            length in 60i64..600,
            allowed in 1u64..40,
            requests in requests(0),
            retry in 1i64..30,
        ) {
            let window = Duration::from_secs(length.unsigned_abs());
            let mut store = Store::default();
            let mut now = start;
            let mut refused = None;
            for (pause, amount, _) in requests {
                now += pause;
                if !store.ask(window, allowed, amount, now) {
                    refused = Some(amount);
                    break;
                }
            }
            let Some(amount) = refused else { return Ok(()) };
            let free = free_at(&store.sums(), window, allowed, amount, now);
            let Some(free) = free else {
                prop_assert!(amount > allowed);
                return Ok(());
            };
            prop_assert!(now < free && free <= now + length + MINUTE);
            // The one who retries is refused until then, at every try and in the last second before.
            for at in (now..free).step_by(usize::try_from(retry).unwrap()).chain([free - 1]) {
                prop_assert!(!store.ask(window, allowed, amount, at));
                prop_assert_eq!(free_at(&store.sums(), window, allowed, amount, at), Some(free));
            }
            prop_assert!(store.ask(window, allowed, amount, free));
        }
    }
}
