//! A limit: what a sender may send in a window or in one message, besides its quota.

use std::fmt;
use std::time::Duration;

use crate::policy::decimal::Decimal;
use crate::policy::duration;
use crate::policy::quota::{UNLIMITED, Window};
use crate::protocol::reply::Action;

/// The shortest window: usage is kept per minute.
pub const MIN_WINDOW: Duration = Duration::from_secs(60);
/// The longest window.
pub const MAX_WINDOW: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The greatest amount, in recipients or bytes: more than a petabyte limits nothing, and sums of it stay in 63 bits.
pub const MAX_AMOUNT: u64 = 1 << 50;

/// What is usual is known for these windows.
pub const USUAL_WINDOWS: [Duration; 2] = [Duration::from_secs(60 * 60), Duration::from_secs(24 * 60 * 60)];

/// One limit: `amount measure/per action`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    pub amount: Amount,
    pub measure: Measure,
    pub per: Per,
    /// What Postfix is told when more than the amount is used; its text may hold placeholders.
    pub action: Action,
    /// The limit without its action as the operator wrote it, for logs and tables: `30 recipients/5m`.
    pub written: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    Count(u64),
    /// Of the sender's own quota.
    Percent(Decimal),
    /// So many times what is usual for the sender, and never less than `min`. In one of [`USUAL_WINDOWS`].
    Usual {
        factor: Decimal,
        min: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    Recipients,
    Messages,
    /// Different networks of clients, see [`crate::account::network::place`].
    Networks,
    Bytes,
    /// Recipients of mail from networks that the sender was not seen in before.
    NewRecipients,
    /// Messages from networks that the sender was not seen in before.
    NewMessages,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Per {
    Message,
    /// From [`MIN_WINDOW`] to [`MAX_WINDOW`], whole seconds. Usage is kept per minute, so that a limit may be up to one
    /// minute stricter than written, never laxer.
    Window(Duration),
}

impl Measure {
    /// The word for it in settings, texts and tables.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Recipients | Measure::NewRecipients => "recipients",
            Measure::Messages | Measure::NewMessages => "messages",
            Measure::Networks => "networks",
            Measure::Bytes => "bytes",
        }
    }

    /// Whether it is of mail from new networks alone.
    pub fn is_from_new_networks(self) -> bool {
        matches!(self, Measure::NewRecipients | Measure::NewMessages)
    }
}

impl Limit {
    /// How much an account with this quota may use; `usual` is how much is usual for it in this limit's window, if that is
    /// known. None if the limit does not apply, because it is a part of a quota that is unlimited or depends on what is not
    /// known. A part never rounds down to nothing: a small quota is no ban.
    pub fn allowed(&self, quota: u32, usual: Option<u64>) -> Option<u64> {
        match self.amount {
            Amount::Count(count) => Some(count),
            Amount::Percent(_) if quota == UNLIMITED => None,
            Amount::Percent(percent) => Some(percent.percent_of(quota).max(quota.min(1).into())),
            Amount::Usual { factor, min } => usual.map(|usual| factor.times(usual).max(min)),
        }
    }

    /// Whether it depends on what was learnt about senders: until enough is known it only warns.
    pub fn learns(&self) -> bool {
        matches!(self.amount, Amount::Usual { .. }) || self.measure.is_from_new_networks()
    }
}

/// The longest window that a decision looks at. None if decisions need counters alone. History must be kept for as long.
pub fn longest_window(quota: Window, limits: &[Limit]) -> Option<Duration> {
    windows(quota, limits).max()
}

/// The windows that a decision looks at.
pub fn windows(quota: Window, limits: &[Limit]) -> impl Iterator<Item = Duration> {
    let quota = match quota {
        Window::Reset => None,
        Window::Sliding(window) => Some(window),
    };
    let windows = limits.iter().filter_map(|limit| match limit.per {
        Per::Window(window) => Some(window),
        Per::Message => None,
    });
    windows.chain(quota)
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Per {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Per::Message => f.write_str("message"),
            Per::Window(window) => f.write_str(&duration::show(*window)),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Count(count) => write!(f, "{count}"),
            Amount::Percent(percent) => write!(f, "{percent}%"),
            Amount::Usual { factor, .. } => write!(f, "{factor}x usual"),
        }
    }
}

/// What [`super::limits::parse`] reads, with the action that applies.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.written, self.action)
    }
}
