//! A line that is put together from left to right, and never gets wider than the screen.

use ratatui::text::{Line, Span};

use super::super::look::{Look, Tone};
use crate::commands::text;

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

    /// The same, but as much of it as fits.
    pub fn rest(&mut self, tone: Tone, text: &str) {
        self.add(Tone::Plain, GAP);
        self.add(tone, text);
    }

    /// A text at the line's end; whole, or not at all.
    pub fn part_at_end(&mut self, tone: Tone, text: &str) {
        let width = text::width(text);
        if self.room >= GAP.len() + width {
            self.add(Tone::Plain, &" ".repeat(self.room - width));
            self.add(tone, text);
        }
    }

    pub fn line(self) -> Line<'static> {
        Line::from(self.spans)
    }
}
