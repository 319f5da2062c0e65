//! When an attempt that failed is made again. Pure: chance is an argument.

use std::time::Duration;

/// Pauses that grow by a factor, up to a number of attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// After the first attempt.
    pub first: Duration,
    pub factor: u32,
    /// All attempts, the first included.
    pub attempts: u32,
}

impl Schedule {
    /// Over about six minutes: longer than it takes to restart a web server, and short enough to be news.
    pub const NORMAL: Schedule = Schedule { first: Duration::from_secs(1), factor: 4, attempts: 6 };

    /// How long to wait after the `failed`th attempt (from 1 on). Returns `None` if that was the last.
    ///
    /// `chance`, from 0 to 1, takes away up to half of the pause, so that what failed together does not come back together.
    pub fn pause(&self, failed: u32, chance: f32) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let whole = self.first.saturating_mul(self.factor.saturating_pow(failed.saturating_sub(1)));
        Some(whole.saturating_sub(whole.mul_f32(chance.clamp(0.0, 1.0) / 2.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_it_is_given_up() {
        let pauses =
            |chance| -> Vec<Duration> { (1..).map_while(|failed| Schedule::NORMAL.pause(failed, chance)).collect() };
        assert_eq!(pauses(0.0), [1, 4, 16, 64, 256].map(Duration::from_secs));
        assert_eq!(pauses(1.0), [500, 2000, 8000, 32_000, 128_000].map(Duration::from_millis));
    }
}
