//! What `replay` found, for people and for programs.

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::account::LimitBy;
use crate::commands::table::{Screen, clean, table};
use crate::commands::text::{shortened, width};
use crate::limiter::moment;
use crate::replay::files::{Counts, Missed, Place};
use crate::replay::join::Gaps;
use crate::replay::tally::{SenderTally, Sums, Tally};

/// How wide a table may be where there is no terminal.
const WIDTH: usize = 132;
/// The least for a sender, and for a limit, however narrow the terminal is.
const MIN_WIDTH: usize = 16;
/// The most limits shown in the text.
const MAX_LIMITS: usize = 20;
/// One line on mail that is not understood in so many that are is a small share: the figures are good enough.
const MISSED_SHARE: u64 = 100;
/// How much of a line is shown, in characters.
const MAX_EXAMPLE: usize = 160;

#[derive(Debug, Serialize)]
pub struct Report {
    /// The times of the first and the last message.
    first: Option<String>,
    last: Option<String>,
    #[serde(flatten)]
    totals: Figures,
    /// Without a login, so that nobody is charged; not among `messages`.
    without_login: u64,
    allowlisted: u64,
    senders: usize,
    senders_refused: usize,
    limits: Vec<Limit>,
    /// The senders with the most mail refused.
    top: Vec<Sender>,
    lines: Lines,
    /// Messages of which the log does not say how many recipients they had; each counts as one.
    recipients_unknown: u64,
    pub hints: Vec<String>,
    /// Whether too much was not understood for the figures to mean anything.
    incomplete: bool,
    #[serde(skip)]
    zone: TimeZone,
    #[serde(skip)]
    span: Option<(i64, i64)>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Figures {
    messages: u64,
    recipients: u64,
    passed: u64,
    recipients_passed: u64,
    held: u64,
    deferred: u64,
    rejected: u64,
    warned: u64,
}

#[derive(Debug, Serialize)]
struct Limit {
    limit: String,
    action: String,
    messages: u64,
    senders: u64,
    first: String,
}

#[derive(Debug, Serialize)]
struct Sender {
    sender: String,
    #[serde(flatten)]
    figures: Figures,
    first_refused: Option<Refused>,
}

#[derive(Debug, Serialize)]
struct Refused {
    at: String,
    limit: String,
    action: String,
    #[serde(skip)]
    time: i64,
}

/// How many lines were of which kind.
#[derive(Debug, Serialize)]
struct Lines {
    read: u64,
    postfix: u64,
    decisions: u64,
    policyd: u64,
    other: u64,
    /// Without a time.
    unknown: u64,
    /// On mail, and not understood.
    missed: u64,
    /// In several logs; above they count once.
    repeated: u64,
}

impl Report {
    pub fn new(tally: &Tally, counts: Counts, gaps: Gaps, limit_by: &[LimitBy], number: u32, zone: TimeZone) -> Report {
        let ranked = tally.ranked();
        let refused = ranked.iter().filter(|(_, tally)| tally.sums.refused() > 0).count();
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let mut limits: Vec<Limit> = tally
            .limits
            .iter()
            .map(|((limit, action), tally)| Limit {
                limit: limit.clone(),
                action: action.clone(),
                messages: tally.messages,
                senders: tally.senders,
                first: moment::utc(tally.first),
            })
            .collect();
        limits.sort_by_key(|limit| std::cmp::Reverse(limit.messages));
        Report {
            first: tally.span.map(|(first, _)| moment::utc(first)),
            last: tally.span.map(|(_, last)| moment::utc(last)),
            totals: Figures::of(&tally.totals),
            without_login: tally.nobody,
            allowlisted: tally.allowlisted,
            senders: ranked.len(),
            senders_refused: refused,
            limits,
            top: ranked.into_iter().take(number).map(|(sender, tally)| Sender::of(sender, tally)).collect(),
            recipients_unknown: gaps.uncounted,
            hints: hints(tally, &counts, gaps, limit_by),
            lines: Lines {
                read: counts.lines,
                postfix: counts.postfix,
                decisions: counts.decisions,
                policyd: counts.policyd,
                other: counts.other,
                unknown: counts.unknown,
                missed: counts.missed,
                repeated: counts.repeated,
            },
            incomplete: counts.missed * MISSED_SHARE > counts.understood(),
            zone,
            span: tally.span,
        }
    }

