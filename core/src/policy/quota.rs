//! QUOTA and QUOTA_WINDOW: how much, and in which time.

use std::time::Duration;

/// The quota that means `unlimited`: the greatest value of the column.
pub const UNLIMITED: u32 = u32::MAX;

/// Reads what [`written`] writes.
pub fn read(text: &str) -> Option<u32> {
    if text.eq_ignore_ascii_case("unlimited") {
        return Some(UNLIMITED);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|quota| is_number && *quota != UNLIMITED)
}

/// A quota as it is written: a number, or the word.
pub fn written(quota: u32) -> String {
    if quota == UNLIMITED { "unlimited".to_owned() } else { quota.to_string() }
}

/// QUOTA_WINDOW: since when mail counts against the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Since the last `cleanup`, as PolicydRateGuard counts.
    Reset,
    /// The last so many seconds, as policyd counts.
    Sliding(Duration),
}
