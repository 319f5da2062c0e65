//! What is remembered as a text that outlasts the process: a head, then one line of JSON for each message. Pure.
//!
//! Another version's text is not read: what is in it is then counted again if it is asked about again, which is what happens
//! after a crash too.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::{AtRcpt, Key, MAX_RECIPIENTS, Message};
use super::{Deduplication, KEPT_FOR, MAX_MESSAGES, MAX_TOLD, seconds};
use crate::limiter::blocks::Block;
use crate::limiter::decision::{Decision, Reason};
use crate::limiter::increase::Increase;
use crate::limiter::verdict::{FailOpen, Verdict};
use crate::protocol::reply::{Action, ActionError};

/// Raised with each change of what the lines mean.
const FORMAT: u32 = 1;

/// Why a text was not understood.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("line {line}: {error}")]
    Line { line: usize, error: serde_json::Error },
    #[error("line {line}: {error}")]
    Action { line: usize, error: ActionError },
    #[error("line {line}: there is no reason {name:?}")]
    Reason { line: usize, name: String },
    #[error("it has format {0}, and this version reads {FORMAT}")]
    Format(u32),
    #[error("it has no head")]
    Empty,
    #[error("it has more than is ever remembered")]
    TooMuch,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    /// In Unix seconds.
    written: i64,
    /// Of the hashes: it must stay as secret as the process's memory.
    key: (u64, u64),
}

#[derive(Serialize, Deserialize)]
struct Line {
    account: u64,
    message: u64,
    /// In seconds, when it was written.
    age: u64,
    asked: (u32, u32, u64),
    through: (u32, u32, u64),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rcpt: Option<Rcpt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passed: Option<Answer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<Answer>,
}

#[derive(Serialize, Deserialize)]
struct Rcpt {
    told: Vec<(u64, bool)>,
    untold: u32,
    through: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Counted(Decided),
    FromMemory(Decided),
    InDoubt(String),
}

/// A decision without what is told once.
#[derive(Serialize, Deserialize)]
struct Decided {
    action: String,
    used: u64,
    quota: u32,
    blocked: bool,
    let_through: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Why>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    would: Option<String>,
}

/// The limit that decided, or the block.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Why {
    Limit { limit: String, used: u64, quota: bool },
    Block { block: i64, account: String, since: i64, until: Option<i64>, why: String },
}

impl From<&Reason> for Why {
    fn from(reason: &Reason) -> Why {
        match reason {
            Reason::Limit { limit, used, is_quota } => {
                Why::Limit { limit: limit.clone(), used: *used, quota: *is_quota }
            }
            Reason::Block(block) => Why::Block {
                block: block.id,
                account: block.account.clone(),
                since: block.since,
                until: block.until,
                why: block.reason.clone(),
            },
        }
    }
}

impl Why {
    /// The reason of a decision with this action.
    fn reason(self, action: &Action) -> Reason {
        match self {
            Why::Limit { limit, used, quota } => Reason::Limit { limit, used, is_quota: quota },
            Why::Block { block: id, account, since, until, why: reason } => {
                Reason::Block(Arc::new(Block { id, account, since, until, action: action.clone(), reason }))
            }
        }
    }
}

/// Writes all that is remembered, the oldest first. `elapsed` is the time since start.
pub fn write(known: &Deduplication, to: &mut impl Write, elapsed: Duration, unix: i64) -> io::Result<()> {
    line(to, &Head { format: FORMAT, written: unix, key: known.hasher.keys() })?;
    for (id, account) in known.accounts.iter().rev() {
        for message in &account.order {
            let key = Key { account: *id, message: *message };
            if let Some(stored) = known.messages.get(message) {
                line(to, &line_of(key, &stored.message(), elapsed))?;
            }
        }
    }
    Ok(())
}

