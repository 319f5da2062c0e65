//! What happened to a sender, in one order of time: limits reached, strikes, who was told, blocks and their ends, what was held or
//! refused, put on hold, released and deleted.

use serde::Serialize;

use super::about::About;
use crate::limiter::blocks::DECIDED;
use crate::limiter::moment;
use crate::limiter::strikes::Strike;
use crate::store::blocks::BlockRow;
use crate::store::notices::Told;
use crate::store::queued::State;
use crate::store::report::Logged;
use crate::store::{Failure, Store};

/// The most held or refused messages that are looked at: the last ones.
const MESSAGES: u32 = 5000;
/// The most notices that are looked at.
const NOTICES: u32 = 50;
/// The most that is told: the last.
const MOST: usize = 40;
/// What comes later than so many seconds after the last of its kind is told anew.
const PAUSE: i64 = 3600;

/// Something that happened. What has the same time stands in the order of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    LimitReached,
    Strike,
    Told,
    BlockEnded,
    Blocked,
    Refused,
    Held,
    /// Mail that had been let through and was still in the queue.
    PutOnHold,
    Released,
    Deleted,
}

impl What {
    pub fn words(self) -> &'static str {
        match self {
            What::LimitReached => "limit reached",
            What::Strike => "strike",
            What::Refused => "refused",
            What::Held => "held",
            What::Told => "told",
            What::BlockEnded => "block ended",
            What::Blocked => "blocked",
            What::PutOnHold => "put on hold",
            What::Released => "released",
            What::Deleted => "deleted",
        }
    }
}

/// A line of the story. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub at: i64,
    pub what: What,
    /// When the last of several messages came; until when a block was set, the same as `at` if until somebody ends it.
    pub until: i64,
    /// 0 where it is not about messages.
    pub messages: u64,
    pub recipients: i64,
    /// Which limit, which block, who, what was told.
    pub why: String,
}

/// [`Line`], for programs.
#[derive(Debug, Serialize)]
pub struct LineJson {
    at: String,
    what: What,
    until: String,
    messages: u64,
    recipients: i64,
    why: String,
}

impl From<&Line> for LineJson {
    fn from(line: &Line) -> LineJson {
        LineJson {
            at: moment::utc(line.at),
            what: line.what,
            until: moment::utc(line.until),
            messages: line.messages,
            recipients: line.recipients,
            why: line.why.clone(),
        }
    }
}

/// Reads what happened to a sender, the last of it. `now` is in seconds since 1970.
pub async fn read(store: &mut Store, about: &About, now: i64) -> Result<Vec<Line>, Failure> {
    let logged = store.blocked(about.row.id, MESSAGES).await?;
    let told = store.told(about.row.id, NOTICES).await?;
    Ok(story(&about.blocks, &about.strikes, &logged, &told, now))
}

/// The limit of an audit row's reason: `1x quota 1000: 1001` counts on with each message.
pub fn limit_of(reason: &str) -> Option<&str> {
    let (limit, used) = reason.rsplit_once(": ")?;
    (!used.is_empty() && used.bytes().all(|byte| byte.is_ascii_digit())).then_some(limit)
}

/// Puts it together. `blocks` and `logged` have the latest first, as they are read.
fn story(blocks: &[BlockRow], strikes: &[Strike], logged: &[Logged], told: &[Told], now: i64) -> Vec<Line> {
    let mut lines = Vec::new();
    let line = |at, what, why: &str| Line { at, what, until: at, messages: 0, recipients: 0, why: why.to_owned() };
    lines.extend(strikes.iter().map(|strike| line(strike.at, What::Strike, &strike.limit)));
    lines.extend(told.iter().map(|told| line(told.at, What::Told, &told.notice)));
    for block in blocks.iter().rev() {
        let set = line(block.since, What::Blocked, &why_blocked(block));
        lines.push(Line { until: block.until.unwrap_or(block.since), ..set });
        if let Some(over) = block.over(now) {
            let by = match (block.ended_at, block.ended_by.as_str()) {
                (None, _) => "by itself".to_owned(),
                (Some(_), "") => block.account.clone(),
                (Some(_), by) => format!("{}, by {by}", block.account),
            };
            lines.push(line(over, What::BlockEnded, &by));
        }
    }
    // Where a line about messages does not go on: somebody has done something.
    let mut cuts: Vec<i64> = blocks.iter().flat_map(|block| [Some(block.since), block.over(now)]).flatten().collect();
    cuts.extend(logged.iter().filter(|one| was_acted_on(one)).map(|one| one.state_at));
    cuts.sort_unstable();
    cuts.dedup();
    let mut messages = Messages { cuts, lines: Vec::new() };
    for one in logged.iter().rev() {
        messages.take(one, blocks, now);
    }
    lines.extend(messages.lines);
    lines.sort_by_key(|line| (line.at, line.what));
    let first = lines.len().saturating_sub(MOST);
    lines.split_off(first)
}

