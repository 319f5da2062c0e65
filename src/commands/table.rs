//! Tables and bars for people. On a terminal as wide as it is; anywhere else plain text.

use std::io::IsTerminal;

use terminal_size::Width;

use super::text::{left, right, width};
use crate::telemetry::escape::is_unprintable;

/// The terminal that is printed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// In cells.
    pub width: usize,
    /// Whether it shows more than ASCII.
    pub unicode: bool,
}

impl Screen {
    /// None if standard output is no terminal.
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
        Some(Screen { width: width.into(), unicode: locale.contains("utf-8") || locale.contains("utf8") })
    }
}

/// Returns rows under headings, each column as wide as its widest cell. A `>` before a heading aligns its column to the right.
pub fn table<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let titles = headings.map(|heading| heading.trim_start_matches('>').to_owned());
    let rows: Vec<[String; N]> = std::iter::once(titles).chain(rows).collect();
    let widest =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0);
    let columns: Vec<_> = (0..N).map(widest).zip(headings.map(|heading| heading.starts_with('>'))).collect();
    let mut table = String::new();
    for row in &rows {
        let aligned = |(cell, (cells, is_right)): (&String, &(usize, bool))| match is_right {
            true => right(cell, *cells, true),
            false => left(cell, *cells, true),
        };
        let line = row.iter().zip(&columns).map(aligned).collect::<Vec<_>>().join("  ");
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

/// Returns a text from the network or the database without what could steer a terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|character| if is_unprintable(character) { '?' } else { character }).collect()
}

/// Returns `value` of `most` as a bar of at most so many cells. Any value but 0 is seen.
pub fn bar(value: u64, most: u64, cells: usize, unicode: bool) -> String {
    let eighths = usize::try_from(scaled(value, most, cells as u64 * 8)).unwrap_or(0);
    if !unicode {
        return "#".repeat(eighths.div_ceil(8));
    }
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    "█".repeat(eighths / 8) + PARTS.get(eighths % 8).copied().unwrap_or("")
}

/// Returns the cell of such a bar in which `value` ends.
pub fn mark(value: u64, most: u64, cells: usize) -> usize {
    usize::try_from(scaled(value, most, cells as u64)).unwrap_or(0).saturating_sub(1)
}

/// Returns numbers as a line of small bars, of which the greatest is a full one; without Unicode as a line of digits.
pub fn sparkline(values: &[u64], unicode: bool) -> String {
    let most = values.iter().copied().max().unwrap_or(0);
    let levels = if unicode { " ▁▂▃▄▅▆▇█" } else { ".123456789" };
    let highest = levels.chars().count() as u64 - 1;
    let level = |&value: &u64| levels.chars().nth(usize::try_from(scaled(value, most, highest)).unwrap_or(0));
    values.iter().filter_map(level).collect()
}

/// Returns `value` of `most` as a part of `whole`, rounded up.
fn scaled(value: u64, most: u64, whole: u64) -> u64 {
    let scaled = (u128::from(value.min(most)) * u128::from(whole)).div_ceil(u128::from(most.max(1)));
    u64::try_from(scaled).unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_it_must_be() {
        let rows =
            [["jürgen", "7", ""], ["al", "12345", "blocked"], ["山田", "0", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(
            table(["SENDER", ">USED", "STATE"], rows),
            "SENDER   USED  STATE\njürgen      7\nal      12345  blocked\n山田        0\n"
        );
    }

    #[test]
    fn any_value_but_0_is_seen() {
        assert_eq!(bar(1, 1_000_000, 10, true), "▏");
        assert_eq!(bar(0, 10, 10, true), "");
        assert_eq!(bar(u64::MAX, u64::MAX, 3, true), "███");
        assert_eq!(bar(5, 10, 4, false), "##");
        assert_eq!(sparkline(&[0, 1, 4, 8], true), " ▁▄█");
        assert_eq!(sparkline(&[0, 1, 900], false), ".19");
        assert_eq!(sparkline(&[0, 0], true), "  ");
    }

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\u{202e}c\n"), "a?[2Jb?c?");
    }
}
