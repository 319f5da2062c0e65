//! The bound on notices about envelope senders and addresses, which a client can vary at will. Pure.
//!
//! A login is an account: of these there are so many, and each is told once in a window. Clients without a login share a number
//! of notices per [`PERIOD`], and each login that is counted by its envelope senders (LIMIT_BY) has as many. What is left out
//! is one summary at the period's end, so that a flood is told and hides nobody.

use std::collections::HashMap;
use std::time::Duration;

use super::event::{Event, Kind};
use crate::account;

/// The time that the bound is for.
pub const PERIOD: Duration = Duration::from_secs(3600);
/// Notices of one group that are told in a period.
const MOST: u64 = 10;
/// The most logins with a bound of their own; further ones share that of the clients without a login.
const MAX_GROUPS: usize = 1024;

/// What was told in this period.
#[derive(Debug, Default)]
pub struct Bound {
    /// By login in lower case; without a login, empty.
    groups: HashMap<String, Group>,
}

#[derive(Debug, Default)]
struct Group {
    told: u64,
    left_out: u64,
    last: Option<Event>,
}

impl Bound {
    /// Returns the event if it is to be told; `None` if it is left to the summary.
    pub fn admit(&mut self, event: Event) -> Option<Event> {
        if account::is_login(&event.sender) {
            return Some(event);
        }
        let mut login = event.login.to_lowercase();
        if self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(&login) {
            login.clear();
        }
        let group = self.groups.entry(login).or_default();
        if group.told < MOST {
            group.told += 1;
            return Some(event);
        }
        group.left_out += 1;
        group.last = Some(event);
        None
    }

    /// Ends the period. Returns a summary for each group that had something left out: the last event, and how many there were.
    pub fn end(&mut self) -> Vec<Event> {
        let groups = std::mem::take(&mut self.groups).into_values();
        let summary = |Group { left_out, last, .. }| Some(Event { kind: Kind::LeftOut(left_out.to_string()), ..last? });
        groups.filter_map(summary).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::event::tests::event;

    fn stranger(login: &str, number: usize) -> Event {
        Event { login: login.to_owned(), ..event(Kind::QuotaReached, &format!("<a{number}@example.net>")) }
    }

    #[test]
    fn strangers_share_a_bound_and_accounts_have_none() {
        let mut bound = Bound::default();
        let told = |bound: &mut Bound, login: &str| {
            (0..500).filter(|number| bound.admit(stranger(login, *number)).is_some()).count() as u64
        };
        assert_eq!(told(&mut bound, ""), MOST);
        assert_eq!((told(&mut bound, "Mallory"), told(&mut bound, "mallory")), (MOST, 0), "a login has its own");
        let accounts =
            (0..500).filter(|number| bound.admit(event(Kind::QuotaReached, &format!("user{number}"))).is_some());
        assert_eq!(accounts.count(), 500);
        let mut summaries: Vec<(String, Kind)> =
            bound.end().into_iter().map(|event| (event.login, event.kind)).collect();
        summaries.sort_by_key(|(login, _)| login.clone());
        let left_out = |count: u64| Kind::LeftOut(count.to_string());
        assert_eq!(summaries, [(String::new(), left_out(500 - MOST)), ("mallory".to_owned(), left_out(1000 - MOST))]);
        assert!(bound.end().is_empty(), "told once");
        assert_eq!(told(&mut bound, ""), MOST, "a new period");
    }

    #[test]
    fn memory_is_bounded_whatever_logins_come() {
        let mut bound = Bound::default();
        for number in 0..100_000 {
            bound.admit(stranger(&format!("login{number}"), number));
        }
        assert_eq!(bound.groups.len(), MAX_GROUPS + 1);
        let left_out: u64 = bound.groups.values().map(|group| group.left_out).sum();
        assert_eq!(left_out, 100_000 - MAX_GROUPS as u64 - MOST);
    }
}
