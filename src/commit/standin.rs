//! Counting while the database is away: in memory, from zero, against QUOTA. A database outage is when spammers are
//! happiest; this keeps any of them to one more quota. What is counted here is forgotten once the database has been back for a
//! while, so that one which comes and goes does not bring a quota each time. A journal that writes it there later would
//! stand in this place.

use std::collections::HashMap;

use crate::limiter::decide::{Facts, Policy, Ruling, Standing, decide};
use crate::limiter::history::History;

/// The most senders counted. Beyond it, new ones are let through: by then it is no phished account but a full mail server.
pub const MOST_SENDERS: usize = 100_000;

/// The counters of one outage, or of several close together.
#[derive(Debug, Default)]
pub struct StandIn {
    senders: HashMap<String, Standing>,
}

impl StandIn {
    /// Rules by counters alone: histories are in the database.
    pub fn rule(&mut self, policy: &Policy, facts: &Facts<'_>, dry_run: bool) -> Ruling {
        let sender = facts.sender;
        let mut looked = self.senders.get(sender).cloned().unwrap_or_else(|| Standing::new(policy.new_quota));
        let ruling = decide(&policy.without_history(), &mut looked, facts);
        looked.history = History::default();
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
    use std::time::Duration;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::config::Window;
    use crate::limiter::decide::Increase;
    use crate::limiter::steps::Steps;
    use crate::protocol::reply::Action;

    #[test]
    fn one_more_quota_and_no_more() {
        let policy = Policy {
            new_quota: 2,
            window: Window::Sliding(Duration::from_secs(3600)),
            steps: Steps::parse("", "later").unwrap(),
            limits: Vec::new(),
            networks_ignore: Vec::new(),
            accepted: Action::DUNNO,
            on_error: Action::DUNNO,
            zone: TimeZone::UTC,
        };
        let mut standin = StandIn::default();
        let mut ask = |sender: &str, dry_run| {
            let increase = Increase { messages: 1, recipients: 1, bytes: 0 };
            let (outstanding, now) = (increase, 1_800_000_000);
            let facts = Facts { sender, increase, outstanding, recipients_of_message: 1, network: None, now };
            standin.rule(&policy, &facts, dry_run).blocked
        };
        assert!(!ask("alice", true));
        assert_eq!([(); 4].map(|()| ask("alice", false)), [false, false, true, true]);
        assert!(!ask("bob", false));
        for number in 0..MOST_SENDERS {
            ask(&number.to_string(), false);
        }
        assert_eq!(standin.senders.len(), MOST_SENDERS);
    }
}
