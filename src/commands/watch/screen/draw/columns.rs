//! A table as a list of columns, each with its heading, its width and what stands in it.

use ratatui::layout::{Alignment, Constraint};
use ratatui::text::Line;
use ratatui::widgets::{HighlightSpacing, Row, Table};

use super::super::look::{Look, Tone};

/// The width of the mark before a row.
const MARK: usize = 2;

/// The columns of a table with a row for each `T`.
pub struct Columns<'a, T> {
    look: Look,
    /// Cells that no column has taken yet.
    room: usize,
    columns: Vec<Column<'a, T>>,
}

/// Returns what stands in a row, in at most so many cells.
type Content<'a, T> = Box<dyn Fn(&T, usize) -> Line<'static> + 'a>;

struct Column<'a, T> {
    heading: &'static str,
    /// Its width.
    cells: usize,
    alignment: Alignment,
    content: Content<'a, T>,
}

impl<'a, T: 'a> Columns<'a, T> {
    pub fn new(look: Look, width: usize) -> Columns<'a, T> {
        Columns { look, room: width.saturating_sub(MARK), columns: Vec::new() }
    }

    /// The widest that one more column can be.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Adds a column of so many cells.
    pub fn left(&mut self, heading: &'static str, cells: usize, content: impl Fn(&T, usize) -> Line<'static> + 'a) {
        self.add(heading, cells, Alignment::Left, Box::new(content));
    }

    /// The same, aligned to the right.
    pub fn right(&mut self, heading: &'static str, cells: usize, content: impl Fn(&T, usize) -> Line<'static> + 'a) {
        self.add(heading, cells, Alignment::Right, Box::new(content));
    }

    fn add(&mut self, heading: &'static str, cells: usize, alignment: Alignment, content: Content<'a, T>) {
        // ratatui would squeeze columns that do not fit, and cut names and numbers short without a mark.
        let cells = cells.min(self.room);
        self.room = self.room.saturating_sub(cells + 1);
        self.columns.push(Column { heading, cells, alignment, content });
    }

    /// Returns the table without headings.
    pub fn table(&self, rows: impl IntoIterator<Item = &'a T>) -> Table<'static> {
        let cell = |column: &Column<'a, T>, row: &T| (column.content)(row, column.cells).alignment(column.alignment);
        let row = |row: &T| Row::new(self.columns.iter().map(|column| cell(column, row)));
        let width = |column: &Column<'a, T>| Constraint::Length(u16::try_from(column.cells).unwrap_or(u16::MAX));
        Table::new(rows.into_iter().map(row), self.columns.iter().map(width))
            .column_spacing(1)
            .highlight_symbol(self.look.mark())
            .highlight_spacing(HighlightSpacing::Always)
            .row_highlight_style(self.look.chosen())
    }

    /// Returns the row of headings.
    pub fn headings(&self) -> Row<'static> {
        let heading = |column: &Column<'a, T>| {
            self.look.text(Tone::Faint, column.heading, column.cells).alignment(column.alignment)
        };
        Row::new(self.columns.iter().map(heading))
    }
}
