//! A line that is put together from left to right, and never gets wider than the screen.

use ratatui::text::{Line, Span};

use super::super::look::{Look, Tone};
use super::super::text;
use super::screen;
use crate::commands::table;

/// Between two parts.
const GAP: &str = "  ";

pub struct Row {
    look: Look,
    spans: Vec<Span<'static>>,
    room: usize,
}

impl Row {
    pub fn new(look: Look, width: usize) -> Row {
        Row { look, spans: Vec::new(), room: width }
    }

    pub fn room(&self) -> usize {
        self.room
    }

    /// A text that is ours or harmless, as much of it as fits.
    pub fn add(&mut self, tone: Tone, text: &str) {
        let shown = text::shortened(text, self.room, self.look.unicode);
        self.room -= text::width(&shown);
        self.spans.push(Span::styled(shown, self.look.style(tone)));
    }

    /// A text apart from what is there already; whole, or not at all.
    pub fn part(&mut self, tone: Tone, text: &str) {
        if self.room >= GAP.len() + text::width(text) {
            self.add(Tone::Plain, GAP);
            self.add(tone, text);
        }
    }

    /// The same, at the line's end.
    pub fn part_at_end(&mut self, tone: Tone, text: &str) {
        let width = text::width(text);
        if self.room >= GAP.len() + width {
            self.add(Tone::Plain, &" ".repeat(self.room - width));
            self.add(tone, text);
        }
    }

    /// A column of exactly so many cells, and a blank before it.
    pub fn column(&mut self, tone: Tone, text: &str, cells: usize) {
        self.add(Tone::Plain, " ");
        self.add(tone, &text::left(text, cells, self.look.unicode));
    }

    /// The same, with the text at its right.
    pub fn column_right(&mut self, tone: Tone, text: &str, cells: usize) {
        self.add(Tone::Plain, " ");
        self.add(tone, &text::right(text, cells, self.look.unicode));
    }

    /// A column with a bar: so many of so many.
    pub fn bar(&mut self, tone: Tone, value: u64, most: u64, cells: usize) {
        let bar = table::bar(value, most, cells, screen(self.look, cells));
        let rest = cells.saturating_sub(text::width(&bar));
        self.add(Tone::Plain, " ");
        self.add(tone, &bar);
        self.add(Tone::Plain, &(if self.look.unicode { "·" } else { "." }).repeat(rest));
    }

    pub fn line(self) -> Line<'static> {
        Line::from(self.spans)
    }
}
