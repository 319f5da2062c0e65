//! What the daemon tells people: the log, and the one line per decision in it.
//!
//! `escape` makes foreign text safe to show; `decision` is the line; `throttle` decides, without a clock, what repeats
//! too often.

pub mod decision;
mod escape;
pub mod throttle;

/// The log target of decision lines: the queue id is the first thing on them, whatever LOG_MSG_PREFIX says.
pub const DECISION: &str = "decision";
