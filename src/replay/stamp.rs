//! The time at the beginning of a line: syslog's (RFC 3164, without a year), RFC 3339 in its spellings, and that of
//! PolicydRateGuard's own file. Pure: what time it is now, and the zone, are arguments.
//!
//! Where no zone is written it is the server's. Where no year is written, the first line of a file gets the latest year in
//! which it is not later than the file's last change, and each later line the year that is nearest to the line before: so
//! a log runs over New Year.
//!
//! Months are English. A table of other languages could not be right: `lis` is October in Croatian and November in Polish.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::strtime::BrokenDownTime;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{Offset, TimeZone};

const DAY: i64 = 24 * 60 * 60;
/// A line that is earlier than the one before by more than this is not late: it is of the second pass through an hour that
/// the clocks repeat.
const LATE: i64 = 30 * 60;

/// When a line was written: Unix time in milliseconds.
pub type Milliseconds = i64;

/// A time as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Dated(DateTime, Option<Offset>),
    /// Month, day and time.
    Yearless(i8, i8, Time),
}

/// Splits a line into the time at its beginning, and what follows that and one blank. None if it begins with no time.
pub fn split(line: &str) -> Option<(Written, &str)> {
    // Most texts are refused without an error of a parser's, which would have to be made.
    match line.as_bytes() {
        [b'0'..=b'9', _, _, _, b'-', ..] => dated(line),
        [b'A'..=b'Z', _, _, b' ', ..] => yearless(line),
        _ => None,
    }
}

/// `2026-01-31T23:59:58.123+01:00`, `2026-01-31 23:59:58,123`.
fn dated(line: &str) -> Option<(Written, &str)> {
    const PARSER: DateTimeParser = DateTimeParser::new();
    const DATE_AND_T: usize = "2026-01-31T".len();
    let end = DATE_AND_T + line.get(DATE_AND_T..)?.find(' ')?;
    let (written, rest) = line.split_at_checked(end)?;
    let pieces = PARSER.parse_pieces(written).ok()?;
    let local = pieces.date().to_datetime(pieces.time()?);
    Some((Written::Dated(local, pieces.to_numeric_offset()), rest.get(1..)?))
}

/// `Jan 31 23:59:58`, `Feb  1 00:00:00.123456`.
fn yearless(line: &str) -> Option<(Written, &str)> {
    let (parsed, length) = BrokenDownTime::parse_prefix("%b %e %H:%M:%S%.f", line).ok()?;
    let rest = line.get(length..)?.strip_prefix(' ')?;
    Some((Written::Yearless(parsed.month()?, parsed.day()?, parsed.to_time().ok()?), rest))
}

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

impl Stamps {
    /// For a file in which nothing is later than `newest`, in Unix seconds.
    pub fn new(zone: TimeZone, newest: i64) -> Stamps {
        Stamps { zone, newest, last: None, known: None, second_pass: false }
    }

    /// Returns when the next line was written. None if there is no such time.
    pub fn read(&mut self, written: Written) -> Option<Milliseconds> {
        let (seconds, nanoseconds) = match written {
            Written::Dated(local, Some(offset)) => {
                (offset.to_timestamp(local).ok()?.as_second(), local.subsec_nanosecond())
            }
            Written::Dated(local, None) => (self.at(local)?, local.subsec_nanosecond()),
            Written::Yearless(month, day, time) => (self.yearless(month, day, time)?, time.subsec_nanosecond()),
        };
        self.last = Some(seconds);
        seconds.checked_mul(1000)?.checked_add(i64::from(nanoseconds / 1_000_000))
    }

    fn yearless(&mut self, month: i8, day: i8, time: Time) -> Option<i64> {
        let (hour, minute, second) = (time.hour(), time.minute(), time.second());
        // The same second as the line before: its year is known.
        if let Some((local, at)) = self.known
            && (local.month(), local.day(), local.hour(), local.minute(), local.second())
                == (month, day, hour, minute, second)
        {
            return Some(at);
        }
        let anchor = self.last.unwrap_or(self.newest);
        let present = Timestamp::from_second(anchor).ok()?.to_zoned(self.zone.clone()).year();
        // The 29th of February is not in every year.
        let years = (-8..=1).rev().filter_map(|apart| Date::new(present.checked_add(apart)?, month, day).ok());
        let times = years.filter_map(|date| {
            let local = date.at(hour, minute, second, 0);
            // Without the zone: only a year is to be chosen.
            Some((local, Offset::UTC.to_timestamp(local).ok()?.as_second()))
        });
        let (local, _) = match self.last {
            None => times.into_iter().find(|(_, at)| *at <= self.newest.saturating_add(DAY))?,
            Some(last) => times.min_by_key(|(_, at)| at.abs_diff(last))?,
        };
        self.at(local)
    }