/// Reads all of it that is not too old, at this time.
///
/// # Errors
/// One line that is not understood makes all of it useless.
pub fn read(from: impl BufRead, unix: i64) -> Result<Deduplication, Unread> {
    let mut lines = from.lines().zip(1..);
    let Some((head, _)) = lines.next() else { return Err(Unread::Empty) };
    let head: Head = serde_json::from_str(&head?).map_err(|error| Unread::Line { line: 1, error })?;
    if head.format != FORMAT {
        return Err(Unread::Format(head.format));
    }
    // A clock that was set back meanwhile makes nothing younger.
    let since = u64::try_from(unix.saturating_sub(head.written)).unwrap_or(0);
    let mut known = Deduplication::with_key(head.key);
    for (text, line) in lines {
        let read: Line = serde_json::from_str(&text?).map_err(|error| Unread::Line { line, error })?;
        let age = Duration::from_secs(read.age.saturating_add(since));
        if age > KEPT_FOR {
            continue;
        }
        let key = Key { account: read.account, message: read.message };
        let message = message_of(read, seconds(KEPT_FOR - age), line)?;
        let told = message.at_rcpt.as_ref().map_or(0, |at_rcpt| at_rcpt.told.len());
        if told > MAX_RECIPIENTS || known.len() >= MAX_MESSAGES || known.told + told > MAX_TOLD {
            return Err(Unread::TooMuch);
        }
        if !known.messages.contains_key(&key.message) {
            known.keep(key, message, true, told);
        }
    }
    Ok(known)
}

fn line(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, value)?;
    to.write_all(b"\n")
}

fn line_of(Key { account, message: id }: Key, message: &Message, elapsed: Duration) -> Line {
    let increase = |increase: Increase| (increase.messages, increase.recipients, increase.bytes);
    Line {
        account,
        message: id,
        age: (elapsed + KEPT_FOR).as_secs().saturating_sub(message.at.into()),
        asked: increase(message.asked),
        through: increase(message.through),
        rcpt: message.at_rcpt.as_ref().map(|at_rcpt| Rcpt {
            told: at_rcpt.told.iter().map(|(hash, passed)| (*hash, *passed)).collect(),
            untold: at_rcpt.untold,
            through: at_rcpt.through,
        }),
        passed: message.passed.as_ref().and_then(answer_of),
        refused: message.refused.as_ref().and_then(answer_of),
    }
}

fn message_of(read: Line, at: u32, line: usize) -> Result<Message, Unread> {
    let increase = |(messages, recipients, bytes)| Increase { messages, recipients, bytes };
    let verdict = |answer: Option<Answer>| answer.map(|answer| verdict_of(answer, line)).transpose();
    Ok(Message {
        asked: increase(read.asked),
        through: increase(read.through),
        at_rcpt: read.rcpt.map(|rcpt| {
            let Rcpt { told, untold, through } = rcpt;
            Box::new(AtRcpt { told: told.into_iter().collect(), untold, through })
        }),
        passed: verdict(read.passed)?,
        refused: verdict(read.refused)?,
        at,
    })
}

fn answer_of(verdict: &Verdict) -> Option<Answer> {
    let decided = |decision: &Decision| Decided {
        action: decision.action.to_string(),
        used: decision.used,
        quota: decision.quota,
        blocked: decision.blocked,
        let_through: decision.let_through,
        reason: decision.reason.as_ref().map(Why::from),
        would: decision.would.clone(),
    };
    match verdict {
        Verdict::Counted(decision) => Some(Answer::Counted(decided(decision))),
        Verdict::FromMemory(decision) => Some(Answer::FromMemory(decided(decision))),
        Verdict::InDoubt(reason) => Some(Answer::InDoubt(reason.name().to_owned())),
        // They are never remembered.
        Verdict::DryRun(_) | Verdict::NotBlocked => None,
    }
}

