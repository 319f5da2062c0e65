//! The time at the begin of a line: syslog's (RFC 3164, without a year), RFC 3339 in its spellings, and that of
//! PolicydRateGuard's own file. Pure: what time it is now, and where, are arguments.
//!
//! Where no zone is written it is the server's. Where no year is written, the first line of a file gets the latest year in
//! which it is not later than the file's last change, and each later line the year that is nearest to the line before: so
//! a log runs over New Year.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};

const DAY: i64 = 24 * 60 * 60;
/// Beyond this a line is not late but of the second pass through an hour that the clocks repeat.
const LATE: i64 = 30 * 60;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads the times of one file.
#[derive(Debug, Clone)]
pub struct Stamps {
    zone: TimeZone,
    /// No line was written later, in Unix seconds.
    newest: i64,
    /// The time of the line before.
    last: Option<i64>,
    /// The last local time, and what it was: most lines share their second with the line before.
    known: Option<(DateTime, i64)>,
    /// Whether the line before was of the second pass through an hour that the clocks repeat.
    second_pass: bool,
}

/// When a line was written: Unix time in milliseconds.
pub type Milliseconds = i64;

impl Stamps {
    /// For a file in which nothing is later than `newest`, in Unix seconds.
    pub fn new(zone: TimeZone, newest: i64) -> Stamps {
        Stamps { zone, newest, last: None, known: None, second_pass: false }
    }

    /// The line's time, and the rest of the line after it and one blank.
    pub fn read<'a>(&mut self, line: &'a str) -> Option<(Milliseconds, &'a str)> {
        let line = without_priority(line);
        let mut text = Text(line);
        let (seconds, milliseconds) = if line.starts_with(|first: char| first.is_ascii_digit()) {
            self.dated(&mut text)?
        } else {
            self.yearless(&mut text)?
        };
        if !text.skip(b' ') {
            return None;
        }
        self.last = Some(seconds);
        Some((seconds.checked_mul(1000)?.checked_add(milliseconds)?, text.0))
    }

    /// `2026-01-31T23:59:58.123+01:00`, `2026-01-31 23:59:58,123`.
    fn dated(&mut self, text: &mut Text<'_>) -> Option<(i64, i64)> {
        let year = text.number(4)?;
        text.wanted(b'-')?;
        let month = text.number(2)?;
        text.wanted(b'-')?;
        let day = text.number(2)?;
        if !text.skip(b'T') {
            text.wanted(b' ')?;
        }
        let (clock, milliseconds) = text.clock()?;
        let date = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
        let local = date.at(clock.0, clock.1, clock.2, 0);
        let seconds = match text.offset()? {
            Some(offset) => local.to_zoned(offset.to_time_zone()).ok()?.timestamp().as_second(),
            None => self.at(local)?,
        };
        Some((seconds, milliseconds))
    }

    /// `Jan 31 23:59:58`, `Feb  1 00:00:00.123456`.
    fn yearless(&mut self, text: &mut Text<'_>) -> Option<(i64, i64)> {
        let name = text.0.get(..3)?;
        let month = i8::try_from(MONTHS.iter().position(|month| *month == name)? + 1).ok()?;
        text.0 = text.0.get(3..)?;
        text.wanted(b' ')?;
        let day = if text.skip(b' ') { text.number(1)? } else { text.number(2)? };
        let day = i8::try_from(day).ok()?;
        text.wanted(b' ')?;
        let ((hour, minute, second), milliseconds) = text.clock()?;
        // The same second as the line before: its year is known.
        if let Some((local, at)) = self.known
            && (local.month(), local.day(), local.hour(), local.minute(), local.second())
                == (month, day, hour, minute, second)
        {
            return Some((at, milliseconds));
        }
        let anchor = self.last.unwrap_or(self.newest);
        let present = Timestamp::from_second(anchor).ok()?.to_zoned(self.zone.clone()).year();
        // The 29th of February is not in every year.
        let years = (-8..=1).rev().filter_map(|apart| Date::new(present.checked_add(apart)?, month, day).ok());
        let times = years.filter_map(|date| {
            let local = date.at(hour, minute, second, 0);
            // Roughly: a year is to be chosen.
            Some((local, local.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second()))
        });
        let (local, _) = match self.last {
            None => times.into_iter().find(|(_, at)| *at <= self.newest.saturating_add(DAY))?,
            Some(last) => times.min_by_key(|(_, at)| at.abs_diff(last))?,
        };
        Some((self.at(local)?, milliseconds))
    }

    /// A local time. Of an hour that the clocks repeat it is the pass that the line before was in, or the first.
    fn at(&mut self, local: DateTime) -> Option<i64> {
        if let Some((known, at)) = self.known
            && known == local
        {
            return Some(at);
        }
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        let first = ambiguous.compatible().ok()?.as_second();
        let goes_back = self.last.is_some_and(|last| first < last.saturating_sub(LATE));
        self.second_pass = ambiguous.is_ambiguous() && (self.second_pass || goes_back);
        let at = if self.second_pass { ambiguous.later().ok()?.as_second() } else { first };
        self.known = Some((local, at));
        Some(at)
    }
}