    /// Whether no message was found that an account could be charged for.
    fn is_empty(&self) -> bool {
        self.totals.messages == 0
    }

    /// Whether there is a result, and not of a part of the mail only.
    pub fn is_whole(&self) -> bool {
        !self.is_empty() && !self.incomplete
    }

    /// For people: on a terminal as wide as that is.
    pub fn shown(&self, screen: Option<Screen>) -> String {
        let mut text = String::new();
        if !self.is_empty() {
            text.push_str(&self.senders(screen.map_or(WIDTH, |screen| screen.width)));
            if !self.limits.is_empty() {
                text.push('\n');
                text.push_str(&self.by_limit());
            }
            text.push('\n');
            text.push_str(&self.share());
        }
        let Lines { read, postfix, decisions, policyd, other, unknown, missed, .. } = self.lines;
        text.push_str(&format!(
            "{read} lines read: {postfix} of Postfix, {decisions} decisions of a rate guard, {policyd} of policyd, \
             {other} of others, {unknown} without a time, {missed} not understood.\n"
        ));
        for hint in &self.hints {
            text.push_str(hint);
            text.push('\n');
        }
        text
    }

    fn senders(&self, cells: usize) -> String {
        // The columns of numbers and the time, with their gaps.
        const FIXED: usize = 78;
        let limits = self.top.iter().filter_map(|sender| sender.first_refused.as_ref());
        let longest_limit = limits.map(|refused| width(&refused.shown())).max().unwrap_or(0).max("LIMIT".len());
        let longest = self.top.iter().map(|sender| width(&sender.sender)).max().unwrap_or(0).max("SENDER".len());
        let room = cells.saturating_sub(FIXED).max(2 * MIN_WIDTH);
        // What the one does not need is the other's.
        let name = longest.min((room / 2).max(room.saturating_sub(longest_limit)));
        let limit = room.saturating_sub(name);
        let row = |sender: &Sender| {
            let Figures { messages, recipients, passed, held, deferred, rejected, .. } = sender.figures;
            let [messages, recipients, passed, held, deferred, rejected] =
                [messages, recipients, passed, held, deferred, rejected].map(|number| number.to_string());
            let sender_name = shortened(&clean(&sender.sender), name, true);
            let first = sender.first_refused.as_ref();
            let time = first.map_or_else(String::new, |first| moment::local(first.time, &self.zone));
            let limit = first.map_or_else(String::new, |first| shortened(&clean(&first.shown()), limit, true));
            [sender_name, messages, recipients, passed, held, deferred, rejected, time, limit]
        };
        let headings =
            ["SENDER", ">MESSAGES", ">RECIPIENTS", ">PASSED", ">HELD", ">DEFERRED", ">REJECTED", "FIRST", "LIMIT"];
        table(headings, self.top.iter().map(row))
    }

    fn by_limit(&self) -> String {
        let rows = self.limits.iter().take(MAX_LIMITS).map(|limit| {
            let name = shortened(&clean(&limit.limit), 80, true);
            [limit.messages.to_string(), limit.senders.to_string(), limit.action.clone(), name]
        });
        table([">MESSAGES", ">SENDERS", "ACTION", "LIMIT"], rows)
    }

