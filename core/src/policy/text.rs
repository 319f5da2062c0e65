//! Placeholders in the texts that a sender gets to read: `{used} of {quota} {unit} used, free again at {free_at}`.

use crate::policy::syntax::{self, Mistake, Piece};

/// The longest filled text, in bytes. An SMTP reply line has 512 (RFC 5321, 4.5.3.1.5), and Postfix adds its own words.
pub const MAX_FILLED: usize = 400;

const EXAMPLE: &str = "{used} of {quota} {unit} used, free again at {free_at}";

/// What the placeholders stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values<'a> {
    /// The subject's key.
    pub sender: &'a str,
    /// What is counted, this request included.
    pub used: u64,
    /// What is allowed.
    pub quota: u64,
    /// What is counted: `recipients`, `messages`, …
    pub unit: &'a str,
    /// In which time: `24h`, or `message`.
    pub window: &'a str,
    /// When there will be room again, as people read it, with the zone's offset.
    pub free_at: &'a str,
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextProblem {
    #[error(
        "`{{{found}}}` is not a placeholder{}; there are {{sender}} {{used}} {{quota}} {{unit}} {{window}} {{free_at}}",
        syntax::did_you_mean(nearest)
    )]
    Placeholder { found: String, nearest: Option<&'static str> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Sender,
    Used,
    Quota,
    Unit,
    Window,
    FreeAt,
}

impl Placeholder {
    const NAMES: [(&'static str, Placeholder); 6] = [
        ("sender", Placeholder::Sender),
        ("used", Placeholder::Used),
        ("quota", Placeholder::Quota),
        ("unit", Placeholder::Unit),
        ("window", Placeholder::Window),
        ("free_at", Placeholder::FreeAt),
    ];

    fn named(name: &str) -> Option<Placeholder> {
        Placeholder::NAMES.iter().find(|(known, _)| *known == name).map(|&(_, placeholder)| placeholder)
    }
}

/// Returns every mistake in a text; empty if it can be filled.
pub fn check(text: &str) -> Vec<Mistake<TextProblem>> {
    check_piece(Piece::new(text))
}

pub(super) fn check_piece(text: Piece<'_>) -> Vec<Mistake<TextProblem>> {
    let mut column = text.column;
    let mut mistakes = Vec::new();
    for part in Parts(text.text) {
        if let Part::Braced(name) = part
            && Placeholder::named(name).is_none()
        {
            let nearest = syntax::nearest(name, Placeholder::NAMES.map(|(known, _)| known));
            let problem = TextProblem::Placeholder { found: Piece::new(name).shown(), nearest };
            mistakes.push(Mistake { column, problem, example: EXAMPLE });
        }
        column += part.characters();
    }
    mistakes
}

/// The text with its placeholders filled in, in at most [`MAX_FILLED`] bytes. What a value holds is not looked at
/// again: a sender named `{quota}` is shown as that.
pub fn fill(text: &str, values: &Values<'_>) -> String {
    let mut filled = String::new();
    for part in Parts(text) {
        match part {
            Part::Plain(text) => filled.push_str(text),
            Part::Braced(name) => match Placeholder::named(name) {
                Some(Placeholder::Sender) => filled.push_str(values.sender),
                Some(Placeholder::Used) => filled.push_str(&values.used.to_string()),
                Some(Placeholder::Quota) => filled.push_str(&values.quota.to_string()),
                Some(Placeholder::Unit) => filled.push_str(values.unit),
                Some(Placeholder::Window) => filled.push_str(values.window),
                Some(Placeholder::FreeAt) => filled.push_str(values.free_at),
                None => filled.extend(["{", name, "}"]),
            },
        }
        if filled.len() > MAX_FILLED {
            filled.truncate(filled.floor_char_boundary(MAX_FILLED));
            break;
        }
    }
    filled
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'a> {
    Plain(&'a str),
    /// The name between the braces.
    Braced(&'a str),
}

impl Part<'_> {
    fn characters(self) -> usize {
        match self {
            Part::Plain(text) => text.chars().count(),
            Part::Braced(name) => name.chars().count() + 2,
        }
    }
}

/// The parts of a text, in order. Braces that hold no name (`{}`, `{ x }`, `{` alone) are plain text.
struct Parts<'a>(&'a str);

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let text = self.0;
        if let Some((name, rest)) = braced(text) {
            self.0 = rest;
            return Some(Part::Braced(name));
        }
        // An opening brace that begins no placeholder belongs to the text before the next one.
        let end = text.char_indices().skip(1).find(|&(_, character)| character == '{').map_or(text.len(), |(at, _)| at);
        let (plain, rest) = text.split_at_checked(end)?;
        self.0 = rest;
        (!plain.is_empty()).then_some(Part::Plain(plain))
    }
}

/// The name that the text begins with in braces, and what follows it.
fn braced(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.strip_prefix('{')?.split_once('}')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALUES: Values<'_> = Values {
        sender: "alice@example.com",
        used: 1001,
        quota: 1000,
        unit: "recipients",
        window: "24h",
        free_at: "14:35 +0100",
    };

    #[test]
    fn fills_every_placeholder() {
        for (text, filled) in [
            ("Rate limit reached, retry later.", "Rate limit reached, retry later."),
            ("{sender}: {used}/{quota} {unit} in {window}", "alice@example.com: 1001/1000 recipients in 24h"),
            ("{free_at}{free_at}", "14:35 +010014:35 +0100"),
            ("{} { used } {{used}} {used", "{} { used } {1001} {used"),
            ("", ""),
        ] {
            assert_eq!(fill(text, &VALUES), filled);
            assert_eq!(check(text), []);
        }
    }

    #[test]
    fn a_value_is_not_looked_at_again() {
        assert_eq!(fill("{sender}", &Values { sender: "{quota}", ..VALUES }), "{quota}");
    }

    #[test]
    fn tells_every_unknown_placeholder_and_where_it_is() {
        let mistakes = check("é {usd} {used} {nobody}");
        let told: Vec<_> = mistakes.iter().map(|mistake| (mistake.column, mistake.problem.clone())).collect();
        let unknown = |found: &str, nearest| TextProblem::Placeholder { found: found.to_owned(), nearest };
        assert_eq!(told, [(3, unknown("usd", Some("used"))), (16, unknown("nobody", None))]);
        let message = mistakes.first().unwrap().to_string();
        assert!(
            message.starts_with("at character 3: `{usd}` is not a placeholder (did you mean `used`?)"),
            "{message}"
        );
    }

    proptest! {
        #[test]
        fn a_filled_text_is_bounded(text in "([{}a-fé ]|\\{sender\\}|\\{used\\}){0,200}", sender in "\\PC{0,300}") {
            let filled = fill(&text, &Values { sender: &sender, ..VALUES });
            prop_assert!(filled.len() <= MAX_FILLED);
            let parts: usize = Parts(&text).map(Part::characters).sum();
            prop_assert_eq!(parts, text.chars().count());
        }
    }
}
