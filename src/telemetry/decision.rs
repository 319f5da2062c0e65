//! The one line that a decision leaves in the log, with the fields and the order of PolicydRateGuard:
//!
//! ```text
//! QUEUEID: client=name[ip], helo=…, sasl_method=…, sasl_username=…, from=…, to=…, recipient_count=…,
//! curr_count=used/quota, status=ACCEPTED|BLOCKED[ (QUOTA_LIMIT_REACHED)][, action=…][, reason="…"][, would="…"]
//! ```
//!
//! Fields are separated by a comma and a blank. Most values are the client's choice, so neither a blank nor a comma
//! stands in one: both, and the backslash, are written as escapes ([`escaped`]). Hence a reader that splits at `, `,
//! or whose pattern for a value is `\S+,`, cannot be shown a field that we did not write. What addresses, host names
//! and logins consist of in everyday life is written as it is, `=` too (it is common in bounce addresses).

use std::borrow::Cow;
use std::fmt;

use super::escape;
use crate::limiter::decision::Decision;
use crate::policy::lists::Which;
use crate::policy::quota::UNLIMITED;
use crate::protocol::reply::Strictness;

/// The reason that is given where the database was away.
pub const COUNTED_IN_MEMORY: &str = "counted in memory";

/// The longest value on a line, in bytes as shown: an address has at most 64 + 1 + 255.
///
/// It bounds the whole line well below what the log takes, so no client can push the status off the end of it.
pub const MAX_VALUE: usize = 320;

/// What was asked and what was decided. Borrowed: the line is made from the request where it is.
#[derive(Debug, Clone, Default)]
pub struct DecisionLine<'a> {
    /// Empty when Postfix has not given the message one yet; the line then begins with `NOQUEUE`.
    pub queue_id: &'a str,
    pub client_name: &'a str,
    pub client_address: &'a str,
    pub helo_name: &'a str,
    pub sasl_method: &'a str,
    pub sasl_username: &'a str,
    /// The envelope sender; empty for a bounce.
    pub from: &'a str,
    /// The recipient; Postfix leaves it empty when there are several.
    pub to: &'a str,
    pub recipient_count: u32,
    /// Recipients used of the quota, this request included.
    pub used: u64,
    /// [`UNLIMITED`] prints as the word.
    pub quota: u32,
    pub blocked: bool,
    /// This request is the one with which its sender passed from not blocked to blocked.
    pub limit_reached: bool,
    /// The word that Postfix was sent, where ACCEPTED or BLOCKED does not say it all.
    pub action: Option<&'a str>,
    /// Which limit or list it was.
    pub reason: Option<Cow<'a, str>>,
    /// What a limit that only warns would have done.
    pub would: Option<&'a str>,
    /// How many lines like this one were left out before it; see `limited`.
    pub suppressed: u64,
}

impl<'a> DecisionLine<'a> {
    /// With what was decided; `word` is the decision's action as Postfix was sent it.
    pub fn decided(self, decision: &'a Decision, word: &'a str, from_memory: bool) -> DecisionLine<'a> {
        // PolicydRateGuard's line, where it says it all: its own answers, over the quota alone.
        let plain = decision.action.strictness() == Strictness::Pass || word == "DEFER_IF_PERMIT";
        DecisionLine {
            used: decision.used,
            quota: decision.quota,
            blocked: decision.blocked,
            limit_reached: decision.first_block,
            action: (!plain).then_some(word),
            reason: match &decision.reason {
                _ if from_memory && decision.block().is_none() => Some(COUNTED_IN_MEMORY.into()),
                Some(reason) if plain && reason.is_quota() => None,
                reason => reason.as_ref().map(|reason| reason.to_string().into()),
            },
            would: decision.would.as_deref(),
            ..self
        }
    }

    /// With what a list decided; `reason` names the entry.
    pub fn listed(self, list: Which, word: &'a str, reason: &'a str) -> DecisionLine<'a> {
        DecisionLine { blocked: list == Which::Deny, action: Some(word), reason: Some(reason.into()), ..self }
    }

    /// PolicydRateGuard logs a refusal as a warning.
    pub fn level(&self) -> log::Level {
        if self.blocked { log::Level::Warn } else { log::Level::Info }
    }
}

impl fmt::Display for DecisionLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue_id = if self.queue_id.is_empty() { "NOQUEUE" } else { self.queue_id };
        write!(
            f,
            "{}: client={}[{}], helo={}, sasl_method={}, sasl_username={}, from={}, to={}, \
             recipient_count={}, curr_count={}/",
            escaped(queue_id),
            escaped(self.client_name),
            escaped(self.client_address),
            escaped(self.helo_name),
            escaped(self.sasl_method),
            escaped(self.sasl_username),
            escaped(self.from),
            escaped(self.to),
            self.recipient_count,
            self.used,
        )?;
        if self.quota == UNLIMITED {
            f.write_str("unlimited")?;
        } else {
            write!(f, "{}", self.quota)?;
        }
        f.write_str(if self.blocked { ", status=BLOCKED" } else { ", status=ACCEPTED" })?;
        if self.blocked && self.limit_reached {
            f.write_str(" (QUOTA_LIMIT_REACHED)")?;
        }
        if let Some(action) = self.action {
            write!(f, ", action={}", escaped(action))?;
        }
        if let Some(reason) = &self.reason {
            write!(f, ", reason={}", quoted(reason))?;
        }
        if let Some(would) = self.would {
            write!(f, ", would={}", quoted(would))?;
        }
        if self.suppressed > 0 {
            write!(f, ", suppressed={}", self.suppressed)?;
        }
        Ok(())
    }
}

