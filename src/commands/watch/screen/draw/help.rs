//! The keys, and what the columns mean.

use super::super::look::Tone;
use super::columns::Columns;
use super::sheet::Sheet;
use super::view::View;

const KEYS: [(&str, &str); 8] = [
    ("arrows, j k", "choose a sender; also PgUp PgDn Home End"),
    ("Enter", "open it: limits, hours, blocked messages; Esc leads back"),
    ("s S", "sort by share, recipients, messages, blocked, last mail, name"),
    ("/", "only names that contain a text"),
    ("b", "only senders that are blocked now"),
    ("Esc", "show all again; if all are shown, quit"),
    ("?", "this help"),
    ("q Ctrl-C", "quit"),
];

const WORDS: [(&str, &str); 8] = [
    ("USED", "in the window of the quota: messages or recipients, the greater"),
    ("SHARE", "of the quota; the bar is full at 100%, its line is what is usual"),
    ("BLOCKED", "messages held or refused in the last 24 hours"),
    ("NOW", "what the next mail would be told, if not to pass; or above usual"),
    ("12x", "so many of this sender's were held or refused alike; the last is shown"),
    ("pace", "let through in the last minute, by all daemons on this database"),
    ("decisions", "of the daemon on this host, as METRICS_LISTEN tells them"),
    ("in doubt", "answered with ACTION_ON_ERROR since the daemon's start"),
];

pub fn draw(sheet: &mut Sheet, view: &View<'_>) {
    let (look, width) = (view.look, sheet.width());
    for (name, entries) in [("Keys", KEYS), ("Words", WORDS)] {
        let mut columns: Columns<'_, (&str, &str)> = Columns::new(look, width);
        columns.left("", 11, |(name, _), cells| look.text(Tone::Strong, name, cells));
        columns.left("", columns.room(), |(_, meaning), cells| look.text(Tone::Plain, meaning, cells));
        sheet.title(look, &[(Tone::Strong, name.to_owned())]);
        // A blank line follows.
        sheet.add(entries.len() + 1, columns.table(&entries));
    }
    let hint = "  Change a quota: policyd-rate-guard sender set NAME --quota N; unblock: sender reset NAME";
    sheet.lines(vec![look.text(Tone::Faint, hint, width)]);
}
