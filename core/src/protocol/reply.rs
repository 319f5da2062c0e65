//! The only place that writes `action=`: what can be said to Postfix, and its bytes on the wire.
//!
//! An [`Action`] can only be made from a word that access(5) knows and that may stand in a policy reply, with a text
//! that stays on one line; so every reply that leaves is one Postfix takes as it was meant.

use std::fmt;

/// The longest reply line that Postfix reads: 4 × `line_length_limit` (`attr_scan_plain.c`), in bytes, `action=` included.
pub const MAX_REPLY_LINE: usize = 8192;

/// What Postfix is told to do with a request: a word of access(5), and the text that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    verb: Verb,
    text: String,
}

/// How hard an action is on the mail; the order is "strictest last".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strictness {
    /// The mail passes as without this policy service.
    Pass,
    /// The mail passes, and Postfix logs a line (WARN, INFO).
    Warn,
    /// The mail is accepted and kept back (HOLD).
    Hold,
    /// The mail is refused for now (DEFER, DEFER_IF_PERMIT, 4xx).
    Defer,
    /// The mail is refused for good (REJECT, 5xx).
    Reject,
}

impl Strictness {
    /// All of them, in the order of their numbers.
    pub const ALL: [Strictness; 5] =
        [Strictness::Pass, Strictness::Warn, Strictness::Hold, Strictness::Defer, Strictness::Reject];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Strictness::Pass => "pass",
            Strictness::Warn => "warn",
            Strictness::Hold => "hold",
            Strictness::Defer => "defer",
            Strictness::Reject => "reject",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Dunno,
    Ok,
    Warn,
    Info,
    Hold,
    Defer,
    DeferIfPermit,
    Reject,
    /// A reply code from 400 to 599; Postfix wants a text with it, since digits alone mean OK (access(5)).
    Code(u16),
}

/// Why a text is not an action that we may send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    #[error("it is empty; write one of {allowed}", allowed = ALLOWED)]
    Empty,
    #[error("`{0}` is not an action that can be sent; write one of {allowed}", allowed = ALLOWED)]
    Unknown(String),
    #[error("the code {0} needs a text after it (Postfix takes digits alone for OK)")]
    CodeWithoutText(u16),
}

/// The actions that a setting may name, for messages and manuals.
pub const ALLOWED: &str =
    "DUNNO, OK, WARN text, INFO text, HOLD text, DEFER text, DEFER_IF_PERMIT text, REJECT text, 4xx text, 5xx text";

impl Action {
    /// "No objection": Postfix evaluates the rest of the restriction list.
    pub const DUNNO: Action = Action { verb: Verb::Dunno, text: String::new() };

    /// Reads `WORD text` as an operator writes it. The word's case does not matter; the text is cleaned to one line.
    pub fn parse(written: &str) -> Result<Action, ActionError> {
        let written = written.trim();
        let (word, text) = written.split_once(char::is_whitespace).unwrap_or((written, ""));
        let text = one_line(text);
        let verb = match word.to_ascii_uppercase().as_str() {
            "" => return Err(ActionError::Empty),
            "DUNNO" => Verb::Dunno,
            "OK" => Verb::Ok,
            "WARN" => Verb::Warn,
            "INFO" => Verb::Info,
            "HOLD" => Verb::Hold,
            "DEFER" => Verb::Defer,
            "DEFER_IF_PERMIT" => Verb::DeferIfPermit,
            "REJECT" => Verb::Reject,
            code => match code.parse::<u16>() {
                Ok(number @ 400..=599) if code.len() == 3 && text.is_empty() => {
                    return Err(ActionError::CodeWithoutText(number));
                }
                Ok(number @ 400..=599) if code.len() == 3 => Verb::Code(number),
                _ => return Err(ActionError::Unknown(one_line(word))),
            },
        };
        // DUNNO and OK end where they stand; Postfix ignores what follows.
        let text = if matches!(verb, Verb::Dunno | Verb::Ok) { String::new() } else { text };
        Ok(Action { verb, text })
    }

    /// The refusal for now that PolicydRateGuard gives: `DEFER_IF_PERMIT text`.
    pub fn defer_if_permit(text: &str) -> Action {
        Action { verb: Verb::DeferIfPermit, text: one_line(text) }
    }

    /// `HOLD text`.
    pub fn hold(text: &str) -> Action {
        Action { verb: Verb::Hold, text: one_line(text) }
    }

    /// The same action with another text, cleaned to one line. A numeric code keeps its own text when the new one is empty.
    pub fn with_text(&self, text: &str) -> Action {
        let text = one_line(text);
        let keep = matches!(self.verb, Verb::Code(_)) && text.is_empty();
        Action { verb: self.verb, text: if keep { self.text.clone() } else { text } }
    }

    /// What only tells, with the same text, in the place of an action that keeps mail back or refuses it.
    pub fn as_warning(&self) -> Action {
        if self.strictness() <= Strictness::Warn {
            return self.clone();
        }
        Action { verb: Verb::Warn, text: self.text.clone() }
    }

