//! The list of senders, each against its quota.

use ratatui::text::Line;
use ratatui::widgets::{StatefulWidget, TableState};

use super::super::look::Tone;
use super::super::state::{Seen, sort_name};
use super::columns::Columns;
use super::sheet::Sheet;
use super::view::View;
use crate::commands::table::sparkline;
use crate::commands::text::{self, number, number_in, safe};
use crate::status::snapshot::Sender;

const NUMBER: usize = 9;
/// Widths from which on there are further columns.
const WITH_QUOTA: usize = 60;
const WITH_HOURS: usize = 120;
/// A shorter bar tells nothing.
const MIN_BAR: usize = 6;

/// At most so many lines: a title, headings, and senders around the chosen one.
pub fn draw(sheet: &mut Sheet, view: &View<'_>, lines: usize) -> Seen {
    let state = view.state;
    let all = view.figures.snapshot.as_ref().map_or(&[][..], |snapshot| &snapshot.senders);
    let shown = state.shown(all);
    let rows = lines.saturating_sub(2);
    let place = state.place(&shown);
    // A page at a time, so that lines stand still while the mark moves.
    let first = place / rows.max(1) * rows;
    let seen = Seen { rows, lines: shown.len() };
    heading(sheet, view, shown.len());
    if shown.is_empty() {
        sheet.lines(vec![Line::from(nothing(view, all.is_empty()))]);
        return seen;
    }
    let visible: Vec<&Sender> = shown.into_iter().skip(first).take(rows).collect();
    let columns = columns(view, sheet.width(), &visible);
    let (area, buffer) = sheet.extend(visible.len() + 1);
    let mut chosen = TableState::new().with_selected(place - first);
    columns.table(visible).header(columns.headings()).render(area, buffer, &mut chosen);
    seen
}

/// The columns that there is room for.
fn columns<'a>(view: &'a View<'_>, width: usize, senders: &[&Sender]) -> Columns<'a, Sender> {
    let longest = senders.iter().map(|sender| text::width(&safe(&sender.sender, view.look.unicode))).max().unwrap_or(0);
    // Names and bars share what the other columns leave.
    let room = columns_with(view, width, 0, 0).room() + 1;
    let name = longest.clamp(16, (room * 2 / 3).max(16));
    match room.saturating_sub(name + 1) {
        bar if width >= WITH_QUOTA && bar >= MIN_BAR => columns_with(view, width, name, bar),
        _ => columns_with(view, width, room, 0),
    }
}

/// The columns with so many cells for names, and for bars.
fn columns_with<'a>(view: &'a View<'_>, width: usize, name: usize, bar: usize) -> Columns<'a, Sender> {
    let look = view.look;
    let count = move |count: i64, cells| if count == 0 { Line::default() } else { look.number(count, cells) };
    let mut columns: Columns<'a, Sender> = Columns::new(look, width);
    columns.left("SENDER", name, move |sender, cells| {
        let tone = if sender.next.is_some() { Tone::Strong } else { Tone::Plain };
        look.text(tone, &safe(&sender.sender, look.unicode), cells)
    });
    columns.right("USED", NUMBER, move |sender, cells| look.text(Tone::Plain, &number_in(sender.used(), cells), cells));
    if width >= WITH_QUOTA {
        columns.right("QUOTA", NUMBER, move |sender, cells| look.limit(sender.quota.map(u64::from), cells));
    }
    if bar > 0 {
        columns.left("", bar, move |sender, cells| match sender.quota.zip(sender.share()) {
            Some((quota, share)) => look.bar(Tone::of_share(share), sender.used(), quota.into(), sender.usual, cells),
            None => Line::default(),
        });
    }
    columns.right("SHARE", 5, move |sender, cells| {
        sender.share().map_or_else(Line::default, |share| look.share(share, cells))
    });
    if width >= WITH_QUOTA {
        columns.right("BLOCKED", 7, move |sender, cells| count(sender.blocked, cells));
    }
    if width >= WITH_HOURS {
        columns.right("HELD", 7, move |sender, cells| count(sender.held, cells));
        let hours = move |sender: &Sender| sparkline(&sender.hours, look.unicode);
        columns.left("24 HOURS", 24, move |sender, cells| look.text(Tone::Good, &hours(sender), cells));
        columns.left("LAST", 8, |sender, cells| view.lately(sender.last, cells));
    }
    columns.left("NOW", 7, move |sender, cells| match &sender.next {
        Some(next) => view.action(&next.action, cells),
        None if sender.is_above_usual() => look.text(Tone::Warning, "unusual", cells),
        None => Line::default(),
    });
    columns
}

fn heading(sheet: &mut Sheet, view: &View<'_>, shown: usize) {
    let (state, look) = (view.state, view.look);
    let mut parts = Vec::new();
    let window = view.figures.snapshot.as_ref().map(|snapshot| snapshot.policy.window.as_str());
    let of = window.filter(|&window| window != "reset").map_or_else(String::new, |window| format!(" in {window}"));
    parts.push((Tone::Strong, format!("Senders by {}{of}", sort_name(state.sort))));
    if let Some(snapshot) = &view.figures.snapshot {
        if !state.filter.is_empty() {
            let filter = text::shortened(&safe(&state.filter, look.unicode), sheet.width() / 5, look.unicode);
            parts.push((Tone::Strong, format!("with {filter}")));
        }
        if state.blocked_only {
            parts.push((Tone::Strong, "only blocked ones".to_owned()));
        }
        let known = snapshot.totals.known.max(0).cast_unsigned();
        parts.push((Tone::Plain, format!("{} of {}", number(shown as u64), number(known))));
        if snapshot.blocked_now > 0 {
            parts.push((Tone::Bad, format!("{} blocked now", number(snapshot.blocked_now as u64))));
        }
        if snapshot.above_usual > 0 {
            parts.push((Tone::Warning, format!("{} above the usual", number(snapshot.above_usual as u64))));
        }
    }
    sheet.title(look, &parts);
}

/// Why the list is empty.
fn nothing(view: &View<'_>, nobody_at_all: bool) -> &'static str {
    match () {
        () if view.figures.snapshot.is_none() => " The database has not answered yet.",
        () if nobody_at_all => " No sender has sent anything yet.",
        () if view.state.blocked_only && view.state.filter.is_empty() => " No sender is blocked. b shows all.",
        () => " No sender matches. Esc shows all.",
    }
}
