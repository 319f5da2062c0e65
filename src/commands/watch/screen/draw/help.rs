//! The keys, and what the columns mean.

use ratatui::text::Line;

use super::super::look::Tone;
use super::row::Row;
use super::{View, title};

const KEYS: [(&str, &str); 9] = [
    ("arrows, j k", "choose a sender; also PgUp PgDn Home End"),
    ("Enter", "open it: limits, hours, blocked messages; Esc leads back"),
    ("s S", "sort by share, recipients, messages, blocked, last mail, name"),
    ("/", "only names that contain a text"),
    ("b", "only who is blocked now"),
    ("Esc", "show all again; where all are shown, quit"),
    ("?", "this help"),
    ("q Ctrl-C", "quit"),
    ("", ""),
];

const WORDS: [(&str, &str); 9] = [
    ("USED", "in the window of the quota: messages or recipients, the greater"),
    ("SHARE", "of the quota; the bar is full at 100%"),
    ("BLOCKED", "messages held or refused in the last 24 hours"),
    ("NOW", "what the next message would be told, if not to pass"),
    ("12x", "so many of this sender's were held or refused alike; the last is shown"),
    ("pace", "let through in the last minute, by all daemons on this database"),
    ("decisions", "of the daemon on this host, as METRICS_LISTEN tells them"),
    ("in doubt", "answered with ACTION_ON_ERROR since the daemon's start"),
    ("", ""),
];

/// At most so many lines.
pub fn lines(view: &View<'_>, width: usize, room: usize) -> Vec<Line<'static>> {
    let mut lines = vec![title(view.look, width, &[(Tone::Strong, "Keys".to_owned())])];
    let entry = |(name, meaning): &(&str, &str)| {
        let mut row = Row::new(view.look, width);
        row.add(Tone::Plain, " ");
        row.column(Tone::Strong, name, 11);
        row.column(Tone::Plain, meaning, row.room().saturating_sub(1));
        row.line()
    };
    lines.extend(KEYS.iter().map(entry));
    lines.push(title(view.look, width, &[(Tone::Strong, "Words".to_owned())]));
    lines.extend(WORDS.iter().map(entry));
    let mut row = Row::new(view.look, width);
    row.add(Tone::Faint, "  Change a quota: policyd-rate-guard sender set NAME --quota N; unblock: sender reset NAME");
    lines.push(row.line());
    lines.truncate(room);
    lines
}
