//! The drawing: what is known, as it is chosen, in the room that there is. What does not fit is left out from the least
//! important on; what came from outside goes through [`text::safe`].

mod header;
mod help;
mod refusals;
mod row;
mod sender;
mod senders;

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::figures::Figures;
use super::look::{Look, Tone};
use super::state::{Page, Seen, State};
use super::text;
use crate::commands::table::Screen;
use crate::limiter::decide::Policy;
use row::Row;

/// Below this nothing sensible can be shown.
const MIN_SIZE: (u16, u16) = (36, 6);

/// All that is drawn from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub figures: &'a Figures,
    pub state: &'a State,
    pub policy: &'a Policy,
    /// In seconds since 1970.
    pub now: i64,
    /// How often the database is looked at.
    pub interval: Duration,
    pub look: Look,
}

/// Draws the screen, and says how much there was to see.
pub fn draw(frame: &mut Frame<'_>, view: &View<'_>) -> Seen {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    if area.width < MIN_SIZE.0 || area.height < MIN_SIZE.1 {
        let text = format!("{width}x{height} is too small; {}x{} at least", MIN_SIZE.0, MIN_SIZE.1);
        frame.render_widget(Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true }), area);
        return Seen::default();
    }
    let (lines, footer, seen) = if view.state.help {
        (help::lines(view, width, height - 1), "any key: back", Seen::default())
    } else {
        match &view.state.page {
            Page::Senders => {
                let header = header::lines(view, width, (height / 4).min(6));
                let room = height - 1 - header.len();
                let (list, seen) = list(view, width, room);
                (
                    header.into_iter().chain(list).collect(),
                    "? help  s sort  b blocked  / filter  Enter open  q quit",
                    seen,
                )
            }
            Page::Sender { name, from } => {
                let header = header::lines(view, width, if height < 20 { 1 } else { 3 });
                let room = height - 1 - header.len();
                let body = sender::lines(view, name, width, room);
                let seen = Seen { rows: room, lines: body.len() };
                let from = (*from).min(seen.lines.saturating_sub(room));
                let body = body.into_iter().skip(from).take(room);
                (header.into_iter().chain(body).collect(), "Esc back  arrows scroll  ? help  q quit", seen)
            }
        }
    };
    frame.render_widget(Paragraph::new(lines), area);
    let last = Rect { y: area.bottom() - 1, height: 1, ..area };
    frame.render_widget(foot(view, footer, width, seen), last);
    seen
}

/// Senders, and below them what was refused of late if there is room for both.
fn list(view: &View<'_>, width: usize, room: usize) -> (Vec<Line<'static>>, Seen) {
    let below = match &view.figures.snapshot {
        _ if room < 12 => 0,
        None => 0,
        Some(snapshot) => {
            // A third, or what senders leave; with a title.
            let senders = view.state.shown(&snapshot.senders).len() + 2;
            let share = (room * 3 / 10).max(room.saturating_sub(senders));
            share.min(snapshot.refused.last.len().max(1) + 1)
        }
    };
    let (mut lines, seen) = senders::lines(view, width, room - below);
    lines.resize(room - below, Line::default());
    if below > 0 {
        lines.extend(refusals::lines(view, width, below));
    }
    (lines, seen)
}

fn foot(view: &View<'_>, keys: &str, width: usize, seen: Seen) -> Line<'static> {
    let mut row = Row::new(view.look, width);
    if view.state.typing {
        // Its end is where letters are added.
        let room = width.saturating_sub(32).max(8);
        let typed = text::safe(&view.state.filter, view.look.unicode);
        let mut kept = typed.as_str();
        while text::width(kept) > room {
            kept = kept.get(kept.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default();
        }
        row.add(Tone::Strong, &format!("/{kept}_"));
        row.part(Tone::Faint, "Enter keeps  Esc clears");
    } else {
        row.add(Tone::Faint, keys);
        if seen.lines > seen.rows {
            row.part_at_end(Tone::Faint, &format!("{} lines", seen.lines));
        }
    }
    row.line()
}

/// A line that begins a part of the screen: its name, and what else there is to say about it.
fn title(look: Look, width: usize, parts: &[(Tone, String)]) -> Line<'static> {
    let mut row = Row::new(look, width);
    let rule = look.rule();
    row.add(Tone::Faint, &rule.repeat(2));
    for (tone, part) in parts {
        if row.room() < text::width(part) + 4 {
            break;
        }
        row.add(Tone::Plain, " ");
        row.add(*tone, part);
        row.add(Tone::Plain, " ");
        row.add(Tone::Faint, &rule.repeat(2));
    }
    row.add(Tone::Faint, &rule.repeat(row.room()));
    row.line()
}

/// The terminal as bars know it.
fn screen(look: Look, width: usize) -> Screen {
    Screen { width, blocks: look.unicode }
}

/// The time of day, in the server's zone.
fn clock(at: i64, zone: &TimeZone) -> String {
    format(at, zone, "%H:%M:%S")
}

/// A time of late: of the day, or a date where it is longer ago.
fn lately(at: i64, now: i64, zone: &TimeZone) -> String {
    format(at, zone, if now.saturating_sub(at) < 24 * 3600 { "%H:%M:%S" } else { "%m-%d" })
}

fn format(at: i64, zone: &TimeZone, form: &str) -> String {
    let local = Timestamp::from_second(at).map(|at| at.to_zoned(zone.clone()));
    local.map_or_else(|_| "?".to_owned(), |at| at.strftime(form).to_string())
}

/// How bad it is to have used so many thousandths.
fn tone_of_share(share: u64) -> Tone {
    match share {
        0..800 => Tone::Good,
        800..1000 => Tone::Warning,
        _ => Tone::Bad,
    }
}

/// How bad it is to be told so; and the word, short.
fn told(action: &str) -> (Tone, &str) {
    let tone = if action == "HOLD" { Tone::Warning } else { Tone::Bad };
    (tone, action.strip_suffix("_IF_PERMIT").unwrap_or(action))
}
