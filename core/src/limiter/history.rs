//! The recent past of one account, as far as sliding windows and limits need it: sums per minute of what was let through, and
//! the networks of its clients. And what is usual for it.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::increase::Increase;
use super::usual::Usual;
use super::window::{self, MinuteSum, minute_of};
use crate::policy::limit::Measure;

/// A network is new for so long, in seconds: what comes from a new place today and goes on tomorrow has been seen by then.
const NEW_FOR: i64 = 24 * 60 * 60;
/// After so long a network is forgotten, in seconds.
const KNOWN_FOR: i64 = 35 * 24 * 60 * 60;

/// What was let through within one minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Minute {
    pub minute: i64,
    pub messages: u64,
    pub recipients: u64,
    pub bytes: u64,
}

impl Minute {
    fn of(increase: Increase, now: i64) -> Minute {
        Minute {
            minute: minute_of(now),
            messages: increase.messages.into(),
            recipients: increase.recipients.into(),
            bytes: increase.bytes,
        }
    }

    fn take_in(&mut self, added: Minute) {
        self.messages = self.messages.saturating_add(added.messages);
        self.recipients = self.recipients.saturating_add(added.recipients);
        self.bytes = self.bytes.saturating_add(added.bytes);
    }
}

/// When a network was seen, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub first: i64,
    pub last: i64,
}

/// From when on it matters when a network was first seen, in Unix seconds.
pub fn new_since(now: i64) -> i64 {
    now.saturating_sub(NEW_FOR)
}

/// An account that was not seen in a network from this time on is not known there at `now`, both in Unix seconds. The begin of
/// a minute: no more exactly is it kept when an account was seen.
pub fn known_since(now: i64) -> i64 {
    window::begin_of_minute(now.saturating_sub(KNOWN_FOR))
}

/// Whether a network that was first and last seen at these times, in Unix seconds, is known and not new.
pub fn is_known(first: i64, last: i64, now: i64) -> bool {
    Seen { first, last }.is_known(now)
}

impl Seen {
    fn is_known(&self, now: i64) -> bool {
        self.first <= new_since(now) && self.last >= known_since(now)
    }
}

/// What a history holds: what decisions look at, and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The longest window.
    pub window: Duration,
    /// How far back it tells minutes apart: see [`window::exact_for`].
    pub exact: Duration,
    /// How far back it has networks. None: it has none.
    pub networks: Option<Duration>,
    /// Whether it knows what is usual, and what came from new networks.
    pub learns: bool,
}

impl Reach {
    /// How far back it has networks, if `limits` look at them within a window, or ask which of them are new.
    pub fn of_networks(window: Option<Duration>, new: bool) -> Option<Duration> {
        if new { Some(Duration::from_secs(KNOWN_FOR.unsigned_abs()).max(window.unwrap_or_default())) } else { window }
    }

    /// Whether it has all that is asked for.
    pub fn covers(self, asked: Reach) -> bool {
        self.window >= asked.window
            && self.exact >= asked.exact
            && self.networks >= asked.networks
            && self.learns >= asked.learns
    }
}

