//! The list of senders, each against its quota.

use ratatui::text::Line;

use super::super::look::Tone;
use super::super::state::{Seen, sort_name};
use super::super::text::{self, number, number_in, safe};
use super::row::Row;
use super::{View, lately, screen, title, told, tone_of_share};
use crate::commands::table;
use crate::status::snapshot::Sender;

const NUMBER: usize = 9;
const SHARE: usize = 5;
const BLOCKED: usize = 7;
const NEXT: usize = 7;
const TIME: usize = 8;
const HOURS: usize = 24;
/// Widths from which on there are further columns.
const WITH_QUOTA: usize = 60;
const WITH_HOURS: usize = 120;

/// Which columns there are, and how wide those are that can stretch.
struct Columns {
    name: usize,
    /// None where it would be too short to tell anything.
    bar: Option<usize>,
    quota: bool,
    hours: bool,
}

impl Columns {
    fn new(width: usize, longest: usize) -> Columns {
        let quota = width >= WITH_QUOTA;
        let hours = width >= WITH_HOURS;
        let mut fixed = 1 + (1 + NUMBER) + (1 + SHARE) + (1 + NEXT);
        if quota {
            fixed += 1 + NUMBER + 1 + BLOCKED;
        }
        if hours {
            fixed += 1 + BLOCKED + 1 + HOURS + 1 + TIME;
        }
        let room = width.saturating_sub(fixed + 1);
        if !quota {
            return Columns { name: room, bar: None, quota, hours };
        }
        let name = longest.clamp(16, (room * 2 / 3).max(16));
        let bar = room.saturating_sub(name + 1);
        if bar < 6 {
            Columns { name: room, bar: None, quota, hours }
        } else {
            Columns { name, bar: Some(bar), quota, hours }
        }
    }
}

/// At most so many lines: a title, headings, and senders around the chosen one.
pub fn lines(view: &View<'_>, width: usize, room: usize) -> (Vec<Line<'static>>, Seen) {
    let state = view.state;
    let nobody = Vec::new();
    let all = view.figures.snapshot.as_ref().map_or(&nobody, |snapshot| &snapshot.senders);
    let shown = state.shown(all);
    let rows = room.saturating_sub(2);
    let place = state.place(&shown);
    // A page at a time, so that lines stand still while the mark moves.
    let first = place / rows.max(1) * rows;
    let seen = Seen { rows, lines: shown.len() };
    let mut lines = vec![heading(view, width, shown.len())];
    if shown.is_empty() {
        lines.push(Line::from(format!(" {}", nothing(view, all.is_empty()))));
        return (lines, seen);
    }
    let visible: Vec<_> = shown.into_iter().enumerate().skip(first).take(rows).collect();
    let names: Vec<String> = visible.iter().map(|(_, sender)| safe(&sender.sender, view.look.unicode)).collect();
    let columns = Columns::new(width, names.iter().map(|name| text::width(name)).max().unwrap_or(0));
    lines.push(headings(view, &columns, width));
    for ((at, sender), name) in visible.into_iter().zip(names) {
        lines.push(line(view, &columns, width, sender, &name, at == place));
    }
    (lines, seen)
}

