//! The server's days: when counters are reset by the packaged timer. Pure: time is an argument.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// A day in seconds, for times that no calendar has.
const DAY: i64 = 24 * 3600;

/// A daily reset that did not come for so long, in seconds, will not come by itself.
pub const RESET_OVERDUE: i64 = 26 * 3600;

/// When the day of `now` began in this zone, in seconds since 1970. A day may have 23 or 25 hours.
pub fn began(now: i64, zone: &TimeZone) -> i64 {
    let local = Timestamp::from_second(now).map(|now| now.to_zoned(zone.clone()));
    let midnight = local.and_then(|local| local.start_of_day());
    midnight.map_or_else(|_| now - now.rem_euclid(DAY), |midnight| midnight.timestamp().as_second())
}

/// When the packaged timer resets the counters next: ten seconds after local midnight.
pub fn next_reset(now: i64, zone: &TimeZone) -> Option<i64> {
    let local = Timestamp::from_second(now).ok()?.to_zoned(zone.clone());
    let reset = |day: &Zoned| Some(day.start_of_day().ok()?.checked_add(10.seconds()).ok()?.timestamp().as_second());
    match reset(&local)? {
        today if now < today => Some(today),
        _ => reset(&local.tomorrow().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_day_begins_where_the_clocks_of_the_place_say() {
        let zurich = TimeZone::get("Europe/Zurich").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
        for (now, midnight) in [
            ("2026-11-14T22:59:59Z", "2026-11-13T23:00:00Z"),
            ("2026-11-14T23:00:00Z", "2026-11-14T23:00:00Z"),
            // 23 hours, and 25.
            ("2026-03-29T21:59:59Z", "2026-03-28T23:00:00Z"),
            ("2026-03-29T22:00:00Z", "2026-03-29T22:00:00Z"),
            ("2026-10-25T22:59:59Z", "2026-10-24T22:00:00Z"),
        ] {
            assert_eq!(began(at(now), &zurich), at(midnight), "{now}");
        }
    }

    proptest! {
        #[test]
        fn the_next_reset_is_ten_seconds_into_a_day(now in 0i64..4_000_000_000, offset in -14i8..=14) {
            let zone = TimeZone::fixed(jiff::tz::offset(offset));
            let (today, next) = (began(now, &zone), next_reset(now, &zone).unwrap());
            prop_assert!(today <= now && now < next);
            prop_assert_eq!(next, if now < today + 10 { today + 10 } else { today + DAY + 10 });
        }
    }
}