/// Without `<22>`, which some syslog daemons write as well.
fn without_priority(line: &str) -> &str {
    let priority = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    match priority {
        Some((number, rest)) if number.len() <= 3 && number.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => line,
    }
}

/// What is left of a line.
struct Text<'a>(&'a str);

impl Text<'_> {
    fn skip(&mut self, byte: u8) -> bool {
        match self.0.strip_prefix(char::from(byte)) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn wanted(&mut self, byte: u8) -> Option<()> {
        self.skip(byte).then_some(())
    }

    fn number(&mut self, digits: usize) -> Option<u32> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        let number = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())??;
        self.0 = rest;
        Some(number)
    }

    /// `23:59:58`, and with `.123456` or `,123` the milliseconds.
    fn clock(&mut self) -> Option<((i8, i8, i8), i64)> {
        let hour = self.number(2)?;
        self.wanted(b':')?;
        let minute = self.number(2)?;
        self.wanted(b':')?;
        let second = self.number(2)?;
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let mut milliseconds = 0;
        if self.skip(b'.') || self.skip(b',') {
            let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
            let (fraction, rest) = self.0.split_at_checked(digits)?;
            let shown = fraction.get(..3).unwrap_or(fraction);
            milliseconds = shown.bytes().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
            milliseconds *= match shown.len() {
                1 => 100,
                2 => 10,
                _ => 1,
            };
            self.0 = rest;
        }
        let small = |number: u32| i8::try_from(number).ok();
        // A leap second is the second before it.
        Some(((small(hour)?, small(minute)?, small(second.min(59))?), milliseconds))
    }

    /// `Z`, `+01:00`, `+0100`; none where no zone is written.
    fn offset(&mut self) -> Option<Option<Offset>> {
        if self.skip(b'Z') {
            return Some(Some(Offset::UTC));
        }
        let sign = match self.0.bytes().next() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Some(None),
        };
        self.0 = self.0.get(1..)?;
        let hours = self.number(2)?;
        self.skip(b':');
        let minutes = self.number(2)?;
        let seconds = i32::try_from(hours * 3600 + minutes * 60).ok()?;
        Some(Some(Offset::from_seconds(sign * seconds).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zone() -> TimeZone {
        TimeZone::get("Europe/Zurich").unwrap()
    }

    fn unix(written: &str) -> i64 {
        written.parse::<Timestamp>().unwrap().as_second()
    }

    fn stamps(newest: &str) -> Stamps {
        Stamps::new(zone(), unix(newest))
    }

    #[test]
    fn reads_every_spelling() {
        for (line, at) in [
            ("Jul  1 08:00:00 mx postfix/qmgr[1]: x", "2026-07-01T06:00:00Z"),
            ("<22>Jul 31 23:59:59 mx x", "2026-07-31T21:59:59Z"),
            ("Jul 31 23:59:59.123456 mx x", "2026-07-31T21:59:59.123Z"),
            ("2026-07-31T23:59:59.5+02:00 mx x", "2026-07-31T21:59:59.5Z"),
            ("2026-07-31T21:59:59Z mx x", "2026-07-31T21:59:59Z"),
            ("2026-07-31T23:59:59+0200 mx x", "2026-07-31T21:59:59Z"),
            ("2026-07-31T16:29:59.123456-05:30 mx x", "2026-07-31T21:59:59.123Z"),
            ("2026-07-31 23:59:59,07 INFO x", "2026-07-31T21:59:59.07Z"),
            ("2026-07-31T23:59:60 mx x", "2026-07-31T21:59:59Z"),
        ] {
            let (read, rest) = stamps("2026-08-02T00:00:00Z").read(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(read, at.parse::<Timestamp>().unwrap().as_millisecond(), "{line}");
            assert!(rest.ends_with('x') && !rest.starts_with(' '), "{rest:?}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for line in [
            "",
            "x",
            "Jul",
            "Jul 32 08:00:00 x",
            "Jul 31 24:00:00 x",
            "Jul 31 08:00:00",
            "July 31 08:00:00 x",
            "2026-13-01T08:00:00Z x",
            "2026-07-31T08:00 x",
            "2026-07-31T08:00:00+ x",
            "2026-07-31T08:00:00+99:00 x",
            "<abc>Jul 31 08:00:00 x",
            "é1 08:00:00 x",
            "Jul é 08:00:00 x",
            "    at module.function()",
        ] {
            assert_eq!(stamps("2026-08-02T00:00:00Z").read(line), None, "{line}");
        }
    }

    #[test]
    fn the_year_is_the_latest_that_the_file_can_mean_and_runs_over_new_year() {
        let mut at_new_year = stamps("2026-01-02T06:00:00Z");
        let mut read = |line: &str| at_new_year.read(line).unwrap().0 / 1000;
        assert_eq!(read("Dec 30 23:00:00 x"), unix("2025-12-30T22:00:00Z"));
        assert_eq!(read("Jan  1 00:00:10 x"), unix("2025-12-31T23:00:10Z"));
        assert_eq!(read("Jan  2 07:00:00 x"), unix("2026-01-02T06:00:00Z"));
        // A line that came a little late stays in its year.
        assert_eq!(read("Dec 31 23:59:59 x"), unix("2025-12-31T22:59:59Z"));

        let mut copied_much_later = stamps("2026-11-21T08:00:00Z");
        assert_eq!(copied_much_later.read("Dec  1 12:00:00 x").unwrap().0 / 1000, unix("2025-12-01T11:00:00Z"));
        let mut zone_ahead = stamps("2026-11-21T08:00:00Z");
        assert_eq!(zone_ahead.read("Nov 21 20:00:00 x").unwrap().0 / 1000, unix("2026-11-21T19:00:00Z"));
        let mut leap = stamps("2026-03-05T08:00:00Z");
        assert_eq!(leap.read("Feb 29 12:00:00 x").unwrap().0 / 1000, unix("2024-02-29T11:00:00Z"));
    }

    #[test]
    fn an_hour_that_comes_twice_is_read_twice() {
        let mut stamps = stamps("2026-10-26T00:00:00Z");
        let mut read = |line: &str| stamps.read(line).unwrap().0 / 1000;
        assert_eq!(read("Oct 25 02:59:58 x"), unix("2026-10-25T00:59:58Z"));
        assert_eq!(read("Oct 25 02:00:01 x"), unix("2026-10-25T01:00:01Z"));
        assert_eq!(read("Oct 25 02:59:59 x"), unix("2026-10-25T01:59:59Z"));
        assert_eq!(read("Oct 25 03:00:00 x"), unix("2026-10-25T02:00:00Z"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_none(
            lines in prop::collection::vec("(Jan|Feb|Oct| |[0-9]{1,4}|[-T:Z.,+<>]|\\PC){0,24}", 1..5),
            newest in any::<i64>(),
        ) {
            let mut stamps = Stamps::new(zone(), newest);
            for line in lines {
                if let Some((_, rest)) = stamps.read(&line) {
                    prop_assert!(line.ends_with(rest));
                }
            }
        }
    }
}
