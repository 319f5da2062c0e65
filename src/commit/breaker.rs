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
    /// Whether the database was back just before, for a moment.
    pub is_relapse: bool,
}

impl Outage {
    pub fn lasted(self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
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
        let back = self.back.take();
        let pause = back.map_or(PAUSE, |pause| (pause * 2).min(MAX_PAUSE));
        *self.open.insert(match self.open {
            Some(outage) => Outage { pause, is_relapse: true, ..outage },
            None => Outage { since: now, pause, decided: 0, is_relapse: back.is_some() },
        })
    }

    /// The database is back, and what the journal holds is charged before the outage is over. At a daemon's start that is
    /// the beginning of one.
    pub fn reached(&mut self, now: Duration) {
        let outage = self.open.get_or_insert(Outage { since: now, pause: PAUSE, decided: 0, is_relapse: false });
        self.back = Some(outage.pause);
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

    #[test]
    fn an_outage_goes_on_while_what_was_counted_is_charged() {
        let mut breaker = Breaker::default();
        let begin = breaker.open(Duration::from_secs(1));
        breaker.decided(5);
        breaker.reached(Duration::from_secs(3));
        let again = breaker.open(Duration::from_secs(4));
        assert_eq!((again.since, again.decided, again.pause), (begin.since, 5, 2 * PAUSE));
        assert!(again.is_relapse && !begin.is_relapse);
        breaker.reached(Duration::from_secs(5));
        breaker.settles();
        assert_eq!(breaker.open(Duration::from_secs(6)).pause, PAUSE);
        assert_eq!(breaker.close().unwrap().lasted(Duration::from_secs(9)), Duration::from_secs(8));
    }
}
