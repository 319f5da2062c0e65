//! What `replay` found, for people and for programs.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::coverage::Coverage;
use crate::commands::table::{Screen, clean, table};
use crate::commands::text::{shortened, width};
use crate::limiter::moment;
use crate::replay::tally::{LimitTally, Refusal, SenderTally, Sums, Tally};

/// How wide a table may be if there is no terminal.
const WIDTH: usize = 132;
/// The least for a sender, and for a limit, however narrow the terminal is.
const MIN_WIDTH: usize = 16;
/// The most limits shown in the text.
const MAX_LIMITS: usize = 20;

/// All that was found.
pub struct Report {
    pub tally: Tally,
    pub coverage: Coverage,
    /// How many senders to show.
    pub number: usize,
    /// Of the times for people.
    pub zone: TimeZone,
}

impl Report {
    /// Whether there is a result, and not of a part of the mail only.
    pub fn is_whole(&self) -> bool {
        self.tally.totals.messages > 0 && !self.coverage.is_incomplete()
    }

    /// What the reader of the figures should know, or may have done wrong.
    pub fn hints(&self) -> Vec<String> {
        self.coverage.hints(self.tally.totals.messages)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let tally = &self.tally;
        let refusal =
            |first: &Refusal| json!({"at": moment::utc(first.at), "limit": first.limit, "action": first.action});
        let limit = |((limit, action), tally): (&(String, String), &LimitTally)| {
            let LimitTally { messages, senders, first, .. } = tally;
            json!({"limit": limit, "action": action, "messages": messages, "senders": senders, "first": moment::utc(*first)})
        };
        let sender = |(sender, tally): (&str, &SenderTally)| {
            with_sums(&tally.sums, json!({"sender": sender, "first_refused": tally.first.as_ref().map(refusal)}))
        };
        let ranked = tally.ranked();
        let report = json!({
            "first": tally.span.map(|(first, _)| moment::utc(first)),
            "last": tally.span.map(|(_, last)| moment::utc(last)),
            "without_login": tally.nobody,
            "allowlisted": tally.allowlisted,
            "senders": ranked.len(),
            "senders_refused": tally.senders_refused(),
            "limits": tally.ranked_limits().into_iter().map(limit).collect::<Vec<_>>(),
            "top": ranked.into_iter().take(self.number).map(sender).collect::<Vec<_>>(),
            "lines": self.coverage.json(),
            "recipients_unknown": self.coverage.gaps.uncounted,
            "incomplete": self.coverage.is_incomplete(),
            "hints": self.hints(),
        });
        with_sums(&tally.totals, report)
    }

    /// For people: on a terminal as wide as that is.
    pub fn shown(&self, screen: Option<Screen>) -> String {
        let mut text = String::new();
        if self.tally.totals.messages > 0 {
            text.push_str(&self.senders(screen.map_or(WIDTH, |screen| screen.width)));
            if !self.tally.limits.is_empty() {
                text.push('\n');
                text.push_str(&self.by_limit());
            }
            text.push('\n');
            text.push_str(&self.share());
        }
        text.push_str(&self.coverage.shown(self.tally.totals.messages));
        text
    }

    fn senders(&self, cells: usize) -> String {
        // The columns of numbers and the time, with their gaps.
        const FIXED: usize = 78;
        let rows = Vec::from_iter(self.tally.ranked().into_iter().take(self.number).map(|(sender, tally)| {
            let first = tally.first.as_ref();
            let time = first.map_or_else(String::new, |first| moment::local(first.at, &self.zone));
            let limit = first.map_or_else(String::new, |first| clean(&format!("{} ({})", first.limit, first.action)));
            (clean(sender), tally.sums, time, limit)
        }));
        let longest = rows.iter().map(|(sender, ..)| width(sender)).max().unwrap_or(0).max("SENDER".len());
        let longest_limit = rows.iter().map(|(.., limit)| width(limit)).max().unwrap_or(0).max("LIMIT".len());
        let room = cells.saturating_sub(FIXED).max(2 * MIN_WIDTH);
        // What the one does not need is the other's.
        let name = longest.min((room / 2).max(room.saturating_sub(longest_limit)));
        let row = |(sender, sums, time, limit): (String, Sums, String, String)| {
            let Sums { messages, recipients, passed, held, deferred, rejected, .. } = sums;
            let [messages, recipients, passed, held, deferred, rejected] =
                [messages, recipients, passed, held, deferred, rejected].map(|number| number.to_string());
            let (sender, limit) = (shortened(&sender, name, true), shortened(&limit, room.saturating_sub(name), true));
            [sender, messages, recipients, passed, held, deferred, rejected, time, limit]
        };
        let headings =
            ["SENDER", ">MESSAGES", ">RECIPIENTS", ">PASSED", ">HELD", ">DEFERRED", ">REJECTED", "FIRST", "LIMIT"];
        table(headings, rows.into_iter().map(row))
    }

