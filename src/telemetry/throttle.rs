//! A throttle per key: for warnings that repeat, and for the decision lines of an account that is blocked again and again.
//!
//! Pure: the time is an argument. Every event is either let through or counted, and every count is handed out once.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Lets the first `burst` events of a key pass in a period, and counts the others.
///
/// A key that exceeds its burst has one event per period from then on, which carries the count of those before it,
/// until it keeps within its burst for a whole period. Keys are bounded: those beyond the bound share one allowance.
#[derive(Debug)]
pub struct Throttle<K> {
    burst: u64,
    period: Duration,
    most_keys: usize,
    keys: HashMap<K, Period>,
    /// Of all the keys for which there was no room.
    others: Option<Period>,
}

/// What is to be done with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Say it, and that so many before it were not said.
    Pass { suppressed: u64 },
    /// Say nothing; it is counted.
    Suppress,
}

/// Events that were counted and not yet told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppressed<K> {
    /// None for the keys that share one allowance.
    pub key: Option<K>,
    pub count: u64,
}

/// The current period of one key.
#[derive(Debug)]
struct Period {
    began: Instant,
    /// How many events pass in it.
    allowance: u64,
    seen: u64,
    suppressed: u64,
}

impl<K: Eq + Hash> Throttle<K> {
    /// `burst` events of a key pass in each `period`, for at most `most_keys` keys at a time.
    pub fn new(burst: u64, period: Duration, most_keys: usize) -> Throttle<K> {
        Throttle { burst, period, most_keys, keys: HashMap::new(), others: None }
    }

    /// Judges one event.
    pub fn admit<Q>(&mut self, key: &Q, now: Instant) -> Verdict
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let (burst, length) = (self.burst, self.period);
        if let Some(period) = self.keys.get_mut(key) {
            return period.admit(burst, length, now);
        }
        let fresh = Period { began: now, allowance: burst, seen: 0, suppressed: 0 };
        if self.keys.len() < self.most_keys {
            self.keys.entry(key.to_owned()).or_insert(fresh).admit(burst, length, now)
        } else {
            self.others.get_or_insert(fresh).admit(burst, length, now)
        }
    }

    /// Forgets the keys that have gone quiet, and hands out what was counted for them and will be carried by no event.
    ///
    /// To be called about once a period: it is what makes room for new keys.
    pub fn ended(&mut self, now: Instant) -> Vec<Suppressed<K>> {
        let (burst, length) = (self.burst, self.period);
        self.take(|period| period.is_calm(burst, length, now))
    }

    /// Forgets everything, and hands out all that was counted: for the end of the program.
    pub fn drain(&mut self) -> Vec<Suppressed<K>> {
        self.take(|_| true)
    }

    fn take(&mut self, over: impl Fn(&Period) -> bool) -> Vec<Suppressed<K>> {
        let keys = self.keys.extract_if(|_, period| over(period)).map(|(key, period)| (Some(key), period));
        let others = self.others.take_if(|period| over(period)).map(|period| (None, period));
        keys.chain(others)
            .filter(|(_, period)| period.suppressed > 0)
            .map(|(key, period)| Suppressed { key, count: period.suppressed })
            .collect()
    }
}

impl Period {
    fn is_over(&self, length: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= length
    }

    /// Whether the burst is granted anew: it was kept, or a whole period without any event has followed.
    fn is_calm(&self, burst: u64, length: Duration, now: Instant) -> bool {
        self.is_over(if self.seen <= burst { length } else { length.saturating_mul(2) }, now)
    }

