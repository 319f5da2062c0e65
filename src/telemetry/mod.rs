//! What the daemon shows of itself: the log with its one line per decision, and the figures.
//!
//! `escape` makes foreign text safe to show; `decision` is the line; `throttle` decides, without a clock, what repeats
//! too often; `log_throttle` is the throttle at work; `logging` carries every line to its sinks, off the mail path; `metrics` counts
//! what happens, by `labels`, and `counters` is what it shows.

pub mod counters;
pub mod decision;
pub mod escape;
pub mod labels;
pub mod log_throttle;
pub mod logging;
pub mod metrics;
pub mod throttle;

/// The log target of decision lines: the queue id is the first thing on them, whatever LOG_MSG_PREFIX says.
pub const DECISION: &str = "decision";

/// The log target of what is wrong with settings: it quotes them, so it is for the log alone and for no error report.
pub const FINDING: &str = "finding";