    fn by_limit(&self) -> String {
        let rows = self.tally.ranked_limits().into_iter().take(MAX_LIMITS).map(|((limit, action), tally)| {
            [tally.messages.to_string(), tally.senders.to_string(), action.clone(), shortened(&clean(limit), 80, true)]
        });
        table([">MESSAGES", ">SENDERS", "ACTION", "LIMIT"], rows)
    }

    fn share(&self) -> String {
        let Tally { totals, span, senders, allowlisted, .. } = &self.tally;
        let Sums { messages, recipients, passed, recipients_passed, held, deferred, rejected, warned } = *totals;
        let span = span.map_or_else(String::new, |(first, last)| {
            format!("From {} to {}: ", moment::local(first, &self.zone), moment::local(last, &self.zone))
        });
        let mut text = format!(
            "{span}{} of the mail would have passed: {passed} of {messages} messages, {recipients_passed} of {recipients} \
             recipients; {held} held, {deferred} deferred, {rejected} rejected.\n",
            percent(passed, messages)
        );
        text.push_str(&match (self.tally.senders_refused(), senders.len()) {
            (0, senders) => format!("None of {senders} senders would have noticed.\n"),
            (refused, senders) => format!("{refused} of {senders} senders would have had mail held or refused.\n"),
        });
        if warned > 0 {
            text.push_str(&format!("{warned} messages would have passed with a warning.\n"));
        }
        if *allowlisted > 0 {
            text.push_str(&format!("{allowlisted} messages would have passed uncounted by the ALLOWLIST.\n"));
        }
        text
    }
}

/// A JSON object with these sums in it.
fn with_sums(sums: &Sums, mut object: Value) -> Value {
    let Sums { messages, recipients, passed, recipients_passed, held, deferred, rejected, warned } = *sums;
    if let Some(fields) = object.as_object_mut() {
        let sums = [
            ("messages", messages),
            ("recipients", recipients),
            ("passed", passed),
            ("recipients_passed", recipients_passed),
            ("held", held),
            ("deferred", deferred),
            ("rejected", rejected),
            ("warned", warned),
        ];
        fields.extend(sums.map(|(name, number)| (name.to_owned(), number.into())));
    }
    object
}

/// A share in tenths of a percent. What is not all is never shown as 100, nor what is not nothing as 0.
fn percent(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    let tenths = if part > 0 { tenths.max(1) } else { 0 };
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::LimitBy;
    use crate::replay::files::Counts;
    use crate::replay::join::Gaps;

    fn report(name: &str, limit: &str) -> Report {
        let mut tally = Tally::default();
        tally.span = Some((0, 60));
        let sums =
            Sums { messages: 1000, recipients: 2000, passed: 999, recipients_passed: 1998, held: 1, ..Sums::default() };
        tally.totals = sums;
        let first = Refusal { at: 60, limit: limit.to_owned(), action: "HOLD".to_owned() };
        tally.senders.insert(name.to_owned(), SenderTally { sums, first: Some(first) });
        tally.senders.insert("bob@example.com".to_owned(), SenderTally::default());
        let key = (limit.to_owned(), "HOLD".to_owned());
        tally.limits.insert(key, LimitTally { messages: 1, senders: 1, action: "HOLD".into(), first: 60 });
        let (counts, gaps) = (Counts::default(), Gaps::default());
        let coverage = Coverage { counts, gaps, limit_by: vec![LimitBy::SaslUsername] };
        Report { tally, coverage, number: 20, zone: TimeZone::UTC }
    }

    #[test]
    fn a_table_is_never_wider_than_the_screen() {
        for width in [110, 132, 200] {
            for name in ["al", "somebody@a-rather-long-domain-name.of-some-department.example.com\u{1b}[2J"] {
                for limit in
                    ["1x quota 1000", "30 recipients/5m HOLD with some more words than anybody needs to read here"]
                {
                    let text = report(name, limit).senders(width);
                    let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
                    assert!(widest <= width, "{widest} of {width}:\n{text}");
                    assert!(!text.contains('\u{1b}'));
                }
            }
        }
    }

    #[test]
    fn says_what_share_would_have_passed() {
        let text = report("alice@example.com", "1x quota 1000").shown(None);
        assert!(
            text.contains(
                ": 99.9 % of the mail would have passed: 999 of 1000 messages, 1998 of 2000 recipients; 1 held"
            )
        );
        assert!(text.contains("1 of 2 senders would have had mail held or refused."), "{text}");
        assert_eq!(
            [percent(9999, 10_000), percent(1, 10_000), percent(0, 0), percent(5, 5)],
            ["99.9 %", "0.1 %", "0.0 %", "100.0 %"]
        );
    }
}
