//! QUOTA_STEPS: what happens at which multiple of the quota.
//!
//! `0.8x NOTIFY; 1x HOLD quota exceeded; 2x REJECT max quota exceeded`

use std::fmt;

use crate::policy::action::{self, ActionProblem};
use crate::policy::decimal::Decimal;
use crate::policy::quota::UNLIMITED;
use crate::policy::syntax::{Mistake, Piece};
use crate::protocol::reply::Action;

const EXAMPLE: &str = "1x HOLD quota exceeded; 2x REJECT max quota exceeded";

/// The ladder of a quota, lowest step first. At least one step limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps(Vec<Step>);

/// What happens when more than `factor` × quota is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub factor: Decimal,
    pub action: StepAction,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepAction {
    /// A notification, once per account and window. The mail passes.
    Notify,
    /// Postfix is told this; the text may hold placeholders.
    Act(Action),
}

/// What is wrong with a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepProblem {
    #[error("`{0}` is not a factor; write a number above 0 with at most three decimals, and x behind it")]
    Factor(String),
    #[error("after `{0}` there must be NOTIFY or an action")]
    NoAction(String),
    #[error("NOTIFY takes no text, but `{0}` follows it")]
    NotifyText(String),
    #[error("there are two steps at {0}x")]
    Twice(Decimal),
    #[error("no step limits anything; add one with an action (WARN and a text to only watch)")]
    NothingLimits,
    #[error(transparent)]
    Action(#[from] ActionProblem),
}

impl Steps {
    /// Reads QUOTA_STEPS; empty means `1x DEFER_IF_PERMIT` with `text_blocked`, which is also the text of an action
    /// that has none. On error, every mistake there is.
    pub fn parse(written: &str, text_blocked: &str) -> Result<Steps, Vec<Mistake<StepProblem>>> {
        let mut steps: Vec<Step> = Vec::new();
        let mut mistakes = Vec::new();
        for rule in Piece::new(written).rules() {
            match Step::parse(rule, text_blocked) {
                Ok(step) if steps.iter().any(|other| other.contradicts(&step)) => {
                    mistakes.push(rule.mistake(StepProblem::Twice(step.factor), EXAMPLE));
                }
                Ok(step) => steps.push(step),
                Err(found) => mistakes.extend(found),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        if steps.is_empty() {
            let action = StepAction::Act(Action::defer_if_permit(text_blocked));
            steps.push(Step { factor: Decimal::ONE, action });
        }
        if steps.iter().all(|step| step.action == StepAction::Notify) {
            return Err(vec![Piece::new(written).mistake(StepProblem::NothingLimits, EXAMPLE)]);
        }
        steps.sort_by_key(|step| step.factor);
        Ok(Steps(steps))
    }

    /// The steps, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = &Step> {
        self.0.iter()
    }

    /// The step whose action applies: the strictest that is exceeded, and of equally strict ones the highest.
    pub fn acting(&self, used: u64, quota: u32) -> Option<(&Step, &Action)> {
        let exceeded = self.0.iter().filter(|step| step.exceeded(used, quota));
        // `max_by_key` gives the last of equals, which is the highest.
        exceeded.filter_map(|step| Some((step, step.action()?))).max_by_key(|(_, action)| action.strictness())
    }

    /// The exceeded steps that only tell, lowest first. They stay exceeded: the caller remembers that it was told.
    pub fn telling(&self, used: u64, quota: u32) -> impl Iterator<Item = &Step> {
        self.0.iter().filter(move |step| step.action == StepAction::Notify && step.exceeded(used, quota))
    }
}

impl Step {
    /// How much may be used before this step is exceeded. None if the quota is unlimited.
    pub fn allowed(&self, quota: u32) -> Option<u64> {
        (quota != UNLIMITED).then(|| self.factor.times(quota))
    }

    /// The factor as the setting has it: `1x`.
    pub fn factor_written(&self) -> String {
        format!("{}x", self.factor)
    }

    /// Whether more than factor × quota is used.
    pub fn exceeded(&self, used: u64, quota: u32) -> bool {
        self.allowed(quota).is_some_and(|allowed| used > allowed)
    }

