//! One sender: what `sender show` tells, as a page.

use ratatui::symbols::bar::{NINE_LEVELS, Set};
use ratatui::text::Line;
use ratatui::widgets::{Bar, BarChart, BarGroup};

use super::super::figures::Contact;
use super::super::look::Tone;
use super::columns::Columns;
use super::refusals;
use super::row::Row;
use super::sheet::Sheet;
use super::view::{View, format, short_action};
use crate::commands::text::{self, number, number_in, safe};
use crate::limiter::explain::Explained;
use crate::limiter::moment;
use crate::status::about::About;
use crate::status::words;
use crate::store::report::Logged;

const SHARE: usize = 5;
/// The least and the most lines that the hours are drawn in.
const CHART: (usize, usize) = (5, 12);
/// From this width on there is room for bars.
const WITH_BARS: usize = 70;
/// From this width on there is room for queue ids and clients.
const WITH_CLIENT: usize = 60;
/// Without Unicode a cell is full or empty.
const ASCII: Set<'static> = Set {
    full: "#",
    seven_eighths: "#",
    three_quarters: "#",
    five_eighths: "#",
    half: "#",
    three_eighths: " ",
    one_quarter: " ",
    one_eighth: " ",
    empty: " ",
};

/// Draws all of it; there may be more than fits into `lines`.
pub fn draw(sheet: &mut Sheet, view: &View<'_>, name: &str, lines: usize) {
    let look = view.look;
    sheet.title(look, &[(Tone::Strong, safe(name, look.unicode))]);
    let asked = view.figures.about.as_ref().filter(|asked| asked.name == name);
    let Some(about) = asked.and_then(|asked| asked.about.as_ref()) else {
        return sheet.lines(vec![Line::from(match (&view.figures.database, asked) {
            (_, Some(_)) => " There is no such sender any more.",
            (Contact::Away { .. }, None) => " The database does not answer.",
            _ => " Asking the database.",
        })]);
    };
    facts(sheet, view, about);
    if about.explained.is_empty() {
        return;
    }
    limits(sheet, view, about);
    // What is left when everything else has its place, in the first screen at least.
    let others = sheet.height() + 3 + about.blocked.len().clamp(1, 4);
    hours(sheet, view, about, lines.saturating_sub(others).clamp(CHART.0, CHART.1));
    blocked(sheet, view, about);
}

fn facts(sheet: &mut Sheet, view: &View<'_>, about: &About) {
    let look = view.look;
    let is_blocked = !about.next(view.policy).delivers();
    let mut columns: Columns<'_, (&str, String)> = Columns::new(look, sheet.width());
    columns.left("", 10, |(name, _), cells| look.text(Tone::Faint, name, cells));
    columns.left("", columns.room(), |(name, value), cells| {
        let tone = if *name == "next mail" && is_blocked { Tone::Bad } else { Tone::Plain };
        look.text(tone, &safe(value, look.unicode), cells)
    });
    let facts = words::facts(about, view.policy);
    sheet.add(facts.len(), columns.table(&facts));
}

fn limits(sheet: &mut Sheet, view: &View<'_>, about: &About) {
    let (look, width) = (view.look, sheet.width());
    let is_wide = width >= WITH_BARS;
    let longest = about.explained.iter().map(|one| text::width(&one.limit)).max().unwrap_or(0);
    let mut columns: Columns<'_, Explained> = Columns::new(look, width);
    let number = if is_wide { 9 } else { 7 };
    let action = if is_wide { (width / 5).clamp(16, 40) } else { 7 };
    let name = longest.clamp(5, (width / 3).max(14)).min(columns.room().saturating_sub(2 * (number + 1) + action + 1));
    columns.left("LIMIT", name, |one, cells| look.foreign(&one.limit, cells));
    columns.right("USED", number, |one, cells| match one.per.as_str() {
        "message" => Line::default(),
        _ => look.text(Tone::Plain, &number_in(one.used, cells), cells),
    });
    columns.right("ALLOWED", number, |one, cells| look.limit(one.allowed, cells));
    if is_wide {
        let bar = columns.room().saturating_sub(1 + SHARE + 1 + action).min(60);
        columns.left("", bar, |one, cells| match share(one) {
            Some((share, allowed)) => {
                look.bar(Tone::of_share(share), one.used, allowed, one.learnt.and_then(|learnt| learnt.usual), cells)
            }
            None => Line::default(),
        });
        columns.right("", SHARE, |one, cells| {
            share(one).map_or_else(Line::default, |(share, _)| look.share(share, cells))
        });
    }
    columns.left("BEYOND IT", action, |one, cells| {
        let beyond = one.action.as_ref().map_or_else(|| "NOTIFY".to_owned(), ToString::to_string);
        let beyond = if is_wide { beyond.as_str() } else { beyond.split(' ').next().unwrap_or_default() };
        let tone = if one.exceeded { Tone::Bad } else { Tone::Plain };
        look.text(tone, &safe(short_action(beyond), look.unicode), cells)
    });
    sheet.add(about.explained.len() + 1, columns.table(&about.explained).header(columns.headings()));
    for one in about.explained.iter().filter(|one| one.exceeded && one.action.is_some()) {
        let free = one.free_at.and_then(|at| moment::with_offset(at, &view.policy.zone));
        let limit = safe(&one.limit, look.unicode);
        let text = format!("  {limit} is exceeded; free again {}", free.as_deref().unwrap_or("never"));
        sheet.lines(vec![look.text(Tone::Bad, &text, width)]);
    }
}

