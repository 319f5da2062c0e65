//! The breaker: whether the database is used, or each request is decided from memory since the database is away. Pure.

use std::time::Duration;

/// Between two attempts to reach the database.
pub const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause before the first attempt: see [`Breaker::open`].
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// How long the database must have settled charges until what was counted in memory is forgotten.
const PROVEN_AFTER: Duration = Duration::from_secs(60);

/// Times are since the start of the committer.
#[derive(Debug, Default)]
pub struct Breaker {
    open: Option<Outage>,
    /// None unless the database was away less than [`PROVEN_AFTER`] ago.
    back: Option<Return>,
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

/// A database that came back.
#[derive(Debug, Clone, Copy)]
struct Return {
    at: Duration,
    settled: bool,
    /// Before the attempt that succeeded.
    pause: Duration,
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
            Some(back) if !back.settled => (back.pause * 2).min(MAX_PAUSE),
            _ => PAUSE,
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
    pub fn close(&mut self, now: Duration) -> Option<Outage> {
        let outage = self.open.take()?;
        self.back = Some(Return { at: now, settled: false, pause: outage.pause });
        Some(outage)
    }

    /// Notes that charges were settled. True once, when that has gone well for long enough after an outage.
    pub fn settles(&mut self, now: Duration) -> bool {
        let Some(back) = &mut self.back else { return false };
        back.settled = true;
        let proven = now.saturating_sub(back.at) >= PROVEN_AFTER;
        if proven {
            self.back = None;
        }
        proven
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
            breaker.close(now);
        }
        assert!(
            pauses.is_sorted() && pauses.first() == Some(&PAUSE) && pauses.last() == Some(&MAX_PAUSE),
            "{pauses:?}"
        );
        assert!(!breaker.settles(now), "not proven yet");
        assert_eq!(breaker.open(now).pause, PAUSE);
        breaker.close(now);
        breaker.settles(now);
        assert!(breaker.settles(now + PROVEN_AFTER) && !breaker.settles(now + PROVEN_AFTER));
    }
}
