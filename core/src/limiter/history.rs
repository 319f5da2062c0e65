//! The recent past of one account, as far as sliding windows and limits need it: sums per minute of what was let through, and
//! the networks of its clients.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::increase::Increase;
use super::window::{self, MinuteSum, minute_of};
use crate::policy::limit::Measure;

/// What was let through within one minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Minute {
    pub minute: i64,
    pub messages: u64,
    pub recipients: u64,
    pub bytes: u64,
}

impl Minute {
    fn take_in(&mut self, added: Minute) {
        self.messages = self.messages.saturating_add(added.messages);
        self.recipients = self.recipients.saturating_add(added.recipients);
        self.bytes = self.bytes.saturating_add(added.bytes);
    }
}

/// The history of one account. Minutes are in ascending order, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    minutes: Vec<Minute>,
    /// When each network was last seen, in Unix seconds.
    networks: HashMap<IpNet, i64>,
    /// Where `sender reset` begins anew, in Unix seconds; what came before counts no more.
    from: i64,
    pub blocked: Blocked,
}

/// Whether the last request was blocked: of those that brought mail, and of those that brought only the content of mail
/// asked about before. Two, since a message whose content is too much is blocked at END-OF-MESSAGE each time, after it
/// passed at DATA.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Blocked {
    mail: bool,
    content: bool,
}

impl Blocked {
    pub fn any(self) -> bool {
        self.mail || self.content
    }

    pub fn note(&mut self, outstanding: Increase, blocked: bool) {
        if outstanding.is_mail() {
            self.mail = blocked;
        }
        if outstanding.bytes > 0 {
            self.content = blocked;
        }
    }
}

impl History {
    pub fn new(mut minutes: Vec<Minute>, networks: HashMap<IpNet, i64>, from: i64) -> History {
        minutes.sort_by_key(|minute| minute.minute);
        History { minutes, networks, from, blocked: Blocked::default() }
    }

    /// The same, of an account whose last request is known to have been blocked or not.
    pub fn with_blocked(self, blocked: Blocked) -> History {
        History { blocked, ..self }
    }

    /// How much of a measure a window that ends now holds.
    pub fn used(&self, measure: Measure, window: Duration, now: i64) -> u64 {
        let counting = self.counting(window, now);
        match measure {
            Measure::Networks => {
                let from = self.from(now);
                let held = |seen: i64| seen >= from && counting.contains(&minute_of(seen));
                self.networks.values().filter(|&&seen| held(seen)).count() as u64
            }
            _ => {
                let begin = self.minutes.partition_point(|minute| minute.minute < *counting.start());
                let end = self.minutes.partition_point(|minute| minute.minute <= *counting.end());
                let held = self.minutes.get(begin..end).unwrap_or_default();
                held.iter().fold(0, |sum, minute| sum.saturating_add(of(minute, measure)))
            }
        }
    }

    /// Returns the first moment at which `amount` more is within what is allowed. None if it never is.
    pub fn free_at(&self, measure: Measure, window: Duration, allowed: u64, amount: u64, now: i64) -> Option<i64> {
        let counting = self.counting(window, now);
        let mut sums: Vec<MinuteSum> = match measure {
            Measure::Networks => {
                let from = self.from(now);
                let seen = self.networks.values().filter(|&&seen| seen >= from);
                seen.map(|&seen| MinuteSum { minute: minute_of(seen), sum: 1 }).collect()
            }
            _ => self.minutes.iter().map(|m| MinuteSum { minute: m.minute, sum: of(m, measure) }).collect(),
        };
        sums.retain(|sum| counting.contains(&sum.minute));
        sums.sort_by_key(|sum| sum.minute);
        window::free_at(&sums, window, allowed, amount, now)
    }

    /// Adds what was let through now.
    pub fn add(&mut self, increase: Increase, now: i64) {
        let added = Minute {
            minute: minute_of(now),
            messages: increase.messages.into(),
            recipients: increase.recipients.into(),
            bytes: increase.bytes,
        };
        self.add_to(added.minute, added);
    }

    fn add_to(&mut self, minute: i64, added: Minute) {
        let place = self.minutes.partition_point(|held| held.minute < minute);
        if self.minutes.get(place).is_none_or(|held| held.minute != minute) {
            self.minutes.insert(place, Minute { minute, ..Minute::default() });
        }
        if let Some(held) = self.minutes.get_mut(place) {
            held.take_in(added);
        }
    }

    /// Notes that a request came from this network now.
    pub fn see(&mut self, network: IpNet, now: i64) {
        let seen = self.networks.entry(network).or_insert(now);
        // A later time than any clock has now would keep this network out of every window until then.
        if *seen < now || *seen > window::latest(now) {
            *seen = now;
        }
    }

