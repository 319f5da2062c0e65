//! From a charge to a committed verdict: group commit.
//!
//! Connections put a [`queue::Charge`] into the bounded queue and wait. One task, the [`committer`], takes all that waits,
//! settles it in one transaction of the store, and only then answers. So a lone request costs one commit, and load makes its
//! own batches. [`repeats`] keeps a message that is asked about twice from being charged twice; [`breaker`] and [`standin`]
//! answer while the database is away.

pub mod batch;
pub mod breaker;
pub mod committer;
pub mod histories;
pub mod locks;
pub mod queue;
pub mod repeats;
pub mod standin;

use std::sync::Arc;

use crate::limiter::decide::Ruling;
use crate::protocol::reply::{Action, Strictness};

/// The answer to a charge. Its ruling is shared: the connection shows it, and [`repeats`] keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Counted in the database, and ruled by it.
    Counted(Arc<Ruling>),
    /// Ruled by the database, but not counted: a dry run.
    Looked(Arc<Ruling>),
    /// The database is away: ruled by the daemon's own memory.
    Remembered(Arc<Ruling>),
    /// Nothing could be said in time; Postfix is told ACTION_ON_ERROR.
    FailOpen(FailOpen, Action),
}

impl Verdict {
    pub fn action(&self) -> &Action {
        match self {
            Verdict::Counted(ruling) | Verdict::Looked(ruling) | Verdict::Remembered(ruling) => &ruling.action,
            Verdict::FailOpen(_, action) => action,
        }
    }

    /// Whether it is the quota that was exceeded, and not only one that warns.
    pub fn is_over_quota(&self) -> bool {
        match self {
            Verdict::Counted(ruling) | Verdict::Looked(ruling) | Verdict::Remembered(ruling) => {
                ruling.reason.as_ref().is_some_and(|reason| reason.is_quota)
            }
            Verdict::FailOpen(..) => false,
        }
    }

    /// Whether the mail goes on with it.
    pub fn lets_through(&self) -> bool {
        match self {
            Verdict::Counted(ruling) | Verdict::Looked(ruling) | Verdict::Remembered(ruling) => ruling.let_through,
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
