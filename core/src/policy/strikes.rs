//! STRIKES: who comes over a limit again and again is blocked.
//!
//! `3 in 24h BLOCK 1h; 6 in 7d BLOCK`

use std::fmt;
use std::time::Duration;

use crate::policy::duration;
use crate::policy::syntax::{Mistake, Piece};

const EXAMPLE: &str = "3 in 24h BLOCK 1h; 6 in 7d BLOCK";
/// The longest time that strikes are counted in.
const MAX_TIME: Duration = Duration::from_secs(366 * 86_400);
/// The most strikes that a rule may ask for.
const MAX_NUMBER: u32 = 1000;

/// The rules, as written. None means that nobody is blocked by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strikes(Vec<Rule>);

/// So many strikes in a time block for so long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub number: u32,
    pub within: Duration,
    /// None: until somebody ends the block.
    pub lasts: Option<Duration>,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrikesProblem {
    #[error("`{0}` is not a number of strikes from 1 to {MAX_NUMBER}")]
    Number(String),
    #[error("after the number there must be `in` and a time, and not `{0}`")]
    In(String),
    #[error("`{0}` is not a time from 1m to 366d; write a number and a unit: 90m, 24h, 7d")]
    Time(String),
    #[error("after the time there must be BLOCK, and not `{0}`")]
    Block(String),
    #[error("`{0}` stands after the end of the rule; rules are separated by `;`")]
    More(String),
}

impl Strikes {
    /// Reads STRIKES; empty means no rule. On error, every mistake there is.
    pub fn parse(written: &str) -> Result<Strikes, Vec<Mistake<StrikesProblem>>> {
        let (mut rules, mut mistakes) = (Vec::new(), Vec::new());
        for rule in Piece::new(written).rules() {
            match Rule::parse(rule) {
                Ok(rule) => rules.push(rule),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if mistakes.is_empty() { Ok(Strikes(rules)) } else { Err(mistakes) }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    /// How long a strike counts for any of the rules.
    pub fn longest(&self) -> Duration {
        self.0.iter().map(|rule| rule.within).max().unwrap_or_default()
    }
}

impl Rule {
    fn parse(rule: Piece<'_>) -> Result<Rule, Mistake<StrikesProblem>> {
        let wrong =
            |piece: Piece<'_>, problem: fn(String) -> StrikesProblem| piece.mistake(problem(piece.shown()), EXAMPLE);
        let time = |piece: Piece<'_>| {
            let time = duration::parse(piece.text).filter(|time| (Duration::from_secs(60)..=MAX_TIME).contains(time));
            time.ok_or_else(|| wrong(piece, StrikesProblem::Time))
        };
        let (number, rest) = rule.word(&[]);
        let read = number.text.parse().ok().filter(|read| (1..=MAX_NUMBER).contains(read));
        let read = read.ok_or_else(|| wrong(number, StrikesProblem::Number))?;
        let (in_word, rest) = rest.word(&[]);
        if !in_word.text.eq_ignore_ascii_case("in") {
            return Err(wrong(in_word, StrikesProblem::In));
        }
        let (within, rest) = rest.word(&[]);
        let within = time(within)?;
        let (block, rest) = rest.word(&[]);
        if !block.text.eq_ignore_ascii_case("BLOCK") {
            return Err(wrong(block, StrikesProblem::Block));
        }
        let (lasts, rest) = rest.word(&[]);
        let lasts = if lasts.text.is_empty() { None } else { Some(time(lasts)?) };
        if !rest.text.is_empty() {
            return Err(wrong(rest, StrikesProblem::More));
        }
        Ok(Rule { number: read, within, lasts })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} BLOCK", self.number, duration::show(self.within))?;
        match self.lasts {
            Some(lasts) => write!(f, " {}", duration::show(lasts)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Strikes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, rule) in self.0.iter().enumerate() {
            write!(f, "{}{rule}", if place > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_rules_and_shows_them_as_they_are_written() {
        for (written, shown) in [
            ("3 in 24h BLOCK 1h; 6 in 7d BLOCK", "3 in 24h BLOCK 1h; 6 in 7d BLOCK"),
            (" 1  IN 60m block ;; ", "1 in 1h BLOCK"),
            ("", ""),
        ] {
            let strikes = Strikes::parse(written).unwrap();
            assert_eq!(strikes.to_string(), shown);
            assert_eq!(Strikes::parse(shown).unwrap(), strikes);
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (written, told) in [
            ("0 in 24h BLOCK", "at character 1: `0` is not a number of strikes from 1 to 1000; "),
            ("three in 24h BLOCK", "at character 1: `three` is not a number of strikes"),
            (
                "3 within 24h BLOCK",
                "at character 3: after the number there must be `in` and a time, and not `within`; ",
            ),
            ("3 in 24 BLOCK", "at character 6: `24` is not a time from 1m to 366d; "),
            ("3 in 400d BLOCK", "at character 6: `400d` is not a time from 1m to 366d; "),
            ("3 in 24h", "at character 9: after the time there must be BLOCK, and not ``; "),
            ("3 in 24h REJECT", "at character 10: after the time there must be BLOCK, and not `REJECT`; "),
            ("1 in 1h BLOCK; 3 in 24h BLOCK 1h 2h", "at character 34: `2h` stands after the end of the rule; "),
        ] {
            let mistakes = Strikes::parse(written).unwrap_err();
            let message = mistakes.first().unwrap().to_string();
            assert!(message.starts_with(told) && message.ends_with(EXAMPLE), "{written}: {message}");
        }
        assert_eq!(Strikes::parse("x; y; 1 in 1h BLOCK").unwrap_err().len(), 2, "every mistake");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_or_refused_with_a_reason(text in "([0-9 inmhdsBLOCK;]{0,30}|\\PC{0,60})") {
            match Strikes::parse(&text) {
                Ok(strikes) => prop_assert_eq!(Strikes::parse(&strikes.to_string()).unwrap(), strikes),
                Err(mistakes) => prop_assert!(!mistakes.is_empty()),
            }
        }
    }
}
