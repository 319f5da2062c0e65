//! Text in the cells of a terminal: what came from outside is made harmless, and everything gets exactly its room.

use ratatui::text::Span;

use crate::telemetry::escape::is_unprintable;

/// The most characters of a foreign text that are read: more never fit on a screen.
const MAX_LOOKED_AT: usize = 1024;

/// Returns a text from the network or the database in which every character takes one cell or two on any terminal.
///
/// Characters that could steer the terminal, turn the line's direction or join with their neighbours are written as `\u{…}`:
/// terminals differ in how they show them, and what follows would be in the wrong place. Names that differ look different.
/// Without `unicode`, all but ASCII is written so.
pub fn safe(text: &str, unicode: bool) -> String {
    let mut shown = String::new();
    for character in text.chars().take(MAX_LOOKED_AT) {
        if character.is_ascii_graphic() || character == ' ' || (unicode && stands_alone(character)) {
            shown.push(character);
        } else {
            shown.extend(character.escape_default());
        }
    }
    shown
}

/// Returns how many cells a text takes.
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// Returns as much of a text as fits into `most` cells, and whether that is all of it.
fn cut(text: &str, most: usize) -> (&str, bool) {
    let mut taken = 0;
    for (at, character) in text.char_indices() {
        taken += width(character.encode_utf8(&mut [0; 4]));
        if taken > most {
            return (text.get(..at).unwrap_or_default(), false);
        }
    }
    (text, true)
}

/// Returns a harmless text in at most `most` cells, with a mark if it is cut.
pub fn shortened(text: &str, most: usize, unicode: bool) -> String {
    match cut(text, most) {
        (whole, true) => whole.to_owned(),
        _ => {
            let mark = if unicode { "…" } else { "~" };
            format!("{}{}", cut(text, most.saturating_sub(1)).0, if most > 0 { mark } else { "" })
        }
    }
}

/// Returns a harmless text in exactly so many cells, aligned to the left.
pub fn left(text: &str, cells: usize, unicode: bool) -> String {
    let shown = shortened(text, cells, unicode);
    let blanks = " ".repeat(cells.saturating_sub(width(&shown)));
    shown + &blanks
}

/// Returns a harmless text in exactly so many cells, aligned to the right.
pub fn right(text: &str, cells: usize, unicode: bool) -> String {
    let shown = shortened(text, cells, unicode);
    " ".repeat(cells.saturating_sub(width(&shown))) + &shown
}

/// Returns a number with separated thousands.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Returns a number in at most so many cells, if need be in thousands, millions and so on.
pub fn number_in(of: u64, cells: usize) -> String {
    let units = [(1, ""), (1_000, "k"), (1_000_000, "M"), (1_000_000_000, "G"), (1_000_000_000_000, "T")];
    let mut shown = units.iter().map(|(size, unit)| format!("{}{unit}", number(of / size)));
    shown.find(|shown| shown.len() <= cells).unwrap_or_else(|| ">".repeat(cells))
}

/// Returns a rate, without a fraction if it is large.
pub fn rate(rate: f64) -> String {
    if rate > 0.0 && rate < 9.95 {
        return format!("{rate:.1}");
    }
    // NaN becomes 0, infinity the greatest number.
    number(rate.round() as u64)
}

/// Returns a time in seconds for people: `40 s`, `12 min`, `3 h`, `2 d`.
pub fn age(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Whether every terminal shows a character by itself, in the cells counted here, from left to right.
fn stands_alone(character: char) -> bool {
    let from_right_to_left = matches!(character,
        '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}'
        | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}');
    // Pairs of letters that become a flag, and skin colours.
    let joins = matches!(character, '\u{1f1e6}'..='\u{1f1ff}' | '\u{1f3fb}'..='\u{1f3ff}');
    !is_unprintable(character)
        && !character.is_whitespace()
        && !from_right_to_left
        && !joins
        && width(character.encode_utf8(&mut [0; 4])) > 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_stay_what_they_are() {
        for name in ["alice@example.com", "jürgen@example.com", "山田@example.jp", "o'neil+tag@x", "Ωmega", "<a@b>"]
        {
            assert_eq!(safe(name, true), name);
        }
    }

    #[test]
    fn nothing_from_outside_steers_the_terminal_or_joins_its_neighbours() {
        assert_eq!(safe("a\u{1b}[2Jb\n\tc", true), r"a\u{1b}[2Jb\n\tc");
        assert_eq!(safe("x\u{202e}y", true), r"x\u{202e}y");
        assert_eq!(safe("e\u{301}", true), r"e\u{301}", "a mark that is drawn over the letter before it");
        assert_eq!(safe("\u{5d0}1", true), r"\u{5d0}1", "Hebrew turns the numbers after it around");
        assert_eq!(safe("\u{1f1e9}\u{1f1ea}", true), r"\u{1f1e9}\u{1f1ea}");
        assert_eq!(safe("jürgen", false), r"j\u{fc}rgen");
        assert_eq!(safe("a\u{a0}b", true), r"a\u{a0}b");
    }

    #[test]
    fn figures_are_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        let in_five = [99_999, 999_999, 4_294_967_295, u64::MAX].map(|number| number_in(number, 6));
        assert_eq!(in_five, ["99,999", "999k", "4,294M", ">>>>>>"]);
        assert_eq!([0.0, 0.04, 2.345, 9.94, 9.96, 12_345.6].map(rate), ["0", "0.0", "2.3", "9.9", "10", "12,346"]);
        assert_eq!([f64::NAN, -1.0].map(rate), ["0", "0"]);
        assert_eq!([-1, 5, 119, 120, 7200, 172_800].map(age), ["0 s", "5 s", "119 s", "2 min", "2 h", "2 d"]);
    }

    proptest! {
        #[test]
        fn everything_gets_exactly_its_room(text in any::<String>(), room in 0usize..40, unicode in any::<bool>()) {
            let text = safe(&text, unicode);
            for shown in [left(&text, room, unicode), right(&text, room, unicode)] {
                prop_assert_eq!(width(&shown), room);
                // Each character by itself: none joins another.
                let cells: usize = shown.chars().map(|one| width(one.encode_utf8(&mut [0; 4]))).sum();
                prop_assert_eq!(cells, room);
                prop_assert!(unicode || shown.is_ascii());
            }
        }
    }
}
