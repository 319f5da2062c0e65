//! What the committer does next, as a state machine: it is fed charges and results, and says what is to be done. It knows no
//! channel, no database and no clock.
//!
//! A round takes all charges that wait. It answers what was asked before, settles the rest in one transaction, and tries again
//! or splits what fails, until each charge is answered or parked for a later round.
//!
//! Invariants: a verdict that depends on counts is answered only after COMMIT; what may have been committed is not tried again
//! before the database has said that it was not; one account's trouble is answered for that account alone; while the database is away nobody waits for it; the
//! requests of one account are decided in the order of their arrival.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::batch::{self, BatchDecider, Decided, Due, Remembered};
use super::blocks::KnownBlocks;
use super::breaker::{Breaker, Outage};
use super::charge::Charge;
use super::deduplication::{Deduplication, News};
use super::journaling::{Journaling, Progress, Report};
use super::known_strikes::KnownStrikes;
use super::locks::Locks;
use super::memory::{MemoryFallback, OwnQuotas};
use super::standings::Standings;
use crate::journal::depth::Depth;
use crate::limiter::blocks::Blocks;
use crate::limiter::terms::Terms;
use crate::limiter::verdict::{FailOpen, Verdict};
use crate::store::Failure;
use crate::store::blocks::{BlockRow, Revision};
use crate::store::counters::HeldRow;
use crate::telemetry::decision::escaped;

mod next;
mod step;

pub use next::{Answered, Next, Now, Transaction};
use step::{Attempt, Doubt, Look, Search, Step};

/// The most charges settled in one transaction.
pub const MAX_BATCH: usize = 1024;
/// How old a charge may be to be tried again after it waited for a lock that nobody was seen to hold.
const UNSEEN_LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// The least time that the database gets for an answer. Charges that are late already get it too: they must be counted.
pub const MIN_TRANSACTION_TIME: Duration = Duration::from_millis(500);
/// The most time that it gets, however patient Postfix is: a database that takes longer is away.
pub const MAX_TRANSACTION_TIME: Duration = Duration::from_secs(10);
/// What must be left of a request's time when a transaction is given up, so that the answer still comes in time.
const MARGIN: Duration = Duration::from_millis(100);
/// How often a part is tried at once when the database asks to try again. What fails every time is split, until the account
/// whose row cannot be written in peace is found.
const TRIES_AT_ONCE: u32 = 3;
/// The longest pause before parked charges, and what the database asks to try again, are tried again. At random, so that
/// daemons that were in each other's way part.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// How long mail waits until the last of the journal is charged.
const MAX_WAIT_FOR_JOURNAL: Duration = Duration::from_millis(300);
/// Before the database is asked again what became of a transaction.
const FIND_OUT_PAUSE: Duration = Duration::from_millis(50);
/// A look at rows that somebody else holds is in the way of all others: it rests as long as it took, and not longer than this,
/// since another daemon that charges the same account holds its row again and again.
const MAX_LOOK_PAUSE: Duration = Duration::from_millis(50);

/// The state between two steps. `R` is where the answer to a charge goes.
pub struct Rounds<R> {
    terms: Arc<Terms>,
    /// The most time that the database gets for one answer.
    longest: Duration,
    /// Whether a server that is silent may be left for another one.
    several_servers: bool,
    breaker: Breaker,
    memory: MemoryFallback,
    journaling: Journaling,
    /// Whether the database is back and what the journal holds is being charged.
    catching_up: bool,
    /// Whether mail goes before what the journal holds, which was charged last.
    is_mails_turn: bool,
    deduplication: Deduplication,
    standings: Standings,
    blocks: KnownBlocks,
    strikes: KnownStrikes,
    locks: Locks,
    /// Not looked at yet.
    waiting: VecDeque<Charge<R>>,
    /// Put off until `parked_until`: somebody holds their rows, or the database keeps asking to try again.
    parked: Vec<Charge<R>>,
    parked_until: Duration,
    /// What is left of this round. Both halves of what is split are tried before a quarter is, so that a row that is held
    /// unseen can be told from a table.
    steps: VecDeque<Step<R>>,
    /// What was handed out last, if its result is still to come.
    settling: Option<Attempt<R>>,
    finding_out: Option<Doubt<R>>,
    finding: Option<Search<R>>,
    looking: Option<Look<R>>,
    opened: Option<(String, Outage)>,
    closed: Option<Outage>,
    /// Decided from memory, and not written in the journal yet.
    unwritten: Option<(Vec<Due<R>>, Vec<Verdict>)>,
    answered: VecDeque<Answered<R>>,
}

