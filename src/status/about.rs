//! Everything about one sender, for people and for programs: its row, each limit with what is used of it, its last day hour by
//! hour, and its last messages that were held or refused, and why.

use serde::Serialize;
use serde_json::{Value, json};

use super::collector::{HOURS, first_hour};
use super::snapshot::limited;
use super::standing;
use crate::account::AccountRules;
use crate::commit::blocks;
use crate::commit::standings::learnt_since;
use crate::limiter::blocks::{Blocks, action, names};
use crate::limiter::decide::Policy;
use crate::limiter::explain::{Explained, blocking, explain};
use crate::limiter::moment;
use crate::limiter::strikes::Strike;
use crate::limiter::terms::{Listed, Terms};
use crate::limiter::usual::Day;
use crate::policy::duration::seconds;
use crate::protocol::reply::Action;
use crate::store::blocks::BlockRow;
use crate::store::report::{Logged, Part};
use crate::store::senders::SenderRow;
use crate::store::{Failure, Store};

/// The most blocked messages that are shown.
const BLOCKED: u32 = 10;
/// The most blocks of one sender and its domain that are looked at.
pub const BLOCKS: u32 = 50;

#[derive(Debug, Clone)]
pub struct About {
    pub row: SenderRow,
    pub listed: Option<Listed>,
    /// The block that decides, if it is not over: the sender's own or its domain's.
    pub block: Option<(BlockRow, Action)>,
    /// Every block of it and of its domain, those set last first.
    pub blocks: Vec<BlockRow>,
    /// How often it came over a limit, as far as STRIKES count; the latest first.
    pub strikes: Vec<Strike>,
    /// Empty for an `@domain` row, which no mail is charged to.
    pub explained: Vec<Explained>,
    /// When each of the last hours of the clock began, and what was let through in it; the present hour last.
    pub hours: Vec<(i64, Part)>,
    /// The latest first.
    pub blocked: Vec<Logged>,
    /// The days that what is usual is known by, the latest first, where limits ask for it.
    pub days: Vec<Day>,
}

impl About {
    /// Returns the entry of a list that decides at this moment, before quota and limits.
    pub fn deciding(&self) -> Option<&Listed> {
        self.listed.as_ref().filter(|listed| listed.now)
    }

    /// Returns the block that decides, unless a list is stricter.
    pub fn deciding_block(&self) -> Option<&(BlockRow, Action)> {
        let listed = self.deciding().map(|listed| listed.action.strictness());
        self.block.as_ref().filter(|(_, action)| Some(action.strictness()) >= listed)
    }

    /// Returns what Postfix would be told of the next message to one recipient.
    pub fn next<'a>(&'a self, policy: &'a Policy) -> &'a Action {
        let block = self.deciding_block().map(|(_, action)| action);
        let list = || self.deciding().map(|listed| &listed.action);
        let limit = || blocking(&self.explained).and_then(|one| one.action.as_ref());
        block.or_else(list).or_else(limit).unwrap_or(&policy.accepted)
    }
}

/// Returns which of an account's blocks and its domain's decides at a time, in seconds since 1970.
pub fn counting<'a>(rows: &'a [BlockRow], account: &str, rules: &AccountRules, now: i64) -> Option<&'a BlockRow> {
    let here = rows.iter().filter(|row| row.over(now).is_none());
    let blocks = Blocks::new(here.cloned().map(blocks::block), rules);
    let id = blocks.of(account, now)?.id;
    rows.iter().find(|row| row.id == id)
}

/// Reads everything about a sender. `now` is in seconds since 1970.
pub async fn read(store: &mut Store, terms: &Terms, row: &SenderRow, now: i64) -> Result<About, Failure> {
    let policy = &terms.policy;
    let standings = standing::of(store, policy, &[row], now).await?;
    let is_domain = row.sender.starts_with('@');
    let explained = match standings.get(&row.id) {
        Some(standing) if !is_domain => explain(policy, standing, now),
        _ => Vec::new(),
    };
    let first = first_hour(now, &policy.zone);
    let parts = store.parts(&[row.id], first / 60, 60).await?;
    let hour = |number: i64| {
        let part = parts.iter().find(|part| part.part == number).copied();
        (first + number * 3600, part.unwrap_or(Part { id: row.id, part: number, messages: 0, recipients: 0 }))
    };
    let names: Vec<&str> = names(&row.sender).collect();
    let blocks = store.blocks_of(&names, BLOCKS).await?;
    let since = now.saturating_sub(seconds(terms.strikes.longest()));
    let strikes = if terms.strikes.is_empty() { Vec::new() } else { store.strikes(&row.sender, since).await? };
    let block = counting(&blocks, &row.sender, &terms.accounts, now);
    let days = match policy.learns() && !is_domain {
        true => store.days_of(row.id, &learnt_since(now)).await?,
        false => Vec::new(),
    };
    Ok(About {
        days,
        row: row.clone(),
        block: block.map(|block| (block.clone(), action(&block.action, &block.text))),
        blocks,
        strikes,
        listed: terms.listed(&row.sender, now),
        explained,
        hours: (0..HOURS).map(hour).collect(),
        blocked: store.blocked(row.id, BLOCKED).await?,
    })
}

