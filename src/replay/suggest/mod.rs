//! The settings that past mail suggests.
//!
//! [`streams`] keeps what accounts sent from where, as sums per account, minute and network. [`form`] has the kinds of limits
//! that are tried. [`walk`] is an account on the way through its mail, as the limiter knows it;
//! [`sweep`] finds on that way how high a limit of each kind would have to be, and adds up what that means for all accounts;
//! [`wave`] is the mail of a stolen account, put into the account's own; [`judge`] decides by a whole policy, request by request.
//! [`proposal`] chooses from all that.
//!
//! What a window holds, what is usual and which networks are new is told by `limiter`, as it is live. All is pure, and the same
//! logs give the same figures.

pub mod form;
pub mod judge;
pub mod proposal;
pub mod streams;
pub mod sweep;
pub mod walk;
pub mod wave;

/// A sender-month, in seconds: 30 days in which an account sent something.
pub const MONTH: i64 = 30 * 24 * 60 * 60;

/// Returns the sender-month of a time, both in Unix seconds, counted from `begin`.
fn month(begin: i64, now: i64) -> u32 {
    u32::try_from(now.saturating_sub(begin) / MONTH).unwrap_or(0)
}
