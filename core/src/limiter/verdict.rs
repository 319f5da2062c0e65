//! How a charge was answered, and why it was answered without a decision.

use std::sync::Arc;

use super::decide::Decision;
use crate::protocol::reply::{Action, Strictness};

/// The answer to a charge. Its decision is shared: the connection shows it, and what was asked before is answered by it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Counted in the database, and ruled by it.
    Counted(Arc<Decision>),
    /// Ruled by the database, but not counted: a dry run.
    Looked(Arc<Decision>),
    /// The database is away: ruled by the daemon's own memory.
    Remembered(Arc<Decision>),
    /// Nothing could be said in time; Postfix is told ACTION_ON_ERROR.
    FailOpen(FailOpen, Action),
}

impl Verdict {
    pub fn action(&self) -> &Action {
        match self {
            Verdict::Counted(decision) | Verdict::Looked(decision) | Verdict::Remembered(decision) => &decision.action,
            Verdict::FailOpen(_, action) => action,
        }
    }

    /// Whether it is the quota that was exceeded, and not only one that warns.
    pub fn is_over_quota(&self) -> bool {
        match self {
            Verdict::Counted(decision) | Verdict::Looked(decision) | Verdict::Remembered(decision) => {
                decision.reason.as_ref().is_some_and(|reason| reason.is_quota)
            }
            Verdict::FailOpen(..) => false,
        }
    }

    /// Whether the mail goes on with it.
    pub fn lets_through(&self) -> bool {
        match self {
            Verdict::Counted(decision) | Verdict::Looked(decision) | Verdict::Remembered(decision) => {
                decision.let_through
            }
            Verdict::FailOpen(_, action) => action.strictness() <= Strictness::Hold,
        }
    }
}

/// Why a request was answered with ACTION_ON_ERROR.
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
