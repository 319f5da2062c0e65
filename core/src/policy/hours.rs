//! Hours of the week, in local time: `Mon-Fri,07:00-19:59`.
//!
//! Days and times are joined by commas. Times count on the days before them, so `Mon-Thu,07:00-19:59,Fri,07:00-15:00`
//! is two rules; without days they count every day, and days without times count as a whole. The last minute belongs
//! to the range. A range may pass midnight (`22:00-06:00`) or the week's end (`Sat-Mon`); after midnight it is still
//! the day that it began on.

use jiff::civil::DateTime;

use crate::policy::syntax::{Mistake, Piece};

const EXAMPLE: &str = "hours=Mon-Fri,07:00-19:59";
const LAST_MINUTE: u16 = 24 * 60 - 1;
const EVERY_DAY: u8 = 0b111_1111;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// When an entry of a list applies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hours {
    /// Empty means always.
    ranges: Vec<Range>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes since midnight, both inclusive. A first above the last passes midnight.
    first: u16,
    last: u16,
}

/// What is wrong with hours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoursProblem {
    #[error("`{0}` is not a day or a range of days; the days are Mon Tue Wed Thu Fri Sat Sun")]
    Days(String),
    #[error("`{0}` is not a range of times; write two times from 00:00 to 24:00 with `-` between them")]
    Times(String),
}

impl Hours {
    /// Whether they contain this moment of the server's local time.
    pub fn contain(&self, now: DateTime) -> bool {
        let minute = u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs());
        let today = now.weekday().to_monday_zero_offset().unsigned_abs();
        self.ranges.is_empty() || self.ranges.iter().any(|range| range.contains(today, minute))
    }

    /// Makes these hours contain the others as well.
    pub(super) fn widen(&mut self, others: Hours) {
        if self.ranges.is_empty() || others.ranges.is_empty() {
            self.ranges.clear();
        } else {
            self.ranges.extend(others.ranges);
        }
    }

    pub(super) fn parse(written: Piece<'_>) -> Result<Hours, Mistake<HoursProblem>> {
        let mut ranges = Vec::new();
        let mut days = None;
        // Whether the present days have times yet; if not, they count as a whole.
        let mut timed = true;
        for item in written.split(',') {
            if item.text.contains(':') {
                let (first, last) =
                    times(item.text).ok_or_else(|| item.mistake(HoursProblem::Times(item.shown()), EXAMPLE))?;
                ranges.push(Range { days: days.unwrap_or(EVERY_DAY), first, last });
                timed = true;
            } else {
                let named =
                    named_days(item.text).ok_or_else(|| item.mistake(HoursProblem::Days(item.shown()), EXAMPLE))?;
                days = Some(if timed { named } else { days.unwrap_or(0) | named });
                timed = false;
            }
        }
        if !timed {
            ranges.push(Range { days: days.unwrap_or(EVERY_DAY), first: 0, last: LAST_MINUTE });
        }
        Ok(Hours { ranges })
    }
}

impl Range {
    /// `day` from 0, Monday, to 6.
    fn contains(self, day: u8, minute: u16) -> bool {
        let on = |day: u8| self.days >> (day % 7) & 1 == 1;
        if self.first <= self.last {
            on(day) && (self.first..=self.last).contains(&minute)
        } else {
            (on(day) && minute >= self.first) || (on(day + 6) && minute <= self.last)
        }
    }
}

/// `Mon` or `Mon-Fri`, as bits.
fn named_days(text: &str) -> Option<u8> {
    let number = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name.trim()));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    let length = (last + 7 - first) % 7;
    Some((first..=first + length).fold(0, |days, day| days | 1 << (day % 7)))
}

/// `07:00-19:59`, as minutes since midnight.
fn times(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    Some((time(first)?, time(last)?.min(LAST_MINUTE))).filter(|&(first, _)| first <= LAST_MINUTE)
}