/// A foreign value as it may stand in a log line: at most [`MAX_VALUE`] bytes and no blank, comma or control character.
///
/// A cut value ends with `…`, which is on top of the bound.
pub fn escaped(value: &str) -> Escaped<'_> {
    Escaped { value, quotes: false }
}

/// The same for a text of several words, between quotes. A comma is an escape here too, so `, ` still ends the field.
pub fn quoted(text: &str) -> Escaped<'_> {
    Escaped { value: text, quotes: true }
}

/// See [`escaped`] and [`quoted`].
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a> {
    value: &'a str,
    quotes: bool,
}

impl Escaped<'_> {
    fn hides(&self, c: char) -> bool {
        match c {
            ',' | '\\' => true,
            ' ' => !self.quotes,
            '"' => self.quotes,
            // Blanks that are not the blank (no-break space, …) look like one.
            _ => escape::is_unprintable(c) || c.is_whitespace(),
        }
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.quotes {
            f.write_str("\"")?;
        }
        let plain = self.value.len() <= MAX_VALUE
            && self.value.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b',' | b'\\' | b'"'));
        if plain {
            f.write_str(self.value)?;
        } else {
            let mut out = Measured { out: f, written: 0 };
            for c in self.value.chars() {
                let room = MAX_VALUE.saturating_sub(out.written);
                if !escape::write_char(&mut out, c, |c| self.hides(c), room)? {
                    f.write_str("…")?;
                    break;
                }
            }
        }
        if self.quotes {
            f.write_str("\"")?;
        }
        Ok(())
    }
}

/// Counts the bytes on their way.
struct Measured<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    written: usize,
}

impl fmt::Write for Measured<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.written += text.len();
        self.out.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn everyday() -> DecisionLine<'static> {
        DecisionLine {
            queue_id: "4XyZ12abcd",
            client_name: "unknown",
            client_address: "2001:db8::1",
            helo_name: "[192.0.2.7]",
            sasl_method: "PLAIN",
            sasl_username: "test01@example.com",
            from: "bounce+jo=example.org@lists.example.com",
            to: "",
            recipient_count: 3,
            used: 1003,
            quota: 1000,
            blocked: true,
            limit_reached: true,
            ..DecisionLine::default()
        }
    }

    #[test]
    fn has_policyd_rate_guard_s_form() {
        assert_eq!(
            everyday().to_string(),
            "4XyZ12abcd: client=unknown[2001:db8::1], helo=[192.0.2.7], sasl_method=PLAIN, \
             sasl_username=test01@example.com, from=bounce+jo=example.org@lists.example.com, to=, recipient_count=3, \
             curr_count=1003/1000, status=BLOCKED (QUOTA_LIMIT_REACHED)"
        );
        let accepted = DecisionLine { blocked: false, queue_id: "", quota: UNLIMITED, ..everyday() }.to_string();
        assert!(accepted.starts_with("NOQUEUE: client="), "{accepted}");
        assert!(accepted.ends_with(", curr_count=1003/unlimited, status=ACCEPTED"), "{accepted}");
    }

    #[test]
    fn later_fields_stand_at_the_end() {
        let line = DecisionLine {
            action: Some("HOLD"),
            reason: Some("30 recipients/5m, \"fast\"".into()),
            would: Some("DEFER slow down"),
            suppressed: 7,
            ..everyday()
        };
        let line = line.to_string();
        let (_, tail) = line.split_once("(QUOTA_LIMIT_REACHED)").unwrap();
        assert_eq!(
            tail,
            r#", action=HOLD, reason="30 recipients/5m\u{2c} \"fast\"", would="DEFER slow down", suppressed=7"#
        );
    }

    #[test]
    fn a_value_cannot_forge_a_field() {
        let forged = DecisionLine {
            helo_name: "x, sasl_username=boss@example.com, status=ACCEPTED\nABC: client=y\u{a0}z\\",
            blocked: false,
            ..everyday()
        };
        let line = forged.to_string();
        assert!(line.contains(r"helo=x\u{2c}\u{20}sasl_username=boss@example.com\u{2c}\u{20}status=ACCEPTED\nABC:"));
        assert!(line.contains(r"client=y\u{a0}z\\, sasl_method=PLAIN"), "{line}");
        assert_eq!(line.split(", ").filter(|field| field.starts_with("sasl_username=")).count(), 1);
    }

    proptest! {
        #[test]
        fn any_request_has_the_same_fields_and_a_bounded_line(values in proptest::collection::vec(
            prop_oneof!["(.|[,= \n\\\\]){0,60}", "[\u{202e}\u{1}]{0,400}", "\u{e9}{0,400}"], 8,
        )) {
            let line = DecisionLine {
                queue_id: &values[0],
                client_name: &values[1],
                client_address: &values[2],
                helo_name: &values[3],
                sasl_method: &values[4],
                sasl_username: &values[5],
                from: &values[6],
                to: &values[7],
                ..everyday()
            }
            .to_string();
            let names: Vec<_> = line.split(", ").map(|field| field.split('=').next().unwrap()).collect();
            prop_assert_eq!(&names[1..], ["helo", "sasl_method", "sasl_username", "from", "to", "recipient_count",
                "curr_count", "status"]);
            prop_assert!(line.len() < 8 * (MAX_VALUE + '…'.len_utf8()) + 250);
            prop_assert!(!line.contains(escape::is_unprintable));
        }
    }
}
