//! The outcome of a decision, and what decided.

use std::fmt;
use std::sync::Arc;

use super::blocks::{self, Block};
use crate::protocol::reply::{Action, Strictness};

/// The outcome of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub action: Action,
    pub blocked: bool,
    /// Whether this request is the one that took its account from not blocked to blocked.
    pub first_block: bool,
    /// What is used of the quota, with this request: of messages and recipients the greater.
    pub used: u64,
    pub quota: u32,
    /// Which limit or block decided. None if nothing was exceeded, or only limits that warn.
    pub reason: Option<Reason>,
    /// The limits that only warn, if exceeded.
    pub would: Option<String>,
    /// The steps that only tell and were reached with this request, lowest first: their factors as written.
    pub reached: Vec<String>,
    /// Whether the mail goes on, as it does with HOLD too. See [`Decision::counts`].
    pub let_through: bool,
    /// Whether it came from a network that is new to its account. False where no limit asks for it.
    pub from_new_network: bool,
}

impl Decision {
    /// Nothing is exceeded, and Postfix is told DUNNO: what is said of most mail.
    pub fn accepted(used: u64, quota: u32) -> Decision {
        Decision {
            action: Action::DUNNO,
            blocked: false,
            first_block: false,
            used,
            quota,
            reason: None,
            would: None,
            reached: Vec::new(),
            let_through: true,
            from_new_network: false,
        }
    }

    /// Whether the mail is kept back, for somebody to look at.
    pub fn is_held(&self) -> bool {
        self.blocked && self.let_through
    }

    /// The decision of a block, which comes before quota and limits: of these, `used` and `quota` only are shown.
    ///
    /// Held mail goes on, so that no later request about the same message is judged anew; but neither what a block holds nor
    /// what it refuses counts in a window: when the block is over, its owner must not find the quota used up by somebody else.
    pub fn of_block(block: &Arc<Block>, used: u64, quota: u32) -> Decision {
        Decision {
            action: block.action.clone(),
            blocked: true,
            first_block: false,
            used,
            quota,
            reason: Some(Reason::Block(block.clone())),
            would: None,
            reached: Vec::new(),
            from_new_network: false,
            let_through: block.action.strictness() <= Strictness::Hold,
        }
    }

    /// The block that decided, if it was one.
    pub fn block(&self) -> Option<&Arc<Block>> {
        match &self.reason {
            Some(Reason::Block(block)) => Some(block),
            _ => None,
        }
    }

    /// Whether the mail counts in windows.
    pub fn counts(&self) -> bool {
        self.let_through && self.block().is_none()
    }
}

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A limit that is exceeded, and how it stood. Shown as `30 recipients/5m: 31`.
    Limit {
        /// As the operator wrote it; the quota as `1x quota 1000`.
        limit: String,
        used: u64,
        /// Whether that was the quota, and not one of LIMITS.
        is_quota: bool,
    },
    /// A block. Shown as `blocked: compromised`.
    Block(Arc<Block>),
}

impl Reason {
    /// Whether it is the quota, and neither one of LIMITS nor a block.
    pub fn is_quota(&self) -> bool {
        matches!(self, Reason::Limit { is_quota: true, .. })
    }

    /// The limit as written, or the reason of the block.
    pub fn limit(&self) -> &str {
        match self {
            Reason::Limit { limit, .. } => limit,
            Reason::Block(block) => &block.reason,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Limit { limit, used, .. } => write!(f, "{limit}: {used}"),
            Reason::Block(block) => write!(f, "{}{}", blocks::DECIDED, block.reason),
        }
    }
}