fn why_blocked(block: &BlockRow) -> String {
    let BlockRow { account, action, reason, set_by, note, .. } = block;
    let by = if set_by.is_empty() { String::new() } else { format!(", by {set_by}") };
    let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
    format!("{account}: {action}, {reason}{by}{note}")
}

fn was_acted_on(one: &Logged) -> bool {
    matches!(one.state, State::Released | State::Deleted) && one.state_at > 0
}

/// The lines about messages.
struct Messages {
    cuts: Vec<i64>,
    lines: Vec<Line>,
}

impl Messages {
    /// Takes the next message; the oldest comes first.
    fn take(&mut self, one: &Logged, blocks: &[BlockRow], now: i64) {
        let limit = limit_of(&one.reason);
        let why = limit.unwrap_or(&one.reason);
        if limit.is_some() {
            self.add(one.at, What::LimitReached, why, None);
        }
        let held = one.action == "HOLD";
        let was_blocked =
            |block: &&BlockRow| block.since <= one.at && block.over(now).is_none_or(|over| one.at <= over);
        // What a block holds that was set later was let through, and put on hold when it was set.
        let later = blocks.iter().map(|block| block.since).filter(|&since| since > one.at).min();
        match later {
            Some(since)
                if held && one.reason.starts_with(DECIDED) && !blocks.iter().any(|block| was_blocked(&block)) =>
            {
                self.add(since, What::PutOnHold, why, Some(one));
            }
            _ if held => self.add(one.at, What::Held, why, Some(one)),
            _ => {
                let word = one.action.split_whitespace().next().unwrap_or_default();
                self.add(one.at, What::Refused, &format!("{why}: {word}"), Some(one));
            }
        }
        if was_acted_on(one) {
            let what = if one.state == State::Released { What::Released } else { What::Deleted };
            self.add(one.state_at, what, "", Some(one));
        }
    }