    fn action(&self) -> Option<&Action> {
        match &self.action {
            StepAction::Notify => None,
            StepAction::Act(action) => Some(action),
        }
    }

    /// Whether both say what happens at one multiple. A step that tells and one that acts may stand together.
    fn contradicts(&self, other: &Step) -> bool {
        self.factor == other.factor && self.action().is_some() == other.action().is_some()
    }

    fn parse(rule: Piece<'_>, text_blocked: &str) -> Result<Step, Vec<Mistake<StepProblem>>> {
        let (factor_word, rest) = rule.word(&[]);
        let (word, text) = rest.word(&[]);
        let number = factor_word.text.strip_suffix(['x', 'X']);
        let Some(factor) = number.and_then(Decimal::parse).filter(|factor| !factor.is_zero()) else {
            return Err(vec![factor_word.mistake(StepProblem::Factor(factor_word.shown()), EXAMPLE)]);
        };
        if word.text.is_empty() {
            return Err(vec![word.mistake(StepProblem::NoAction(rule.shown()), EXAMPLE)]);
        }
        if !word.text.eq_ignore_ascii_case("NOTIFY") {
            let action = action::parse(rest, text_blocked, EXAMPLE);
            let action = action.map_err(|found| found.into_iter().map(Mistake::into).collect::<Vec<_>>())?;
            return Ok(Step { factor, action: StepAction::Act(action) });
        }
        if !text.text.is_empty() {
            return Err(vec![text.mistake(StepProblem::NotifyText(text.shown()), "0.8x NOTIFY")]);
        }
        Ok(Step { factor, action: StepAction::Notify })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            StepAction::Notify => write!(f, "{}x NOTIFY", self.factor),
            StepAction::Act(action) => write!(f, "{}x {action}", self.factor),
        }
    }
}