    /// Forgets what no window of this length holds, and tells minutes apart for as long as `exact`.
    pub fn forget(&mut self, longest: Duration, exact: Duration, now: i64) {
        let counting = window::minutes(now, longest);
        self.minutes.retain(|minute| counting.contains(&minute.minute));
        let coarse = window::coarse_before(now, exact);
        self.minutes.dedup_by(|later, held| {
            let together = window::kept_together(held.minute, coarse).contains(&later.minute);
            if together {
                held.minute = later.minute;
                held.take_in(*later);
            }
            together
        });
        self.networks.retain(|_, &mut seen| counting.contains(&minute_of(seen)));
    }

    /// Adds what another history of the same account holds. Whether it was blocked stays.
    pub fn merge(&mut self, other: &History) {
        for held in &other.minutes {
            self.add_to(held.minute, *held);
        }
        for (network, &seen) in &other.networks {
            let latest = self.networks.entry(*network).or_insert(seen);
            *latest = seen.max(*latest);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.minutes.is_empty() && self.networks.is_empty()
    }

    /// How much memory this takes beside its own size, in bytes.
    pub fn bytes(&self) -> usize {
        self.minutes.capacity() * size_of::<Minute>() + self.networks.capacity() * (size_of::<(IpNet, i64)>() + 1)
    }

    /// The minutes that count in a window that ends now.
    fn counting(&self, window: Duration, now: i64) -> RangeInclusive<i64> {
        let minutes = window::minutes(now, window);
        minute_of(self.from(now)).max(*minutes.start())..=*minutes.end()
    }

    /// A time that no clock has now was written while one was wrong: nothing would count until then.
    fn from(&self, now: i64) -> i64 {
        if self.from > window::latest(now) { 0 } else { self.from }
    }
}

fn of(minute: &Minute, measure: Measure) -> u64 {
    match measure {
        Measure::Recipients => minute.recipients,
        Measure::Messages => minute.messages,
        Measure::Bytes => minute.bytes,
        Measure::Networks => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_800_014_400;
    const DAY: u64 = 24 * 3600;

    proptest! {
        /// Against a plain list of all events: never laxer, exact to the minute up to a day, and up to an hour or a day
        /// stricter beyond; what is kept is bounded whatever was sent.
        #[test]
        fn a_long_window_is_never_laxer_and_little_stricter(
            events in prop::collection::vec((0i64..400 * 24 * 60, 1u32..5), 1..300),
            exact in 0u64..=25,
            later in 0i64..3 * 86400,
        ) {
            let exact = window::exact_for([Duration::from_secs(exact * 3600)].into_iter());
            let longest = Duration::from_secs(366 * DAY);
            let mut history = History::default();
            let mut events: Vec<(i64, u32)> = events.into_iter().map(|(ago, count)| (NOW - ago * 60, count)).collect();
            events.sort_unstable();
            for (at, count) in &events {
                history.add(Increase { messages: 1, recipients: *count, bytes: 0 }, *at);
                history.forget(longest, exact, *at);
            }
            let now = NOW + later;
            history.forget(longest, exact, now);
            for (window, slack) in [(3600, 60), (exact.as_secs(), 60), (7 * DAY, 3660), (31 * DAY, 3660), (366 * DAY, DAY + 60)] {
                let used = history.used(Measure::Recipients, Duration::from_secs(window), now);
                let since = |length: u64| -> u64 {
                    let from = now - i64::try_from(length).unwrap();
                    events.iter().filter(|(at, _)| *at > from).map(|(_, count)| u64::from(*count)).sum()
                };
                prop_assert!(since(window) <= used && used <= since(window + slack), "{} in {} s", used, window);
            }
            let most = window::most_sums(longest, exact);
            prop_assert!(history.minutes.len() as u64 <= most, "{} of {}", history.minutes.len(), most);
        }
    }

    #[test]
    fn mail_of_every_minute_is_a_bounded_history() {
        for (days, exact, most) in [(1, 24, 1561), (31, 24, 2345), (31, 0, 905), (366, 24, 2711), (366, 0, 1271)] {
            let exact = window::exact_for([Duration::from_secs(exact * 3600)].into_iter());
            let longest = Duration::from_secs(days * DAY);
            let one = |minute| Minute { minute, messages: 1, recipients: 1, bytes: 1 };
            let minutes = (0..400 * 24 * 60).map(|ago| one(minute_of(NOW) - ago)).collect();
            let mut history = History::new(minutes, HashMap::new(), 0);
            history.forget(longest, exact, NOW);
            assert!(history.minutes.len() <= most, "{days} days: {}", history.minutes.len());
            assert!(window::most_sums(longest, exact) >= history.minutes.len() as u64);
            let used = history.used(Measure::Messages, longest, NOW);
            assert!((days * 1440..=(days + 1) * 1440).contains(&used), "{days} days: {used}");
        }
    }
}