fn heading(view: &View<'_>, width: usize, shown: usize) -> Line<'static> {
    let state = view.state;
    let mut parts = Vec::new();
    let window = view.figures.snapshot.as_ref().map(|snapshot| snapshot.policy.window.clone());
    let of = match window.as_deref() {
        None | Some("reset") => String::new(),
        Some(window) => format!(" in {window}"),
    };
    parts.push((Tone::Strong, format!("Senders by {}{of}", sort_name(state.sort))));
    if let Some(snapshot) = &view.figures.snapshot {
        if !state.filter.is_empty() {
            let filter = safe(&state.filter, view.look.unicode);
            parts.push((Tone::Strong, format!("with {}", text::shortened(&filter, width / 5, view.look.unicode))));
        }
        if state.blocked_only {
            parts.push((Tone::Strong, "only blocked ones".to_owned()));
        }
        let known = u64::try_from(snapshot.totals.known).unwrap_or(0);
        parts.push((Tone::Plain, format!("{} of {}", number(shown as u64), number(known))));
        if snapshot.blocked_now > 0 {
            parts.push((Tone::Bad, format!("{} blocked now", number(snapshot.blocked_now as u64))));
        }
    }
    title(view.look, width, &parts)
}

/// Why there is nobody.
fn nothing(view: &View<'_>, nobody_at_all: bool) -> &'static str {
    match () {
        () if view.figures.snapshot.is_none() => "The database has not answered yet.",
        () if nobody_at_all => "Nobody has sent anything yet.",
        () if view.state.blocked_only && view.state.filter.is_empty() => "Nobody is blocked. b shows all.",
        () => "Nobody is like that. Esc shows all.",
    }
}

fn headings(view: &View<'_>, columns: &Columns, width: usize) -> Line<'static> {
    let mut row = Row::new(view.look, width);
    row.add(Tone::Plain, " ");
    row.column(Tone::Faint, "SENDER", columns.name);
    row.column_right(Tone::Faint, "USED", NUMBER);
    if columns.quota {
        row.column_right(Tone::Faint, "QUOTA", NUMBER);
    }
    if let Some(bar) = columns.bar {
        row.column(Tone::Faint, "", bar);
    }
    row.column_right(Tone::Faint, "SHARE", SHARE);
    if columns.quota {
        row.column_right(Tone::Faint, "BLOCKED", BLOCKED);
    }
    if columns.hours {
        row.column_right(Tone::Faint, "HELD", BLOCKED);
        row.column(Tone::Faint, "24 HOURS", HOURS);
        row.column(Tone::Faint, "LAST", TIME);
    }
    row.column(Tone::Faint, "NOW", NEXT);
    row.line()
}

fn line(view: &View<'_>, columns: &Columns, width: usize, sender: &Sender, name: &str, chosen: bool) -> Line<'static> {
    let share = sender.share();
    let tone = share.map_or(Tone::Plain, tone_of_share);
    let mut row = Row::new(view.look, width);
    row.add(Tone::Plain, if chosen { view.look.mark() } else { " " });
    row.column(if sender.next.is_some() { Tone::Strong } else { Tone::Plain }, name, columns.name);
    row.column_right(Tone::Plain, &number_in(sender.used(), NUMBER), NUMBER);
    if columns.quota {
        let quota = sender.quota.map_or_else(|| "unlimited".to_owned(), |quota| number_in(u64::from(quota), NUMBER));
        row.column_right(Tone::Plain, &quota, NUMBER);
    }
    match (columns.bar, sender.quota) {
        (Some(cells), Some(quota)) => row.bar(tone, sender.used(), u64::from(quota), cells),
        (Some(cells), None) => row.column(Tone::Plain, "", cells),
        (None, _) => {}
    }
    row.column_right(tone, &share.map_or_else(String::new, |share| format!("{}%", (share / 10).min(9999))), SHARE);
    let positive = |number: i64| u64::try_from(number).unwrap_or(0);
    let count = |count: i64| if count == 0 { String::new() } else { number_in(positive(count), BLOCKED) };
    if columns.quota {
        row.column_right(Tone::Plain, &count(sender.blocked), BLOCKED);
    }
    if columns.hours {
        row.column_right(Tone::Plain, &count(sender.held), BLOCKED);
        row.column(Tone::Good, &table::sparkline(&sender.hours, screen(view.look, HOURS)), HOURS);
        row.column(Tone::Plain, &lately(sender.last, view.now, &view.policy.zone), TIME);
    }
    if let Some(next) = &sender.next {
        let (tone, action) = told(&next.action);
        row.column(tone, action, NEXT);
    }
    let line = row.line();
    if chosen { line.patch_style(view.look.chosen()) } else { line }
}