/// How much of a limit is used, in thousandths, and what it allows; None if it is unlimited or about single messages.
fn share(one: &Explained) -> Option<(u64, u64)> {
    let allowed = one.allowed.filter(|_| one.per != "message")?;
    Some((one.used.saturating_mul(1000).checked_div(allowed).unwrap_or(1000), allowed))
}

/// The last day, hour by hour, as a chart of so many lines.
fn hours(sheet: &mut Sheet, view: &View<'_>, about: &About, height: usize) {
    let look = view.look;
    let values: Vec<u64> = about.hours.iter().map(|(_, part)| part.recipients.max(0).cast_unsigned()).collect();
    let most = values.iter().copied().max().unwrap_or(0);
    let name = "Recipients let through, hour by hour".to_owned();
    sheet.title(look, &[(Tone::Strong, name), (Tone::Plain, format!("at most {}", number(most)))]);
    let cell = (sheet.width().saturating_sub(2) / values.len().max(1)).clamp(1, 7);
    // Any value but 0 is seen: at least as the lowest bar that can be drawn.
    let lowest = most.saturating_mul(if look.unicode { 1 } else { 4 }).div_ceil(height as u64 * 8);
    let bar = |&value: &u64| Bar::new(if value == 0 { 0 } else { value.max(lowest) }).text_value("");
    let chart = BarChart::default()
        .data(BarGroup::new(values.iter().map(bar).collect::<Vec<_>>()))
        .max(most.max(1))
        // A gap between two bars, if there is room for one.
        .bar_width(if cell > 1 { cell as u16 - 1 } else { 1 })
        .bar_gap(u16::from(cell > 1))
        .bar_set(if look.unicode { NINE_LEVELS } else { ASCII })
        .bar_style(look.style(Tone::Good));
    let (mut area, buffer) = sheet.extend(height);
    area.x += 2;
    area.width = area.width.saturating_sub(2);
    ratatui::widgets::Widget::render(chart, area, buffer);
    let mut axis = Row::new(look, sheet.width());
    axis.add(Tone::Plain, "  ");
    let every = if cell >= 3 { 1 } else { 4 };
    for hours in about.hours.chunks(every) {
        let hour = hours.first().map(|(at, _)| format(*at, &view.policy.zone, "%H")).unwrap_or_default();
        axis.add(Tone::Faint, &text::left(&hour, cell * every, look.unicode));
    }
    sheet.lines(vec![axis.line()]);
}

fn blocked(sheet: &mut Sheet, view: &View<'_>, about: &About) {
    let (look, width) = (view.look, sheet.width());
    sheet.title(look, &[(Tone::Strong, "Recently held or refused".to_owned())]);
    if about.blocked.is_empty() {
        let known = view.figures.snapshot.as_ref().is_none_or(|snapshot| snapshot.refused.known);
        return sheet.lines(vec![Line::from(refusals::nothing(known))]);
    }
    let mut columns: Columns<'_, Logged> = Columns::new(look, width);
    columns.left("", 8, |one, cells| view.lately(one.at, cells));
    columns.left("", 7, |one, cells| view.action(&one.action, cells));
    columns.right("", 6, |one, cells| look.number(one.recipients, cells));
    if width >= WITH_CLIENT {
        columns.left("", 12, |one, cells| look.foreign(&one.queue_id, cells));
        columns.left("", 16, |one, cells| look.foreign(&one.client_address, cells));
    }
    columns.left("", columns.room(), |one, cells| look.foreign(&one.reason, cells));
    sheet.add(about.blocked.len(), columns.table(&about.blocked));
}