    fn admit(&mut self, burst: u64, length: Duration, now: Instant) -> Verdict {
        let mut told = 0;
        if self.is_over(length, now) {
            told = self.suppressed;
            let allowance = if self.is_calm(burst, length, now) { burst } else { 1 };
            *self = Period { began: now, allowance, seen: 0, suppressed: 0 };
        }
        self.seen += 1;
        if self.seen <= self.allowance {
            Verdict::Pass { suppressed: told }
        } else {
            self.suppressed += 1;
            Verdict::Suppress
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const PASS: Verdict = Verdict::Pass { suppressed: 0 };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_repeated_warning_is_said_once_a_period_with_the_count() {
        let start = Instant::now();
        let mut throttle = Throttle::<String>::new(1, MINUTE, 8);
        assert_eq!(throttle.admit("disk", start), PASS);
        assert_eq!(throttle.admit("disk", after(start, 1)), Verdict::Suppress);
        assert_eq!(throttle.admit("disk", after(start, 59)), Verdict::Suppress);
        assert_eq!(throttle.admit("socket", after(start, 59)), PASS);
        assert_eq!(throttle.admit("disk", after(start, 60)), Verdict::Pass { suppressed: 2 });
        assert_eq!(throttle.admit("disk", after(start, 61)), Verdict::Suppress);
    }

    #[test]
    fn a_sender_who_goes_on_has_ten_lines_and_then_one_a_minute() {
        let start = Instant::now();
        let mut throttle = Throttle::<String>::new(10, MINUTE, 8);
        let mut passed = |minute: u64| {
            (0..600)
                .filter(|tenth| {
                    let now = start + MINUTE * minute as u32 + Duration::from_millis(tenth * 100);
                    throttle.admit("phished", now) != Verdict::Suppress
                })
                .count()
        };
        assert_eq!([passed(0), passed(1), passed(2)], [10, 1, 1]);
        // A calm period later the sender has its burst again.
        assert_eq!(passed(5), 10);
    }

    #[test]
    fn forgetting_who_is_quiet_grants_no_burst_to_who_goes_on() {
        let start = Instant::now();
        let mut throttle = Throttle::<String>::new(2, MINUTE, 8);
        let attempts = |throttle: &mut Throttle<String>, now| {
            (0..5).filter(|_| throttle.admit("phished", now) != Verdict::Suppress).count()
        };
        assert_eq!(attempts(&mut throttle, start), 2);
        assert_eq!(throttle.ended(after(start, 60)), []);
        assert_eq!(attempts(&mut throttle, after(start, 60)), 1);
    }

    #[test]
    fn who_keeps_within_the_burst_is_never_cut() {
        let start = Instant::now();
        let mut throttle = Throttle::<String>::new(10, MINUTE, 8);
        assert!((0..600).all(|n| throttle.admit("calm", after(start, n * 6)) == PASS));
    }

    #[test]
    fn keys_beyond_the_bound_share_one_allowance() {
        let start = Instant::now();
        let mut throttle = Throttle::<String>::new(1, MINUTE, 2);
        let passed = (0..1000).filter(|n| throttle.admit(&format!("key{n}"), start) == PASS).count();
        assert_eq!(passed, 3);
        throttle.ended(after(start, 60));
        assert_eq!(throttle.admit("new", after(start, 60)), PASS);
        assert_eq!(throttle.ended(after(start, 120)), [Suppressed { key: None, count: 997 }]);
    }

    #[test]
    fn a_key_gone_quiet_hands_out_its_count_once() {
        let start = Instant::now();
        let mut throttle = Throttle::<String>::new(1, MINUTE, 8);
        throttle.admit("a", start);
        throttle.admit("a", start);
        assert_eq!(throttle.ended(after(start, 119)), []);
        assert_eq!(throttle.ended(after(start, 120)), [Suppressed { key: Some("a".to_owned()), count: 1 }]);
        assert_eq!(throttle.drain(), []);
    }

    proptest! {
        #[test]
        fn every_event_is_said_or_counted(
            burst in 1..4_u64,
            events in proptest::collection::vec((0..6_u8, 0..40_u64, prop::bool::weighted(0.1)), 0..300),
        ) {
            let mut now = Instant::now();
            let mut throttle = Throttle::<String>::new(burst, MINUTE, 3);
            let mut accounted = 0;
            for (key, seconds, end) in &events {
                now += Duration::from_secs(*seconds);
                if let Verdict::Pass { suppressed } = throttle.admit(key.to_string().as_str(), now) {
                    accounted += 1 + suppressed;
                }
                if *end {
                    accounted += throttle.ended(now).iter().map(|s| s.count).sum::<u64>();
                }
                prop_assert!(throttle.keys.len() <= 3);
            }
            accounted += throttle.drain().iter().map(|s| s.count).sum::<u64>();
            prop_assert_eq!(accounted, events.len() as u64);
        }
    }
}
