//! Decisions while the database is away: from what was last known of each account, and from what was counted here since. A
//! database outage is when spammers are happiest; this keeps each of them to its quota. Who is not known counts against the
//! quota of its row, if that is other than QUOTA, else against QUOTA.
//!
//! What is written in the journal counts here until it is charged. What is in no journal never gets into the database: it is
//! kept for as long as windows hold it, so that a database that comes and goes does not bring a new quota each time. Which of the
//! two it is, is known of a request once the disk has answered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::standings::Kept;
use crate::account;
use crate::journal::entry::Entry;
use crate::limiter::blocks::Block;
use crate::limiter::day;
use crate::limiter::decide::{Facts, Policy, Standing, decide};
use crate::limiter::decision::Decision;
use crate::limiter::explain::quota_used;
use crate::limiter::history::{Blocked, History};
use crate::policy::quota::Window;

/// The most memory for what is counted, in bytes. Beyond it, nobody else is counted: by then it is not a stolen password but a
/// whole mail server.
const MAX_BYTES: usize = 32 << 20;

/// The quotas of rows, by their keys, that are other than QUOTA.
#[derive(Debug, Default)]
pub struct OwnQuotas {
    /// When they were read, in Unix seconds.
    pub at: i64,
    pub quotas: HashMap<String, u32>,
}

#[derive(Debug, Default)]
pub struct MemoryFallback {
    /// What the journal holds.
    written: Counts,
    /// What is being written there.
    writing: Counts,
    /// What no journal holds.
    unwritten: Counts,
    pub own_quotas: Arc<OwnQuotas>,
}

/// What was counted of some accounts while the database was away.
#[derive(Debug, Default)]
struct Counts {
    accounts: HashMap<String, Counted>,
    bytes: usize,
}

/// What was counted of one account.
#[derive(Debug, Default)]
struct Counted {
    messages: u32,
    recipients: u32,
    /// When these two began, in Unix seconds.
    since: i64,
    history: History,
}

impl MemoryFallback {
    /// Decides on a request of an account that was last known to stand like this. Returns also whether the account is blocked
    /// then. Counts nothing.
    pub fn decide(&self, policy: &Policy, facts: &Facts<'_>, known: Option<&Kept>) -> (Decision, Blocked) {
        let mut standing = self.standing(policy, facts, known);
        let decision = decide(policy, &mut standing, facts);
        (decision, standing.history.blocked)
    }

    /// Counts a request that was decided, after which its account is `blocked` or not; `writing` if it is to be in the journal,
    /// see [`MemoryFallback::appended`].
    pub fn count(&mut self, policy: &Policy, entry: &Entry, blocked: Blocked, writing: bool) {
        let all = [&mut self.written, &mut self.writing, &mut self.unwritten];
        let room = all.iter().map(|counts| counts.bytes).sum::<usize>() < MAX_BYTES;
        for counts in all {
            if let Some(counted) = counts.accounts.get_mut(&entry.account) {
                counted.history.blocked = blocked;
            }
        }
        let counts = if writing { &mut self.writing } else { &mut self.unwritten };
        if room || counts.accounts.contains_key(&entry.account) {
            counts.count(policy, entry, blocked);
        }
    }

    /// What was being written in the journal is there, or is not.
    pub fn appended(&mut self, policy: &Policy, is_written: bool) {
        let counts = if is_written { &mut self.written } else { &mut self.unwritten };
        for (account, counted) in std::mem::take(&mut self.writing).accounts {
            counts.merge(policy, account, counted);
        }
    }

    /// Counts a request that an earlier daemon has written in the journal.
    pub fn restore(&mut self, policy: &Policy, entry: &Entry) {
        let known = self.written.accounts.get(&entry.account);
        let mut blocked = known.map(|counted| counted.history.blocked).unwrap_or_default();
        blocked.note(entry.outstanding, entry.blocked);
        if known.is_some() || self.written.bytes < MAX_BYTES {
            self.written.count(policy, entry, blocked);
        }
    }

    /// All that the journal held is charged, except of the accounts that were given up. Returns the history that each account
    /// had here.
    pub fn charged(&mut self, policy: &Policy, given_up: &HashSet<String>) -> Vec<(String, History)> {
        let mut histories = Vec::new();
        for (account, counted) in std::mem::take(&mut self.written).accounts {
            if given_up.contains(&account) {
                self.unwritten.merge(policy, account, counted);
            } else {
                histories.push((account, counted.history));
            }
        }
        histories
    }