impl<R> Rounds<R> {
    pub fn new(terms: Arc<Terms>, standings: Standings) -> Rounds<R> {
        Rounds {
            terms,
            longest: MAX_TRANSACTION_TIME,
            several_servers: false,
            breaker: Breaker::default(),
            memory: MemoryFallback::default(),
            journaling: Journaling::default(),
            catching_up: false,
            is_mails_turn: false,
            deduplication: Deduplication::default(),
            standings,
            blocks: KnownBlocks::default(),
            strikes: KnownStrikes::default(),
            locks: Locks::default(),
            waiting: VecDeque::new(),
            parked: Vec::new(),
            parked_until: Duration::ZERO,
            steps: VecDeque::new(),
            settling: None,
            finding_out: None,
            finding: None,
            looking: None,
            opened: None,
            closed: None,
            unwritten: None,
            answered: VecDeque::new(),
        }
    }

    /// Writes what is decided from memory in this journal, and goes on from what it holds.
    pub fn keep_journal(&mut self, journaling: Journaling, memory: MemoryFallback) {
        (self.journaling, self.memory) = (journaling, memory);
    }

    /// How much the journal holds.
    pub fn journal_depth(&self) -> Depth {
        self.journaling.depth()
    }

    /// Lowers the longest time that the database may take for one answer.
    pub fn limit_transactions(&mut self, longest: Duration) {
        self.longest = self.longest.min(longest);
    }

    /// Goes on from what an earlier daemon was asked.
    pub fn recall(&mut self, asked: Deduplication) {
        self.deduplication = asked;
    }

    /// What was asked.
    pub fn asked(&self) -> &Deduplication {
        &self.deduplication
    }

    /// Whether the database has other servers to turn to: then one of them gets only half of the time that there is.
    pub fn several_servers(&mut self, several: bool) {
        self.several_servers = several;
    }

    /// From now on these terms hold.
    pub fn reload(&mut self, terms: Arc<Terms>) {
        if self.terms.accounts != terms.accounts {
            self.blocks.doubt();
        }
        self.terms = terms;
    }

    /// The blocks as they were last read.
    pub fn blocks(&self) -> &Arc<Blocks> {
        self.blocks.blocks()
    }

    /// Which revision of the blocks is known; None if they must be read.
    pub fn blocks_revision(&self) -> Option<Revision> {
        self.blocks.revision()
    }

    /// Takes blocks that were read while nothing was to be settled.
    pub fn know_blocks(&mut self, revision: Revision, rows: Vec<BlockRow>) {
        self.blocks.take(revision, rows, &self.terms.accounts);
    }

    /// See [`KnownBlocks::doubt`].
    pub fn doubt_blocks(&mut self) {
        self.blocks.doubt();
    }

    /// Puts a charge into the next round.
    pub fn take(&mut self, charge: Charge<R>) {
        self.waiting.push_back(charge);
    }

