//! The breaker: whether the database is used, or each request is decided from memory since the database is away. Pure.

use std::time::Duration;

/// Between two attempts to reach the database.
pub const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause before the first attempt: see [`Breaker::open`].
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Times are since the start of the committer.
#[derive(Debug, Default)]
pub struct Breaker {
    open: Option<Outage>,
    /// None if the database was never away, or charges were settled since.
    /// Then the pause before the attempt that succeeded.
    back: Option<Duration>,
}

/// One time that the database is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    since: Duration,
    /// Before the first attempt to get the database back.
    pub pause: Duration,
    /// Requests decided from memory meanwhile.
    pub decided: u64,
}

impl Outage {
    pub fn lasted(self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }

    /// Whether the database was back just before and settled nothing.
    pub fn is_relapse(self) -> bool {
        self.pause > PAUSE
    }
}

impl Breaker {
    /// The outage, if the database is away.
    pub fn outage(&self) -> Option<Outage> {
        self.open
    }

    /// The database is away. A database that takes the small write of an attempt and then no transaction (a full table, a
    /// missing right, a locked table) would come and go twice a second, so each time the pause is doubled.
    pub fn open(&mut self, now: Duration) -> Outage {
        let pause = match self.back.take() {
            Some(pause) => (pause * 2).min(MAX_PAUSE),
            None => PAUSE,
        };
        *self.open.insert(Outage { since: now, pause, decided: 0 })
    }

    /// Notes that this many requests were decided from memory.
    pub fn decided(&mut self, requests: usize) {
        if let Some(outage) = &mut self.open {
            outage.decided = outage.decided.saturating_add(requests as u64);
        }
    }

    /// The database is back. Returns the outage that is over.
    pub fn close(&mut self) -> Option<Outage> {
        let outage = self.open.take()?;
        self.back = Some(outage.pause);
        Some(outage)
    }

    /// Notes that charges were settled.
    pub fn settles(&mut self) {
        self.back = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_comes_and_settles_nothing_is_asked_less_and_less_often() {
        let mut breaker = Breaker::default();
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            pauses.push(breaker.open(now).pause);
            now += MAX_PAUSE;
            breaker.close();
        }
        assert!(
            pauses.is_sorted() && pauses.first() == Some(&PAUSE) && pauses.last() == Some(&MAX_PAUSE),
            "{pauses:?}"
        );
        breaker.settles();
        assert_eq!(breaker.open(now).pause, PAUSE);
    }
}