    /// The text after the word; empty where there is none.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The word alone, as the log and the `messages.action` column have it: `DUNNO`, `HOLD`, `450`, …
    pub fn word(&self) -> String {
        self.verb.to_string()
    }

    pub fn strictness(&self) -> Strictness {
        match self.verb {
            Verb::Dunno | Verb::Ok => Strictness::Pass,
            Verb::Warn | Verb::Info => Strictness::Warn,
            Verb::Hold => Strictness::Hold,
            Verb::Defer | Verb::DeferIfPermit | Verb::Code(400..=499) => Strictness::Defer,
            Verb::Reject | Verb::Code(_) => Strictness::Reject,
        }
    }

    /// Whether mail with this answer goes out without anybody's help (HOLD does not).
    pub fn delivers(&self) -> bool {
        self.strictness() <= Strictness::Warn
    }

    /// Appends the reply to `wire`: one `action=` line of at most [`MAX_REPLY_LINE`] bytes and an empty line.
    pub fn write(&self, wire: &mut Vec<u8>) {
        let line = self.to_string();
        let room = MAX_REPLY_LINE - "action=".len() - 1;
        let end = if line.len() <= room { line.len() } else { line.floor_char_boundary(room) };
        wire.extend_from_slice(b"action=");
        wire.extend_from_slice(line.get(..end).unwrap_or("DUNNO").as_bytes());
        wire.extend_from_slice(b"\n\n");
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verb)?;
        if !self.text.is_empty() {
            write!(f, " {}", self.text)?;
        }
        Ok(())
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Dunno => "DUNNO",
            Verb::Ok => "OK",
            Verb::Warn => "WARN",
            Verb::Info => "INFO",
            Verb::Hold => "HOLD",
            Verb::Defer => "DEFER",
            Verb::DeferIfPermit => "DEFER_IF_PERMIT",
            Verb::Reject => "REJECT",
            Verb::Code(code) => return write!(f, "{code}"),
        })
    }
}

/// Postfix shows unprintable characters of a reply as blanks; we send blanks in the first place, and none at the ends
/// (`450` and a blank would be digits alone).
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(action: &Action) -> String {
        let mut bytes = Vec::new();
        action.write(&mut bytes);
        String::from_utf8(bytes).expect("a reply is UTF-8")
    }

    #[test]
    fn knows_the_words_of_access_5() {
        for (written, sent) in [
            ("dunno", "action=DUNNO\n\n"),
            ("DUNNO because", "action=DUNNO\n\n"),
            ("ok", "action=OK\n\n"),
            ("hold  quota exceeded", "action=HOLD quota exceeded\n\n"),
            ("defer_if_permit x=y", "action=DEFER_IF_PERMIT x=y\n\n"),
            ("450 4.7.1 later", "action=450 4.7.1 later\n\n"),
            ("REJECT", "action=REJECT\n\n"),
            ("WARN a\nb", "action=WARN a b\n\n"),
        ] {
            assert_eq!(wire(&Action::parse(written).unwrap()), sent, "{written}");
        }
    }

    #[test]
    fn refuses_what_postfix_would_misread() {
        assert_eq!(Action::parse("  "), Err(ActionError::Empty));
        assert_eq!(Action::parse("450"), Err(ActionError::CodeWithoutText(450)));
        assert_eq!(Action::parse("450 \u{1} \u{2}"), Err(ActionError::CodeWithoutText(450)));
        for unknown in ["250 fine", "permit", "FILTER smtp:x", "0450 x", "600 x", "DISCARD", "+50 x"] {
            assert!(matches!(Action::parse(unknown), Err(ActionError::Unknown(_))), "{unknown}");
        }
    }

    #[test]
    fn a_code_never_loses_its_text() {
        assert_eq!(Action::parse("450 later").unwrap().with_text("").to_string(), "450 later");
    }

    #[test]
    fn severities_are_ordered_as_the_strictest_wins() {
        let order = ["DUNNO", "WARN x", "HOLD x", "DEFER x", "554 x"].map(|a| Action::parse(a).unwrap().strictness());
        assert!(order.is_sorted() && order.first() < order.last());
    }

    proptest! {
        #[test]
        fn every_reply_is_one_bounded_line(
            word in "DUNNO|OK|WARN|INFO|HOLD|DEFER|DEFER_IF_PERMIT|REJECT|[0-9]{3}|[A-Z_0-9]{1,16}",
            text in "(.|\n|\r|é){0,60}",
            times in 0usize..200,
        ) {
            if let Ok(action) = Action::parse(&format!("{word} {}", text.repeat(times))) {
                let sent = wire(&action);
                prop_assert!(sent.starts_with("action=") && sent.ends_with("\n\n"));
                prop_assert!(sent.len() - 1 <= MAX_REPLY_LINE);
                prop_assert_eq!(sent.trim_end_matches('\n').matches('\n').count(), 0);
                prop_assert!(!sent.trim_end_matches('\n').contains(char::is_control));
            }
        }
    }
}
