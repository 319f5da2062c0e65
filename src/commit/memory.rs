//! Counting while the database is away: in memory, from zero, against QUOTA. A database outage is when spammers are
//! happiest; this keeps any of them to one more quota each time that a quota is for. What is counted here is forgotten after
//! that time, and once the database has been back for a while: one which comes and goes does not bring a quota each time.
//! A journal that writes it there later would stand in this place.

use std::collections::HashMap;

use crate::limiter::day;
use crate::limiter::decide::{Decision, Facts, Policy, Standing, decide};
use crate::limiter::history::History;
use crate::policy::duration::seconds;
use crate::policy::quota::Window;

/// The most senders counted. Beyond it, new ones are let through: by then it is no phished account but a full mail server.
pub const MAX_SENDERS: usize = 100_000;

/// The counters of one outage, or of several close together.
#[derive(Debug, Default)]
pub struct MemoryFallback {
    senders: HashMap<String, Standing>,
    /// Until when they are kept, in Unix seconds; none before the first.
    until: Option<i64>,
}

impl MemoryFallback {
    /// Decides by counters alone: histories are in the database.
    pub fn decide(&mut self, policy: &Policy, facts: &Facts<'_>, dry_run: bool) -> Decision {
        let sender = facts.sender;
        let until = self.until(policy, facts.now);
        let mut looked = self.senders.get(sender).cloned().unwrap_or_else(|| Standing::new(policy.new_quota));
        let decision = decide(&policy.without_history(until), &mut looked, facts);
        looked.history = History::default();
        if !dry_run {
            if let Some(standing) = self.senders.get_mut(sender) {
                *standing = looked;
            } else if self.senders.len() < MAX_SENDERS {
                self.senders.insert(sender.to_owned(), looked);
            }
        }
        decision
    }

    /// Until when counters are kept; begins them anew where that time has come.
    fn until(&mut self, policy: &Policy, now: i64) -> i64 {
        match self.until {
            Some(until) if now < until => until,
            _ => {
                self.senders.clear();
                let ends = match policy.window {
                    Window::Reset => day::next_reset(now, &policy.zone),
                    Window::Sliding(window) => now.checked_add(seconds(window)),
                };
                *self.until.insert(ends.unwrap_or(i64::MAX))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::limiter::increase::Increase;
    use crate::policy::quota::Window;
    use crate::policy::steps::Steps;
    use crate::protocol::reply::Action;

    const NOON: i64 = 1_800_014_400; // 2027-01-15 12:00 UTC

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
            stands_for: None,
        }
    }

    fn ask(memory: &mut MemoryFallback, policy: &Policy, sender: &str, now: i64, dry_run: bool) -> Decision {
        let increase = Increase { messages: 1, recipients: 1, bytes: 0 };
        let outstanding = increase;
        let facts = Facts { sender, increase, outstanding, recipients_of_message: 1, network: None, now };
        memory.decide(policy, &facts, dry_run)
    }

    #[test]
    fn one_more_quota_and_no_more() {
        let policy = policy(Window::Sliding(Duration::from_secs(3600)));
        let mut memory = MemoryFallback::default();
        let mut blocked = |sender: &str, dry_run| ask(&mut memory, &policy, sender, NOON, dry_run).blocked;
        assert!(!blocked("alice", true));
        assert_eq!([(); 4].map(|()| blocked("alice", false)), [false, false, true, true]);
        assert!(!blocked("bob", false));
        for number in 0..MAX_SENDERS {
            blocked(&number.to_string(), false);
        }
        assert_eq!(memory.senders.len(), MAX_SENDERS);
    }

    #[test]
    fn a_long_outage_refuses_nobody_for_what_was_long_ago() {
        let hour = Window::Sliding(Duration::from_secs(3600));
        for (window, in_time, over, said) in [
            (hour, NOON + 3599, NOON + 3600, "over 2 in 1h, free 2027-01-15 13:00 +00:00"),
            (Window::Reset, NOON + 12 * 3600 - 1, NOON + 12 * 3600 + 10, "over 2 in day, free 2027-01-16 00:00 +00:00"),
        ] {
            let policy = policy(window);
            let mut memory = MemoryFallback::default();
            let mut ask = |now| ask(&mut memory, &policy, "alice", now, false);
            assert_eq!([(); 3].map(|()| ask(NOON).blocked), [false, false, true]);
            let refused = ask(in_time);
            assert_eq!((refused.blocked, refused.action.text()), (true, said));
            assert_eq!([over - 1, over, over, over].map(|now| ask(now).blocked), [true, false, false, true]);
        }
    }
}