/// What [`Steps::parse`] reads, with the actions that apply.
impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            write!(f, "{}{step}", if number == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCKED: &str = "Rate limit reached, retry later.";

    fn steps(written: &str) -> Steps {
        Steps::parse(written, BLOCKED).unwrap_or_else(|mistakes| panic!("{written}: {mistakes:?}"))
    }

    fn answer(steps: &Steps, used: u64, quota: u32) -> String {
        steps.acting(used, quota).map_or("DUNNO".to_owned(), |(_, action)| action.to_string())
    }

    #[test]
    fn nothing_written_is_one_step_that_defers() {
        let steps = steps(" ");
        assert_eq!(steps.to_string(), format!("1x DEFER_IF_PERMIT {BLOCKED}"));
        assert_eq!(answer(&steps, 1000, 1000), "DUNNO");
        assert_eq!(answer(&steps, 1001, 1000), format!("DEFER_IF_PERMIT {BLOCKED}"));
        assert_eq!(answer(&steps, 1, 0), format!("DEFER_IF_PERMIT {BLOCKED}"));
    }

    #[test]
    fn policyds_ladder_holds_and_then_rejects() {
        let steps = steps("1x HOLD quota exceeded; 2x REJECT max quota exceeded");
        for (used, told) in [
            (1500, "DUNNO"),
            (1501, "HOLD quota exceeded"),
            (3000, "HOLD quota exceeded"),
            (3001, "REJECT max quota exceeded"),
            (u64::MAX, "REJECT max quota exceeded"),
        ] {
            assert_eq!(answer(&steps, used, 1500), told, "{used}");
        }
    }

    #[test]
    fn an_unlimited_quota_is_never_exceeded() {
        let steps = steps("0.001x NOTIFY; 0.001x REJECT");
        assert_eq!(answer(&steps, u64::MAX, UNLIMITED), "DUNNO");
        assert_eq!(steps.telling(u64::MAX, UNLIMITED).count(), 0);
        assert_eq!(steps.telling(u64::MAX, UNLIMITED - 1).count(), 1);
    }

    #[test]
    fn the_strictest_exceeded_step_acts() {
        let soft_above = steps("2x HOLD b; 1x REJECT a");
        assert_eq!(answer(&soft_above, 21, 10), "REJECT a");
        let equals = steps("1x DEFER a; 2x 450 b");
        assert_eq!(answer(&equals, 11, 10), "DEFER a");
        assert_eq!(answer(&equals, 21, 10), "450 b");
    }

    #[test]
    fn steps_that_tell_do_not_act() {
        let steps = steps("1x HOLD a; 0.8x notify; 1x NOTIFY");
        assert_eq!(steps.to_string(), "0.8x NOTIFY; 1x HOLD a; 1x NOTIFY");
        let told = |used| steps.telling(used, 10).map(|step| step.factor.to_string()).collect::<Vec<_>>();
        assert_eq!((told(8), answer(&steps, 8, 10)), (vec![], "DUNNO".to_owned()));
        assert_eq!((told(9), answer(&steps, 9, 10)), (vec!["0.8".to_owned()], "DUNNO".to_owned()));
        assert_eq!((told(11), answer(&steps, 11, 10)), (vec!["0.8".to_owned(), "1".to_owned()], "HOLD a".to_owned()));
    }

    #[test]
    fn mistakes_are_told_with_their_place_and_an_example() {
        for (written, start) in [
            ("1 HOLD", "at character 1: `1` is not a factor; write a number above 0"),
            ("0x HOLD", "at character 1: `0x` is not a factor"),
            ("-1x HOLD", "at character 1: `-1x` is not a factor"),
            ("1.2345x HOLD", "at character 1: `1.2345x` is not a factor"),
            ("HOLD x", "at character 1: `HOLD` is not a factor"),
            ("1x", "at character 3: after `1x` there must be NOTIFY or an action"),
            ("1x HOLD; 1.0x REJECT", "at character 10: there are two steps at 1x"),
            ("1x HOLD; 2x NOTIFY me", "at character 20: NOTIFY takes no text, but `me` follows it"),
            (" 0.8x NOTIFY", "at character 1: no step limits anything; add one with an action"),
            ("1x REJEKT", "at character 4: `REJEKT` is not an action (did you mean `REJECT`?)"),
            ("1x HOLD {usd}", "at character 9: `{usd}` is not a placeholder"),
        ] {
            let told: Vec<_> =
                Steps::parse(written, BLOCKED).expect_err(written).iter().map(Mistake::to_string).collect();
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].starts_with(start) && told[0].contains("; for example: "), "{written}: {told:?}");
        }
        assert_eq!(Steps::parse("1 HOLD; 2x; 3x DUNNO", BLOCKED).unwrap_err().len(), 3);
    }

    proptest! {
        #[test]
        fn a_step_acts_exactly_above_its_multiple(
            whole in 0u32..2000,
            fraction in 1u32..1000,
            quota: u32,
            off in -2i64..=2,
        ) {
            let steps = steps(&format!("{whole}.{fraction:03}x HOLD"));
            let thousandths = u128::from(whole * 1000 + fraction);
            let used = u64::try_from(thousandths * u128::from(quota) / 1000).unwrap().saturating_add_signed(off);
            let over = quota != UNLIMITED && u128::from(used) * 1000 > thousandths * u128::from(quota);
            prop_assert_eq!(steps.acting(used, quota).is_some(), over);
        }

        #[test]
        fn what_is_shown_is_read_again(
            written in "([1-9](\\.[0-9]{1,3})?x (notify|HOLD|450 x y|REJECT no more) ?;){1,4}",
        ) {
            if let Ok(steps) = Steps::parse(&written, BLOCKED) {
                prop_assert_eq!(Steps::parse(&steps.to_string(), "something else"), Ok(steps));
            }
        }

        #[test]
        fn no_text_is_too_strange_to_explain(written in "[0-9a-zA-Z. ;{}é]{0,60}|\\PC{0,60}") {
            if let Err(mistakes) = Steps::parse(&written, BLOCKED) {
                prop_assert!(!mistakes.is_empty());
                for mistake in mistakes {
                    prop_assert!((1..=written.chars().count() + 1).contains(&mistake.column));
                }
            }
        }
    }
}