/// `7:00`, `07:00`, and `24:00` for the end of the day.
fn time(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |digits: &str, width: std::ops::RangeInclusive<usize>| -> Option<u16> {
        let plain = width.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok())?
    };
    let (hour, minute) = (number(hour, 1..=2)?, number(minute, 2..=2)?);
    (hour < 24 && minute < 60 || hour == 24 && minute == 0).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;
    use jiff::civil::datetime;
    use proptest::prelude::*;

    fn hours(written: &str) -> Hours {
        Hours::parse(Piece::new(written)).unwrap_or_else(|mistake| panic!("{written}: {mistake}"))
    }

    /// 2026-11-02 is a Monday.
    fn at(day: &str, hour: i8, minute: i8) -> DateTime {
        let day = i8::try_from(DAYS.iter().position(|name| *name == day).unwrap()).unwrap();
        datetime(2026, 11, 2 + day, hour, minute, 30, 0)
    }

    #[test]
    fn office_hours_are_policyds() {
        let office = hours("Mon-Sat,07:00-19:59");
        for (moment, inside) in [
            (at("Mon", 7, 0), true),
            (at("Mon", 6, 59), false),
            (at("Sat", 19, 59), true),
            (at("Sat", 20, 0), false),
            (at("Sun", 12, 0), false),
        ] {
            assert_eq!(office.contain(moment), inside, "{moment}");
        }
    }

    #[test]
    fn a_night_belongs_to_the_day_it_began_on() {
        let night = hours("Fri,22:00-06:00");
        for (moment, inside) in [
            (at("Fri", 22, 0), true),
            (at("Sat", 6, 0), true),
            (at("Sat", 6, 1), false),
            (at("Fri", 5, 0), false),
            (at("Sat", 23, 0), false),
        ] {
            assert_eq!(night.contain(moment), inside, "{moment}");
        }
        let from_sunday = hours("sun,22:00-06:00");
        assert!(from_sunday.contain(at("Mon", 3, 0)) && !from_sunday.contain(at("Sun", 3, 0)));
    }

    #[test]
    fn days_and_times_may_be_given_alone_or_several_times() {
        let weekend = hours("Sat-Mon");
        assert!(
            ["Sat", "Sun", "Mon"].iter().all(|day| weekend.contain(at(day, 0, 0)) && weekend.contain(at(day, 23, 59)))
        );
        assert!(["Tue", "Fri"].iter().all(|day| !weekend.contain(at(day, 12, 0))));
        let shifts = hours("6:00-7:00,18:00-24:00");
        assert!(
            shifts.contain(at("Sun", 6, 30)) && shifts.contain(at("Wed", 23, 59)) && !shifts.contain(at("Wed", 0, 0))
        );
        let short_friday = hours("Mon,Wed-Thu,07:00-12:00,13:00-19:59,Fri,07:00-15:00");
        assert!(short_friday.contain(at("Wed", 13, 0)) && short_friday.contain(at("Mon", 19, 0)));
        assert!(!short_friday.contain(at("Fri", 16, 0)) && !short_friday.contain(at("Tue", 13, 0)));
        assert!(Hours::default().contain(at("Sun", 3, 0)));
    }

    #[test]
    fn widened_hours_contain_both() {
        let mut both = hours("Mon");
        both.widen(hours("Tue"));
        assert!(both.contain(at("Mon", 1, 0)) && both.contain(at("Tue", 1, 0)) && !both.contain(at("Wed", 1, 0)));
        both.widen(Hours::default());
        assert_eq!(both, Hours::default());
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (written, told) in [
            ("Mon-Fry,07:00-19:59", "at character 1: `Mon-Fry` is not a day or a range of days; the days are Mon "),
            ("Mon,7-19", "at character 5: `7-19` is not a day"),
            ("Mon,07:00", "at character 5: `07:00` is not a range of times; write two times from 00:00 to 24:00"),
            ("07:00-25:00", "at character 1: `07:00-25:00` is not a range of times"),
            ("24:00-07:00", "at character 1: `24:00-07:00` is not a range of times"),
            ("07:60-08:00", "at character 1: `07:60-08:00` is not a range of times"),
            ("Mon,", "at character 5: `` is not a day"),
            ("", "at character 1: `` is not a day"),
        ] {
            let message = Hours::parse(Piece::new(written)).unwrap_err().to_string();
            assert!(message.starts_with(told), "{message}");
        }
    }

    proptest! {
        #[test]
        fn a_range_lasts_as_long_as_it_says(day in 0usize..7, first in 0u16..1440, length in 0u16..1440) {
            let last = (first + length) % 1440;
            let name = DAYS[day];
            let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
            let hours = hours(&format!("{name},{}-{}", clock(first), clock(last)));
            let start = at(name, 0, 0) + i64::from(first).minutes();
            // The week around it, in steps that are no part of a day.
            let inside = |after: i64| hours.contain(start + after.minutes());
            prop_assert!(inside(0) && inside(length.into()) && !inside(-1));
            prop_assert!(!inside(i64::from(length) + 1));
            for after in (i64::from(length) + 1..7 * 1440).step_by(37) {
                prop_assert!(!inside(after), "{} minutes after {}", after, start);
            }
        }

        #[test]
        fn no_text_is_too_strange_to_explain(written in "[MonFrisat0-9:,-]{0,20}|\\PC{0,20}") {
            if let Err(mistake) = Hours::parse(Piece::new(&written)) {
                prop_assert!((1..=written.chars().count() + 1).contains(&mistake.column));
            }
        }
    }
}