/// The history of one account. Minutes are in ascending order, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    minutes: Vec<Minute>,
    /// The part of them that came from networks which were new then.
    new: Vec<Minute>,
    networks: HashMap<IpNet, Seen>,
    /// None if it is not known.
    usual: Option<Usual>,
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
    /// `new` is the part of the minutes that came from networks which were new then.
    pub fn new(
        mut minutes: Vec<Minute>,
        mut new: Vec<Minute>,
        networks: HashMap<IpNet, Seen>,
        usual: Option<Usual>,
        from: i64,
    ) -> History {
        minutes.sort_by_key(|minute| minute.minute);
        new.sort_by_key(|minute| minute.minute);
        History { minutes, new, networks, usual, from, blocked: Blocked::default() }
    }

    /// The same, of an account whose last request is known to have been blocked or not.
    pub fn with_blocked(self, blocked: Blocked) -> History {
        History { blocked, ..self }
    }

    /// What is usual. None if it is not known.
    pub fn usual(&self) -> Option<&Usual> {
        self.usual.as_ref()
    }

    /// From now on this is usual.
    pub fn set_usual(&mut self, usual: Usual) {
        self.usual = Some(usual);
    }

    /// How much of a measure a window that ends now holds.
    pub fn used(&self, measure: Measure, window: Duration, now: i64) -> u64 {
        let counting = self.counting(window, now);
        match measure {
            Measure::Networks => {
                let from = self.from(now);
                let held = |seen: i64| seen >= from && counting.contains(&minute_of(seen));
                self.networks.values().filter(|seen| held(seen.last)).count() as u64
            }
            _ => {
                let minutes = self.minutes_of(measure);
                let begin = minutes.partition_point(|minute| minute.minute < *counting.start());
                let end = minutes.partition_point(|minute| minute.minute <= *counting.end());
                let held = minutes.get(begin..end).unwrap_or_default();
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
                let seen = self.networks.values().map(|seen| seen.last).filter(|&seen| seen >= from);
                seen.map(|seen| MinuteSum { minute: minute_of(seen), sum: 1 }).collect()
            }
            _ => {
                let minutes = self.minutes_of(measure).iter();
                minutes.map(|m| MinuteSum { minute: m.minute, sum: of(m, measure) }).collect()
            }
        };
        sums.retain(|sum| counting.contains(&sum.minute));
        sums.sort_by_key(|sum| sum.minute);
        window::free_at(&sums, window, allowed, amount, now)
    }

    /// Adds what was let through now.
    pub fn add(&mut self, increase: Increase, now: i64) {
        let added = Minute::of(increase, now);
        add_to(&mut self.minutes, added.minute, added);
    }

    /// Notes that what was let through now came from a network that is new.
    pub fn add_new(&mut self, increase: Increase, now: i64) {
        let added = Minute::of(increase, now);
        add_to(&mut self.new, added.minute, added);
    }

    /// Whether a network is new: it was not seen until a day ago, and others were. An account of which none is known has no
    /// new ones.
    pub fn is_new(&self, network: &IpNet, now: i64) -> bool {
        let known = |seen: &Seen| seen.is_known(now);
        !self.networks.get(network).is_some_and(known) && self.networks.values().any(known)
    }

    /// Whether this network was seen lately.
    pub fn was_seen(&self, network: &IpNet, now: i64) -> bool {
        self.networks.get(network).is_some_and(|seen| seen.last >= known_since(now))
    }

    /// Whether it is known already that a request came from this network in this minute, and since the account began anew: it
    /// need not be noted again.
    pub fn is_noted(&self, network: &IpNet, now: i64) -> bool {
        let since = window::begin_of_minute(now).max(self.from(now));
        // A later time than any clock has now would keep this network out of every window until then.
        self.networks.get(network).is_some_and(|seen| (since..=window::latest(now)).contains(&seen.last))
    }

    /// Notes that a request came from this network now.
    pub fn see(&mut self, network: IpNet, now: i64) {
        if self.is_noted(&network, now) {
            return;
        }
        let seen = self.networks.entry(network).or_insert(Seen { first: now, last: now });
        if seen.first > window::latest(now) || seen.last < known_since(now) {
            seen.first = now;
        }
        if seen.last < now || seen.last > window::latest(now) {
            seen.last = now;
        }
    }

    /// Forgets what is beyond a reach.
    pub fn forget(&mut self, reach: &Reach, now: i64) {
        let counting = window::minutes(now, reach.window);
        self.minutes.retain(|minute| counting.contains(&minute.minute));
        self.new.retain(|minute| counting.contains(&minute.minute));
        let coarse = window::coarse_before(now, reach.exact);
        self.minutes.dedup_by(|later, held| {
            let together = window::kept_together(held.minute, coarse).contains(&later.minute);
            if together {
                held.minute = later.minute;
                held.take_in(*later);
            }
            together
        });
        match reach.networks {
            None => self.networks.clear(),
            Some(length) => {
                let counting = window::minutes(now, length);
                self.networks.retain(|_, seen| counting.contains(&minute_of(seen.last)));
            }
        }
    }

    /// Adds what another history of the same account holds. Whether it was blocked and what is usual stay.
    pub fn merge(&mut self, other: &History) {
        for held in &other.minutes {
            add_to(&mut self.minutes, held.minute, *held);
        }
        for held in &other.new {
            add_to(&mut self.new, held.minute, *held);
        }
        for (network, &seen) in &other.networks {
            let both = self.networks.entry(*network).or_insert(seen);
            *both = Seen { first: both.first.min(seen.first), last: both.last.max(seen.last) };
        }
    }

    pub fn is_empty(&self) -> bool {
        self.minutes.is_empty() && self.networks.is_empty()
    }

    /// How much memory this takes beside its own size, in bytes.
    pub fn bytes(&self) -> usize {
        (self.minutes.capacity() + self.new.capacity()) * size_of::<Minute>()
            + self.networks.capacity() * (size_of::<(IpNet, Seen)>() + 1)
    }

    fn minutes_of(&self, measure: Measure) -> &[Minute] {
        if measure.is_from_new_networks() { &self.new } else { &self.minutes }
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

fn add_to(minutes: &mut Vec<Minute>, minute: i64, added: Minute) {
    let place = minutes.partition_point(|held| held.minute < minute);
    if minutes.get(place).is_none_or(|held| held.minute != minute) {
        minutes.insert(place, Minute { minute, ..Minute::default() });
    }
    if let Some(held) = minutes.get_mut(place) {
        held.take_in(added);
    }
}

fn of(minute: &Minute, measure: Measure) -> u64 {
    match measure {
        Measure::Recipients | Measure::NewRecipients => minute.recipients,
        Measure::Messages | Measure::NewMessages => minute.messages,
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

    fn reach(window: Duration, exact: Duration) -> Reach {
        Reach { window, exact, networks: None, learns: false }
    }

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
                history.forget(&reach(longest, exact), *at);
            }
            let now = NOW + later;
            history.forget(&reach(longest, exact), now);
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
            let mut history = History::new(minutes, Vec::new(), HashMap::new(), None, 0);
            history.forget(&reach(longest, exact), NOW);
            assert!(history.minutes.len() <= most, "{days} days: {}", history.minutes.len());
            assert!(window::most_sums(longest, exact) >= history.minutes.len() as u64);
            let used = history.used(Measure::Messages, longest, NOW);
            assert!((days * 1440..=(days + 1) * 1440).contains(&used), "{days} days: {used}");
        }
    }

    #[test]
    fn a_network_is_new_for_a_day_and_forgotten_after_five_weeks() {
        let [home, office, hotel] =
            ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/48"].map(|net| net.parse().unwrap());
        let day = NEW_FOR;
        let mut history = History::default();
        assert!(!history.is_new(&home, NOW), "none is known, so none is new");
        history.see(home, NOW);
        history.see(office, NOW + day - 1);
        assert!(!history.is_new(&hotel, NOW + day - 1), "still none is known");
        assert!(history.is_new(&hotel, NOW + day) && !history.is_new(&home, NOW + day));
        assert!(history.is_new(&office, NOW + 2 * day - 2) && !history.is_new(&office, NOW + 2 * day - 1));
        history.see(office, NOW + 30 * day);
        let five_weeks = NOW + KNOWN_FOR + 60;
        assert!(!history.is_new(&home, five_weeks - 1), "seen in a minute that counts to its end");
        assert!(history.is_new(&home, five_weeks), "not seen for five weeks");
        history.see(home, five_weeks);
        assert!(history.is_new(&home, five_weeks + 1), "seen again just now");
        assert!(!history.is_new(&home, five_weeks + day));
        let forgotten = NOW + 100 * day;
        assert!(!history.is_new(&hotel, forgotten), "all are forgotten");
    }

    #[test]
    fn a_wrong_clock_makes_no_network_known() {
        let [home, office]: [IpNet; 2] = ["192.0.2.0/24", "198.51.100.0/24"].map(|net| net.parse().unwrap());
        let mut history = History::default();
        history.see(home, NOW - NEW_FOR);
        history.see(office, NOW + 365 * NEW_FOR);
        assert!(history.is_new(&office, NOW));
        history.see(office, NOW);
        assert!(!history.is_new(&office, NOW + NEW_FOR));
    }

    #[test]
    fn a_network_is_noted_once_a_minute_and_after_the_account_began_anew() {
        let net: IpNet = "192.0.2.0/24".parse().unwrap();
        let ahead = 3600;
        for (last, from, seen, next_minute) in [
            (NOW, 0, true, false),
            (NOW - 1, 0, false, false),
            (NOW + 5, NOW + 6, false, false),
            (NOW + 6, NOW + 6, true, false),
            // By a host whose clock is ahead, and by one whose clock was wrong.
            (NOW + 30 + ahead, 0, true, true),
            (NOW + 31 + ahead, 0, false, false),
        ] {
            let networks = HashMap::from([(net, Seen { first: last, last })]);
            let mut history = History::new(Vec::new(), Vec::new(), networks, None, from);
            assert_eq!(history.is_noted(&net, NOW + 30), seen, "{last} {from}");
            history.see(net, NOW + 30);
            assert_eq!([59, 60].map(|later| history.is_noted(&net, NOW + later)), [true, next_minute], "{last} {from}");
        }
        assert!(!History::default().is_noted(&net, NOW));
    }

    #[test]
    fn what_comes_from_new_networks_is_counted_apart() {
        let mut history = History::default();
        let mail = |recipients| Increase { messages: 1, recipients, bytes: 0 };
        history.add(mail(5), NOW);
        history.add(mail(3), NOW);
        history.add_new(mail(3), NOW);
        let hour = Duration::from_secs(3600);
        let used = |measure, now| history.used(measure, hour, now);
        assert_eq!((used(Measure::Recipients, NOW), used(Measure::NewRecipients, NOW)), (8, 3));
        assert_eq!(used(Measure::NewMessages, NOW + 3660), 0);
        assert_eq!(history.free_at(Measure::NewRecipients, hour, 3, 1, NOW), Some(NOW + 3660));
    }
}
