//! Draws what is known, as the operator has chosen, in the room that there is. What does not fit is left out, the least
//! important first; foreign text goes through `text::safe`.

mod columns;
mod header;
mod help;
mod refusals;
mod row;
mod sender;
mod senders;
mod sheet;
mod view;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Wrap};

use super::look::Tone;
use super::state::{Page, Seen};
use crate::commands::text;
use row::Row;
use sheet::Sheet;
pub use view::View;

/// The smallest screen that is drawn on, in cells.
const MIN_SIZE: (u16, u16) = (36, 6);

/// Draws the screen, and returns how much there was to see.
pub fn draw(frame: &mut Frame<'_>, view: &View<'_>) -> Seen {
    let (width, height) = (frame.area().width, frame.area().height);
    if width < MIN_SIZE.0 || height < MIN_SIZE.1 {
        let text = format!("{width}x{height} is too small; {}x{} at least", MIN_SIZE.0, MIN_SIZE.1);
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), frame.area());
        return Seen::default();
    }
    let mut body = Sheet::new(width);
    let (lines, mut from) = (usize::from(height), 0);
    let (header, keys, seen) = match &view.state.page {
        _ if view.state.help => {
            help::draw(&mut body, view);
            (Vec::new(), "any key: back", Seen::default())
        }
        Page::Senders => {
            let header = header::lines(view, width.into(), (lines / 4).min(6));
            let seen = list(&mut body, view, lines - 1 - header.len());
            (header, "? help  s sort  b blocked  / filter  Enter open  q quit", seen)
        }
        Page::Sender { name, from: wanted } => {
            let header = header::lines(view, width.into(), if lines < 20 { 1 } else { 3 });
            let rows = lines - 1 - header.len();
            sender::draw(&mut body, view, name, rows);
            from = (*wanted).min(body.height().saturating_sub(rows));
            (header, "Esc back  arrows scroll  ? help  q quit", Seen { rows, lines: body.height() })
        }
    };
    let header_height = Constraint::Length(u16::try_from(header.len()).unwrap_or(0));
    let [top, middle, last] =
        Layout::vertical([header_height, Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Paragraph::new(header), top);
    body.show(frame, middle, from);
    frame.render_widget(foot(view, keys, width.into(), seen), last);
    seen
}

/// Senders, and below them what was recently refused if there is room for both.
fn list(body: &mut Sheet, view: &View<'_>, lines: usize) -> Seen {
    let below = match &view.figures.snapshot {
        Some(snapshot) if lines >= 12 => {
            // A third, or what senders leave; with a title.
            let senders = view.state.shown(&snapshot.senders).len() + 2;
            let share = (lines * 3 / 10).max(lines.saturating_sub(senders));
            share.min(snapshot.refused.last.len().max(1) + 1)
        }
        _ => 0,
    };
    let seen = senders::draw(body, view, lines - below);
    body.extend((lines - below).saturating_sub(body.height()));
    if below > 0 {
        refusals::draw(body, view, below);
    }
    seen
}

fn foot(view: &View<'_>, keys: &str, width: usize, seen: Seen) -> Line<'static> {
    let mut row = Row::new(view.look, width);
    if view.state.typing {
        // The end is shown, where letters are added.
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