    /// The decision of a block, and whether the account is blocked by a limit. Counts nothing.
    pub fn blocked(
        &self,
        policy: &Policy,
        block: &Arc<Block>,
        facts: &Facts<'_>,
        known: Option<&Kept>,
    ) -> (Decision, Blocked) {
        let standing = self.standing(policy, facts, known);
        let decision = Decision::of_block(block, quota_used(policy, &standing, facts.now), standing.quota);
        (decision, standing.history.blocked)
    }

    /// Forgets what no longer counts.
    pub fn forget(&mut self, policy: &Policy, now: i64) {
        for counts in [&mut self.written, &mut self.writing, &mut self.unwritten] {
            counts.forget(policy, now);
        }
    }

    /// Where an account stands, with what was counted here.
    fn standing(&self, policy: &Policy, facts: &Facts<'_>, known: Option<&Kept>) -> Standing {
        let mut standing = self.known(policy, facts, known);
        let counted = [&self.unwritten, &self.written, &self.writing].map(|counts| counts.accounts.get(facts.account));
        for counted in counted {
            let Some(counted) = counted else { continue };
            if is_of_this_period(policy, counted.since, facts.now) {
                standing.messages = standing.messages.saturating_add(counted.messages);
                standing.recipients = standing.recipients.saturating_add(counted.recipients);
            }
            standing.history.merge(&counted.history);
            standing.history.blocked = counted.history.blocked;
        }
        standing
    }

    /// Where an account stood when the database was last asked.
    fn known(&self, policy: &Policy, facts: &Facts<'_>, known: Option<&Kept>) -> Standing {
        let own = self.own_quota(facts.account);
        let Some(known) = known else { return Standing::new(own.unwrap_or(policy.new_quota)) };
        let mut standing = known.standing.clone();
        if !is_of_this_period(policy, known.at, facts.now) {
            (standing.messages, standing.recipients) = (0, 0);
        }
        if let Some(own) = own.filter(|_| self.own_quotas.at > known.at) {
            standing.quota = own;
        }
        standing
    }

    fn own_quota(&self, account: &str) -> Option<u32> {
        let quotas = &self.own_quotas.quotas;
        quotas.get(account).or_else(|| quotas.get(account::domain_key(account)?)).copied()
    }
}

impl Counts {
    fn count(&mut self, policy: &Policy, entry: &Entry, blocked: Blocked) {
        let account = &entry.account;
        let before = self.accounts.get(account).map_or(0, |counted| counted.bytes(account));
        let counted = self.accounts.entry(account.clone()).or_default();
        counted.forget(policy, entry.at);
        if counted.messages == 0 && counted.recipients == 0 {
            counted.since = entry.at;
        }
        counted.messages = counted.messages.saturating_add(entry.increase.messages);
        counted.recipients = counted.recipients.saturating_add(entry.increase.recipients);
        counted.history.blocked = blocked;
        if policy.longest_window().is_some() {
            if entry.let_through {
                counted.history.add(entry.outstanding, entry.at);
                if entry.from_new_network {
                    counted.history.add_new(entry.outstanding, entry.at);
                }
            }
            if let Some(network) = entry.network {
                counted.history.see(network, entry.at);
            }
        }
        self.bytes = self.bytes.saturating_sub(before).saturating_add(counted.bytes(account));
    }

    /// Adds what else was counted of an account.
    fn merge(&mut self, policy: &Policy, account: String, mut other: Counted) {
        let before = self.accounts.get(&account).map_or(0, |counted| counted.bytes(&account));
        let counted = self.accounts.entry(account.clone()).or_default();
        // Counters of an earlier period are over.
        let latest = counted.since.max(other.since);
        counted.forget(policy, latest);
        other.forget(policy, latest);
        if counted.messages == 0 && counted.recipients == 0 {
            counted.since = other.since;
        }
        counted.messages = counted.messages.saturating_add(other.messages);
        counted.recipients = counted.recipients.saturating_add(other.recipients);
        counted.history.merge(&other.history);
        counted.history.blocked = other.history.blocked;
        self.bytes = self.bytes.saturating_sub(before).saturating_add(counted.bytes(&account));
    }

    fn forget(&mut self, policy: &Policy, now: i64) {
        self.accounts.retain(|_, counted| {
            counted.forget(policy, now);
            counted.messages > 0 || counted.recipients > 0 || !counted.history.is_empty()
        });
        self.measure();
    }

    fn measure(&mut self) {
        self.bytes = self.accounts.iter().map(|(account, counted)| counted.bytes(account)).sum();
    }
}

