//! An account on the way through its mail, as the limiter knows it.

use ipnet::IpNet;
use jiff::tz::TimeZone;

use crate::limiter::day;
use crate::limiter::decide::{Facts, Policy, Standing, decide};
use crate::limiter::decision::Decision;
use crate::limiter::history::Reach;
use crate::limiter::increase::Increase;
use crate::limiter::usual::{self, Record, Sums, Usual};
use crate::limiter::window::minute_of;
use crate::policy::quota::Window;

use super::streams::Sum;

/// What the limiter knows of an account.
#[derive(Debug, Clone)]
pub struct Walk {
    pub standing: Standing,
    record: Record,
    /// The first day of the log, see [`Usual`].
    first_day: i64,
    today: Option<i64>,
    /// When counters are reset, in Unix seconds.
    next_reset: i64,
}

impl Walk {
    pub fn new(quota: u32, first_day: i64) -> Walk {
        let (standing, record) = (Standing::new(quota), Record::default());
        Walk { standing, record, first_day, today: None, next_reset: i64::MIN }
    }

    /// Goes on to a time in Unix seconds. `reach` is how far back it looks.
    pub fn pass_to(&mut self, now: i64, reach: &Reach) {
        let today = usual::today(now);
        if self.today != Some(today) {
            self.today = Some(today);
            self.standing.history.forget(reach, now);
            self.standing.history.set_usual(Usual {
                today,
                first_day: Some(self.first_day),
                // The log tells of both.
                networks_since: Some(usual::first_minute_of(self.first_day).saturating_mul(60)),
                peaks: self.record.usual(now),
            });
        }
    }

    /// Adds mail, whatever a limit says. Returns whether it came from a network that is new.
    pub fn add(&mut self, network: Option<IpNet>, mail: Increase, now: i64) -> bool {
        let is_new = self.see(network, now);
        self.put(mail, is_new, now);
        is_new
    }

    /// Adds mail whose network was noted.
    pub fn put(&mut self, mail: Increase, is_new: bool, now: i64) {
        self.standing.history.add(mail, now);
        if is_new {
            self.standing.history.add_new(mail, now);
        }
        self.learn(mail, now);
    }

    /// Notes a network. Returns whether it is new.
    pub fn see(&mut self, network: Option<IpNet>, now: i64) -> bool {
        let Some(network) = network else { return false };
        let is_new = self.standing.history.is_new(&network, now);
        self.standing.history.see(network, now);
        is_new
    }

    /// Asks the limiter about mail of which no message has more than `largest` recipients.
    pub fn ask(&mut self, policy: &Policy, network: Option<IpNet>, mail: Increase, largest: u32, now: i64) -> Decision {
        self.reset(policy.window, &policy.zone, now);
        let facts = Facts {
            account: "",
            increase: mail,
            outstanding: mail,
            recipients_of_message: largest,
            network: network.filter(|_| policy.counts_networks()),
            now,
        };
        let decision = decide(policy, &mut self.standing, &facts);
        // What is held is thought to be good, and released by somebody: it was really sent.
        if decision.let_through {
            self.learn(mail, now);
        }
        decision
    }

    fn learn(&mut self, mail: Increase, now: i64) {
        let sums = Sums { messages: mail.messages.into(), recipients: mail.recipients.into() };
        self.record.add(minute_of(now), sums);
    }

    /// What the packaged timer does at midnight.
    fn reset(&mut self, window: Window, zone: &TimeZone, now: i64) {
        if window == Window::Reset && now >= self.next_reset {
            (self.standing.messages, self.standing.recipients) = (0, 0);
            self.next_reset = day::next_reset(now, zone).unwrap_or(i64::MAX);
        }
    }
}

/// The mail of a sum.
pub fn mail(sum: &Sum) -> Increase {
    Increase { messages: sum.messages, recipients: sum.recipients, bytes: 0 }
}
