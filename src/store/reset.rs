//! Who resets the counters, and when they were: of several hosts one a day.

use super::failure::Failure;
use super::handle::{Patience, Store};
use super::meta;

/// The time of the last reset of all counters, in `meta`.
pub const LAST_RESET: &str = "last_reset";

/// When the process that resets the counters last moved on, in `meta`.
const RESETTING: &str = "resetting";
/// A process that has not moved on for so many seconds has died within its reset.
const RESET_TIMEOUT: i64 = 120;

impl Store {
    /// Claims the reset for this process; false if somebody is at it, or reset at `unless` or later.
    pub async fn claim_reset(&mut self, now: i64, unless: Option<i64>) -> Result<bool, Failure> {
        self.transact(Patience::Long, async |script| {
            let connection = script.connection().await?;
            meta::lock(connection, RESETTING).await?;
            let mut times = [RESETTING, LAST_RESET].map(|name| (name, 0));
            for (name, time) in &mut times {
                *time = meta::time(connection, name, now).await?.unwrap_or(0);
            }
            let [(_, moved), (_, reset)] = times;
            if unless.is_some_and(|unless| reset >= unless || moved > now.saturating_sub(RESET_TIMEOUT)) {
                return Ok(false);
            }
            meta::set(connection, RESETTING, &now.to_string()).await?;
            Ok(true)
        })
        .await
    }

    /// Tells that the process which claimed the reset is at it.
    pub async fn keep_reset(&mut self, now: i64) -> Result<(), Failure> {
        self.set_meta(RESETTING, &now.to_string()).await
    }

    /// Ends the reset: all counters were reset as of this time. None leaves the reset to the next run of `cleanup`.
    pub async fn end_reset(&mut self, as_of: Option<i64>) -> Result<(), Failure> {
        if let Some(time) = as_of {
            self.set_meta(LAST_RESET, &time.to_string()).await?;
        }
        self.set_meta(RESETTING, "0").await
    }

    /// When the counters were last reset, or counting began here, in seconds since 1970.
    pub async fn last_reset(&mut self, now: i64) -> Result<Option<i64>, Failure> {
        self.run(async |connection| {
            let reset = meta::time(connection, LAST_RESET, now).await?;
            Ok(reset.max(meta::time(connection, meta::COUNTING_SINCE, now).await?))
        })
        .await
    }
}
