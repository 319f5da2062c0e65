//! In which time a thing is told once. Pure: time is an argument.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::limiter::day;
use crate::policy::duration;
use crate::policy::quota::Window;

/// A limit may have a window of a few minutes; about one limit nobody is told more often than this.
const LIMIT_PERIOD: Duration = Duration::from_secs(3600);

/// The beginning, in seconds since 1970, of the period in which a notice about the quota at `now` is told once.
///
/// A sliding window has no beginning: its periods are windows that follow on each other since 1970. Counters that are reset
/// begin anew with the reset; one that another program made is not known, so that local midnight, when the packaged timers
/// run, begins a period in any case.
pub fn of_quota(window: Window, now: i64, last_reset: Option<i64>, zone: &TimeZone) -> i64 {
    match window {
        Window::Sliding(window) => aligned(now, window),
        Window::Reset => {
            let midnight = day::began(now, zone);
            last_reset.filter(|&reset| reset <= now).map_or(midnight, |reset| reset.max(midnight))
        }
    }
}

/// The same for a notice about one of LIMITS.
pub fn of_limit(now: i64) -> i64 {
    aligned(now, LIMIT_PERIOD)
}

fn aligned(now: i64, length: Duration) -> i64 {
    let length = duration::seconds(length).max(1);
    now - now.rem_euclid(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: i64 = 1_800_014_400; // 2027-01-15 12:00 UTC
    const HOUR: i64 = 3600;
    const DAY: Window = Window::Sliding(Duration::from_secs(86_400));

    #[test]
    fn a_sliding_window_has_one_period_a_window() {
        let of = |now| of_quota(DAY, now, None, &TimeZone::UTC);
        assert_eq!(of(NOON), NOON - 12 * HOUR);
        assert_eq!(of(NOON + 12 * HOUR - 1), of(NOON));
        assert_eq!(of(NOON + 12 * HOUR), NOON + 12 * HOUR);
    }

    #[test]
    fn counters_begin_anew_at_local_midnight_and_with_each_reset() {
        let berlin = TimeZone::fixed(jiff::tz::offset(1));
        let of = |now, reset| of_quota(Window::Reset, now, reset, &berlin);
        let midnight = NOON - 13 * HOUR;
        assert_eq!(of(NOON, None), midnight);
        assert_eq!(of(NOON, Some(midnight + 10)), midnight + 10, "the packaged timer");
        assert_eq!(of(NOON, Some(NOON - HOUR)), NOON - HOUR, "by hand, in the middle of the day");
        assert_eq!(of(NOON, Some(midnight - 40 * HOUR)), midnight, "another program's timer resets");
        assert_eq!(of(NOON, Some(NOON + HOUR)), midnight, "another host's clock is ahead");
    }

    proptest! {
        #[test]
        fn a_period_has_begun_and_is_no_longer_than_its_window(now in 0i64..4_000_000_000, minutes in 1u64..50_000) {
            let window = Duration::from_secs(60 * minutes);
            let begin = of_quota(Window::Sliding(window), now, None, &TimeZone::UTC);
            prop_assert!(begin <= now && now - begin < window.as_secs() as i64);
            prop_assert_eq!(of_quota(Window::Sliding(window), begin, None, &TimeZone::UTC), begin);
        }
    }
}
