//! Adds up the decisions on all messages: per sender, per limit and in total. Pure.

use std::collections::{BTreeMap, HashMap};

use super::judge::{Judged, Outcome};
use crate::limiter::decision::Reason;
use crate::policy::lists::Which;
use crate::protocol::reply::{Action, Strictness};

/// The most senders that are counted by themselves; the others are counted together.
pub const MAX_SENDERS: usize = 500_000;
/// The most limits that are counted by themselves. There is one for each limit, and one per step and quota.
const MAX_LIMITS: usize = 1000;
/// The name of the senders, or limits, beyond these.
const OTHERS: &str = "(others)";
/// The name of clients that are on a list and have no login.
const NOBODY: &str = "(no login)";

/// How many messages and recipients, by what was done with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    pub messages: u64,
    pub recipients: u64,
    pub passed: u64,
    pub recipients_passed: u64,
    pub held: u64,
    pub deferred: u64,
    pub rejected: u64,
    /// Passed, but over a limit that only warns.
    pub warned: u64,
}

impl Sums {
    pub fn refused(&self) -> u64 {
        self.held + self.deferred + self.rejected
    }
}

/// The mail of one sender.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SenderTally {
    pub sums: Sums,
    /// The first message that did not pass.
    pub first: Option<Refusal>,
}

/// A message that did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Unix seconds.
    pub at: i64,
    pub limit: String,
    pub action: String,
}

/// The messages that did not pass because of one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitTally {
    pub messages: u64,
    pub senders: u64,
    pub action: String,
    /// Unix seconds.
    pub first: i64,
}

/// All sums.
#[derive(Debug, Default)]
pub struct Tally {
    pub totals: Sums,
    pub senders: HashMap<String, SenderTally>,
    /// By limit and action.
    pub limits: BTreeMap<(String, String), LimitTally>,
    /// By which limits each sender was refused.
    met: HashMap<String, Vec<u32>>,
    numbers: HashMap<(String, String), u32>,
    /// Messages without a login, which are charged to no account.
    pub nobody: u64,
    pub allowlisted: u64,
    /// The times of the first and the last message, in Unix seconds.
    pub span: Option<(i64, i64)>,
}

impl Tally {
    pub fn add(&mut self, judged: &Judged) {
        let (first, _) = self.span.unwrap_or((judged.at, judged.at));
        self.span = Some((first, judged.at));
        match &judged.outcome {
            Outcome::Nobody => self.nobody += 1,
            Outcome::Again { .. } => {}
            Outcome::Listed(hit, action) => {
                self.allowlisted += u64::from(hit.list == Which::Allow);
                let login = judged.asked.login.to_lowercase();
                let sender = if login.is_empty() { NOBODY } else { &login };
                let recipients = judged.asked.recipients.unwrap_or(1).max(1);
                self.count(judged.at, sender, (1, recipients), action, &hit.to_string(), false);
            }
            Outcome::Decided { sender, mail, decision } => {
                let counted = (mail.messages, mail.recipients);
                let limit = decision.reason.as_ref().map_or("", Reason::limit);
                self.count(judged.at, sender, counted, &decision.action, limit, decision.would.is_some());
            }
        }
    }

    /// Returns the senders, those with the most refused mail first.
    pub fn ranked(&self) -> Vec<(&str, &SenderTally)> {
        let mut ranked: Vec<_> = self.senders.iter().map(|(sender, tally)| (sender.as_str(), tally)).collect();
        ranked.sort_by(|(one, a), (other, b)| {
            let key = |tally: &SenderTally| (tally.sums.refused(), tally.sums.recipients);
            key(b).cmp(&key(a)).then_with(|| one.cmp(other))
        });
        ranked
    }

    /// Returns the limits, those that refused the most messages first.
    pub fn ranked_limits(&self) -> Vec<(&(String, String), &LimitTally)> {
        let mut limits = Vec::from_iter(&self.limits);
        limits.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.messages));
        limits
    }

    /// Returns how many senders had mail held or refused.
    pub fn senders_refused(&self) -> usize {
        self.senders.values().filter(|tally| tally.sums.refused() > 0).count()
    }

    fn count(
        &mut self,
        at: i64,
        sender: &str,
        (messages, recipients): (u32, u32),
        action: &Action,
        limit: &str,
        warned: bool,
    ) {
        let known = self.senders.contains_key(sender) || self.senders.len() < MAX_SENDERS;
        let sender = if known { sender } else { OTHERS };
        let strictness = action.strictness();
        let tally = match self.senders.get_mut(sender) {
            Some(tally) => tally,
            None => self.senders.entry(sender.to_owned()).or_default(),
        };
        for sums in [&mut self.totals, &mut tally.sums] {
            sums.recipients += u64::from(recipients);
            // A recipient that is added to a message later and refused counts as a refused message.
            let asked = u64::from(messages).max(u64::from(strictness >= Strictness::Hold));
            sums.messages += asked;
            match strictness {
                Strictness::Pass | Strictness::Warn => {
                    sums.passed += asked;
                    sums.recipients_passed += u64::from(recipients);
                    sums.warned += if warned { asked } else { 0 };
                }
                Strictness::Hold => sums.held += asked,
                Strictness::Defer => sums.deferred += asked,
                Strictness::Reject => sums.rejected += asked,
            }
        }
        if strictness < Strictness::Hold {
            return;
        }
        let action = action.word();
        if tally.first.is_none() {
            tally.first = Some(Refusal { at, limit: limit.to_owned(), action: action.clone() });
        }
        let mut key = (limit.to_owned(), action.clone());
        if self.limits.len() >= MAX_LIMITS && !self.limits.contains_key(&key) {
            key.0 = OTHERS.to_owned();
        }
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(key.clone()).or_insert(next);
        let met = self.met.entry(sender.to_owned()).or_default();
        let new = !met.contains(&number);
        if new {
            met.push(number);
        }
        let limit = self.limits.entry(key).or_insert(LimitTally { messages: 0, senders: 0, action, first: at });
        limit.messages += 1;
        limit.senders += u64::from(new);
    }
}
