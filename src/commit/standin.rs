//! Counting while the database is away: in memory, from zero, against QUOTA. A database outage is when spammers are
//! happiest; this keeps any of them to one more quota. What is counted here is forgotten when the database is back: a journal
//! that writes it there later would stand in this place.

use std::collections::HashMap;

use crate::limiter::decide::{Increase, Policy, Ruling, Standing, decide};

/// The most senders counted. Beyond it, new ones are let through: by then it is no phished account but a full mail server.
pub const MOST_SENDERS: usize = 100_000;

/// The counters of one outage.
#[derive(Debug, Default)]
pub struct StandIn {
    senders: HashMap<String, Standing>,
    /// Requests answered from here.
    pub answered: u64,
}

impl StandIn {
    pub fn rule(&mut self, policy: &Policy, sender: &str, increase: Increase, dry_run: bool) -> Ruling {
        self.answered += 1;
        let unknown = Standing { quota: policy.new_quota, messages: 0, recipients: 0 };
        let mut looked = self.senders.get(sender).copied().unwrap_or(unknown);
        let ruling = decide(policy, &mut looked, increase);
        if !dry_run {
            if let Some(standing) = self.senders.get_mut(sender) {
                *standing = looked;
            } else if self.senders.len() < MOST_SENDERS {
                self.senders.insert(sender.to_owned(), looked);
            }
        }
        ruling
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::reply::Action;

    #[test]
    fn one_more_quota_and_no_more() {
        let policy = Policy {
            new_quota: 2,
            accepted: Action::DUNNO,
            blocked: Action::defer_if_permit("later"),
            on_error: Action::DUNNO,
        };
        let mut standin = StandIn::default();
        let one = Increase { messages: 1, recipients: 1 };
        assert!(!standin.rule(&policy, "alice", one, true).blocked);
        let blocked: Vec<bool> = (0..4).map(|_| standin.rule(&policy, "alice", one, false).blocked).collect();
        assert_eq!(blocked, [false, false, true, true]);
        assert!(!standin.rule(&policy, "bob", one, false).blocked);
        for number in 0..MOST_SENDERS {
            standin.rule(&policy, &number.to_string(), one, false);
        }
        assert_eq!(standin.senders.len(), MOST_SENDERS);
    }
}
