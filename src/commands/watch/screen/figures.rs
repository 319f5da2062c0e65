//! What is known at the moment, and since when something does not answer.

use std::collections::VecDeque;
use std::time::Duration;

use crate::status::about::About;
use crate::status::snapshot::Snapshot;
use crate::telemetry::counters::{Counters, Rate};

/// The time over which [`Pace`] is measured, in seconds.
const MINUTE: i64 = 60;
/// How many paces are remembered.
const REMEMBERED: usize = 120;

/// All that can be shown.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Where the database is.
    pub place: String,
    pub database: Contact,
    /// From the last time the database answered.
    pub snapshot: Option<Snapshot>,
    pub paces: Paces,
    pub daemon: Own,
    /// What was last read of the opened sender.
    pub about: Option<OneSender>,
}

/// What is known of the opened sender.
#[derive(Debug, Clone)]
pub struct OneSender {
    /// The name as it was asked for.
    pub name: String,
    /// None if there is no such sender, or not any more.
    pub about: Option<About>,
}

/// Whether the database or the daemon answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Contact {
    #[default]
    Asking,
    /// With the time that the last answer took.
    Up(Duration),
    /// `since` in seconds since 1970.
    Away { since: i64, why: String },
}

impl Contact {
    /// Notes that there was no answer. The time of the first one is kept.
    pub fn lost(&mut self, at: i64, why: String) {
        let since = if let Contact::Away { since, .. } = self { *since } else { at };
        *self = Contact::Away { since, why };
    }
}

/// What was let through in the last minute.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pace {
    pub messages: f64,
    pub recipients: f64,
}

/// Running totals of what was let through, and the pace computed from them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Paces {
    /// Time in seconds since 1970, messages, recipients; the oldest first.
    sums: VecDeque<(i64, i64, i64)>,
    past: VecDeque<Pace>,
}

impl Paces {
    /// Adds the totals at a time, in seconds since 1970.
    pub fn add(&mut self, at: i64, messages: i64, recipients: i64) {
        if self.sums.back().is_some_and(|(last, ..)| *last >= at) {
            // The clock was set back, or there were two looks in a second.
            self.sums.retain(|(time, ..)| *time < at);
        }
        self.sums.push_back((at, messages, recipients));
        // The newest totals of a minute ago or more are compared with.
        while self.sums.get(1).is_some_and(|(time, ..)| *time <= at - MINUTE) {
            self.sums.pop_front();
        }
        if let Some(pace) = self.now() {
            self.past.push_back(pace);
            if self.past.len() > REMEMBERED {
                self.past.pop_front();
            }
        }
    }

    /// Returns the present pace, or None before there are two totals.
    pub fn now(&self) -> Option<Pace> {
        let (&(from, messages, recipients), &(to, more_messages, more_recipients)) =
            self.sums.front().zip(self.sums.back())?;
        let minutes = (to - from) as f64 / MINUTE as f64;
        let pace = |before: i64, after: i64| (after.saturating_sub(before)).max(0) as f64 / minutes;
        (minutes > 0.0)
            .then(|| Pace { messages: pace(messages, more_messages), recipients: pace(recipients, more_recipients) })
    }

    /// Returns past paces in messages a minute, the oldest first.
    pub fn past(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.past.iter().map(|pace| pace.messages.round() as u64)
    }
}

/// What is known of the daemon on this host.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Own {
    /// METRICS_LISTEN is not set.
    #[default]
    NotAsked,
    Asked {
        address: String,
        contact: Contact,
        told: Option<Box<Progress>>,
    },
}

/// The daemon's counters, and rates since they were read before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    pub counters: Counters,
    pub rate: Option<Rate>,
    /// Decisions a second by what Postfix was told; actions without any are left out.
    pub actions: Vec<(&'static str, f64)>,
}

impl Progress {
    /// The new counters, `seconds` after the `earlier` ones.
    pub fn new(counters: Counters, earlier: Option<(&Counters, f64)>) -> Progress {
        let rate = earlier.and_then(|(earlier, seconds)| counters.since(earlier, seconds));
        let mut actions = Vec::new();
        if let (Some((earlier, seconds)), Some(_)) = (earlier, rate) {
            for (action, count) in &counters.actions {
                let before = earlier.actions.get(action).copied().unwrap_or(0);
                if let Some(more) = count.checked_sub(before).filter(|&more| more > 0) {
                    actions.push((*action, more as f64 / seconds));
                }
            }
        }
        actions.sort_by(|one, other| other.1.total_cmp(&one.1));
        Progress { rate, actions, counters }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_minute() {
        let mut paces = Paces::default();
        paces.add(1000, 0, 0);
        assert_eq!(paces.now(), None);
        paces.add(1030, 10, 30);
        assert_eq!(paces.now(), Some(Pace { messages: 20.0, recipients: 60.0 }), "of half a minute");
        for second in 1..=300 {
            paces.add(1030 + second, 10 + second, 30);
        }
        assert_eq!(paces.now(), Some(Pace { messages: 60.0, recipients: 0.0 }));
        assert_eq!(paces.past().count(), REMEMBERED);
        paces.add(1030 + 3000, 310, 30);
        assert_eq!(paces.now(), Some(Pace { messages: 0.0, recipients: 0.0 }), "nothing came since");
        paces.add(1200, 310, 30);
        assert_eq!(paces.now(), None, "the clock was set back");
    }

    #[test]
    fn an_outage_is_as_old_as_its_begin() {
        let mut contact = Contact::Up(Duration::ZERO);
        contact.lost(5, "gone".to_owned());
        contact.lost(9, "still gone".to_owned());
        assert_eq!(contact, Contact::Away { since: 5, why: "still gone".to_owned() });
    }

    #[test]
    fn decisions_are_told_by_what_postfix_was_told() {
        let daemon = |pass, hold| Counters {
            started: 7,
            decisions: pass + hold,
            actions: [("pass", pass), ("hold", hold), ("warn", 0)].into(),
            ..Counters::default()
        };
        let before = daemon(100, 1);
        let told = Progress::new(daemon(104, 21), Some((&before, 2.0)));
        assert_eq!(told.actions, [("hold", 10.0), ("pass", 2.0)]);
        let anew = Progress::new(Counters { started: 8, ..daemon(104, 21) }, Some((&before, 2.0)));
        assert_eq!((anew.rate, anew.actions), (None, Vec::new()));
    }
}
