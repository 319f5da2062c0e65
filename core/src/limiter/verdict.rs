//! How a charge was answered.

use std::sync::Arc;

use super::decision::{Decision, Reason};
use crate::protocol::reply::{Action, Strictness};

/// The answer to a charge. Its decision is shared: the connection shows it, and deduplication keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Counted in the database, and decided by it.
    Counted(Arc<Decision>),
    /// Decided by the database, and not counted.
    DryRun(Arc<Decision>),
    /// Decided from the daemon's own memory, since the database is away.
    FromMemory(Arc<Decision>),
    /// Nobody has blocked it, which is all that was asked: a list decides.
    NotBlocked,
    /// Nothing could be said in time: Postfix is told ACTION_ON_ERROR.
    InDoubt(FailOpen),
}

impl Verdict {
    /// The decision, unless it is in doubt or a list's.
    pub fn decision(&self) -> Option<&Arc<Decision>> {
        match self {
            Verdict::Counted(decision) | Verdict::DryRun(decision) | Verdict::FromMemory(decision) => Some(decision),
            Verdict::NotBlocked | Verdict::InDoubt(_) => None,
        }
    }

    /// Whether it is the quota that was exceeded, and not only one that warns.
    pub fn is_over_quota(&self) -> bool {
        self.decision().and_then(|decision| decision.reason.as_ref()).is_some_and(Reason::is_quota)
    }

    /// Returns whether Postfix accepts the mail with this verdict if ACTION_ON_ERROR is `on_error`.
    pub fn lets_through(&self, on_error: &Action) -> bool {
        match self {
            Verdict::Counted(decision) | Verdict::DryRun(decision) | Verdict::FromMemory(decision) => {
                decision.let_through
            }
            Verdict::NotBlocked => true,
            Verdict::InDoubt(_) => on_error.strictness() <= Strictness::Hold,
        }
    }
}

/// Why a request is answered with ACTION_ON_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum FailOpen {
    #[error("the request makes no sense")]
    Nonsense,
    #[error("no verdict within DECISION_TIMEOUT")]
    Deadline,
    #[error("the queue is full")]
    QueueFull,
    #[error("the sender's row is locked by somebody else")]
    Locked,
    #[error("the database refuses a value of the request")]
    Refused,
    #[error("the database kept asking to try again")]
    Contended,
    #[error("the connection was lost while committing")]
    CommitUnknown,
    #[error("the daemon is stopping")]
    Stopping,
}

impl FailOpen {
    /// Every reason, in the order of their numbers.
    pub const ALL: [FailOpen; 8] = [
        FailOpen::Nonsense,
        FailOpen::Deadline,
        FailOpen::QueueFull,
        FailOpen::Locked,
        FailOpen::Refused,
        FailOpen::Contended,
        FailOpen::CommitUnknown,
        FailOpen::Stopping,
    ];

    /// The reason's name in metrics and in the log.
    pub fn name(self) -> &'static str {
        match self {
            FailOpen::Nonsense => "nonsense",
            FailOpen::Deadline => "deadline",
            FailOpen::QueueFull => "queue_full",
            FailOpen::Locked => "locked",
            FailOpen::Refused => "refused",
            FailOpen::Contended => "contended",
            FailOpen::CommitUnknown => "commit_unknown",
            FailOpen::Stopping => "stopping",
        }
    }
}
