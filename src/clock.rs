//! The wall clock, read here and nowhere else. Decisions are given the time as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use crate::policy::duration;

/// The time since 1970; zero if the clock is before that.
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970.
pub fn now() -> i64 {
    duration::seconds(since_1970())
}

/// The time to a fraction of a second, for calendars.
pub fn timestamp() -> Timestamp {
    Timestamp::now()
}