    fn share(&self) -> String {
        let Figures { messages, recipients, passed, recipients_passed, held, deferred, rejected, warned } = self.totals;
        let span = self.span.map_or_else(String::new, |(first, last)| {
            format!("From {} to {}: ", moment::local(first, &self.zone), moment::local(last, &self.zone))
        });
        let mut text = format!(
            "{span}{} of the mail would have passed: {passed} of {messages} messages, {recipients_passed} of {recipients} \
             recipients; {held} held, {deferred} deferred, {rejected} rejected.\n",
            percent(passed, messages)
        );
        text.push_str(&match (self.senders_refused, self.senders) {
            (0, senders) => format!("None of {senders} senders would have noticed.\n"),
            (refused, senders) => format!("{refused} of {senders} senders would have had mail held or refused.\n"),
        });
        if warned > 0 {
            text.push_str(&format!("{warned} messages would have passed with a warning.\n"));
        }
        if self.allowlisted > 0 {
            text.push_str(&format!("{} messages would have passed uncounted by the ALLOWLIST.\n", self.allowlisted));
        }
        text
    }
}

impl Figures {
    fn of(sums: &Sums) -> Figures {
        let Sums { messages, recipients, passed, recipients_passed, held, deferred, rejected, warned } = *sums;
        Figures { messages, recipients, passed, recipients_passed, held, deferred, rejected, warned }
    }
}

impl Sender {
    fn of(sender: &str, tally: &SenderTally) -> Sender {
        let first_refused = tally.first.as_ref().map(|first| Refused {
            at: moment::utc(first.at),
            limit: first.limit.clone(),
            action: first.action.clone(),
            time: first.at,
        });
        Sender { sender: sender.to_owned(), figures: Figures::of(&tally.sums), first_refused }
    }
}

impl Refused {
    fn shown(&self) -> String {
        format!("{} ({})", self.limit, self.action)
    }
}

/// A share in tenths of a percent. What is not all is never shown as 100, nor what is not nothing as 0.
fn percent(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    let tenths = if part > 0 { tenths.max(1) } else { 0 };
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// What the reader of the figures should know, or may have done wrong.
fn hints(tally: &Tally, counts: &Counts, gaps: Gaps, limit_by: &[LimitBy]) -> Vec<String> {
    let mut hints = Vec::new();
    let told = counts.decisions + counts.policyd;
    if let Some(Missed { place, text, cause }) = &counts.first_missed {
        hints.push(format!(
            "Not understood, though they look like lines on mail: {} lines, so the figures are too low. The first is {}: {cause}.\n    {}",
            counts.missed,
            shown(place),
            shortened(&clean(text), MAX_EXAMPLE, true)
        ));
    } else if counts.lines == 0 {
        hints.push("There is not one line.".to_owned());
    } else if counts.postfix == 0 && told == 0 {
        hints.push("No line is Postfix's, policyd's or a rate guard's: is this the mail log?".to_owned());
    } else if counts.clients > 0 && counts.logins == 0 && told == 0 && limit_by == [LimitBy::SaslUsername] {
        hints.push("No line of Postfix's names a sasl_username: is this the log of the submission server?".to_owned());
    } else if counts.clients == 0 && told == 0 {
        hints.push(
            "Postfix began no message in these lines: is this the log of the host that clients talk to?".to_owned(),
        );
    } else if tally.totals.messages == 0 {
        hints.push("No message is of these times, or of an account that could be charged for it.".to_owned());
    }
    if let Some(place) = &counts.first_unknown {
        hints.push(format!("The first line without a time: {}.", shown(place)));
    }
    if counts.repeated > 0 {
        hints.push(format!("In several of the logs: {} lines, each of which counts once.", counts.repeated));
    }
    if gaps.uncounted > 0 {
        hints.push(format!(
            "Held or refused at the time, in a before-queue filter, or not sent on before the log ends: {} messages. Postfix does not \
             say how many recipients these had, and each counts as one.",
            gaps.uncounted
        ));
    }
    if gaps.unfinished > 0 {
        hints.push(format!(
            "Begun by a client, and never sent as far as the log tells: {} messages, which are not counted here.",
            gaps.unfinished
        ));
    }
    if counts.left_out > 0 {
        hints.push(format!(
            "Left out of the daemon's log, of blocked senders that went on: {} lines. They are not counted here unless Postfix's \
             lines tell of them.",
            counts.left_out
        ));
    }
    hints
}

fn shown(Place { file, line }: &Place) -> String {
    format!("{}, line {line}", clean(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::tally::{LimitTally, Refusal};

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
        Report::new(&tally, Counts::default(), Gaps::default(), &[LimitBy::SaslUsername], 20, TimeZone::UTC)
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
