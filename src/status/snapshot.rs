//! What one look at the database returns. Pure. All times are in seconds since 1970.

use serde::Serialize;

use crate::limiter::blocks::{Block, DECIDED};
use crate::limiter::decide::Policy;
use crate::limiter::explain::{Explained, blocking};
use crate::limiter::terms::Listed;
use crate::policy::duration;
use crate::policy::quota::{UNLIMITED, Window};
use crate::policy::steps::{Step, StepAction};
use crate::protocol::reply::Strictness;
use crate::store::refusals::Refusal;

/// All senders, the policy that applies to them, and what was recently refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    pub at: i64,
    pub policy: PolicyShown,
    pub totals: Totals,
    /// In the collector's order; at most [`super::collector::MAX_SENDERS`].
    pub senders: Vec<Sender>,
    /// Whether `senders` are all senders in the database.
    pub complete: bool,
    /// How many of these senders are blocked now.
    pub blocked_now: usize,
    /// How many of these senders have sent more than is usual for them.
    pub above_usual: usize,
    /// Where [`Sender::hours`] begin.
    pub hours_from: i64,
    pub refused: Refused,
}

impl Snapshot {
    /// Whether the two differ in nothing but the time.
    pub fn says_the_same(&self, other: &Snapshot) -> bool {
        let totals = |snapshot: &Snapshot| Totals { at: 0, ..snapshot.totals };
        let refused = |snapshot: &Snapshot| (snapshot.refused.known, snapshot.refused.blocked, snapshot.refused.held);
        self.senders == other.senders
            && totals(self) == totals(other)
            && refused(self) == refused(other)
            && self.refused.last == other.refused.last
            && (&self.policy, self.hours_from) == (&other.policy, other.hours_from)
    }
}

/// The policy as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyShown {
    /// `24h`, or `reset`.
    pub window: String,
    /// The quota of a sender without a row; None for unlimited.
    pub quota: Option<u32>,
    /// QUOTA_STEPS, lowest first.
    pub steps: Vec<StepShown>,
    /// LIMITS as written, each with its action.
    pub limits: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepShown {
    /// `1x`.
    pub factor: String,
    /// `NOTIFY`, or what Postfix is told.
    pub action: String,
}

impl PolicyShown {
    pub fn new(policy: &Policy) -> PolicyShown {
        let step = |step: &Step| StepShown {
            factor: step.factor_written(),
            action: match &step.action {
                StepAction::Notify => "NOTIFY".to_owned(),
                StepAction::Act(action) => action.to_string(),
            },
        };
        PolicyShown {
            window: match policy.window {
                Window::Reset => "reset".to_owned(),
                Window::Sliding(window) => duration::show(window),
            },
            quota: limited(policy.new_quota),
            steps: policy.steps.iter().map(step).collect(),
            limits: policy.limits.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Of all senders together, in the last 24 hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// When they were counted; rarely on a large database.
    pub at: i64,
    /// Rows in `ratelimits`.
    pub known: i64,
    /// Senders that had mail let through.
    pub active: i64,
    pub messages: i64,
    pub recipients: i64,
}

/// What was held or refused in the last 24 hours, as far as the newest messages in the audit log show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Whether MESSAGE_LOG is on; without it none of this is known.
    pub known: bool,
    /// How far back the numbers reach.
    pub from: i64,
    /// Held ones among them.
    pub blocked: i64,
    pub held: i64,
    /// The latest of each sender and action, the latest first; they may be older than 24 hours.
    pub last: Vec<Refusal>,
}

/// The JSON leaves out what is 0, null or empty, since there may be ten thousand of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sender {
    pub id: i64,
    /// The account: a login, or `<sender>` or `[address]`. It may be any text.
    pub sender: String,
    /// None for unlimited.
    pub quota: Option<u32>,
    /// What counts against the quota in the present window.
    pub messages: u64,
    pub recipients: u64,
    /// The most that counted against the quota in its window in the last weeks: see [`crate::limiter::usual`]. None where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usual: Option<u64>,
    /// When it last sent something.
    pub last: i64,
    /// Messages held or refused since [`Refused::from`], with those held.
    #[serde(skip_serializing_if = "is_zero")]
    pub blocked: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub held: i64,
    /// What Postfix would be told of the next message, if it would be held or refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
    /// Recipients let through in each of the last 24 hours of the clock, the present one last; empty if they were not read,
    /// as for all but the first senders.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<u64>,
}