fn verdict_of(answer: Answer, line: usize) -> Result<Verdict, Unread> {
    let decision = |decided: Decided| {
        // Cleaned to one line, as one from the settings.
        let action = Action::parse(&decided.action).map_err(|error| Unread::Action { line, error })?;
        Ok(Arc::new(Decision {
            reason: decided.reason.map(|why| why.reason(&action)),
            action,
            blocked: decided.blocked,
            first_block: false,
            used: decided.used,
            quota: decided.quota,
            would: decided.would,
            reached: Vec::new(),
            let_through: decided.let_through,
            from_new_network: false,
        }))
    };
    match answer {
        Answer::Counted(decided) => decision(decided).map(Verdict::Counted),
        Answer::FromMemory(decided) => decision(decided).map(Verdict::FromMemory),
        Answer::InDoubt(name) => match FailOpen::ALL.into_iter().find(|reason| reason.name() == name) {
            Some(reason) => Ok(Verdict::InDoubt(reason)),
            None => Err(Unread::Reason { line, name }),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::News;
    use super::*;
    use crate::protocol::request::{Event, Parser, Request};

    const NOW: i64 = 1_800_000_000;

    fn request(stage: &str, recipient: &str, count: u32, instance: &str) -> Request {
        let text =
            format!("protocol_state={stage}\nrecipient={recipient}\nrecipient_count={count}\ninstance={instance}\n\n");
        match Parser::default().feed(text.as_bytes()).1 {
            Some(Event::Request(Ok(request))) => *request,
            other => panic!("{other:?}"),
        }
    }

    fn verdict(number: usize) -> Verdict {
        let decision = |action: &str, let_through: bool| {
            Arc::new(Decision {
                action: Action::parse(action).unwrap(),
                blocked: !let_through,
                first_block: false,
                used: number as u64,
                quota: u32::MAX,
                reason: (!let_through).then(|| Reason::Limit {
                    limit: "1x quota \"5\"\n".into(),
                    used: 9,
                    is_quota: true,
                }),
                would: let_through.then(|| "3 messages/1h: 4".to_owned()),
                reached: Vec::new(),
                let_through,
                from_new_network: false,
            })
        };
        match number % 7 {
            0 => Verdict::Counted(decision("DUNNO", true)),
            1 => Verdict::Counted(decision("450 4.7.1 später, {sender}", false)),
            2 => Verdict::FromMemory(decision("HOLD over", true)),
            3 => Verdict::InDoubt(FailOpen::CommitUnknown),
            4 => Verdict::Counted(decision("REJECT", false)),
            number => {
                let (action, until) = (Action::hold("stopped"), number.is_multiple_of(2).then_some(NOW));
                let block = Block {
                    id: 7,
                    account: "@example.com".to_owned(),
                    since: NOW - 60,
                    until,
                    action,
                    reason: "compromised".to_owned(),
                };
                Verdict::Counted(Arc::new(Decision::of_block(&Arc::new(block), 9, 10)))
            }
        }
    }

    fn told(known: &Deduplication, elapsed: u64, unix: i64) -> Vec<u8> {
        let mut text = Vec::new();
        write(known, &mut text, Duration::from_secs(elapsed), unix).unwrap();
        text
    }

    proptest! {
        #[test]
        fn what_is_read_answers_as_what_was_written(
            asked in prop::collection::vec((0..4usize, 0..3usize, 0..4u32, 0..7usize, 0..3usize), 0..60),
            asked_then in prop::collection::vec((0..4usize, 0..3usize, 0..4u32), 0..20),
        ) {
            let request = |stage: usize, count: u32, message: usize| {
                let recipient = format!("{count}@example.com");
                request(["RCPT", "DATA", "END-OF-MESSAGE"][stage], &recipient, count, &format!("i{message}"))
            };
            let mut known = Deduplication::default();
            for (second, (message, stage, count, answer, account)) in asked.into_iter().enumerate() {
                let asked = known.asked(["alice", "bob", "carol"][account], &request(stage, count, message));
                if let News::Some(_) = known.news(&asked) {
                    let verdict = verdict(answer);
                    let passes = verdict.lets_through(&Action::DUNNO);
                    known.remember(&asked, &verdict, passes, Duration::from_secs(second as u64));
                }
            }
            let text = told(&known, 100, NOW);
            let read = read(&text[..], NOW + 60).unwrap();
            for (message, stage, count) in asked_then {
                for account in ["alice", "bob", "carol", "dave"] {
                    let request = request(stage, count, message);
                    let asked = known.asked(account, &request);
                    prop_assert_eq!(asked, read.asked(account, &request));
                    prop_assert_eq!(known.news(&asked), read.news(&asked));
                }
            }
            // In the same order, and a minute older.
            let entries = |text: &[u8], since| {
                let lines = text.lines().skip(1).map(|line| serde_json::from_str::<Line>(&line.unwrap()).unwrap());
                lines.map(|line| (line.account, line.message, line.age + since)).collect::<Vec<_>>()
            };
            prop_assert_eq!(entries(&text, 60), entries(&told(&read, 0, NOW + 60), 0));
        }

        #[test]
        fn whatever_stands_in_the_file_is_read_or_refused(text in "\\PC{0,200}", cut in 0..2000usize, other in any::<u8>()) {
            let _ = read(text.as_bytes(), NOW);
            let mut known = Deduplication::default();
            for number in 0..5 {
                let asked = known.asked("alice", &request("RCPT", "a@x", 0, &number.to_string()));
                known.remember(&asked, &verdict(number), true, Duration::ZERO);
            }
            let mut text = told(&known, 0, NOW);
            let place = cut % text.len();
            text[place] = other;
            let _ = read(&text[..], NOW);
            let _ = read(&text[..place], NOW);
        }
    }

    #[test]
    fn what_is_too_old_too_much_or_another_versions_is_not_read() {
        let mut known = Deduplication::default();
        for (second, instance) in [(0, "old"), (3000, "new")] {
            let asked = known.asked("alice", &request("DATA", "", 1, instance));
            known.remember(&asked, &verdict(0), true, Duration::from_secs(second));
        }
        let text = told(&known, 3000, NOW);
        let remembered = |later| read(&text[..], NOW + later).unwrap().len();
        assert_eq!([remembered(0), remembered(601), remembered(3601)], [2, 1, 0]);
        assert_eq!(remembered(-86_400), 2, "a clock that was set back");
        let other = String::from_utf8(text).unwrap().replace("\"format\":1", "\"format\":2");
        assert!(matches!(read(other.as_bytes(), NOW), Err(Unread::Format(2))));
        assert!(matches!(read(&b""[..], NOW), Err(Unread::Empty)));

        let head = other.lines().next().unwrap().replace("\"format\":2", "\"format\":1");
        let hashes: Vec<String> = (0..=MAX_RECIPIENTS).map(|hash| format!("[{hash},true]")).collect();
        let line =
            |rcpt: &str| format!(r#"{{"account":1,"message":2,"age":0,"asked":[1,1,0],"through":[1,1,0]{rcpt}}}"#);
        let rcpt = format!(r#","rcpt":{{"told":[{}],"untold":0,"through":1}}"#, hashes.join(","));
        for (text, expected) in [
            (line(&rcpt), "it has more than is ever remembered"),
            (line(r#","passed":{"in_doubt":"tired"}"#), r#"line 2: there is no reason "tired""#),
        ] {
            assert_eq!(read(format!("{head}\n{text}\n").as_bytes(), NOW).unwrap_err().to_string(), expected);
        }
        // The same message twice is one; nothing of it stands on two lines of a reply.
        let line = line(
            r#","passed":{"counted":{"action":"HOLD a\naction=OK\n\n","used":1,"quota":1,"blocked":false,"let_through":true}}"#,
        );
        let read = read(format!("{head}\n{line}\n{line}\n").as_bytes(), NOW).unwrap();
        assert_eq!((read.len(), read.told), (1, 0));
        let passed = read.messages.values().next().unwrap().message().passed.clone().unwrap();
        assert!(!passed.decision().unwrap().action.to_string().contains('\n'));
    }
}