    /// Says what is to be done next. What it says to settle or to ask must be reported before this is called again.
    pub fn next(&mut self, now: Now) -> Next<'_, R> {
        loop {
            if let Some(answered) = self.answered.pop_front() {
                return Next::Answer(answered);
            }
            if let Some((reason, outage)) = self.opened.take() {
                return Next::OpenBreaker { reason, outage };
            }
            if let Some(outage) = self.closed.take() {
                return Next::CloseBreaker(outage);
            }
            if let Some(append) = self.journaling.append() {
                return Next::Journal(append);
            }
            match self.steps.pop_front() {
                Some(Step::Settle(attempt)) if self.breaker.outage().is_some() => {
                    self.decide_from_memory(attempt.part, now);
                }
                Some(Step::Settle(attempt)) if now.elapsed < attempt.not_before => {
                    let until = attempt.not_before;
                    self.steps.push_front(Step::Settle(attempt));
                    return Next::Pause(until);
                }
                Some(Step::Settle(mut attempt)) => {
                    attempt.began = now.elapsed;
                    attempt.limit = self.time_left(&attempt.part, now.elapsed);
                    let Attempt { part, sums, decided, limit, .. } = self.settling.insert(attempt);
                    return Next::Settle(Transaction {
                        sums,
                        decider: BatchDecider::new(
                            part,
                            sums,
                            &self.terms,
                            now.unix,
                            Remembered {
                                standings: &mut self.standings,
                                blocks: &mut self.blocks,
                                strikes: &self.strikes,
                            },
                            decided,
                        ),
                        new_quota: self.terms.policy.new_quota,
                        charges: part.len(),
                        limit: *limit,
                    });
                }
                Some(Step::FindOut(doubt)) if now.elapsed < doubt.not_before => {
                    let until = doubt.not_before;
                    self.steps.push_front(Step::FindOut(doubt));
                    return Next::Pause(until);
                }
                Some(Step::FindOut(doubt)) => {
                    let limit = self.time_to_find_out(&doubt.attempt.part, now.elapsed);
                    if limit.is_zero() {
                        self.give_up(doubt, now);
                    } else {
                        self.finding_out = Some(doubt);
                        return Next::FindOut { limit };
                    }
                }
                Some(Step::FindHeld(mut search)) => {
                    search.began = now.elapsed;
                    let limit = self.time_left(&search.part, now.elapsed);
                    let accounts = batch::sums(&search.part).into_iter().map(|sum| sum.sender).collect();
                    self.finding = Some(search);
                    return Next::FindHeld { accounts, limit };
                }
                Some(Step::LookAtBlocks(look)) if self.breaker.outage().is_some() => {
                    self.judge_listed(look.charges, now)
                }
                Some(Step::LookAtBlocks(look)) => {
                    let limit = self.time_left(&[], now.elapsed);
                    self.looking = Some(look);
                    return Next::LookAtBlocks { known: self.blocks.revision(), limit };
                }
                None => {
                    let mail_waits = !self.waiting.is_empty() || self.must_unpark(now.elapsed);
                    let mut until = (!self.parked.is_empty()).then(|| self.unparks_at());
                    if self.catching_up && (!mail_waits || self.mail_lets_journal_go_first(now.elapsed)) {
                        match self.journaling.next(&self.terms, now.elapsed, now.unix) {
                            Ok(task) => {
                                self.is_mails_turn = true;
                                return Next::Journal(task);
                            }
                            Err(rests_until) => until = Some(rests_until),
                        }
                    }
                    if !mail_waits {
                        return Next::Receive(until);
                    }
                    self.is_mails_turn = false;
                    self.begin(now.elapsed);
                }
            }
        }
    }

    /// What came of a transaction.
    pub fn settled(&mut self, result: Result<(), Failure>, now: Now) {
        let Some(mut attempt) = self.settling.take() else { return };
        attempt.tried += 1;
        let elapsed = now.elapsed;
        let in_time = attempt.part.iter().all(|due| due.charge.is_in_time(elapsed));
        let timed_out = elapsed.saturating_sub(attempt.began) >= attempt.limit;
        let contended = attempt.part.iter().any(|due| self.locks.is_contended(&due.charge.account));
        let tries = if contended { 1 } else { TRIES_AT_ONCE };
        match result {
            Ok(()) => self.committed(attempt, elapsed),
            Err(Failure::Transient(_)) if in_time && attempt.tried < tries => {
                attempt.not_before = elapsed + jitter(attempt.tried);
                self.steps.push_front(Step::Settle(attempt));
            }
            // Also when no time is left: the charge must be counted. A dead connection alone does not mean that the database is away.
            Err(Failure::Away(_)) if attempt.may_reconnect && (!timed_out || self.several_servers && in_time) => {
                attempt.may_reconnect = false;
                self.steps.push_front(Step::Settle(attempt));
            }
            Err(Failure::Refused(reason)) if attempt.part.len() == 1 => {
                warn(&attempt.part, &format!("the database refuses a value: {reason}"));
                self.fail_open(attempt.part, FailOpen::Refused);
            }
            Err(Failure::Refused(_)) => self.split(attempt.part, 0),
            Err(Failure::Locked(reason)) => {
                let search = Search { part: attempt.part, lock: Some(reason), began: elapsed };
                self.steps.push_front(Step::FindHeld(search));
            }
            // Once for each smaller part: all others wait until the account is found that is in the way.
            Err(Failure::Transient(_)) if attempt.sums.len() > 1 => self.split(attempt.part, TRIES_AT_ONCE - 1),
            Err(Failure::Transient(reason)) => {
                attempt.sums.iter().for_each(|sum| self.locks.contended(&sum.sender));
                let next = elapsed + RETRY_PAUSE;
                self.put_off(attempt.part, FailOpen::Contended, &reason, now, |charge| charge.is_in_time(next));
            }
            Err(Failure::Away(reason)) => self.open_breaker(reason, attempt.part, now),
            Err(Failure::Unknown(reason)) => {
                self.steps.push_front(Step::FindOut(Doubt { attempt, reason, not_before: elapsed }));
            }
        }
    }

    /// Whether what was settled last has been committed. [`Failure::Unknown`] says that nobody will ever know.
    pub fn found_out(&mut self, result: Result<bool, Failure>, now: Now) {
        let Some(mut doubt) = self.finding_out.take() else { return };
        match result {
            Ok(true) => {
                log::debug!("{}; what was to be committed is", doubt.reason);
                self.committed(doubt.attempt, now.elapsed);
            }
            Ok(false) if doubt.attempt.part.iter().all(|due| due.charge.is_in_time(now.elapsed)) => {
                // Whose question was answered over a new connection.
                doubt.attempt.may_reconnect = true;
                log::debug!("{}; nothing was committed, and it is tried again", doubt.reason);
                self.steps.push_front(Step::Settle(doubt.attempt));
            }
            // It took so long to find out that another try might answer too late. What is judged from memory is charged too.
            Ok(false) => self.open_breaker(doubt.reason, doubt.attempt.part, now),
            Err(Failure::Unknown(_)) => self.give_up(doubt, now),
            Err(_) => {
                doubt.not_before = now.elapsed + FIND_OUT_PAUSE;
                self.steps.push_front(Step::FindOut(doubt));
            }
        }
    }

    /// What an attempt has decided holds.
    fn committed(&mut self, Attempt { part, sums, decided, .. }: Attempt<R>, now: Duration) {
        let Some(Decided { verdicts, standings, struck }) = decided else {
            return self.fail_open(part, FailOpen::CommitUnknown);
        };
        standings.into_iter().for_each(|(id, kept)| self.standings.keep(id, kept));
        struck.into_iter().for_each(|struck| self.strikes.keep(struck));
        self.locks.settled(sums.iter().map(|sum| sum.sender.as_str()));
        self.breaker.settles();
        self.answer_all(part, verdicts, now);
    }

    /// No host has said in time whether an attempt was committed. It is remembered, so that Postfix's retry is not charged.
    fn give_up(&mut self, Doubt { attempt: Attempt { part, .. }, reason, .. }: Doubt<R>, now: Now) {
        let in_doubt = Verdict::InDoubt(FailOpen::CommitUnknown);
        let passes = in_doubt.lets_through(&self.terms.policy.on_error);
        for due in &part {
            self.deduplication.remember(&due.asked, &in_doubt, passes, now.elapsed);
        }
        self.fail_open(part, FailOpen::CommitUnknown);
        self.open_breaker(reason, Vec::new(), now);
    }

    /// The blocks, if they were not known already. When they cannot be read, those that are known count.
    pub fn looked(&mut self, result: Result<Option<(Revision, Vec<BlockRow>)>, Failure>, now: Now) {
        let Some(mut look) = self.looking.take() else { return };
        match result {
            Ok(Some((revision, rows))) => self.know_blocks(revision, rows),
            Ok(None) => {}
            Err(Failure::Away(_)) if look.may_reconnect => {
                look.may_reconnect = false;
                return self.steps.push_front(Step::LookAtBlocks(look));
            }
            Err(Failure::Away(reason)) => self.open_breaker(reason, Vec::new(), now),
            // Whatever is wrong with the database shows when the next charges are settled.
            Err(_) => {}
        }
        self.judge_listed(look.charges, now);
    }

    /// Lets the list decide on those whose accounts nobody has blocked; the others are charged.
    fn judge_listed(&mut self, charges: Vec<Charge<R>>, now: Now) {
        let (blocks, rules) = (self.blocks.blocks().clone(), &self.terms.accounts);
        let is_blocked = |charge: &Charge<R>| {
            blocks
                .find(&charge.account, &charge.request.sasl_username, rules, charge.decided_at.unwrap_or(now.unix))
                .is_some()
        };
        let (blocked, free): (Vec<_>, Vec<_>) = charges.into_iter().partition(is_blocked);
        let answers = free.into_iter().map(|charge| Answered { charge, verdict: Verdict::NotBlocked, new: None });
        self.answered.extend(answers);
        let blocked = self.due(blocked);
        self.settle_later(blocked);
    }

    /// Whose rows somebody else holds. [`Failure::Away`] says that it is the whole table.
    pub fn held(&mut self, result: Result<Vec<HeldRow>, Failure>, now: Now) {
        let Some(Search { part, lock, began }) = self.finding.take() else { return };
        let elapsed = now.elapsed;
        let asked = part.iter().map(|due| due.charge.account.as_str());
        let Some(reason) = lock else {
            // Where the look fails nobody counts as held: what is wrong with the database shows when the rest is settled.
            let mut held = result.unwrap_or_default();
            held.retain(|row| !self.locks.is_handed_on(row));
            self.locks.found(asked, held);
            let pause = elapsed.saturating_sub(began).clamp(RETRY_PAUSE, MAX_LOOK_PAUSE);
            let (held, free): (Vec<_>, Vec<_>) =
                part.into_iter().partition(|due| self.locks.is_held(&due.charge.account));
            self.put_off_held(held, elapsed);
            self.parked_until = elapsed + pause;
            self.settle_later(free);
            return;
        };
        match result {
            Err(Failure::Away(reason)) => return self.open_breaker(reason, part, now),
            Ok(held) if !held.is_empty() => {
                self.locks.found(asked, held);
                let (held, rest) = part.into_iter().partition(|due| self.locks.is_held(&due.charge.account));
                self.put_off_held(held, elapsed);
                return self.settle_later(rest);
            }
            _ => self.locks.found_nobody(),
        }
        let alone = batch::sums(&part).len() <= 1;
        let urgent = part.iter().any(|due| elapsed >= due.charge.waits_for_a_row_until());
        if self.locks.is_table_locked() && (alone || urgent) {
            self.open_breaker(reason, part, now);
        } else if alone {
            // The lock is gone, or it is one that cannot be seen. Others must not wait for it again and again.
            self.put_off(part, FailOpen::Locked, &reason, now, |charge| {
                elapsed.saturating_sub(charge.arrived) < UNSEEN_LOCK_TIMEOUT
            });
        } else {
            self.split(part, 0);
        }
    }

    /// The database cannot be used, for this reason.
    pub fn database_is_away(&mut self, reason: String, now: Now) {
        self.open_breaker(reason, Vec::new(), now);
    }

    /// The database takes transactions again. Mail is decided from memory until all that the journal holds is charged.
    pub fn database_is_back(&mut self, now: Now) {
        if self.journaling.owes() {
            self.breaker.reached(now.elapsed);
            self.catching_up = true;
        } else {
            self.caught_up(now);
        }
    }

    /// Whether mail is decided from memory.
    pub fn is_away(&self) -> bool {
        self.breaker.outage().is_some()
    }

    /// What came of a task with the journal.
    pub fn journaled(&mut self, report: Report, now: Now) {
        if let Report::Appended(result) = &report {
            self.memory.appended(&self.terms.policy, result.is_ok());
        }
        match self.journaling.report(report, now.elapsed) {
            Progress::Answer => {
                if let Some((part, verdicts)) = self.unwritten.take() {
                    self.answer_all(part, verdicts, now.elapsed);
                }
            }
            Progress::Going => {}
            Progress::Charged => self.breaker.settles(),
            Progress::Away(reason) => self.open_breaker(reason, Vec::new(), now),
            Progress::Done => self.caught_up(now),
        }
    }

    /// All that was decided from memory is charged, or is in no journal.
    fn caught_up(&mut self, now: Now) {
        self.catching_up = false;
        let (given_up, rows) = self.journaling.take_outcome();
        for (account, history) in self.memory.charged(&self.terms.policy, &given_up) {
            if let Some(row) = rows.get(&account) {
                self.standings.charged(account, row, &history, now.unix);
            }
        }
        self.closed = self.breaker.close();
    }

    /// From now on, rows that did not send count against these quotas while the database is away.
    pub fn know_quotas(&mut self, own_quotas: Arc<OwnQuotas>) {
        self.memory.own_quotas = own_quotas;
    }

    /// Whether the journal is charged before the mail that waits. They take turns, since mail may never cease. And what is left
    /// to be charged at once is charged before more mail is written behind it, or there would be no end to it.
    fn mail_lets_journal_go_first(&self, now: Duration) -> bool {
        let has_waited = self.waiting.front().map_or(Duration::ZERO, |first| now.saturating_sub(first.arrived));
        !self.is_mails_turn || (self.journaling.is_near_its_end() && has_waited < MAX_WAIT_FOR_JOURNAL)
    }

    /// Begins a round with all charges that wait.
    fn begin(&mut self, now: Duration) {
        let waiting = self.waiting.len().min(MAX_BATCH);
        let unparked = if self.must_unpark(now) { std::mem::take(&mut self.parked) } else { Vec::new() };
        let charges = unparked.into_iter().chain(self.waiting.drain(..waiting));
        let (listed, charges): (Vec<Charge<R>>, Vec<Charge<R>>) = charges.partition(|charge| charge.listed);
        if !listed.is_empty() {
            self.steps.push_back(Step::LookAtBlocks(Look { charges: listed, may_reconnect: true }));
        }
        let mut together = self.due(charges);
        let held: Vec<Due<R>> = together.extract_if(.., |due| self.locks.is_held(&due.charge.account)).collect();
        // After all others, who must not wait for them.
        let apart = together.extract_if(.., |due| self.locks.is_contended(&due.charge.account)).collect();
        self.settle_later(together);
        self.settle_later(apart);
        if now < self.parked_until {
            self.put_off_held(held, now);
        } else if !held.is_empty() {
            self.steps.push_back(Step::FindHeld(Search { part: held, lock: None, began: now }));
        }
    }

    /// What is new about each charge. Answers repeats at once. What is asked twice in one round goes into the next, and with
    /// it what else its account asks.
    fn due(&mut self, charges: Vec<Charge<R>>) -> Vec<Due<R>> {
        let mut in_round = HashSet::new();
        let mut in_next = HashSet::new();
        let mut put_off = Vec::new();
        let mut batch = Vec::with_capacity(charges.len());
        for charge in charges {
            let asked = self.deduplication.asked(&charge.account, &charge.request);
            if in_next.contains(&charge.account) || asked.key.is_some_and(|key| in_round.contains(&key)) {
                in_next.insert(charge.account.clone());
                put_off.push(charge);
                continue;
            }
            match self.deduplication.news(&asked) {
                News::Nothing(verdict) => self.answered.push_back(Answered { charge, verdict, new: None }),
                News::Some(new) => {
                    in_round.extend(asked.key);
                    batch.push(Due { charge, asked, new });
                }
            }
        }
        put_off.into_iter().rev().for_each(|charge| self.waiting.push_front(charge));
        batch
    }

    fn settle_later(&mut self, part: Vec<Due<R>>) {
        if !part.is_empty() {
            self.steps.push_back(Step::Settle(Attempt::new(part)));
        }
    }

    /// Halves a part, of which each half counts as tried so often.
    fn split(&mut self, mut part: Vec<Due<R>>, tried: u32) {
        let second = part.split_off(part.len() / 2);
        for half in [part, second].into_iter().filter(|half| !half.is_empty()) {
            self.steps.push_back(Step::Settle(Attempt { tried, ..Attempt::new(half) }));
        }
    }

    fn park(&mut self, charge: Charge<R>, now: Duration) {
        if self.parked.is_empty() {
            self.parked_until = self.parked_until.max(now + jitter(1));
        }
        self.parked.push(charge);
    }

    /// When parked charges are tried again: at the latest when one of them must wait for its row no longer.
    fn unparks_at(&self) -> Duration {
        let held = self.parked.iter().filter(|charge| self.locks.is_held(&charge.account));
        let first = held.map(Charge::waits_for_a_row_until).min();
        first.map_or(self.parked_until, |first| first.min(self.parked_until))
    }

    fn must_unpark(&self, now: Duration) -> bool {
        !self.parked.is_empty() && now >= self.unparks_at()
    }

    /// Parks the charges of accounts whose rows somebody else holds; those that have waited long enough fail open.
    fn put_off_held(&mut self, held: Vec<Due<R>>, now: Duration) {
        let (wait, over): (Vec<_>, Vec<_>) = held.into_iter().partition(|due| now < due.charge.waits_for_a_row_until());
        wait.into_iter().for_each(|due| self.park(due.charge, now));
        self.fail_open(over, FailOpen::Locked);
    }

    /// Parks the charges that may be tried again; the others fail open.
    fn put_off(
        &mut self,
        part: Vec<Due<R>>,
        failing: FailOpen,
        reason: &str,
        now: Now,
        again: impl Fn(&Charge<R>) -> bool,
    ) {
        let (again, over): (Vec<_>, Vec<_>) = part.into_iter().partition(|due| again(&due.charge));
        again.into_iter().for_each(|due| self.park(due.charge, now.elapsed));
        if !over.is_empty() {
            warn(&over, &format!("giving up: {reason}"));
        }
        self.fail_open(over, failing);
    }

    /// How long the database may take for an answer: nobody in this round must be late for it.
    fn time_left(&self, part: &[Due<R>], now: Duration) -> Duration {
        let left = self.until_first_deadline(part, now);
        let left = if self.several_servers { left / 2 } else { left };
        left.max(MIN_TRANSACTION_TIME).min(self.longest)
    }

    /// How long the database may take to say what became of a transaction. Others wait for it, so there is no more time than
    /// theirs.
    fn time_to_find_out(&self, part: &[Due<R>], now: Duration) -> Duration {
        self.until_first_deadline(part, now).min(self.longest)
    }

    /// The time until the first of this round's answers is to be sent.
    fn until_first_deadline(&self, part: &[Due<R>], now: Duration) -> Duration {
        let later = self.steps.iter().flat_map(|step| match step {
            Step::Settle(attempt) | Step::FindOut(Doubt { attempt, .. }) => attempt.part.as_slice(),
            Step::FindHeld(search) => &search.part,
            // A list decides on them.
            Step::LookAtBlocks(_) => &[],
        });
        let due = part.iter().chain(later).map(|due| &due.charge);
        let first = due.chain(&self.parked).map(|charge| charge.deadline).min().unwrap_or(now);
        first.saturating_sub(now).saturating_sub(MARGIN)
    }

    fn open_breaker(&mut self, reason: String, part: Vec<Due<R>>, now: Now) {
        self.locks.forget();
        self.memory.forget(&self.terms.policy, now.unix);
        self.journaling.interrupt();
        self.catching_up = false;
        self.opened = Some((reason, self.breaker.open(now.elapsed)));
        if !part.is_empty() {
            self.steps.push_front(Step::Settle(Attempt::new(part)));
        }
    }

    fn decide_from_memory(&mut self, part: Vec<Due<R>>, now: Now) {
        self.breaker.decided(part.len());
        let Terms { policy, accounts, .. } = &*self.terms;
        let mut verdicts = Vec::with_capacity(part.len());
        let mut is_writing = false;
        for due in &part {
            let facts = due.facts(policy, now.unix);
            let known = self.standings.of_account(&due.charge.account);
            let (decision, blocked) = match due.block(&self.blocks, accounts, facts.now) {
                Some(block) => self.memory.blocked(policy, block, &facts, known),
                None if due.charge.listed => {
                    verdicts.push(Verdict::NotBlocked);
                    continue;
                }
                None => self.memory.decide(policy, &facts, known),
            };
            if !due.charge.request.dry_run {
                let entry = due.entry(&self.terms, &facts, &decision);
                let writing = self.journaling.write(&entry, now.elapsed);
                self.memory.count(policy, &entry, blocked, writing);
                is_writing |= writing;
            }
            verdicts.push(Verdict::FromMemory(Arc::new(decision)));
        }
        match is_writing {
            true => self.unwritten = Some((part, verdicts)),
            false => self.answer_all(part, verdicts, now.elapsed),
        }
    }

    fn answer_all(&mut self, part: Vec<Due<R>>, verdicts: Vec<Verdict>, now: Duration) {
        for (Due { charge, asked, new }, verdict) in part.into_iter().zip(verdicts) {
            if !charge.request.dry_run && verdict != Verdict::NotBlocked {
                let passes = verdict.lets_through(&self.terms.policy.on_error);
                self.deduplication.remember(&asked, &verdict, passes, now);
            }
            self.answered.push_back(Answered { charge, verdict, new: Some(new) });
        }
    }

    fn fail_open(&mut self, part: Vec<Due<R>>, reason: FailOpen) {
        let verdict = Verdict::InDoubt(reason);
        let answers =
            part.into_iter().map(|due| Answered { charge: due.charge, verdict: verdict.clone(), new: Some(due.new) });
        self.answered.extend(answers);
    }
}

/// How long to wait after so many tries.
fn jitter(tries: u32) -> Duration {
    RETRY_PAUSE.mul_f32(fastrand::f32().max(0.1)) * tries
}

/// Logs what keeps one account's charges from being counted.
fn warn<R>(part: &[Due<R>], reason: &str) {
    let account = part.first().map_or("", |due| due.charge.account.as_str());
    log::warn!("{}: {reason}", escaped(account));
}

#[cfg(test)]
mod tests;
