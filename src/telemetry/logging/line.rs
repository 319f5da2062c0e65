//! One log line: made safe and bounded on the thread that logs, dressed for its sink on the sink's own thread.

use std::fmt::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use log::Level;

use crate::clock;
use crate::telemetry::escape;

/// The longest text of a line, in bytes. With any sink's header it stays below 8 KiB, rsyslog's `maxMessageSize`.
pub const MAX_TEXT: usize = 8000;

const CUT: char = '…';

/// What is logged; `text` is one line without any character that could end or disguise it.
#[derive(Debug)]
pub(super) struct Line {
    pub at: Timestamp,
    pub level: Level,
    pub text: String,
}

impl Line {
    pub fn new(level: Level, message: fmt::Arguments<'_>) -> Line {
        Line::prefixed(level, format_args!(""), message)
    }

    pub fn prefixed(level: Level, prefix: fmt::Arguments<'_>, message: fmt::Arguments<'_>) -> Line {
        let mut text = OneLine(String::with_capacity(256));
        // An error says that the line is full, or that a value gave up printing itself: what came so far is logged.
        let _ = text.write_fmt(prefix).and_then(|()| text.write_fmt(message));
        Line { at: clock::timestamp(), level, text: text.0 }
    }

    /// The priority as syslog(3) numbers it.
    pub fn priority(&self) -> u8 {
        match self.level {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        }
    }

    /// `2026-01-31T23:59:58.123+01:00 WARN text`, for files and terminals.
    pub fn write_stamped(&self, zone: &TimeZone, out: &mut String) {
        let at = self.at.to_zoned(zone.clone());
        let _ = writeln!(out, "{} {} {}", at.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z"), self.level, self.text);
    }
}

/// Escapes and bounds what is written to it.
struct OneLine(String);

impl Write for OneLine {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_TEXT.saturating_sub(CUT.len_utf8() + self.0.len());
        if text.len() <= room && text.bytes().all(|b| matches!(b, b' '..=b'~')) {
            self.0.push_str(text);
            return Ok(());
        }
        for c in text.chars() {
            let room = MAX_TEXT.saturating_sub(CUT.len_utf8() + self.0.len());
            if !escape::write_char(&mut self.0, c, escape::is_unprintable, room)? {
                self.0.push(CUT);
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(text: &str) -> Line {
        Line::new(Level::Info, format_args!("{text}"))
    }

    #[test]
    fn is_stamped_in_local_time() {
        let line = Line { at: Timestamp::from_millisecond(1_769_900_398_123).unwrap(), ..line("hello") };
        let mut out = String::new();
        line.write_stamped(&TimeZone::fixed(jiff::tz::offset(1)), &mut out);
        assert_eq!(out, "2026-01-31T23:59:58.123+01:00 INFO hello\n");
    }

    #[test]
    fn a_long_text_is_cut_with_a_mark_and_says_nothing_after_it() {
        let long = line(&format!("{}é", "x".repeat(MAX_TEXT)));
        assert_eq!(long.text.len(), MAX_TEXT);
        assert!(long.text.ends_with("x…"));
        let parts = Line::prefixed(Level::Info, format_args!("{}", "é".repeat(MAX_TEXT)), format_args!("after"));
        assert!(parts.text.ends_with("é…") && parts.text.len() <= MAX_TEXT);
    }

    proptest! {
        #[test]
        fn any_text_is_one_bounded_line(text in "(.|[\n\r\u{2028}\u{202e}\u{1b}]){0,50}|\\PC{0,3000}|\u{1}{0,2000}") {
            let shown = line(&text).text;
            prop_assert!(shown.len() <= MAX_TEXT);
            prop_assert!(!shown.contains(escape::is_unprintable));
        }
    }
}
