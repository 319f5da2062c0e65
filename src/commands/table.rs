//! Tables and bars for people. On a terminal as wide as it is; anywhere else plain text.

use std::io::IsTerminal;

use terminal_size::Width;

use crate::telemetry::escape::is_unprintable;

/// Between two columns.
const GAP: &str = "  ";
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The terminal that is printed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// In characters.
    pub width: usize,
    /// Whether it shows block characters.
    pub blocks: bool,
}

impl Screen {
    /// None where standard output is no terminal.
    pub fn of_process() -> Option<Screen> {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return None;
        }
        let (Width(width), _) = terminal_size::terminal_size_of(stdout)?;
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let locale = locale.unwrap_or_default().to_lowercase();
        Some(Screen { width: width.into(), blocks: locale.contains("utf-8") || locale.contains("utf8") })
    }
}

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows under headings.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[(&'static str, Align)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table, each column as wide as it must be.
    pub fn show(&self) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| {
                let title = self.columns.get(at).map_or(0, |(title, _)| title.len());
                let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
                cells.max().unwrap_or(0).max(title)
            })
            .collect();
        let mut text = String::new();
        let titles = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, (_, align)), width) in row.iter().zip(&self.columns).zip(&widths) {
                if !line.is_empty() {
                    line.push_str(GAP);
                }
                line.push_str(&aligned(cell, *align, *width));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A cell filled with blanks to a width.
pub fn aligned(cell: &str, align: Align, width: usize) -> String {
    let blanks = " ".repeat(width.saturating_sub(cell.chars().count()));
    match align {
        Align::Left => format!("{cell}{blanks}"),
        Align::Right => format!("{blanks}{cell}"),
    }
}

/// A text from the network or the database, without what could steer a terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|character| if is_unprintable(character) { '?' } else { character }).collect()
}

/// A text in at most so many characters.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    kept + "…"
}

/// A part of `most` as a bar of at most `width` characters. What is not nothing is seen.
pub fn bar(value: u64, most: u64, width: usize, screen: Screen) -> String {
    let eighths = u64::try_from(width * 8).unwrap_or(0);
    let length = match most {
        0 => 0,
        most => (u128::from(value.min(most)) * u128::from(eighths)).div_ceil(u128::from(most)),
    };
    let length = usize::try_from(length).unwrap_or(0);
    if !screen.blocks {
        return "#".repeat(length.div_ceil(8));
    }
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    "█".repeat(length / 8) + PARTS.get(length % 8).copied().unwrap_or("")
}

/// Numbers as a line of small bars; the greatest is a full one. Without block characters it is a line of digits.
pub fn sparkline(values: &[u64], screen: Screen) -> String {
    let most = values.iter().copied().max().unwrap_or(0);
    let level = |value: u64, levels: u64| (u128::from(value) * u128::from(levels)).div_ceil(u128::from(most.max(1)));
    values
        .iter()
        .map(|&value| match (value, screen.blocks) {
            (0, true) => ' ',
            (0, false) => '.',
            (value, true) => {
                let level = usize::try_from(level(value, 8)).unwrap_or(1);
                LEVELS.get(level.saturating_sub(1)).copied().unwrap_or('█')
            }
            (value, false) => char::from_digit(u32::try_from(level(value, 9)).unwrap_or(9), 10).unwrap_or('9'),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: Screen = Screen { width: 80, blocks: true };
    const PLAIN: Screen = Screen { width: 80, blocks: false };

    #[test]
    fn a_table_is_as_wide_as_it_must_be() {
        let mut table = Table::new(&[("SENDER", Align::Left), ("USED", Align::Right), ("STATE", Align::Left)]);
        table.row(vec!["jürgen".into(), "7".into(), "".into()]);
        table.row(vec!["al".into(), "12345".into(), "blocked".into()]);
        assert_eq!(table.show(), "SENDER   USED  STATE\njürgen      7\nal      12345  blocked\n");
    }

    #[test]
    fn what_is_not_nothing_is_seen() {
        assert_eq!(bar(1, 1_000_000, 10, BLOCKS), "▏");
        assert_eq!(bar(0, 10, 10, BLOCKS), "");
        assert_eq!(bar(u64::MAX, u64::MAX, 3, BLOCKS), "███");
        assert_eq!(bar(5, 10, 4, PLAIN), "##");
        assert_eq!(sparkline(&[0, 1, 4, 8], BLOCKS), " ▁▄█");
        assert_eq!(sparkline(&[0, 1, 900], PLAIN), ".19");
        assert_eq!(sparkline(&[0, 0], BLOCKS), "  ");
    }

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\u{202e}c\n"), "a?[2Jb?c?");
        assert_eq!(shortened("abcdef", 4), "abc…");
    }
}
