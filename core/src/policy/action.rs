//! What a step or a limit does, as it is written: `HOLD quota exceeded`, `DEFER`, or nothing at all.

use crate::policy::syntax::{self, Mistake, Piece};
use crate::policy::text::{self, TextProblem};
use crate::protocol::reply::{Action, ActionError, Strictness};

/// What is wrong with an action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionProblem {
    #[error(
        "`{found}` is not an action{}; write WARN, INFO, HOLD, DEFER, DEFER_IF_PERMIT, REJECT, \
         a 4xx or a 5xx code, and a text after it",
        syntax::did_you_mean(nearest)
    )]
    Unknown { found: String, nearest: Option<&'static str> },
    #[error("`{0}` lets mail pass, so it limits nothing; write WARN and a text to only watch")]
    Passes(String),
    #[error("{0}")]
    Other(ActionError),
    #[error(transparent)]
    Text(#[from] TextProblem),
}

const WORDS: [&str; 6] = ["WARN", "INFO", "HOLD", "DEFER", "DEFER_IF_PERMIT", "REJECT"];

/// Reads an action with its text. No action means DEFER_IF_PERMIT, no text means `text_blocked`.
pub(super) fn parse(
    written: Piece<'_>,
    text_blocked: &str,
    example: &'static str,
) -> Result<Action, Vec<Mistake<ActionProblem>>> {
    let (word, text) = written.word(&[]);
    if word.text.is_empty() {
        return Ok(Action::defer_if_permit(text_blocked));
    }
    let mistakes: Vec<_> = text::check_piece(text).into_iter().map(Mistake::into).collect();
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let shown = if text.text.is_empty() { text_blocked } else { text.text };
    let problem = match Action::parse(&format!("{} {shown}", word.text)) {
        Ok(action) if action.strictness() == Strictness::Pass => ActionProblem::Passes(action.word()),
        Ok(action) => return Ok(action),
        Err(ActionError::Empty | ActionError::Unknown(_)) => {
            ActionProblem::Unknown { found: word.shown(), nearest: syntax::nearest(word.text, WORDS) }
        }
        Err(other) => ActionProblem::Other(other),
    };
    Err(vec![word.mistake(problem, example)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(written: &str) -> Result<String, String> {
        let told = |mistakes: Vec<Mistake<ActionProblem>>| mistakes.first().unwrap().to_string();
        parse(Piece::new(written), "retry later.", "HOLD x").map(|action| action.to_string()).map_err(told)
    }

    #[test]
    fn reads_actions_with_their_defaults() {
        for (written, action) in [
            ("", "DEFER_IF_PERMIT retry later."),
            ("hold", "HOLD retry later."),
            ("HOLD quota  exceeded", "HOLD quota  exceeded"),
            ("450", "450 retry later."),
            ("554 5.7.1 no", "554 5.7.1 no"),
            ("WARN {used} used", "WARN {used} used"),
        ] {
            assert_eq!(read(written).as_deref(), Ok(action));
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (written, told) in [
            ("slow down", "at character 1: `slow` is not an action; write WARN, "),
            (" REJEKT x", "at character 2: `REJEKT` is not an action (did you mean `REJECT`?); "),
            ("DUNNO", "at character 1: `DUNNO` lets mail pass, "),
            ("ok x", "at character 1: `OK` lets mail pass, "),
            ("HOLD {usd}", "at character 6: `{usd}` is not a placeholder (did you mean `used`?); "),
        ] {
            let message = read(written).unwrap_err();
            assert!(message.starts_with(told), "{message}");
        }
        let code = parse(Piece::new("450"), "", "HOLD x").unwrap_err();
        assert!(matches!(code.first().unwrap().problem, ActionProblem::Other(ActionError::CodeWithoutText(450))));
    }
}
