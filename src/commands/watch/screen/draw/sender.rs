//! One sender: what `sender show` tells, as a page.

use ratatui::text::Line;

use super::super::figures::Contact;
use super::super::look::Tone;
use super::super::text::{self, number, number_in, safe};
use super::row::Row;
use super::{View, format, lately, title, told, tone_of_share};
use crate::limiter::explain::Explained;
use crate::limiter::moment;
use crate::status::about::About;
use crate::status::words;
use crate::store::report::Logged;

const NUMBER: usize = 9;
const SHARE: usize = 5;
const ACTION: usize = 7;
const NAMES: usize = 10;
const RECIPIENTS: usize = 6;
/// The least that hours are drawn in.
const CHART: usize = 5;

/// All of it; there may be more than fits.
pub fn lines(view: &View<'_>, name: &str, width: usize, room: usize) -> Vec<Line<'static>> {
    let shown = safe(name, view.look.unicode);
    let mut lines = vec![title(view.look, width, &[(Tone::Strong, shown)])];
    let asked = view.figures.about.as_ref().filter(|asked| asked.name == name);
    let Some(about) = asked.and_then(|asked| asked.about.as_ref()) else {
        lines.push(Line::from(match (&view.figures.database, asked) {
            (_, Some(_)) => " There is no such sender any more.",
            (Contact::Away { .. }, None) => " The database does not answer.",
            _ => " Asking the database.",
        }));
        return lines;
    };
    for (name, value) in words::facts(about, view.policy) {
        let mut row = Row::new(view.look, width);
        row.add(Tone::Plain, " ");
        row.column(Tone::Faint, name, NAMES);
        let is_blocked = name == "next mail" && !about.next(view.policy).delivers();
        let tone = if is_blocked { Tone::Bad } else { Tone::Plain };
        row.column(tone, &safe(&value, view.look.unicode), row.room().saturating_sub(1));
        lines.push(row.line());
    }
    if about.explained.is_empty() {
        return lines;
    }
    lines.extend(limits(view, about, width));
    // What is left when everything else has its place, in the first screen at least.
    let others = lines.len() + 3 + 1 + about.blocked.len().clamp(1, 4);
    let height = room.saturating_sub(others).clamp(CHART, 12);
    lines.extend(hours(view, about, width, height));
    lines.extend(blocked(view, about, width));
    lines
}

fn limits(view: &View<'_>, about: &About, width: usize) -> Vec<Line<'static>> {
    let wide = width >= 70;
    let longest = about.explained.iter().map(|one| text::width(&one.limit)).max().unwrap_or(0);
    let name = longest.clamp(5, (width / 3).max(14));
    let mut lines = Vec::new();
    let mut head = Row::new(view.look, width);
    head.add(Tone::Plain, " ");
    head.column(Tone::Faint, "LIMIT", name);
    for heading in ["USED", "ALLOWED"] {
        head.column_right(Tone::Faint, heading, NUMBER);
    }
    let action = if wide { (width / 5).clamp(16, 40) } else { ACTION };
    let bar = width.saturating_sub(2 + name + 2 * (1 + NUMBER) + 1 + SHARE + 1 + action + 2);
    let bar = if wide { bar.min(60) } else { 0 };
    if wide {
        head.column(Tone::Faint, "", bar);
        head.column_right(Tone::Faint, "", SHARE);
    }
    head.column(Tone::Faint, "BEYOND IT", action);
    lines.push(head.line());
    for one in &about.explained {
        let mut row = Row::new(view.look, width);
        row.add(Tone::Plain, " ");
        row.column(Tone::Plain, &safe(&one.limit, view.look.unicode), name);
        let used = if one.per == "message" { String::new() } else { number_in(one.used, NUMBER) };
        row.column_right(Tone::Plain, &used, NUMBER);
        row.column_right(
            Tone::Plain,
            &one.allowed.map_or_else(|| "unlimited".to_owned(), |allowed| number_in(allowed, NUMBER)),
            NUMBER,
        );
        if wide {
            share(&mut row, one, bar);
        }
        let beyond = one.action.as_ref().map_or_else(|| "NOTIFY".to_owned(), ToString::to_string);
        let tone = if one.exceeded { Tone::Bad } else { Tone::Plain };
        let beyond = if wide { beyond } else { beyond.split(' ').next().unwrap_or_default().to_owned() };
        row.column(tone, &safe(told(&beyond).1, view.look.unicode), action);
        lines.push(row.line());
        if one.exceeded && one.action.is_some() {
            let free = one.free_at.and_then(|at| moment::with_offset(at, &view.policy.zone));
            let mut row = Row::new(view.look, width);
            row.add(Tone::Plain, "    ");
            row.add(Tone::Bad, &format!("exceeded; free again {}", free.as_deref().unwrap_or("never")));
            lines.push(row.line());
        }
    }
    lines
}

/// How much of a limit is used, as a bar and in numbers.
fn share(row: &mut Row, one: &Explained, cells: usize) {
    match one.allowed.filter(|_| one.per != "message") {
        None => {
            row.column(Tone::Plain, "", cells);
            row.column(Tone::Plain, "", SHARE);
        }
        Some(allowed) => {
            let share = match allowed {
                0 => 1000,
                allowed => one.used.saturating_mul(1000) / allowed,
            };
            row.bar(tone_of_share(share), one.used, allowed, cells);
            row.column_right(tone_of_share(share), &format!("{}%", (share / 10).min(9999)), SHARE);
        }
    }
}

/// The last day, hour by hour, as a chart of so many lines.
fn hours(view: &View<'_>, about: &About, width: usize, height: usize) -> Vec<Line<'static>> {
    let positive = |number: i64| u64::try_from(number).unwrap_or(0);
    let values: Vec<u64> = about.hours.iter().map(|(_, part)| positive(part.recipients)).collect();
    let most = values.iter().copied().max().unwrap_or(0);
    let name = "Recipients let through, hour by hour".to_owned();
    let mut lines =
        vec![title(view.look, width, &[(Tone::Strong, name), (Tone::Plain, format!("at most {}", number(most)))])];
    let cell = (width.saturating_sub(2) / values.len().max(1)).clamp(1, 7);
    // A gap between two bars, where there is room for one.
    let bar = if cell > 1 { cell - 1 } else { 1 };
    let steps: [&str; 9] = if view.look.unicode {
        [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]
    } else {
        [" ", " ", " ", " ", "#", "#", "#", "#", "#"]
    };
    for level in (0..height).rev() {
        let mut row = Row::new(view.look, width);
        row.add(Tone::Plain, "  ");
        let mut text = String::new();
        for &value in &values {
            // In eighths of a line; what is not nothing is seen.
            let eighths = u128::from(value) * (height as u128) * 8;
            let eighths = usize::try_from(eighths.div_ceil(u128::from(most.max(1)))).unwrap_or(0);
            let least = if view.look.unicode || value == 0 { eighths } else { eighths.max(4) };
            let step = steps.get(least.saturating_sub(level * 8).min(8)).copied().unwrap_or(" ");
            text.push_str(&step.repeat(bar));
            text.push_str(&" ".repeat(cell - bar));
        }
        row.add(Tone::Good, &text);
        lines.push(row.line());
    }
    let mut axis = Row::new(view.look, width);
    axis.add(Tone::Plain, "  ");
    let every = if cell >= 3 { 1 } else { 4 };
    for hours in about.hours.chunks(every) {
        let hour = hours.first().map(|(at, _)| format(*at, &view.policy.zone, "%H")).unwrap_or_default();
        axis.add(Tone::Faint, &text::left(&hour, cell * every, view.look.unicode));
    }
    lines.push(axis.line());
    lines
}

fn blocked(view: &View<'_>, about: &About, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![title(view.look, width, &[(Tone::Strong, "Held or refused of late".to_owned())])];
    if about.blocked.is_empty() {
        let known = view.figures.snapshot.as_ref().is_none_or(|snapshot| snapshot.refused.known);
        lines.push(Line::from(if known { " Nothing." } else { " Not known: MESSAGE_LOG is off." }));
    }
    lines.extend(about.blocked.iter().map(|one| blocked_line(view, one, width)));
    lines
}

fn blocked_line(view: &View<'_>, one: &Logged, width: usize) -> Line<'static> {
    let unicode = view.look.unicode;
    let mut row = Row::new(view.look, width);
    row.add(Tone::Plain, " ");
    row.column(Tone::Plain, &lately(one.at, view.now, &view.policy.zone), 8);
    let (tone, action) = told(&one.action);
    row.column(tone, &safe(action, unicode), ACTION);
    row.column_right(Tone::Plain, &number_in(u64::try_from(one.recipients).unwrap_or(0), RECIPIENTS), RECIPIENTS);
    if width >= 60 {
        row.column(Tone::Plain, &safe(&one.queue_id, unicode), 12);
        row.column(Tone::Plain, &safe(&one.client_address, unicode), 16);
    }
    row.column(Tone::Plain, &safe(&one.reason, unicode), row.room().saturating_sub(1));
    row.line()
}