    /// Adds to the last line that says the same, unless something lies between.
    fn add(&mut self, at: i64, what: What, why: &str, one: Option<&Logged>) {
        let (messages, recipients) = one.map_or((0, 0), |one| (1, one.recipients));
        // What somebody has done is one line by its time: messages of any age.
        let is_deed = matches!(what, What::PutOnHold | What::Released | What::Deleted);
        let is_same = |line: &&mut Line| line.what == what && line.why == why && (!is_deed || line.at == at);
        if let Some(line) = self.lines.iter_mut().rev().find(is_same) {
            let next_cut = self.cuts.get(self.cuts.partition_point(|&cut| cut <= line.until));
            // A limit stays reached, whatever somebody does meanwhile.
            let is_cut = what != What::LimitReached && next_cut.is_some_and(|&cut| cut <= at);
            if at.saturating_sub(line.until) <= PAUSE && !is_cut {
                line.until = line.until.max(at);
                line.messages += messages;
                line.recipients = line.recipients.saturating_add(recipients);
                return;
            }
        }
        self.lines.push(Line { at, what, until: at, messages, recipients, why: why.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: i64 = 1_800_014_400;

    fn message(at: i64, action: &str, reason: &str) -> Logged {
        Logged {
            at: T + at,
            queue_id: "4F9D195432C".into(),
            recipients: 2,
            from: String::new(),
            client_address: String::new(),
            client_name: String::new(),
            action: action.into(),
            reason: reason.into(),
            state: State::Untouched,
            state_at: 0,
        }
    }

    fn acted(logged: Logged, state: State, at: i64) -> Logged {
        Logged { state, state_at: T + at, ..logged }
    }

    fn block(since: i64, until: Option<i64>, ended_at: Option<i64>) -> BlockRow {
        BlockRow {
            id: since,
            account: "alice".into(),
            since: T + since,
            until: until.map(|at| T + at),
            action: "HOLD".into(),
            text: String::new(),
            reason: "compromised".into(),
            set_by: "root".into(),
            note: "ticket 7".into(),
            ended_at: ended_at.map(|at| T + at),
            ended_by: if ended_at.is_some() { "eve".into() } else { String::new() },
        }
    }

    /// Each line as seconds, what, until, messages, recipients and why.
    fn told(blocks: &[BlockRow], mut logged: Vec<Logged>, notices: &[Told], now: i64) -> Vec<String> {
        logged.reverse();
        let strikes = [Strike { limit: "quota".into(), at: T + 10 }];
        let lines = story(blocks, &strikes, &logged, notices, T + now);
        let line = |line: Line| {
            let (at, until) = (line.at - T, line.until - T);
            format!("{at}-{until} {}, {}/{}: {}", line.what.words(), line.messages, line.recipients, line.why)
        };
        lines.into_iter().map(line).collect()
    }

    #[test]
    fn the_night_of_an_account_is_told_in_the_order_of_time() {
        let compromised = "blocked: compromised";
        let logged = vec![
            // Let through, and put on hold with the block.
            acted(message(5, "HOLD", compromised), State::Deleted, 300),
            acted(message(10, "HOLD", "1x quota 4: 5"), State::Deleted, 300),
            acted(message(20, "HOLD", "1x quota 4: 7"), State::Released, 200),
            message(30, "REJECT too much", "2x quota 4: 9"),
            message(40, "REJECT too much", "2x quota 4: 9"),
            acted(message(120, "HOLD", compromised), State::Deleted, 300),
            message(250, "HOLD", compromised),
        ];
        let notices = [Told { notice: "quota_reached".into(), at: T + 11 }];
        let expected = [
            "10-20 limit reached, 0/0: 1x quota 4",
            "10-10 strike, 0/0: quota",
            "10-20 held, 2/4: 1x quota 4",
            "11-11 told, 0/0: quota_reached",
            "30-40 limit reached, 0/0: 2x quota 4",
            "30-40 refused, 2/4: 2x quota 4: REJECT",
            "100-100 blocked, 0/0: alice: HOLD, compromised, by root (ticket 7)",
            "100-100 put on hold, 1/2: blocked: compromised",
            "120-120 held, 1/2: blocked: compromised",
            "200-200 released, 1/2: ",
            "250-250 held, 1/2: blocked: compromised",
            "290-290 block ended, 0/0: alice, by eve",
            "300-300 deleted, 3/6: ",
        ];
        assert_eq!(told(&[block(100, None, Some(290))], logged, &notices, 400), expected);
    }

    #[test]
    fn a_block_that_is_over_by_itself_has_an_end_and_one_that_is_not_has_none() {
        let ended = |now| told(&[block(0, Some(60), None)], vec![], &[], now);
        assert_eq!(ended(59).len(), 2);
        assert_eq!(ended(60).last().unwrap(), "60-60 block ended, 0/0: by itself");
    }

    #[test]
    fn what_comes_long_after_is_told_anew_and_the_last_is_kept() {
        let hourly = |count: i64| (0..count).map(|hour| message(hour * (PAUSE + 1), "HOLD", "1x quota 4: 5")).collect();
        let lines = told(&[], hourly(3), &[], 99 * PAUSE);
        assert_eq!(lines.iter().filter(|line| line.contains("limit reached")).count(), 3);
        let lines = told(&[], hourly(60), &[], 99 * PAUSE);
        assert_eq!((lines.len(), lines.last().unwrap().contains(" held, 1/2")), (MOST, true));
    }
}
