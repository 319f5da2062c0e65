//! The decision: what a request adds, where its sender stands, and what Postfix is told.

use crate::protocol::reply::Action;

/// What a request adds to its sender's counters. A message asked about again adds only what is new about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Increase {
    pub messages: u32,
    pub recipients: u32,
}

impl Increase {
    pub fn is_nothing(self) -> bool {
        self == Increase::default()
    }
}

/// What the operator wants, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The quota of a sender without a row of his own.
    pub new_quota: u32,
    pub accepted: Action,
    pub blocked: Action,
    pub on_error: Action,
}

/// A sender's counters before a request. A batch walks it forward, request by request, in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub quota: u32,
    pub messages: u32,
    pub recipients: u32,
}

impl Standing {
    /// What stood before `added` made `after` of it. A counter at its end has lost count: it stays there, and whoever it
    /// belongs to stays over any quota.
    pub fn before(after: u32, added: u64) -> u32 {
        match after {
            u32::MAX => u32::MAX,
            after => u32::try_from(u64::from(after).saturating_sub(added)).unwrap_or(0),
        }
    }

    fn is_over(&self) -> bool {
        self.messages > self.quota || self.recipients > self.quota
    }
}

/// The outcome of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    pub action: Action,
    pub blocked: bool,
    /// Whether this request is the one that took its sender over the quota.
    pub first_block: bool,
    /// What is used, with this request: of messages and recipients the greater.
    pub used: u32,
    pub quota: u32,
}

/// Counts `increase` on `standing` and rules by what then stands. Only the measures that grew are judged: a request that
/// adds recipients is not refused for messages.
pub fn decide(policy: &Policy, standing: &mut Standing, increase: Increase) -> Ruling {
    let was_over = standing.is_over();
    standing.messages = standing.messages.saturating_add(increase.messages);
    standing.recipients = standing.recipients.saturating_add(increase.recipients);
    let quota = standing.quota;
    let blocked = (increase.messages > 0 && standing.messages > quota)
        || (increase.recipients > 0 && standing.recipients > quota);
    Ruling {
        action: if blocked { policy.blocked.clone() } else { policy.accepted.clone() },
        blocked,
        first_block: blocked && !was_over,
        used: standing.messages.max(standing.recipients),
        quota,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UNLIMITED;
    use proptest::prelude::*;

    fn policy() -> Policy {
        Policy {
            new_quota: 1000,
            accepted: Action::DUNNO,
            blocked: Action::defer_if_permit("Rate limit reached, retry later."),
            on_error: Action::DUNNO,
        }
    }

    #[test]
    fn a_quota_of_n_lets_n_through() {
        let mut standing = Standing { quota: 3, messages: 0, recipients: 0 };
        let one = Increase { messages: 1, recipients: 1 };
        let blocked: Vec<_> =
            (0..5).map(|_| decide(&policy(), &mut standing, one)).map(|r| (r.blocked, r.first_block)).collect();
        assert_eq!(blocked, [(false, false), (false, false), (false, false), (true, true), (true, false)]);
        assert_eq!(standing.recipients, 5, "counted over quota too");
    }

    #[test]
    fn a_message_that_would_go_over_is_blocked_as_a_whole() {
        let mut standing = Standing { quota: 10, messages: 1, recipients: 8 };
        let ruling = decide(&policy(), &mut standing, Increase { messages: 1, recipients: 3 });
        assert!(ruling.blocked && ruling.first_block);
        assert_eq!((ruling.used, ruling.quota), (11, 10));
    }

    #[test]
    fn zero_may_not_send_and_unlimited_always_may() {
        let mut none = Standing { quota: 0, messages: 0, recipients: 0 };
        assert!(decide(&policy(), &mut none, Increase { messages: 1, recipients: 1 }).first_block);
        let mut unlimited = Standing { quota: UNLIMITED, messages: u32::MAX, recipients: u32::MAX };
        assert!(!decide(&policy(), &mut unlimited, Increase { messages: 1, recipients: 9 }).blocked);
    }

    #[test]
    fn a_counter_at_its_end_stays_there() {
        assert_eq!(Standing::before(u32::MAX, 5), u32::MAX);
        assert_eq!(Standing::before(7, 5), 2);
        assert_eq!(Standing::before(2, 5), 0, "somebody reset it meanwhile");
    }

    #[test]
    fn only_what_grew_is_judged() {
        let mut standing = Standing { quota: 5, messages: 6, recipients: 1 };
        assert!(!decide(&policy(), &mut standing, Increase { messages: 0, recipients: 1 }).blocked);
        assert!(decide(&policy(), &mut standing, Increase { messages: 1, recipients: 0 }).blocked);
    }

    proptest! {
        #[test]
        fn what_is_let_through_never_exceeds_the_quota(quota in 0u32..500, sizes in proptest::collection::vec(1u32..60, 1..80)) {
            let mut standing = Standing { quota, messages: 0, recipients: 0 };
            let mut through = 0;
            for size in sizes {
                if !decide(&policy(), &mut standing, Increase { messages: 1, recipients: size }).blocked {
                    through += size;
                }
            }
            prop_assert!(through <= quota);
        }
    }
}
