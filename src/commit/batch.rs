//! A batch: charges that are settled in one transaction. Sums them per sender, and walks them in the order of arrival once
//! the rows are read. Knows no clock and no SQL.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::blocks::KnownBlocks;
use super::charge::Charge;
use super::deduplication::New;
use super::deduplication::message::Asked;
use super::known_strikes::KnownStrikes;
use super::standings::{self, Kept, Needed, Read, Standings, Version};
use crate::account::network;
use crate::account::{self, AccountRules};
use crate::journal::entry::{Audit, Entry};
use crate::limiter::blocks::Block;
use crate::limiter::decide::{Facts, Policy, Standing, decide};
use crate::limiter::decision::Decision;
use crate::limiter::explain::quota_used;
use crate::limiter::history::History;
use crate::limiter::increase::Increase;
use crate::limiter::strikes;
use crate::limiter::terms::Terms;
use crate::limiter::verdict::Verdict;
use crate::limiter::window::minute_of;
use crate::policy::duration::seconds;
use crate::store::blocks::{BlockRow, Revision};
use crate::store::counters::{Row, Sum};
use crate::store::messages::AuditRow;
use crate::store::settle::{Decider, Writes};
use crate::store::strikes::Struck;
use crate::store::usage::{Arrival, HistoryRows, PartsRow, SeenRow, Since, UsageRow};
use crate::telemetry::decision::COUNTED_IN_MEMORY;

/// A charge of which is known what is new about it.
#[derive(Debug)]
pub struct Due<R> {
    pub charge: Charge<R>,
    pub asked: Asked,
    pub new: New,
}

impl<R> Due<R> {
    fn counts(&self) -> bool {
        !self.charge.request.dry_run
    }

    /// What a decision at `now`, in Unix seconds, needs of it.
    pub fn facts(&self, policy: &Policy, now: i64) -> Facts<'_> {
        let New { increase, outstanding, recipients_of_message } = self.new;
        Facts {
            account: &self.charge.account,
            increase,
            outstanding,
            recipients_of_message,
            network: if policy.counts_networks() { self.network(policy) } else { None },
            now: self.charge.decided_at.unwrap_or(now),
        }
    }

    /// The block that decides it at `now`, in Unix seconds, if there is one.
    pub fn block<'a>(&self, known: &'a KnownBlocks, rules: &AccountRules, now: i64) -> Option<&'a Arc<Block>> {
        known.blocks().find(&self.charge.account, &self.charge.request.sasl_username, rules, now)
    }

    /// What the journal keeps of it, since it was decided from memory; `facts` are those of the decision.
    pub fn entry(&self, terms: &Terms, facts: &Facts<'_>, decision: &Decision) -> Entry {
        Entry {
            account: self.charge.account.clone(),
            at: facts.now,
            increase: facts.increase,
            outstanding: facts.outstanding,
            let_through: decision.counts(),
            from_new_network: decision.from_new_network,
            blocked: decision.blocked,
            network: facts.network,
            audit: self.has_audit_row(terms, decision).then(|| self.late_audit(decision)),
        }
    }

    fn has_audit_row(&self, terms: &Terms, decision: &Decision) -> bool {
        terms.message_log && (self.new.outstanding.is_mail() || decision.blocked)
    }

    fn late_audit(&self, decision: &Decision) -> Audit {
        let AuditRow { queue_id, from, to, client_address, client_name, action, reason, .. } =
            audit_row(self, 0, decision, 0, "");
        let reason =
            if reason.is_empty() { COUNTED_IN_MEMORY.to_owned() } else { format!("{COUNTED_IN_MEMORY}; {reason}") };
        Audit { queue_id, from, to, client_address, client_name, action, reason }.cleaned()
    }

    fn network(&self, policy: &Policy) -> Option<IpNet> {
        let address = network::address(&self.charge.request.client_address)?;
        let ignored = policy.networks_ignore.iter().any(|ignored| ignored.contains(&address));
        (!ignored).then(|| network::place(address))
    }
}

/// One sum per sender, sorted: every daemon takes its locks in the same order, so no two wait for each other.
pub fn sums<R>(batch: &[Due<R>]) -> Vec<Sum> {
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for due in batch {
        let sender = due.charge.account.as_str();
        let sum = sums.entry(sender).or_insert_with(|| Sum {
            sender: sender.to_owned(),
            domain: account::domain_key(sender).map(str::to_owned),
            messages: 0,
            recipients: 0,
            count: false,
        });
        if due.counts() {
            sum.count = true;
            sum.messages = sum.messages.saturating_add(due.new.increase.messages);
            sum.recipients = sum.recipients.saturating_add(due.new.increase.recipients);
        }
    }
    sums.into_values().collect()
}