impl Counted {
    fn forget(&mut self, policy: &Policy, now: i64) {
        if !is_of_this_period(policy, self.since, now) {
            (self.messages, self.recipients) = (0, 0);
        }
        match policy.reach() {
            Some(reach) => self.history.forget(&reach, now),
            None => self.history = History::default().with_blocked(self.history.blocked),
        }
    }

    fn bytes(&self, account: &str) -> usize {
        size_of::<Counted>() + 64 + account.len() + self.history.bytes()
    }
}

/// Whether counters that stood at a time still count, where they are reset once a day.
fn is_of_this_period(policy: &Policy, at: i64, now: i64) -> bool {
    policy.window == Window::Reset && day::next_reset(at, &policy.zone).is_none_or(|reset| now < reset)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::limiter::increase::Increase;
    use crate::policy::quota::UNLIMITED;
    use crate::policy::steps::Steps;
    use crate::protocol::reply::Action;

    const NOON: i64 = 1_800_014_400; // 2027-01-15 12:00 UTC
    const HOUR: Window = Window::Sliding(Duration::from_secs(3600));

    fn policy(window: Window) -> Policy {
        Policy {
            new_quota: 2,
            window,
            steps: Steps::parse("", "over {quota} in {window}, free {free_at}").unwrap(),
            limits: Vec::new(),
            networks_ignore: Vec::new(),
            accepted: Action::DUNNO,
            on_error: Action::DUNNO,
            zone: TimeZone::UTC,
        }
    }

    fn facts(account: &str, now: i64) -> Facts<'_> {
        let increase = Increase { messages: 1, recipients: 1, bytes: 0 };
        Facts { account, increase, outstanding: increase, recipients_of_message: 1, network: None, now }
    }

    /// An account that had so many mails counted at a time.
    fn known(quota: u32, mails: u32, at: i64) -> Kept {
        let mut standing = Standing { messages: mails, recipients: mails, ..Standing::new(quota) };
        standing.history.add(Increase { messages: mails, recipients: mails, bytes: 0 }, at);
        Kept { account: "alice".into(), standing, at, history: None }
    }

    /// Decides on a request and counts it.
    fn is_blocked(
        memory: &mut MemoryFallback,
        policy: &Policy,
        facts: &Facts<'_>,
        known: Option<&Kept>,
        written: bool,
    ) -> bool {
        let (decision, blocked) = memory.decide(policy, facts, known);
        let entry = Entry {
            account: facts.account.to_owned(),
            at: facts.now,
            increase: facts.increase,
            outstanding: facts.outstanding,
            let_through: decision.let_through,
            from_new_network: decision.from_new_network,
            blocked: decision.blocked,
            network: facts.network,
            audit: None,
        };
        memory.count(policy, &entry, blocked, written);
        memory.appended(policy, true);
        decision.blocked
    }

    fn blocked(memory: &mut MemoryFallback, policy: &Policy, known: Option<&Kept>, now: i64) -> bool {
        is_blocked(memory, policy, &facts("alice", now), known, false)
    }

    #[test]
    fn an_unknown_account_gets_the_quota_and_no_more() {
        for window in [HOUR, Window::Reset] {
            let (policy, mut memory) = (policy(window), MemoryFallback::default());
            assert!(!memory.decide(&policy, &facts("alice", NOON), None).0.blocked, "a dry run");
            assert_eq!([(); 4].map(|()| blocked(&mut memory, &policy, None, NOON)), [false, false, true, true]);
            assert!(!is_blocked(&mut memory, &policy, &facts("bob", NOON), None, false));
        }
    }

    #[test]
    fn what_was_last_known_of_an_account_goes_on() {
        for window in [HOUR, Window::Reset] {
            let policy = policy(window);
            let ask = |known: Kept| {
                let mut memory = MemoryFallback::default();
                [(); 3].map(|()| blocked(&mut memory, &policy, Some(&known), NOON))
            };
            assert_eq!(ask(known(5, 3, NOON - 60)), [false, false, true], "its own quota, and what is used of it");
            assert_eq!(ask(known(UNLIMITED, 90, NOON - 60)), [false; 3]);
            assert_eq!(ask(known(0, 0, NOON - 60)), [true; 3], "stopped by hand");
            assert_eq!(ask(known(2, 9, NOON - 60)), [true; 3], "over its quota");
            assert_eq!(ask(known(2, 9, NOON - 13 * 3600)), [false, false, true], "that was in another period");
        }
    }

    #[test]
    fn rows_with_a_quota_of_their_own_are_known_although_they_did_not_send() {
        let policy = policy(HOUR);
        let quotas = HashMap::from([("alice".to_owned(), 0), ("@example.com".to_owned(), UNLIMITED)]);
        let own_quotas = Arc::new(OwnQuotas { at: NOON, quotas });
        let mut memory = MemoryFallback { own_quotas, ..MemoryFallback::default() };
        assert!(blocked(&mut memory, &policy, None, NOON));
        assert!(blocked(&mut memory, &policy, Some(&known(100, 0, NOON - 60)), NOON), "stopped since");
        assert!(!blocked(&mut memory, &policy, Some(&known(100, 0, NOON + 60)), NOON + 60), "changed since");
        let of_domain =
            [(); 9].map(|()| is_blocked(&mut memory, &policy, &facts("bob@example.com", NOON), None, false));
        assert_eq!(of_domain, [false; 9]);
    }

    #[test]
    fn a_database_that_comes_and_goes_brings_no_new_quota_and_a_new_period_does() {
        for (window, over) in [(HOUR, NOON + 3660), (Window::Reset, NOON + 12 * 3600 + 10)] {
            let (policy, mut memory) = (policy(window), MemoryFallback::default());
            let ask = |memory: &mut MemoryFallback, now| blocked(memory, &policy, None, now);
            assert_eq!([(); 3].map(|()| ask(&mut memory, NOON)), [false, false, true]);
            for minutes in 1..50 {
                memory.forget(&policy, NOON + minutes * 60);
                assert!(ask(&mut memory, NOON + minutes * 60), "another outage");
            }
            assert_eq!([over - 1, over, over, over].map(|now| ask(&mut memory, now)), [true, false, false, true]);
            memory.forget(&policy, over + 2 * 24 * 3600);
            assert!(memory.unwritten.accounts.is_empty() && memory.unwritten.bytes == 0);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let (policy, mut memory) = (policy(HOUR), MemoryFallback::default());
        for number in 0..200_000 {
            is_blocked(&mut memory, &policy, &facts(&number.to_string(), NOON), None, number % 2 == 0);
        }
        let counts = [memory.written, memory.unwritten];
        for Counts { accounts, bytes } in &counts {
            assert_eq!(*bytes, accounts.iter().map(|(account, counted)| counted.bytes(account)).sum::<usize>());
        }
        let bytes: usize = counts.iter().map(|counts| counts.bytes).sum();
        assert!(bytes < MAX_BYTES + 1000, "{bytes}");
    }

    #[test]
    fn what_the_journal_holds_counts_until_it_is_charged_and_the_rest_goes_on() {
        for window in [HOUR, Window::Reset] {
            let (policy, mut memory) = (policy(window), MemoryFallback::default());
            let mut ask = |account, written| is_blocked(&mut memory, &policy, &facts(account, NOON), None, written);
            // Two are the quota, wherever they are kept.
            assert_eq!(
                [("alice", true), ("alice", false), ("alice", true)].map(|(who, how)| ask(who, how)),
                [false, false, true]
            );
            assert_eq!([ask("bob", true), ask("bob", true)], [false, false]);
            let histories = memory.charged(&policy, &HashSet::from(["bob".to_owned()]));
            assert_eq!(histories.iter().map(|(account, _)| account.as_str()).collect::<Vec<_>>(), ["alice"]);
            let mut ask = |account| is_blocked(&mut memory, &policy, &facts(account, NOON), None, false);
            assert_eq!([ask("alice"), ask("alice")], [false, true], "one was in no journal");
            assert!(ask("bob"), "given up");
        }
    }

    #[test]
    fn a_new_daemon_goes_on_from_the_journal() {
        for window in [HOUR, Window::Reset] {
            let (policy, mut memory) = (policy(window), MemoryFallback::default());
            let increase = Increase { messages: 1, recipients: 1, bytes: 0 };
            for let_through in [true, true, false] {
                let (account, network, audit) = ("alice".to_owned(), None, None);
                let (outstanding, blocked) = (increase, !let_through);
                memory.restore(
                    &policy,
                    &Entry {
                        account,
                        at: NOON,
                        increase,
                        outstanding,
                        let_through,
                        from_new_network: false,
                        blocked,
                        network,
                        audit,
                    },
                );
            }
            let (decision, _) = memory.decide(&policy, &facts("alice", NOON), None);
            assert!(decision.blocked && !decision.first_block, "{decision:?}");
        }
    }
}
