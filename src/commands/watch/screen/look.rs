//! How things look: colours if they are wanted, characters that the terminal has. Colour only repeats what words, places and
//! lengths show.

use std::ops::Range;

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use crate::commands::table;
use crate::commands::text::{number_in, safe, shortened, width};

/// What the terminal can show, and whether its user wants colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub colour: bool,
    /// Whether the terminal shows more than ASCII.
    pub unicode: bool,
}

/// What a text means, which its colour shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    /// Headings, and names of things.
    Faint,
    /// What matters most.
    Strong,
    Good,
    /// Near a limit, held.
    Warning,
    /// Over a limit, refused, broken.
    Bad,
}

impl Tone {
    /// How bad it is to have used so many thousandths.
    pub fn of_share(share: u64) -> Tone {
        match share {
            0..800 => Tone::Good,
            800..1000 => Tone::Warning,
            _ => Tone::Bad,
        }
    }

    /// How bad it is to be told so.
    pub fn of_action(action: &str) -> Tone {
        if action == "HOLD" { Tone::Warning } else { Tone::Bad }
    }
}

impl Look {
    /// Colours unless the environment or the command line says otherwise: <https://no-color.org>, <https://bixense.com/clicolors>.
    pub fn wants_colour(refused: bool, environment: impl Fn(&str) -> Option<String>) -> bool {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        let forced = set("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        !refused && set("NO_COLOR").is_none() && (forced || set("CLICOLOR").is_none_or(|value| value != "0"))
    }

    pub fn style(self, tone: Tone) -> Style {
        let style = Style::new();
        match (tone, self.colour) {
            (Tone::Plain, _) | (Tone::Faint | Tone::Good | Tone::Warning, false) => style,
            (Tone::Strong | Tone::Bad, false) | (Tone::Strong, true) => style.add_modifier(Modifier::BOLD),
            // The terminal's own palette, which is readable on its background; dark grey is not, everywhere.
            (Tone::Faint, true) => style.fg(Color::Cyan),
            (Tone::Good, true) => style.fg(Color::Green),
            (Tone::Warning, true) => style.fg(Color::Yellow),
            (Tone::Bad, true) => style.fg(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    /// A text that is ours or harmless, in at most so many cells.
    pub fn text(self, tone: Tone, text: &str, cells: usize) -> Line<'static> {
        Line::from(Span::styled(shortened(text, cells, self.unicode), self.style(tone)))
    }

    /// A text from the network or the database.
    pub fn foreign(self, text: &str, cells: usize) -> Line<'static> {
        self.text(Tone::Plain, &safe(text, self.unicode), cells)
    }

    pub fn number(self, number: i64, cells: usize) -> Line<'static> {
        self.text(Tone::Plain, &number_in(number.max(0).cast_unsigned(), cells), cells)
    }

    /// What is allowed; None for no limit.
    pub fn limit(self, allowed: Option<u64>, cells: usize) -> Line<'static> {
        let shown = allowed.map_or_else(|| "unlimited".to_owned(), |allowed| number_in(allowed, cells));
        self.text(Tone::Plain, &shown, cells)
    }

    /// Thousandths, in percent.
    pub fn share(self, share: u64, cells: usize) -> Line<'static> {
        self.text(Tone::of_share(share), &format!("{}%", (share / 10).min(9999)), cells)
    }

    /// A bar of `value`, dotted up to `most`, with a mark at another value. ratatui's gauges show neither where a bar would end nor a
    /// small value.
    pub fn bar(self, tone: Tone, value: u64, most: u64, mark: Option<u64>, cells: usize) -> Line<'static> {
        let bar = table::bar(value, most, cells, self.unicode);
        let rest = (if self.unicode { "·" } else { "." }).repeat(cells.saturating_sub(width(&bar)));
        let (filled, whole) = (width(&bar), bar + &rest);
        let part = |cells: Range<usize>| whole.chars().skip(cells.start).take(cells.len()).collect::<String>();
        let bar = |cells| Span::styled(part(cells), self.style(tone));
        let rest = |cells| Span::raw(part(cells));
        let Some(mark) = mark.filter(|mark| *mark <= most).map(|mark| table::mark(mark, most, cells)) else {
            return Line::from(vec![bar(0..filled), rest(filled..cells)]);
        };
        let (left, right) = (mark.min(filled), (mark + 1).max(filled));
        let line = Span::raw(if self.unicode { "│" } else { "|" });
        Line::from(vec![bar(0..left), rest(left..mark), line, bar(mark + 1..right), rest(right..cells)])
    }

    /// The line that is chosen; it has a mark as well.
    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Returns the character for lines between parts of the screen.
    pub fn rule(self) -> &'static str {
        if self.unicode { "─" } else { "-" }
    }

    /// Before the line that is chosen.
    pub fn mark(self) -> &'static str {
        if self.unicode { "▸ " } else { "> " }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_left_out_where_that_is_asked_for() {
        let wants = |refused, set: &[(&str, &str)]| {
            Look::wants_colour(refused, |name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(wants(false, &[]));
        assert!(!wants(true, &[("CLICOLOR_FORCE", "1")]));
        assert!(!wants(false, &[("NO_COLOR", "1")]));
        assert!(!wants(false, &[("NO_COLOR", "0")]), "its value has no meaning");
        assert!(wants(false, &[("NO_COLOR", "")]), "an empty one is none");
        assert!(!wants(false, &[("CLICOLOR", "0")]));
        assert!(wants(false, &[("CLICOLOR", "0"), ("CLICOLOR_FORCE", "1")]));
    }

    #[test]
    fn without_colour_there_is_none() {
        let look = Look { colour: false, unicode: true };
        for tone in [Tone::Plain, Tone::Faint, Tone::Strong, Tone::Good, Tone::Warning, Tone::Bad] {
            assert_eq!((look.style(tone).fg, look.style(tone).bg), (None, None));
        }
    }
}
