//! Standard error: for people with a time stamp, for systemd's journal with a priority that it takes off.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::line::Line;
use super::queue::Queue;
use super::writer::{LineStream, Sink};

pub(super) struct Console<W> {
    stream: LineStream<W>,
    /// Lines begin with `<N>` (sd-daemon(3)); the journal has its own time stamps.
    for_journal: bool,
}

impl<W: Write> Console<W> {
    pub fn new(stream: W, for_journal: bool) -> Console<W> {
        Console { stream: LineStream::new(stream), for_journal }
    }
}

impl<W: Write + Send> Sink for Console<W> {
    fn write(&mut self, lines: &[Arc<Line>], _: &Queue) -> usize {
        let mut text = String::new();
        if self.for_journal {
            for line in lines {
                let _ = writeln!(text, "<{}>{}", line.priority(), line.text);
            }
        } else {
            let zone = TimeZone::system();
            lines.iter().for_each(|line| line.write_stamped(&zone, &mut text));
        }
        // Where standard error does not work there is no better place to say so.
        self.stream.write(text).map_or_else(|(missing, _)| missing, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;

    fn shown(for_journal: bool) -> String {
        let lines =
            [(Level::Error, "one"), (Level::Warn, "two\n<0>forged"), (Level::Info, "three"), (Level::Trace, "é")]
                .map(|(level, text)| Arc::new(Line::new(level, format_args!("{text}"))));
        let mut out = Vec::new();
        assert_eq!(Console::new(&mut out, for_journal).write(&lines, &Queue::new(0)), 0);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_journal_gets_priorities_and_no_forged_one() {
        assert_eq!(shown(true), "<3>one\n<4>two\\n<0>forged\n<6>three\n<7>é\n");
    }

    #[test]
    fn people_get_time_and_level() {
        let shown = shown(false);
        let first = shown.lines().next().unwrap();
        let (stamp, rest) = first.split_once(' ').unwrap();
        assert!(stamp.parse::<jiff::Timestamp>().is_ok(), "{stamp}");
        assert_eq!(rest, "ERROR one");
        assert_eq!(shown.lines().count(), 4);
    }
}
