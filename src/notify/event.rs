//! What people are told: something that happened to a sender, with the request that it happened with. Pure.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::limiter::decision::Decision;
use crate::protocol::request::Request;
use crate::store::blocks::Untold;

/// The longest text that is kept of a request's values, in characters: that of PolicydRateGuard's columns.
const MAX_TEXT: usize = 255;
/// The longest name of a notice, in bytes: that of the column `notices.event`.
const MAX_NOTICE: usize = 64;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A sender passed from not blocked to blocked, by the quota.
    QuotaReached,
    /// A step of QUOTA_STEPS that only tells was reached: its factor, as written.
    QuotaNotice(String),
    /// A sender passed from not blocked to blocked by one of LIMITS: its text, as written.
    LimitExceeded(String),
    /// Somebody has blocked it: why, in one word.
    Blocked(String),
    /// Its block is over, which was set for this reason.
    Unblocked(String),
    /// It came over a limit once more, which counts for STRIKES: `quota`, or the limit as written.
    Strike(String),
    /// The last of many events that were not told, and how many, in digits: see [`super::bound`].
    LeftOut(String),
}

/// Something that people want to hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kind: Kind,
    /// When, in seconds since 1970.
    pub at: i64,
    /// The key of the sender's row.
    pub sender: String,
    /// As the client wrote it; empty without a login, where the key is what a stranger wrote, or an address.
    pub login: String,
    pub queue_id: String,
    pub client_address: String,
    pub client_name: String,
    /// The envelope sender.
    pub from: String,
    /// The recipient; empty when there are several.
    pub to: String,
    pub recipients: u32,
    /// What is used of the quota.
    pub used: u64,
    pub quota: u32,
    /// Of a block: when it ends by itself, in seconds since 1970, and how many messages it has held.
    pub until: Option<i64>,
    pub held: i64,
}

/// An event that is to be told now, with what the database knows of the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub event: Event,
    /// What the sender's quota is after the next reset.
    pub quota_reset: u32,
}

impl Kind {
    /// The payload's `event`.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::QuotaReached => "quota_reached",
            Kind::QuotaNotice(_) => "quota_notice",
            Kind::LimitExceeded(_) => "limit_exceeded",
            Kind::Blocked(_) => "blocked",
            Kind::Unblocked(_) => "unblocked",
            Kind::Strike(_) => "strike",
            Kind::LeftOut(_) => "left_out",
        }
    }

    /// The payload's `limit`: which step or limit it was, or how many events were left out.
    pub fn limit(&self) -> &str {
        match self {
            Kind::QuotaReached | Kind::Blocked(_) | Kind::Unblocked(_) => "",
            Kind::QuotaNotice(step) => step,
            Kind::LimitExceeded(limit) | Kind::Strike(limit) => limit,
            Kind::LeftOut(count) => count,
        }
    }

    /// The payload's `reason`: why it was blocked.
    pub fn reason(&self) -> &str {
        match self {
            Kind::Blocked(reason) | Kind::Unblocked(reason) => reason,
            _ => "",
        }
    }

    /// What it is called in the table `notices`: each step and each limit is told for itself.
    pub fn notice(&self) -> String {
        let whole = format!("{} {}", self.name(), self.limit());
        let whole = whole.trim_end();
        if whole.len() <= MAX_NOTICE {
            return whole.to_owned();
        }
        let digest: String = Sha256::digest(whole).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{} #{digest}", self.name())
    }
}

impl Event {
    /// The events of a decision, most often none.
    pub fn of(sender: &str, request: &Request, decision: &Decision, at: i64) -> Vec<Event> {
        let notices = decision.reached.iter().map(|step| Kind::QuotaNotice(step.clone()));
        let block = decision.first_block.then(|| match &decision.reason {
            Some(reason) if !reason.is_quota() => Kind::LimitExceeded(reason.limit().to_owned()),
            _ => Kind::QuotaReached,
        });
        notices
            .chain(block)
            .map(|kind| Event {
                kind,
                at,
                sender: sender.to_owned(),
                login: cut(&request.sasl_username),
                queue_id: request.queue_id.as_ref().map(ToString::to_string).unwrap_or_default(),
                client_address: cut(&request.client_address),
                client_name: cut(&request.client_name),
                from: cut(&request.sender),
                to: cut(&request.recipient),
                recipients: request.recipient_count,
                used: decision.used,
                quota: decision.quota,
                until: None,
                held: 0,
            })
            .collect()
    }

    /// That a block was set, or is over.
    pub fn of_block(untold: &Untold, now: i64) -> Event {
        let Untold { block, is_over, held, quota } = untold;
        let reason = block.reason.clone();
        let quota = quota.map_or(0, |(quota, _)| u32::try_from(quota.max(0)).unwrap_or(u32::MAX));
        let kind = if *is_over { Kind::Unblocked(reason) } else { Kind::Blocked(reason) };
        let at = if *is_over { block.over(now).unwrap_or(now) } else { block.since };
        Event { quota, until: block.until, held: *held, ..Event::of_account(kind, &block.account, at) }
    }

    /// Something that did not come with a request. The owner is not written to: somebody else may read the mail.
    pub fn of_account(kind: Kind, account: &str, at: i64) -> Event {
        Event {
            kind,
            at,
            sender: account.to_owned(),
            login: String::new(),
            queue_id: String::new(),
            client_address: String::new(),
            client_name: String::new(),
            from: String::new(),
            to: String::new(),
            recipients: 0,
            used: 0,
            quota: 0,
            until: None,
            held: 0,
        }
    }

    /// Whether a decision has anything that people want to hear of.
    pub fn is_in(decision: &Decision) -> bool {
        decision.first_block || !decision.reached.is_empty()
    }
}

/// `the quota is reached`, as the end of a sentence.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::QuotaReached => f.write_str("the quota is reached"),
            Kind::QuotaNotice(step) => write!(f, "{step} of the quota is reached"),
            Kind::LimitExceeded(limit) => write!(f, "the limit of {limit} is exceeded"),
            Kind::Blocked(reason) => write!(f, "it is blocked: {reason}"),
            Kind::Unblocked(_) => f.write_str("it is not blocked any more"),
            Kind::Strike(limit) => write!(f, "a strike by the limit {limit}"),
            Kind::LeftOut(count) => write!(f, "{count} more notices like this one were left out"),
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn event(kind: Kind, sender: &str) -> Event {
        Event {
            kind,
            at: 1_800_014_400, // 2027-01-15 12:00 UTC
            sender: sender.to_owned(),
            login: "alice@example.com".to_owned(),
            queue_id: "4XyZ12abcd".to_owned(),
            client_address: "2001:db8::1".to_owned(),
            client_name: "client.example.net".to_owned(),
            from: "info@example.com".to_owned(),
            to: "bob@example.org".to_owned(),
            recipients: 3,
            used: 1003,
            quota: 1000,
            until: None,
            held: 0,
        }
    }

    #[test]
    fn each_step_and_limit_has_a_notice_of_its_own_that_fits() {
        assert_eq!(Kind::QuotaReached.notice(), "quota_reached");
        assert_eq!(Kind::QuotaNotice("0.8x".into()).notice(), "quota_notice 0.8x");
        assert_eq!(Kind::LimitExceeded("30 recipients/5m".into()).notice(), "limit_exceeded 30 recipients/5m");
        let long = |end: &str| Kind::LimitExceeded(format!("{}{end}", "é".repeat(200))).notice();
        assert!(long("a").len() <= MAX_NOTICE && long("a") != long("b"), "{}", long("a"));
    }
}