    /// A local time in Unix seconds. Of an hour that the clocks repeat it is the pass that the line before was in, or the
    /// first.
    fn at(&mut self, local: DateTime) -> Option<i64> {
        let local = local.date().at(local.hour(), local.minute(), local.second(), 0);
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

    fn read<'a>(stamps: &mut Stamps, line: &'a str) -> Option<(Milliseconds, &'a str)> {
        let (written, rest) = split(line)?;
        Some((stamps.read(written)?, rest))
    }

    fn seconds(stamps: &mut Stamps, line: &str) -> i64 {
        read(stamps, line).unwrap().0 / 1000
    }

    #[test]
    fn reads_every_spelling() {
        for (line, at) in [
            ("Jul  1 08:00:00 mx postfix/qmgr[1]: x", "2026-07-01T06:00:00Z"),
            ("Jul 31 23:59:59.123456 mx x", "2026-07-31T21:59:59.123Z"),
            ("2026-07-31T23:59:59.5+02:00 mx x", "2026-07-31T21:59:59.5Z"),
            ("2026-07-31T21:59:59Z mx x", "2026-07-31T21:59:59Z"),
            ("2026-07-31T23:59:59+0200 mx x", "2026-07-31T21:59:59Z"),
            ("2026-07-31T16:29:59.123456-05:30 mx x", "2026-07-31T21:59:59.123Z"),
            ("2026-07-31 23:59:59,07 INFO x", "2026-07-31T21:59:59.07Z"),
            ("2026-07-31T23:59:60 mx x", "2026-07-31T21:59:59Z"),
        ] {
            let (read, rest) = read(&mut stamps("2026-08-02T00:00:00Z"), line).unwrap_or_else(|| panic!("{line}"));
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
            "2026-07-31T08:00:00+ x",
            "2026-07-31T08:00:00+99:00 x",
            "é1 08:00:00 x",
            "Jul é 08:00:00 x",
            "    at module.function()",
        ] {
            assert_eq!(read(&mut stamps("2026-08-02T00:00:00Z"), line), None, "{line}");
        }
    }

    #[test]
    fn the_year_is_the_latest_that_the_file_can_mean_and_runs_over_new_year() {
        let mut at_new_year = stamps("2026-01-02T06:00:00Z");
        let mut read = |line: &str| seconds(&mut at_new_year, line);
        assert_eq!(read("Dec 30 23:00:00 x"), unix("2025-12-30T22:00:00Z"));
        assert_eq!(read("Jan  1 00:00:10 x"), unix("2025-12-31T23:00:10Z"));
        assert_eq!(read("Jan  2 07:00:00 x"), unix("2026-01-02T06:00:00Z"));
        // A line that came a little late stays in its year.
        assert_eq!(read("Dec 31 23:59:59 x"), unix("2025-12-31T22:59:59Z"));

        let mut copied_much_later = stamps("2026-11-21T08:00:00Z");
        assert_eq!(seconds(&mut copied_much_later, "Dec  1 12:00:00 x"), unix("2025-12-01T11:00:00Z"));
        let mut zone_ahead = stamps("2026-11-21T08:00:00Z");
        assert_eq!(seconds(&mut zone_ahead, "Nov 21 20:00:00 x"), unix("2026-11-21T19:00:00Z"));
        let mut leap = stamps("2026-03-05T08:00:00Z");
        assert_eq!(seconds(&mut leap, "Feb 29 12:00:00 x"), unix("2024-02-29T11:00:00Z"));
    }

    #[test]
    fn an_hour_that_comes_twice_is_read_twice() {
        let mut stamps = stamps("2026-10-26T00:00:00Z");
        let mut read = |line: &str| seconds(&mut stamps, line);
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
                if let Some((_, rest)) = read(&mut stamps, &line) {
                    prop_assert!(line.ends_with(rest));
                }
            }
        }
    }
}