/// Decides the charges of a batch by the rows as they stand after all sums were added.
pub struct BatchDecider<'a, R> {
    batch: &'a [Due<R>],
    sums: &'a [Sum],
    terms: &'a Terms,
    /// Unix seconds.
    now: i64,
    known: &'a mut Standings,
    blocks: &'a mut KnownBlocks,
    known_strikes: &'a KnownStrikes,
    standings: HashMap<i64, Walked>,
    /// What was decided goes here.
    decided: &'a mut Option<Decided>,
}

/// What the daemon remembers from one transaction to the next.
pub struct Remembered<'a> {
    pub standings: &'a mut Standings,
    pub blocks: &'a mut KnownBlocks,
    pub strikes: &'a KnownStrikes,
}

/// A row's standing while the batch is walked. Several senders that the database takes for one share a row, and so their
/// count.
struct Walked {
    standing: Standing,
    /// When its history was read. None if it is not needed.
    history_read: Option<i64>,
    /// Which state of the row its history will belong to.
    version: Option<Version>,
    through: Increase64,
    held: Increase64,
    from_new: Increase64,
}

impl Walked {
    fn new(standing: Standing, history_read: Option<i64>, version: Option<Version>) -> Walked {
        let [through, held, from_new] = [const { Increase64 { messages: 0, recipients: 0, bytes: 0 } }; 3];
        Walked { standing, history_read, version, through, held, from_new }
    }
}

/// What one row had let through, in this batch.
#[derive(Default)]
struct Increase64 {
    messages: i64,
    recipients: i64,
    bytes: i64,
}

impl Increase64 {
    fn add(&mut self, increase: Increase) {
        self.messages += i64::from(increase.messages);
        self.recipients += i64::from(increase.recipients);
        self.bytes = self.bytes.saturating_add_unsigned(increase.bytes);
    }

    fn is_mail(&self) -> bool {
        self.messages > 0 || self.recipients > 0
    }

    fn is_nothing(&self) -> bool {
        !self.is_mail() && self.bytes == 0
    }
}

/// The outcome of a batch.
#[derive(Debug)]
pub struct Decided {
    pub verdicts: Vec<Verdict>,
    /// Where the rows stand once the transaction is committed, to be kept then.
    pub standings: Vec<(i64, Kept)>,
    /// When each of those who came over a limit struck last, to be known then.
    pub struck: Vec<Struck>,
}

impl<'a, R> BatchDecider<'a, R> {
    /// `sums` are those of the batch. `now` is in Unix seconds; no charge is decided at an earlier time or in another minute.
    /// What was decided is kept in `decided`, for as long as nobody knows whether it was committed.
    pub fn new(
        batch: &'a [Due<R>],
        sums: &'a [Sum],
        terms: &'a Terms,
        now: i64,
        Remembered { standings: known, blocks, strikes: known_strikes }: Remembered<'a>,
        decided: &'a mut Option<Decided>,
    ) -> BatchDecider<'a, R> {
        *decided = None;
        BatchDecider { batch, sums, terms, now, known, blocks, known_strikes, standings: HashMap::new(), decided }
    }
}

