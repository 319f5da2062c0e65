//! A page that is drawn from top to bottom and may be higher than the screen, which shows a part of it.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Widget};

use super::row::Row;
use crate::commands::text;
use crate::commands::watch::screen::look::{Look, Tone};

pub struct Sheet(Buffer);

impl Sheet {
    pub fn new(width: u16) -> Sheet {
        Sheet(Buffer::empty(Rect { width, ..Rect::ZERO }))
    }

    /// In cells.
    pub fn width(&self) -> usize {
        self.0.area.width.into()
    }

    /// In lines.
    pub fn height(&self) -> usize {
        self.0.area.height.into()
    }

    /// Adds so many lines at the end and returns where they are.
    pub fn extend(&mut self, lines: usize) -> (Rect, &mut Buffer) {
        let page = self.0.area;
        let height = u16::try_from(lines).unwrap_or(u16::MAX).min(u16::MAX - page.height);
        self.0.resize(Rect { height: page.height + height, ..page });
        (Rect { y: page.height, height, ..page }, &mut self.0)
    }

    /// Adds a widget of so many lines.
    pub fn add(&mut self, lines: usize, widget: impl Widget) {
        let (area, buffer) = self.extend(lines);
        widget.render(area, buffer);
    }

    pub fn lines(&mut self, lines: Vec<Line<'_>>) {
        self.add(lines.len(), Paragraph::new(lines));
    }

    /// Adds a line that begins a part of the page: its name, and what else there is to say about it.
    pub fn title(&mut self, look: Look, parts: &[(Tone, String)]) {
        let mut row = Row::new(look, self.width());
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
        self.lines(vec![row.line()]);
    }

    /// Shows the page in an area of the screen, from this line of the page on.
    pub fn show(&self, frame: &mut Frame<'_>, area: Rect, from: usize) {
        let from = u16::try_from(from).unwrap_or(u16::MAX);
        for place in area.positions() {
            let shown = self.0.cell((place.x - area.x, (place.y - area.y).saturating_add(from)));
            if let (Some(shown), Some(cell)) = (shown, frame.buffer_mut().cell_mut(place)) {
                cell.clone_from(shown);
            }
        }
    }
}
