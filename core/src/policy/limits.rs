//! LIMITS as the settings have it.
//!
//! `30 recipients/5m; 3% recipients/10m; 8 networks/1h WARN many networks; 100 recipients/message REJECT too many`
//!
//! `3x usual recipients/1h min 50 HOLD unusual amount of mail; 15 recipients/1h from new networks HOLD`

use crate::policy::action::{self, ActionProblem};
use crate::policy::decimal::Decimal;
use crate::policy::duration;
use crate::policy::limit::{Amount, Limit, MAX_AMOUNT, MAX_WINDOW, MIN_WINDOW, Measure, Per, USUAL_WINDOWS};
use crate::policy::syntax::{self, Mistake, Piece};

const EXAMPLE: &str = "30 recipients/5m DEFER slow down";
const EXAMPLE_USUAL: &str = "3x usual recipients/1h min 50 HOLD unusual amount of mail";
const EXAMPLE_NEW: &str = "15 recipients/1h from new networks HOLD";

/// What is wrong with a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitProblem {
    #[error("`{0}` is not an amount; write a whole number above 0 or a percentage of the quota")]
    Amount(String),
    #[error("`{0}` is more than {MAX_AMOUNT}, and would limit nothing")]
    TooMuch(String),
    #[error("`{0}` has a unit that only bytes take (k, M, G)")]
    UnitOfBytes(String),
    #[error(
        "`{found}` is not a measure{}; write recipients, messages, networks or bytes",
        syntax::did_you_mean(nearest)
    )]
    Measure { found: String, nearest: Option<&'static str> },
    #[error("{0} are not part of the quota; write a number instead of a percentage")]
    PercentOf(Measure),
    #[error("after `{0}` there must be `/` and a window or `message`")]
    NoWindow(String),
    #[error("`{0}` is not a window; write a number and s, m, h or d, or `message`")]
    Window(String),
    #[error("the window `{0}` is too short; usage is kept per minute, so write 1m or more")]
    TooShort(String),
    #[error("the window `{0}` is too long; write 366d or less")]
    TooLong(String),
    #[error("only recipients can be limited per message, not {0}")]
    PerMessage(Measure),
    #[error("after `{0}` there must be `usual`")]
    Times(String),
    #[error("`usual` needs a factor before it, such as `3x`")]
    NoFactor,
    #[error("`{0}` of what is usual would stop what is usual; write 1x or more")]
    SmallFactor(String),
    #[error("what is usual is known of recipients and messages only, not of {0}")]
    UsualOf(Measure),
    #[error("what is usual is known for an hour and for 24 hours; write 1h or 24h instead of `{0}`")]
    UsualWindow(String),
    #[error("a limit by what is usual needs `min` and a number: what a sender may send who has sent nothing yet")]
    NoMin,
    #[error("`{0}` is not a number above 0")]
    Min(String),
    #[error("`min` belongs to a limit by what is `usual`")]
    StrayMin,
    #[error("after `from` there must be `new networks`")]
    From,
    #[error("only recipients and messages can be counted by where they come from, not {0}")]
    NewOf(Measure),
    #[error("mail from new networks is limited in a window of up to 24h, not in `{0}`")]
    NewWindow(String),
    #[error("a limit on new networks takes a number; what is usual is of all mail")]
    NewUsual,
    #[error("NOTIFY is a step of QUOTA_STEPS; write WARN and a text to only watch a limit")]
    Notify,
    #[error(transparent)]
    Action(#[from] ActionProblem),
}

/// Reads LIMITS. `text_blocked` is the text of an action without a text.
///
/// # Errors
/// Every mistake in it.
pub fn parse(written: &str, text_blocked: &str) -> Result<Vec<Limit>, Vec<Mistake<LimitProblem>>> {
    let mut limits = Vec::new();
    let mut mistakes = Vec::new();
    for rule in Piece::new(written).rules() {
        match parse_rule(rule, text_blocked) {
            Ok(limit) => limits.push(limit),
            Err(found) => mistakes.extend(found),
        }
    }
    if mistakes.is_empty() { Ok(limits) } else { Err(mistakes) }
}

fn parse_rule(rule: Piece<'_>, text_blocked: &str) -> Result<Limit, Vec<Mistake<LimitProblem>>> {
    let one = |mistake| vec![mistake];
    let (amount_word, rest) = rule.word(&['/']);
    let amount = Written::parse(amount_word).map_err(one)?;
    let (word, after) = rest.word(&['/']);
    let usual = word.text.eq_ignore_ascii_case("usual");
    let rest = match amount {
        Written::Times(_) if usual => after,
        Written::Times(_) => return Err(one(word.mistake(LimitProblem::Times(amount_word.shown()), EXAMPLE_USUAL))),
        _ if usual => return Err(one(amount_word.mistake(LimitProblem::NoFactor, EXAMPLE_USUAL))),
        _ => rest,
    };
    let (measure_word, rest) = rest.word(&['/']);
    let measure = Measure::parse(measure_word).map_err(one)?;
    let Some(rest) = rest.after("/") else {
        return Err(one(rest.mistake(LimitProblem::NoWindow(measure_word.shown()), EXAMPLE)));
    };
    let (per_word, rest) = rest.word(&[]);

    // From here on a mistake hides no other.
    let mut mistakes = Vec::new();
    let per = keep(Per::parse(per_word), &mut mistakes);
    let (min, rest) = parse_min(rest, &mut mistakes);
    let (new, rest) = match parse_from(rest) {
        Ok(read) => read,
        Err(mistake) => {
            mistakes.push(mistake);
            return Err(mistakes);
        }
    };
    let amount = keep(amount.of(measure, amount_word, min), &mut mistakes);
    if usual && per.is_some_and(|per| !matches!(per, Per::Window(window) if USUAL_WINDOWS.contains(&window))) {
        mistakes.push(per_word.mistake(LimitProblem::UsualWindow(per_word.shown()), EXAMPLE_USUAL));
    } else if per == Some(Per::Message) && measure != Measure::Recipients {
        mistakes.push(measure_word.mistake(LimitProblem::PerMessage(measure), "100 recipients/message"));
    }
    let measure = match new {
        None => Some(measure),
        Some(from) => keep(measure.of_new_networks(measure_word, per, per_word, usual, from), &mut mistakes),
    };
    let (word, _) = rest.word(&[]);
    let action = if word.text.eq_ignore_ascii_case("NOTIFY") {
        mistakes.push(word.mistake(LimitProblem::Notify, "8 networks/1h WARN many networks"));
        None
    } else {
        match action::parse(rest, text_blocked, EXAMPLE) {
            Ok(action) => Some(action),
            Err(found) => {
                mistakes.extend(found.into_iter().map(Mistake::into));
                None
            }
        }
    };
    match (amount, measure, per, action) {
        (Some(amount), Some(measure), Some(per), Some(action)) if mistakes.is_empty() => {
            let word = if usual { "usual " } else { "" };
            let mut written = format!("{} {word}{}/{}", amount_word.text, measure_word.text, per_word.text);
            if let Amount::Usual { min, .. } = amount {
                written.push_str(&format!(" min {min}"));
            }
            if measure.is_from_new_networks() {
                written.push_str(" from new networks");
            }
            Ok(Limit { amount, measure, per, action, written })
        }
        _ => {
            mistakes.sort_by_key(|mistake| mistake.column);
            Err(mistakes)
        }
    }
}

/// Reads `min 50`, if it is there: the word itself and the number, and what follows.
fn parse_min<'a>(rest: Piece<'a>, mistakes: &mut Vec<Mistake<LimitProblem>>) -> (Option<(Piece<'a>, u64)>, Piece<'a>) {
    let (min_word, after) = rest.word(&[]);
    if !min_word.text.eq_ignore_ascii_case("min") {
        return (None, rest);
    }
    let (number_word, rest) = after.word(&[]);
    let number = match Written::parse(number_word) {
        Ok(Written::Count(number)) => number,
        Err(mistake) if matches!(mistake.problem, LimitProblem::TooMuch(_)) => {
            mistakes.push(mistake);
            MAX_AMOUNT
        }
        _ => {
            mistakes.push(number_word.mistake(LimitProblem::Min(number_word.shown()), EXAMPLE_USUAL));
            MAX_AMOUNT
        }
    };
    (Some((min_word, number)), rest)
}

/// Reads `from new networks`, if it is there: its first word, and what follows.
fn parse_from(rest: Piece<'_>) -> Result<(Option<Piece<'_>>, Piece<'_>), Mistake<LimitProblem>> {
    let (from, after) = rest.word(&[]);
    if !from.text.eq_ignore_ascii_case("from") {
        return Ok((None, rest));
    }
    let (new, after_new) = after.word(&[]);
    let (networks, rest) = after_new.word(&[]);
    if new.text.eq_ignore_ascii_case("new") && networks.text.eq_ignore_ascii_case("networks") {
        return Ok((Some(from), rest));
    }
    Err(after.mistake(LimitProblem::From, EXAMPLE_NEW))
}

fn keep<T, P>(result: Result<T, Mistake<P>>, mistakes: &mut Vec<Mistake<P>>) -> Option<T> {
    result.map_err(|mistake| mistakes.push(mistake)).ok()
}

/// An amount before its measure is known.
#[derive(Debug, Clone, Copy)]
enum Written {
    Count(u64),
    /// With k, M or G.
    Scaled(u64),
    Percent(Decimal),
    /// With x.
    Times(Decimal),
}

impl Written {
    fn parse(word: Piece<'_>) -> Result<Written, Mistake<LimitProblem>> {
        let wrong = || word.mistake(LimitProblem::Amount(word.shown()), EXAMPLE);
        if let Some(percent) = word.text.strip_suffix('%') {
            let percent = Decimal::parse(percent).filter(|percent| !percent.is_zero()).ok_or_else(wrong)?;
            return Ok(Written::Percent(percent));
        }
        if let Some(factor) = word.text.strip_suffix(['x', 'X']).and_then(Decimal::parse) {
            let small = || word.mistake(LimitProblem::SmallFactor(word.shown()), EXAMPLE_USUAL);
            return if factor < Decimal::ONE { Err(small()) } else { Ok(Written::Times(factor)) };
        }
        let (digits, scale) = match word.text.chars().next_back() {
            Some(unit @ ('k' | 'K')) => (word.text.strip_suffix(unit), 1 << 10),
            Some(unit @ ('m' | 'M')) => (word.text.strip_suffix(unit), 1 << 20),
            Some(unit @ ('g' | 'G')) => (word.text.strip_suffix(unit), 1 << 30),
            _ => (Some(word.text), 1u64),
        };
        let digits = digits.filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
        let digits = digits.ok_or_else(wrong)?.trim_start_matches('0');
        if digits.is_empty() {
            return Err(wrong());
        }
        let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
        match number.filter(|&number| number <= MAX_AMOUNT) {
            Some(number) if scale == 1 => Ok(Written::Count(number)),
            Some(number) => Ok(Written::Scaled(number)),
            None => Err(word.mistake(LimitProblem::TooMuch(word.shown()), EXAMPLE)),
        }
    }

    /// `min` is its word and number, if it is there.
    fn of(
        self,
        measure: Measure,
        word: Piece<'_>,
        min: Option<(Piece<'_>, u64)>,
    ) -> Result<Amount, Mistake<LimitProblem>> {
        match (self, measure, min) {
            (Written::Times(factor), Measure::Recipients | Measure::Messages, Some((_, min))) => {
                Ok(Amount::Usual { factor, min })
            }
            (Written::Times(_), Measure::Recipients | Measure::Messages, None) => {
                Err(word.mistake(LimitProblem::NoMin, EXAMPLE_USUAL))
            }
            (Written::Times(_), ..) => Err(word.mistake(LimitProblem::UsualOf(measure), EXAMPLE_USUAL)),
            (_, _, Some((min, _))) => Err(min.mistake(LimitProblem::StrayMin, EXAMPLE_USUAL)),
            (Written::Count(number), ..) | (Written::Scaled(number), Measure::Bytes, _) => Ok(Amount::Count(number)),
            (Written::Scaled(_), ..) => Err(word.mistake(LimitProblem::UnitOfBytes(word.shown()), "50M bytes/1h")),
            (Written::Percent(percent), Measure::Recipients | Measure::Messages, _) => Ok(Amount::Percent(percent)),
            (Written::Percent(_), ..) => Err(word.mistake(LimitProblem::PercentOf(measure), "8 networks/1h")),
        }
    }
}

impl Measure {
    const NAMES: [(&'static str, &'static str, Measure); 4] = [
        ("recipients", "recipient", Measure::Recipients),
        ("messages", "message", Measure::Messages),
        ("networks", "network", Measure::Networks),
        ("bytes", "byte", Measure::Bytes),
    ];

    /// The same of mail from new networks, if there is such a limit.
    fn of_new_networks(
        self,
        word: Piece<'_>,
        per: Option<Per>,
        per_word: Piece<'_>,
        usual: bool,
        from: Piece<'_>,
    ) -> Result<Measure, Mistake<LimitProblem>> {
        let [_, longest] = USUAL_WINDOWS;
        match (self, per) {
            _ if usual => Err(from.mistake(LimitProblem::NewUsual, EXAMPLE_NEW)),
            (_, Some(per)) if !matches!(per, Per::Window(window) if window <= longest) => {
                Err(per_word.mistake(LimitProblem::NewWindow(per_word.shown()), EXAMPLE_NEW))
            }
            (Measure::Recipients, _) => Ok(Measure::NewRecipients),
            (Measure::Messages, _) => Ok(Measure::NewMessages),
            _ => Err(word.mistake(LimitProblem::NewOf(self), EXAMPLE_NEW)),
        }
    }

    fn parse(word: Piece<'_>) -> Result<Measure, Mistake<LimitProblem>> {
        let named = |name: &str| name.eq_ignore_ascii_case(word.text);
        let known = Measure::NAMES.iter().find(|(many, one, _)| named(many) || named(one));
        known.map(|&(_, _, measure)| measure).ok_or_else(|| {
            let nearest = syntax::nearest(word.text, Measure::NAMES.map(|(many, _, _)| many));
            word.mistake(LimitProblem::Measure { found: word.shown(), nearest }, EXAMPLE)
        })
    }
}

impl Per {
    fn parse(word: Piece<'_>) -> Result<Per, Mistake<LimitProblem>> {
        let wrong = |problem: fn(String) -> LimitProblem| Err(word.mistake(problem(word.shown()), EXAMPLE));
        if word.text.eq_ignore_ascii_case("message") {
            return Ok(Per::Message);
        }
        match duration::parse(word.text) {
            None => wrong(LimitProblem::Window),
            Some(window) if window < MIN_WINDOW => wrong(LimitProblem::TooShort),
            Some(window) if window > MAX_WINDOW => wrong(LimitProblem::TooLong),
            Some(window) => Ok(Per::Window(window)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::limit::longest_window;
    use crate::policy::quota::{UNLIMITED, Window};

    const BLOCKED: &str = "Rate limit reached, retry later.";

    fn one(written: &str) -> Limit {
        let mut limits = parse(written, BLOCKED).unwrap_or_else(|mistakes| panic!("{written}: {mistakes:?}"));
        assert_eq!(limits.len(), 1, "{written}");
        limits.remove(0)
    }

    fn told(written: &str) -> Vec<String> {
        parse(written, BLOCKED).expect_err(written).iter().map(Mistake::to_string).collect()
    }

    #[test]
    fn reads_the_manuals_example() {
        let written = "30 recipients/5m; 3% recipients/10m; 200 messages/1h DEFER slow down; \
                       8 networks/1h WARN many networks; 100 recipients/message REJECT too many; 50M bytes/1h";
        let limits = parse(written, BLOCKED).unwrap();
        let read: Vec<_> =
            limits.iter().map(|l| (l.amount, l.measure, l.per, l.action.to_string(), l.written.as_str())).collect();
        let window = |text| Per::Window(duration::parse(text).unwrap());
        let defer = || format!("DEFER_IF_PERMIT {BLOCKED}");
        let percent = Amount::Percent(Decimal::parse("3").unwrap());
        use Measure::{Bytes, Messages, Networks, Recipients};
        assert_eq!(
            read,
            [
                (Amount::Count(30), Recipients, window("5m"), defer(), "30 recipients/5m"),
                (percent, Recipients, window("10m"), defer(), "3% recipients/10m"),
                (Amount::Count(200), Messages, window("1h"), "DEFER slow down".into(), "200 messages/1h"),
                (Amount::Count(8), Networks, window("1h"), "WARN many networks".into(), "8 networks/1h"),
                (Amount::Count(100), Recipients, Per::Message, "REJECT too many".into(), "100 recipients/message"),
                (Amount::Count(52_428_800), Bytes, window("1h"), defer(), "50M bytes/1h"),
            ]
        );
        assert_eq!(longest_window(Window::Reset, &limits), duration::parse("1h"));
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(longest_window(Window::Sliding(day), &limits), Some(day));
    }

    #[test]
    fn takes_the_spellings_of_people() {
        assert_eq!(parse("", BLOCKED), Ok(vec![]));
        assert_eq!(parse(" ; ", BLOCKED), Ok(vec![]));
        assert_eq!(one("1 Message / 1m hold").written, "1 Message/1m");
        assert_eq!(one("0030 recipients/90s;").amount, Amount::Count(30));
        assert_eq!(one("2.5% messages/366d").to_string(), format!("2.5% messages/366d DEFER_IF_PERMIT {BLOCKED}"));
        assert_eq!(one("1024k byte/1m 450").action.to_string(), format!("450 {BLOCKED}"));
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_an_example() {
        let example = "; for example: 30 recipients/5m DEFER slow down";
        for (written, start) in [
            ("x recipients/5m", "at character 1: `x` is not an amount; write a whole number above 0"),
            ("0 recipients/5m", "at character 1: `0` is not an amount"),
            ("0% recipients/5m", "at character 1: `0%` is not an amount"),
            ("-1 recipients/5m", "at character 1: `-1` is not an amount"),
            ("1.5 recipients/5m", "at character 1: `1.5` is not an amount"),
            ("/5m", "at character 1: `` is not an amount"),
            ("k bytes/5m", "at character 1: `k` is not an amount"),
            ("9999999999999999999999 recipients/5m", "at character 1: `9999999999999999999999` is more than"),
            ("9999999G bytes/5m", "at character 1: `9999999G` is more than"),
            ("1 x/5m; 30 recipents/5m", "at character 3: `x` is not a measure; write recipients, messages, "),
            ("30", "at character 3: `` is not a measure"),
            ("30 recipients", "at character 14: after `recipients` there must be `/` and a window or `message`"),
            ("30 recipients 5m", "at character 15: after `recipients` there must be `/`"),
            ("30 recipients/", "at character 15: `` is not a window"),
            ("30 recipients/5", "at character 15: `5` is not a window; write a number and s, m, h or d"),
            ("30 recipients/0m", "at character 15: the window `0m` is too short; usage is kept per minute"),
            ("30 recipients/59s", "at character 15: the window `59s` is too short"),
            ("30 recipients/367d", "at character 15: the window `367d` is too long"),
            ("30 recipients/5m slow", "at character 18: `slow` is not an action"),
            ("30 recipients/5m DUNNO", "at character 18: `DUNNO` lets mail pass"),
        ] {
            let told = told(written);
            assert!(told[0].starts_with(start) && told[0].ends_with(example), "{written}: {told:?}");
        }
        for (written, whole) in [
            (
                "30k recipients/5m",
                "at character 1: `30k` has a unit that only bytes take (k, M, G); for example: 50M bytes/1h",
            ),
            (
                "3% networks/5m",
                "at character 1: networks are not part of the quota; write a number instead of a percentage; \
                 for example: 8 networks/1h",
            ),
            (
                "5 bytes/message",
                "at character 3: only recipients can be limited per message, not bytes; \
                 for example: 100 recipients/message",
            ),
            (
                "8 networks/1h NOTIFY",
                "at character 15: NOTIFY is a step of QUOTA_STEPS; write WARN and a text to only watch a limit; \
                 for example: 8 networks/1h WARN many networks",
            ),
        ] {
            assert_eq!(told(written), [whole]);
        }
        let usual = "for example: 3x usual recipients/1h min 50 HOLD unusual amount of mail";
        let new = "for example: 15 recipients/1h from new networks HOLD";
        for (written, start, example) in [
            ("3x recipients/1h", "at character 4: after `3x` there must be `usual`", usual),
            ("3x", "at character 3: after `3x` there must be `usual`", usual),
            ("50 usual recipients/1h", "at character 1: `usual` needs a factor before it, such as `3x`", usual),
            ("0.9x usual recipients/1h min 5", "at character 1: `0.9x` of what is usual would stop", usual),
            ("x usual recipients/1h min 5", "at character 1: `x` is not an amount", EXAMPLE),
            ("3x usual bytes/1h min 5", "at character 1: what is usual is known of recipients and", usual),
            ("3x usual recipients/2h min 5", "at character 21: what is usual is known for an hour", usual),
            ("3x usual messages/message min 5", "at character 19: what is usual is known for an hour", usual),
            ("3x usual recipients/1h HOLD", "at character 1: a limit by what is usual needs `min`", usual),
            ("3x usual recipients/1h min HOLD", "at character 28: `HOLD` is not a number above 0", usual),
            ("3x usual recipients/1h min 0", "at character 28: `0` is not a number above 0", usual),
            ("3x usual recipients/1h min 9999999999999999", "at character 28: `9999999999999999` is more", EXAMPLE),
            ("30 recipients/1h min 5", "at character 18: `min` belongs to a limit", usual),
            ("15 recipients/1h from networks", "at character 23: after `from` there must be", new),
            ("15 bytes/1h from new networks", "at character 4: only recipients and messages can be", new),
            ("15 recipients/25h from new networks", "at character 15: mail from new networks is", new),
            ("15 recipients/message from new networks", "at character 15: mail from new networks", new),
            ("3x usual recipients/1h min 5 from new networks", "at character 30: a limit on new", new),
        ] {
            let told = told(written);
            assert!(told.len() == 1 && told[0].starts_with(start) && told[0].ends_with(example), "{written}: {told:?}");
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let told = told("30 recipents/5m; 5 messages/1h; 3% bytes/9 HOLD {usd} {qota}");
        let places: Vec<_> = told.iter().map(|message| message.split(':').next().unwrap()).collect();
        assert_eq!(places, [4, 33, 42, 49, 55].map(|column| format!("at character {column}")));
        assert!(told[0].contains("`recipents` is not a measure (did you mean `recipients`?)"), "{told:?}");
    }

    #[test]
    fn a_percentage_is_of_the_senders_own_quota() {
        let limit = one("3% recipients/10m");
        assert_eq!(limit.allowed(1000, None), Some(30));
        assert_eq!(limit.allowed(1033, None), Some(30));
        assert_eq!(limit.allowed(10, None), Some(1));
        assert_eq!(limit.allowed(0, None), Some(0));
        assert_eq!(limit.allowed(UNLIMITED, None), None);
        assert_eq!(one("3 recipients/10m").allowed(UNLIMITED, None), Some(3));
    }

    #[test]
    fn what_is_usual_counts_so_many_times_and_never_less_than_the_least() {
        let limit = one("2.5x usual recipients/1h min 50 HOLD unusual");
        let factor = Decimal::parse("2.5").unwrap();
        assert_eq!((limit.amount, limit.measure), (Amount::Usual { factor, min: 50 }, Measure::Recipients));
        assert_eq!((limit.written.as_str(), limit.learns()), ("2.5x usual recipients/1h min 50", true));
        assert_eq!(limit.allowed(10, Some(0)), Some(50), "a sender without a past");
        assert_eq!(limit.allowed(UNLIMITED, Some(21)), Some(52));
        assert_eq!(limit.allowed(10, Some(u64::MAX)), Some(u64::MAX));
        assert_eq!(limit.allowed(10, None), None, "what is usual is not known");
        for written in
            ["3X Usual message/24h MIN 50 defer", "1x usual recipients / 60m min 1", "1x usual messages/1d min 9"]
        {
            assert!(one(written).learns(), "{written}");
        }
    }

    #[test]
    fn new_networks_are_counted_apart() {
        let limit = one("15 recipients/1h from new networks HOLD");
        assert_eq!((limit.amount, limit.measure), (Amount::Count(15), Measure::NewRecipients));
        assert_eq!((limit.written.as_str(), limit.learns()), ("15 recipients/1h from new networks", true));
        let limit = one("3% messages/24h FROM New Networks");
        assert_eq!((limit.allowed(1000, None), limit.measure), (Some(30), Measure::NewMessages));
        assert_eq!(limit.measure.name(), "messages");
        assert!(!one("8 networks/1h HOLD from new networks").learns(), "the text of an action");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(
            amount in "[1-9][0-9]{0,6}|[1-9][0-9]?(\\.[0-9]{1,3})?%|[1-9](\\.[0-9]{1,3})?x usual",
            measure in "recipients|messages|Recipient",
            per in "message|[1-9][0-9]?m|[1-9][0-9]?h|[1-9]d|1h",
            rest in "|min [1-9][0-9]?|from new networks",
            action in "|hold|REJECT [a-z/{}]{0,5}[a-z ]{0,9}|45[0-9] x y|WARN \\{used\\}",
        ) {
            let written = format!("{amount} {measure}/{per} {rest} {action}");
            if let Ok(limits) = parse(&written, BLOCKED) {
                let shown: Vec<_> = limits.iter().map(Limit::to_string).collect();
                prop_assert_eq!(parse(&shown.join("; "), "something else"), Ok(limits));
            } else {
                let apart = amount.ends_with("usual") || !rest.is_empty();
                prop_assert!(apart || per == "message" || action.contains('{'), "{}", written);
            }
        }

        #[test]
        fn no_text_is_too_strange_to_explain(written in "[0-9a-z%/;. {}é]{0,60}|\\PC{0,60}") {
            match parse(&written, BLOCKED) {
                Ok(limits) => prop_assert!(limits.len() <= written.split(';').count()),
                Err(mistakes) => {
                    prop_assert!(!mistakes.is_empty());
                    for mistake in mistakes {
                        prop_assert!((1..=written.chars().count() + 1).contains(&mistake.column));
                        prop_assert!(!mistake.to_string().contains(char::is_control));
                    }
                }
            }
        }
    }
}