/// Why the next message would be held or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Next {
    /// `HOLD`, `DEFER_IF_PERMIT`, `554`, ….
    pub action: String,
    /// `1x quota 1000`, `30 recipients/5m`, `DENYLIST @example.com`, ….
    pub limit: String,
    /// None if it is not known, or never by itself.
    pub free_at: Option<i64>,
}

impl Next {
    /// What the strictest exceeded limit does.
    pub fn of(explained: &[Explained]) -> Option<Next> {
        let one = blocking(explained)?;
        Some(Next { action: one.action.as_ref()?.word(), limit: one.limit.clone(), free_at: one.free_at })
    }

    /// What a list does, which decides before any limit.
    pub fn of_listed(listed: &Listed) -> Option<Next> {
        (!listed.action.delivers()).then(|| Next {
            action: listed.action.word(),
            limit: format!("{} {}", listed.hit.list, listed.hit.entry),
            free_at: None,
        })
    }

    /// What a block does, which decides before quota and limits.
    pub fn of_block(block: &Block) -> Next {
        let limit = format!("{DECIDED}{}", block.reason);
        Next { action: block.action.word(), limit, free_at: block.until }
    }

    /// What the quota alone does when `used` is used of it. LIMITS need the sender's history.
    pub fn by_quota(policy: &Policy, used: u64, quota: u32) -> Option<Next> {
        let (step, action) = policy.steps.acting(used.saturating_add(1), quota)?;
        (action.strictness() >= Strictness::Hold).then(|| Next {
            action: action.word(),
            limit: format!("{} quota {quota}", step.factor_written()),
            free_at: None,
        })
    }
}

/// What senders are sorted by; equal ones by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// The used share of the quota, the greatest first.
    #[default]
    Share,
    /// The most first.
    Recipients,
    /// The most first.
    Messages,
    /// Senders blocked now first, then by the number of blocked messages.
    Blocked,
    /// The latest first.
    Last,
    Name,
}

impl Sender {
    /// What is compared with the quota: messages or recipients, the greater.
    pub fn used(&self) -> u64 {
        self.messages.max(self.recipients)
    }

    /// Whether that is more than usual.
    pub fn is_above_usual(&self) -> bool {
        self.usual.is_some_and(|usual| self.used() > usual)
    }

    /// What is used of the quota, in thousandths; None if it is unlimited. Any use of a quota of 0 is all of it.
    pub fn share(&self) -> Option<u64> {
        match self.quota? {
            0 => Some(if self.used() == 0 { 0 } else { 1000 }),
            quota => Some(self.used().saturating_mul(1000) / u64::from(quota)),
        }
    }
}

impl Sort {
    pub fn sort(self, senders: &mut [Sender]) {
        match self {
            Sort::Share => by(senders, |sender| (sender.share(), sender.used())),
            Sort::Recipients => by(senders, |sender| sender.recipients),
            Sort::Messages => by(senders, |sender| sender.messages),
            Sort::Blocked => by(senders, |sender| (sender.next.is_some(), sender.blocked)),
            Sort::Last => by(senders, |sender| sender.last),
            Sort::Name => senders.sort_by(|one, other| one.sender.cmp(&other.sender)),
        }
    }
}

/// The greatest first, equal ones by name.
fn by<K: Ord>(senders: &mut [Sender], key: impl Fn(&Sender) -> K) {
    senders.sort_by(|one, other| key(other).cmp(&key(one)).then_with(|| one.sender.cmp(&other.sender)));
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Returns a quota for programs: None for unlimited.
pub fn limited(quota: u32) -> Option<u32> {
    (quota != UNLIMITED).then_some(quota)
}