impl<R: Sync> Decider for BatchDecider<'_, R> {
    fn knows_strike(&mut self, struck: Struck) {
        if let Some(decided) = &mut *self.decided {
            decided.struck.push(struck);
        }
    }

    fn knows_blocks(&self, revision: Revision) -> bool {
        self.blocks.revision() == Some(revision)
    }

    fn take_blocks(&mut self, revision: Revision, blocks: Vec<BlockRow>) {
        self.blocks.take(revision, blocks, &self.terms.accounts);
    }

    fn history(&mut self, rows: &[Option<Row>]) -> Option<Since> {
        let mut added: HashMap<i64, (u64, u64)> = HashMap::new();
        for (sum, row) in self.sums.iter().zip(rows) {
            if let Some(row) = row {
                let (messages, recipients) = added.entry(row.id).or_default();
                *messages += u64::from(sum.messages);
                *recipients += u64::from(sum.recipients);
            }
        }
        let reach = self.terms.policy.reach();
        let of_bytes = self.rows_of_bytes(rows);
        let mut unread = Vec::new();
        for row in rows.iter().flatten() {
            if self.standings.contains_key(&row.id) {
                continue;
            }
            let (messages, recipients) = added.get(&row.id).copied().unwrap_or_default();
            let version = Version::before(row, messages, recipients);
            let (history, history_read) = match reach {
                None => (History::default(), None),
                Some(reach) => {
                    let needed = Needed { reach, bytes: of_bytes.contains(&row.id) };
                    let (blocked, kept) = self.known.history(row.id, version, needed, self.now);
                    let (history, since) = kept.unwrap_or_else(|| {
                        unread.push(row.id);
                        (History::default().with_blocked(blocked), self.now)
                    });
                    (history, Some(since))
                }
            };
            let standing = Standing {
                quota: row.quota,
                messages: Standing::before(row.messages, messages),
                recipients: Standing::before(row.recipients, recipients),
                history,
            };
            let version = Version::before(row, 0, 0);
            self.standings.insert(row.id, Walked::new(standing, history_read, version));
        }
        (!unread.is_empty()).then_some(standings::since(&reach?, unread, self.now))
    }

    fn decide(&mut self, rows: &[Option<Row>], read: HistoryRows) -> Writes {
        self.take_in(rows, read);
        let policy = &self.terms.policy;
        let row_of: HashMap<&str, i64> =
            self.sums.iter().zip(rows).filter_map(|(sum, row)| Some((sum.sender.as_str(), row.as_ref()?.id))).collect();
        let mut writes = Writes::default();
        let mut seen: BTreeMap<(i64, String), i64> = BTreeMap::new();
        let mut strikes: BTreeMap<(String, String), Struck> = BTreeMap::new();
        let mut arrived: BTreeMap<(i64, String), i64> = BTreeMap::new();
        let mut verdicts = Vec::with_capacity(self.batch.len());
        for due in self.batch {
            let facts = due.facts(policy, self.now);
            let block = due.block(self.blocks, &self.terms.accounts, facts.now);
            if block.is_none() && due.charge.listed {
                verdicts.push(Verdict::NotBlocked);
                continue;
            }
            let decide = |standing: &mut Standing| match block {
                Some(block) => blocked(policy, block, standing, &facts),
                None => decide(policy, standing, &facts),
            };
            let id = row_of.get(due.charge.account.as_str()).copied();
            let walked = id.and_then(|id| Some((id, self.standings.get_mut(&id)?)));
            let (true, Some((id, walked))) = (due.counts(), walked) else {
                let known = id.and_then(|id| self.standings.get(&id)).map(|walked| walked.standing.clone());
                let mut standing = known.unwrap_or_else(|| Standing::new(policy.new_quota));
                verdicts.push(Verdict::DryRun(Arc::new(decide(&mut standing))));
                continue;
            };
            // Once a minute: a row is written for each sender, which is as much as all else that a message writes.
            if let Some(network) = facts.network.filter(|network| !walked.standing.history.is_noted(network, facts.now))
            {
                if policy.tells_new_networks() && !walked.standing.history.was_seen(&network, facts.now) {
                    arrived.insert((id, network.to_string()), facts.now);
                }
                seen.insert((id, network.to_string()), facts.now);
            }
            let decision = decide(&mut walked.standing);
            if decision.counts() {
                walked.through.add(due.new.outstanding);
                if decision.is_held() {
                    walked.held.add(due.new.outstanding);
                }
                if decision.from_new_network {
                    walked.from_new.add(due.new.outstanding);
                }
            }
            if due.has_audit_row(self.terms, &decision) {
                writes.audit.push(audit_row(due, id, &decision, self.now, &self.terms.host));
            }
            if let Some(struck) = self.struck(due, &decision, facts.now) {
                strikes.insert((struck.account.clone(), struck.limit.clone()), struck);
            }
            verdicts.push(Verdict::Counted(Arc::new(decision)));
        }
        writes.struck = strikes.into_values().collect();
        if !writes.struck.is_empty() {
            writes.strikes = self.terms.strikes.clone();
        }
        writes.seen = seen
            .into_iter()
            .map(|((ratelimit_id, network), last_seen)| SeenRow { ratelimit_id, network, last_seen })
            .collect();
        writes.arrived = arrived
            .into_iter()
            .map(|((ratelimit_id, network), first_seen)| Arrival { ratelimit_id, network, first_seen })
            .collect();
        let mut standings = Vec::new();
        let reach = policy.reach();
        for (sum, row) in self.sums.iter().zip(rows).filter(|(sum, _)| sum.count) {
            let Some((id, walked)) = row.and_then(|row| self.standings.remove_entry(&row.id)) else { continue };
            let Walked { mut standing, history_read, version, through, held, from_new } = walked;
            let minute = minute_of(self.now);
            if !through.is_nothing() {
                let Increase64 { messages, recipients, bytes } = through;
                writes.usage.push(UsageRow { ratelimit_id: id, minute, messages, recipients, bytes });
            }
            if held.is_mail() || from_new.is_mail() {
                writes.parts.push(PartsRow {
                    ratelimit_id: id,
                    minute,
                    held_messages: held.messages,
                    held_recipients: held.recipients,
                    new_messages: from_new.messages,
                    new_recipients: from_new.recipients,
                });
            }
            let history = match (reach, history_read, version) {
                (Some(reach), Some(since), Some(version)) => Some(Read { version, since, reach }),
                _ => None,
            };
            match reach {
                Some(reach) => standing.history.forget(&reach, self.now),
                // Decisions add to it although none of them looks at it.
                None => standing.history = History::default().with_blocked(standing.history.blocked),
            }
            standings.push((id, Kept { account: sum.sender.clone(), standing, at: self.now, history }));
        }
        writes.usage.sort_by_key(|row| row.ratelimit_id);
        writes.parts.sort_by_key(|row| row.ratelimit_id);
        *self.decided = Some(Decided { verdicts, standings, struck: Vec::new() });
        writes
    }
}