/// A sender's row, for programs. A quota of null is unlimited; times are RFC 3339 in UTC.
#[derive(Debug, Serialize)]
pub struct Row {
    sender: String,
    quota: Option<u32>,
    quota_reset: Option<u32>,
    quota_locked: bool,
    /// Since the last cleanup, with what was refused.
    msg_counter: u32,
    rcpt_counter: u32,
    msg_total: u32,
    rcpt_total: u32,
    created_at: String,
    updated_at: String,
}

impl From<&SenderRow> for Row {
    fn from(row: &SenderRow) -> Row {
        Row {
            sender: row.sender.clone(),
            quota: limited(row.quota),
            quota_reset: limited(row.quota_reset),
            quota_locked: row.locked,
            msg_counter: row.messages,
            rcpt_counter: row.recipients,
            msg_total: row.total_messages,
            rcpt_total: row.total_recipients,
            created_at: moment::utc(row.created_at),
            updated_at: moment::utc(row.updated_at),
        }
    }
}

/// [`About`], for programs; what `sender show --json` prints.
#[derive(Serialize)]
pub struct AboutJson {
    #[serde(flatten)]
    row: Row,
    /// None if no list has an entry for this name.
    listed: Option<ListedJson>,
    /// The block that decides; None if nobody has blocked it.
    block: Option<BlockJson>,
    /// Every block of it and of its domain, those set last first.
    blocks: Vec<BlockJson>,
    /// How often it came over a limit, as far as STRIKES count; the latest first.
    strikes: Vec<Value>,
    /// What Postfix would be told of the next message to one recipient.
    next: String,
    limits: Vec<Value>,
    hours: Vec<Value>,
    blocked: Vec<Value>,
}

/// An entry of a list that is about all mail of a sender.
#[derive(Debug, Serialize)]
pub struct ListedJson {
    /// `ALLOWLIST` or `DENYLIST`.
    pub list: String,
    entry: String,
    /// False if its hours do not contain this moment.
    pub now: bool,
}

impl From<&Listed> for ListedJson {
    fn from(listed: &Listed) -> ListedJson {
        ListedJson { list: listed.hit.list.to_string(), entry: listed.hit.entry.clone(), now: listed.now }
    }
}

/// A block, for programs. Times are RFC 3339 in UTC.
#[derive(Debug, Serialize)]
pub struct BlockJson {
    /// The sender, or `@domain`.
    blocked: String,
    since: String,
    /// None if it lasts until somebody ends it.
    until: Option<String>,
    action: String,
    reason: String,
    by: String,
    note: String,
    /// None if nobody has ended it.
    ended_at: Option<String>,
    ended_by: String,
}

impl From<&BlockRow> for BlockJson {
    fn from(row: &BlockRow) -> BlockJson {
        BlockJson {
            blocked: row.account.clone(),
            since: moment::utc(row.since),
            until: row.until.map(moment::utc),
            action: action(&row.action, &row.text).to_string(),
            reason: row.reason.clone(),
            by: row.set_by.clone(),
            note: row.note.clone(),
            ended_at: row.ended_at.map(moment::utc),
            ended_by: row.ended_by.clone(),
        }
    }
}

impl AboutJson {
    pub fn new(about: &About, policy: &Policy) -> AboutJson {
        // `allowed` is null if there is no such limit for this sender, `free_at` if it is not exceeded or always will be.
        let limit = |one: &Explained| {
            json!({
                "limit": one.limit,
                "per": one.per,
                "used": one.used,
                "allowed": one.allowed,
                "action": one.action.as_ref().map_or_else(|| "NOTIFY".to_owned(), ToString::to_string),
                // Null for a limit that does not depend on it.
                "usual": one.learnt.and_then(|learnt| learnt.usual),
                "only_warns": one.learnt.is_some_and(|learnt| learnt.only_warns),
                "acts_from": one.learnt.and_then(|learnt| learnt.acts_from).map(moment::utc),
                "exceeded": one.exceeded,
                "free_at": one.free_at.map(moment::utc),
            })
        };
        let hour = |(at, part): &(i64, Part)| json!({ "from": moment::utc(*at), "messages": part.messages, "recipients": part.recipients });
        let blocked = |one: &Logged| {
            json!({
                "at": moment::utc(one.at),
                "queue_id": one.queue_id,
                "recipients": one.recipients,
                "from": one.from,
                "client_address": one.client_address,
                "client_name": one.client_name,
                "action": one.action,
                "reason": one.reason,
            })
        };
        AboutJson {
            row: (&about.row).into(),
            listed: about.listed.as_ref().map(ListedJson::from),
            block: about.block.as_ref().map(|(block, _)| block.into()),
            blocks: about.blocks.iter().map(BlockJson::from).collect(),
            strikes: about.strikes.iter().map(|one| json!({ "at": moment::utc(one.at), "limit": one.limit })).collect(),
            next: about.next(policy).to_string(),
            limits: about.explained.iter().map(limit).collect(),
            hours: about.hours.iter().map(hour).collect(),
            blocked: about.blocked.iter().map(blocked).collect(),
        }
    }
}
