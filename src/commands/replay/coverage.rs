//! What was read of the logs, and what is doubtful about it.

use serde_json::{Value, json};

use crate::account::LimitBy;
use crate::commands::table::clean;
use crate::commands::text::shortened;
use crate::replay::files::{Counts, Missed, Place};
use crate::replay::join::Gaps;

/// The figures are good enough if at most one in so many lines on mail was not understood.
const MISSED_SHARE: u64 = 100;
/// How much of a line is shown, in characters.
const MAX_EXAMPLE: usize = 160;

/// What was read.
pub struct Coverage {
    pub counts: Counts,
    pub gaps: Gaps,
    pub limit_by: Vec<LimitBy>,
}

impl Coverage {
    /// Whether too much was not understood for the figures to mean anything.
    pub fn is_incomplete(&self) -> bool {
        // Of most messages only the beginning was found: the lines of cleanup and qmgr are elsewhere.
        let without_end = self.gaps.unfinished > self.gaps.sent;
        without_end || self.counts.missed.saturating_mul(MISSED_SHARE) > self.counts.understood()
    }

    /// How many lines of which kind, for programs.
    pub fn json(&self) -> Value {
        let counts = &self.counts;
        json!({
            "read": counts.lines,
            "postfix": counts.postfix,
            "decisions": counts.decisions,
            "policyd": counts.policyd,
            "other": counts.other,
            "unknown": counts.unknown,
            "missed": counts.missed,
            "repeated": counts.repeated,
        })
    }

    /// How many lines of which kind, and the hints, for people. `messages` is how many were found.
    pub fn shown(&self, messages: u64) -> String {
        let Counts { lines, postfix, decisions, policyd, other, unknown, missed, .. } = self.counts;
        let mut text = format!(
            "{lines} lines read: {postfix} of Postfix, {decisions} decisions of a rate guard, {policyd} of policyd, \
             {other} of others, {unknown} without a time, {missed} not understood.\n"
        );
        for hint in self.hints(messages) {
            text.extend([&hint, "\n"]);
        }
        text
    }

    /// What the reader of the figures should know, or may have done wrong.
    pub fn hints(&self, messages: u64) -> Vec<String> {
        let Counts { lines, postfix, clients, logins, repeated, left_out, dropped, .. } = self.counts;
        let told = self.counts.decisions + self.counts.policyd;
        let mut hints = Vec::new();
        if let Some(Missed { place, text, cause }) = &self.counts.first_missed {
            hints.push(format!(
                "Not understood, though they look like lines on mail: {} lines, so the figures are too low. \
                 The first is {}: {cause}.\n    {}",
                self.counts.missed,
                shown(place),
                shortened(&clean(text), MAX_EXAMPLE, true)
            ));
        }
        let guess = if self.counts.missed > 0 && self.is_incomplete() {
            ""
        } else if lines == 0 {
            "There is not one line."
        } else if postfix == 0 && told == 0 {
            "No line is Postfix's, policyd's or a rate guard's: is this the mail log?"
        } else if clients > 0 && logins == 0 && told == 0 && self.limit_by == [LimitBy::SaslUsername] {
            "No line of Postfix's names a sasl_username: is this the log of the submission server?"
        } else if clients == 0 && told == 0 {
            "Postfix began no message in these lines: is this the log of the host that clients talk to?"
        } else if self.gaps.unfinished > self.gaps.sent {
            "Most messages have no end in these lines: are cleanup's and qmgr's among them, in this file or in another?"
        } else if messages == 0 {
            "No message is of these times, or of an account that could be charged for it."
        } else {
            ""
        };
        if !guess.is_empty() {
            hints.push(guess.to_owned());
        }
        if let Some(place) = &self.counts.first_unknown {
            hints.push(format!("The first line without a time: {}.", shown(place)));
        }
        let numbers = [
            (
                dropped,
                "Noted by the log daemon: {} times that it dropped lines because there were too many. Mail may be missing here.",
            ),
            (repeated, "In several of the logs: {} lines, each of which counts once."),
            (
                self.gaps.uncounted,
                "Held or refused at the time, in a before-queue filter, or not sent on before the log ends: {} messages. Postfix \
                 does not say how many recipients these had, and each counts as one.",
            ),
            (
                self.gaps.unfinished,
                "Begun by a client with a login, and never sent as far as the log tells: {} messages, which are not counted here.",
            ),
            (
                left_out,
                "Left out of the daemon's log, of blocked senders that went on: {} lines. They are not counted here unless \
                 Postfix's lines tell of them.",
            ),
        ];
        let noted = numbers.into_iter().filter(|(number, _)| *number > 0);
        hints.extend(noted.map(|(number, hint)| hint.replace("{}", &number.to_string())));
        hints
    }
}

fn shown(Place { file, line }: &Place) -> String {
    format!("{}, line {line}", clean(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::cause::Cause;

    #[test]
    fn a_hint_names_the_cause_and_guesses_none_beside_it() {
        let hints =
            |counts| Coverage { counts, gaps: Gaps::default(), limit_by: vec![LimitBy::SaslUsername] }.hints(1000);
        let place = Place { file: "mail.log".to_owned(), line: 7 };
        let missed = Missed { place, text: "Okt 21\u{7}".to_owned(), cause: Cause::Language };
        let many = Counts { missed: 1, lines: 1, first_missed: Some(missed), ..Counts::default() };
        let told = hints(many.clone());
        assert!(told.len() == 1 && told[0].contains("mail.log, line 7: its month is not English"), "{told:?}");
        assert!(told[0].ends_with("\n    Okt 21?"), "{told:?}");
        let few = Counts { postfix: 100, clients: 1, ..many };
        assert!(hints(few)[1].contains("names a sasl_username"));
        assert!(hints(Counts { dropped: 3, ..Counts::default() })[1].contains(": 3 times that it dropped lines"));
    }
}