impl<R> BatchDecider<'_, R> {
    /// Takes over the histories that were read.
    fn take_in(&mut self, rows: &[Option<Row>], read: HistoryRows) {
        let from: HashMap<i64, i64> = rows.iter().flatten().map(|row| (row.id, row.window_from)).collect();
        for (id, history) in standings::from_rows(read, &from, self.now) {
            if let Some(Walked { standing, .. }) = self.standings.get_mut(&id) {
                standing.history = history.with_blocked(standing.history.blocked);
            }
        }
    }

    /// The strike that a decision makes, unless it is known to be none of its own.
    fn struck(&self, due: &Due<R>, decision: &Decision, now: i64) -> Option<Struck> {
        let rules = &self.terms.strikes;
        if rules.is_empty() || !decision.blocked {
            return None;
        }
        let (limit, window_from) = strikes::of(&self.terms.policy, decision.reason.as_ref()?, now)?;
        let account = &due.charge.account;
        let forgotten = now.saturating_sub(seconds(rules.longest()));
        (!self.known_strikes.is_known(account, &limit, window_from)).then(|| Struck {
            account: account.clone(),
            limit,
            at: now,
            window_from,
            forgotten,
        })
    }

    /// The rows of which bytes are judged in this batch.
    fn rows_of_bytes(&self, rows: &[Option<Row>]) -> HashSet<i64> {
        if !self.terms.policy.counts_bytes() {
            return HashSet::new();
        }
        let of_bytes = self.batch.iter().filter(|due| due.new.outstanding.bytes > 0);
        let senders: HashSet<&str> = of_bytes.map(|due| due.charge.account.as_str()).collect();
        let summed = self.sums.iter().zip(rows).filter(|(sum, _)| senders.contains(sum.sender.as_str()));
        summed.filter_map(|(_, row)| Some(row.as_ref()?.id)).collect()
    }
}

/// The decision of a block. Counters have counted the request, as they count what is refused; windows do not.
pub fn blocked(policy: &Policy, block: &Arc<Block>, standing: &mut Standing, facts: &Facts<'_>) -> Decision {
    standing.messages = standing.messages.saturating_add(facts.increase.messages);
    standing.recipients = standing.recipients.saturating_add(facts.increase.recipients);
    Decision::of_block(block, quota_used(policy, standing, facts.now), standing.quota)
}

fn audit_row<R>(due: &Due<R>, ratelimit_id: i64, decision: &Decision, now: i64, host: &str) -> AuditRow {
    let request = &due.charge.request;
    AuditRow {
        at: now,
        ratelimit_id,
        host: host.to_owned(),
        queue_id: request.queue_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        sender: due.charge.account.clone(),
        recipients: due.new.outstanding.recipients,
        blocked: decision.blocked,
        from: request.sender.clone(),
        to: request.recipient.clone(),
        client_address: request.client_address.clone(),
        client_name: request.client_name.clone(),
        action: decision.action.word(),
        reason: decision
            .reason
            .as_ref()
            .map(ToString::to_string)
            .or_else(|| decision.would.clone())
            .unwrap_or_default(),
    }
}
