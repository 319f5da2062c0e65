//! What QUOTA_STEPS, LIMITS and the lists have in common as they are written: rules between `;`, words in them, and
//! where a mistake stands.

use std::fmt::{self, Display};

/// A mistake in what an operator wrote, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake<P> {
    /// The character at which it begins; the first is 1.
    pub column: usize,
    pub problem: P,
    /// How it might be written instead.
    pub example: &'static str,
}

impl<P> Mistake<P> {
    /// The same mistake as part of a wider problem.
    pub fn into<Q: From<P>>(self) -> Mistake<Q> {
        Mistake { column: self.column, problem: self.problem.into(), example: self.example }
    }
}

impl<P: Display> Display for Mistake<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}; for example: {}", self.column, self.problem, self.example)
    }
}

impl<P: fmt::Debug + Display> std::error::Error for Mistake<P> {}

/// A piece of what was written, and the character at which it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    pub text: &'a str,
    /// The first character of the setting is 1.
    pub column: usize,
}

impl<'a> Piece<'a> {
    pub fn new(text: &'a str) -> Piece<'a> {
        Piece { text, column: 1 }
    }

    /// The rules between `;`, without blanks at their ends. Empty ones are left out.
    pub fn rules(self) -> impl Iterator<Item = Piece<'a>> {
        self.split(';').filter(|rule| !rule.text.is_empty())
    }

    /// What stands between separators, without blanks at its ends.
    pub fn split(self, separator: char) -> impl Iterator<Item = Piece<'a>> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let (piece, after) = rest?.split_at_first(|character| character == separator);
            rest = after.map(Piece::without_first);
            Some(piece.trimmed())
        })
    }

    /// The first word and the rest, both without blanks at their ends. A word ends at a blank and before an `ender`.
    pub fn word(self, ender: &[char]) -> (Piece<'a>, Piece<'a>) {
        let (word, rest) = self.trimmed().split_at_first(|c| c.is_whitespace() || ender.contains(&c));
        (word, rest.unwrap_or(Piece { text: "", column: word.column + word.text.chars().count() }).trimmed())
    }

    /// What follows `prefix`, if the piece begins with it.
    pub fn after(self, prefix: &str) -> Option<Piece<'a>> {
        let text = self.text.strip_prefix(prefix)?;
        Some(Piece { text, column: self.column + prefix.chars().count() })
    }

    /// The piece as a message shows it: on one line, and shortened.
    pub fn shown(self) -> String {
        const MAX_SHOWN: usize = 40;
        let text: String = self.text.chars().take(MAX_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if self.text.chars().nth(MAX_SHOWN).is_some() { text + "…" } else { text }
    }

    /// A mistake that begins here.
    pub fn mistake<P>(self, problem: P, example: &'static str) -> Mistake<P> {
        Mistake { column: self.column, problem, example }
    }

    fn trimmed(self) -> Piece<'a> {
        let text = self.text.trim_start();
        let blanks = self.text.chars().count() - text.chars().count();
        Piece { text: text.trim_end(), column: self.column + blanks }
    }

    /// What is before the first such character, and what begins with it.
    fn split_at_first(self, stop: impl Fn(char) -> bool) -> (Piece<'a>, Option<Piece<'a>>) {
        let Some((before, after)) = self.text.find(stop).and_then(|at| self.text.split_at_checked(at)) else {
            return (self, None);
        };
        let column = self.column + before.chars().count();
        (Piece { text: before, column: self.column }, Some(Piece { text: after, column }))
    }

    fn without_first(self) -> Piece<'a> {
        let mut characters = self.text.chars();
        characters.next();
        Piece { text: characters.as_str(), column: self.column + 1 }
    }
}

/// No word of ours is longer, by far.
const MAX_WORD: usize = 64;

/// The known word that a misspelt one was probably meant to be. A third of the letters may differ; beyond that a guess would
/// only puzzle.
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found: String = found.chars().take(MAX_WORD).flat_map(char::to_lowercase).collect();
    known
        .into_iter()
        .map(|word| (word, strsim::normalized_damerau_levenshtein(&found, &word.to_lowercase())))
        .filter(|&(_, likeness)| likeness * 3.0 >= 2.0)
        .max_by(|one, two| one.1.total_cmp(&two.1))
        .map(|(word, _)| word)
}

/// ` (did you mean …?)`, or nothing.
pub(super) fn did_you_mean(word: &Option<&'static str>) -> String {
    word.map(|word| format!(" (did you mean `{word}`?)")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces<'a>(pieces: impl Iterator<Item = Piece<'a>>) -> Vec<(&'a str, usize)> {
        pieces.map(|piece| (piece.text, piece.column)).collect()
    }

    #[test]
    fn finds_the_rules_and_where_they_begin() {
        assert_eq!(pieces(Piece::new("").rules()), []);
        assert_eq!(pieces(Piece::new(" ; ;").rules()), []);
        assert_eq!(pieces(Piece::new(" é x ;y; z ").rules()), [("é x", 2), ("y", 7), ("z", 10)]);
    }

    #[test]
    fn takes_words_from_a_rule() {
        let (word, rest) = Piece::new("30 recipients/5m").word(&['/']);
        assert_eq!((word.text, word.column, rest.text, rest.column), ("30", 1, "recipients/5m", 4));
        let (word, rest) = rest.word(&['/']);
        assert_eq!((word.text, rest.text, rest.column), ("recipients", "/5m", 14));
        assert_eq!(rest.after("/").map(|rest| (rest.text, rest.column)), Some(("5m", 15)));
        let (word, rest) = Piece::new("5m").word(&[]);
        assert_eq!((word.text, rest.text, rest.column), ("5m", "", 3));
    }

    #[test]
    fn guesses_what_was_meant() {
        let measures = ["recipients", "messages", "networks", "bytes"];
        assert_eq!(nearest("recipents", measures), Some("recipients"));
        assert_eq!(nearest("Network", measures), Some("networks"));
        assert_eq!(nearest("quux", measures), None);
    }

    #[test]
    fn shows_little_of_much() {
        assert_eq!(Piece::new(&"é".repeat(1000)).shown(), format!("{}…", "é".repeat(40)));
        assert_eq!(Piece::new("a\nb").shown(), "a b");
    }

    proptest! {
        #[test]
        fn columns_point_at_what_they_name(written in "[a-c; \té/]{0,30}") {
            for rule in Piece::new(&written).rules() {
                let (word, rest) = rule.word(&['/']);
                for piece in [rule, word, rest] {
                    let length = piece.text.chars().count();
                    let there: String = written.chars().skip(piece.column - 1).take(length).collect();
                    prop_assert_eq!(there, piece.text);
                }
            }
        }
    }
}
