//! What every account sent: sums per minute and network.
//!
//! It is bounded. When there are too many sums, half of the accounts are left out, then half of the rest, and so on. Which these
//! are depends on their names alone, so what is left is a fair sample of all.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use ipnet::IpNet;

use crate::limiter::increase::Increase;
use crate::limiter::window::minute_of;
use crate::replay::intake::Charged;

/// The most sums, an account counted as [`ACCOUNT`] of them. About 150 MB.
const MAX_SUMS: usize = 3_000_000;
/// What an account takes, in sums.
const ACCOUNT: usize = 6;
/// A network is looked for among so many sums of the minute.
const LOOKED_AT: usize = 16;

/// What an account sent within a minute from a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// Counted from 1970.
    minute: u32,
    pub messages: u32,
    pub recipients: u32,
    /// The most recipients that one of the messages had.
    pub largest: u32,
    /// None if it is not counted as a place.
    pub network: Option<IpNet>,
}

impl Sum {
    /// When the minute began, in Unix seconds.
    pub fn at(&self) -> i64 {
        i64::from(self.minute) * 60
    }
}

/// What one account sent, in the order of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    pub account: String,
    pub sums: Vec<Sum>,
}

/// What all accounts sent.
#[derive(Debug)]
pub struct Streams {
    accounts: HashMap<String, Vec<Sum>>,
    size: usize,
    most: usize,
    /// One account of so many is kept.
    pub one_in: u64,
    /// When the first mail's minute began, where its sum stands, and the time of the last mail. In Unix seconds.
    pub span: Option<(i64, i64)>,
    pub messages: u64,
    pub recipients: u64,
}

impl Default for Streams {
    fn default() -> Streams {
        Streams::bounded(MAX_SUMS)
    }
}

impl Streams {
    fn bounded(most: usize) -> Streams {
        Streams { accounts: HashMap::new(), size: 0, most, one_in: 1, span: None, messages: 0, recipients: 0 }
    }

    /// Adds mail, which is none before the last.
    pub fn add(&mut self, charged: &Charged) {
        let Charged { at, network, largest, .. } = *charged;
        let Increase { messages, recipients, .. } = charged.mail;
        let account = charged.account.as_str();
        let (first, _) = self.span.unwrap_or((minute_of(at).saturating_mul(60), at));
        self.span = Some((first, at));
        self.messages += u64::from(messages);
        self.recipients += u64::from(recipients);
        if !hash(account).is_multiple_of(self.one_in) {
            return;
        }
        let minute = u32::try_from(minute_of(at)).unwrap_or(0);
        let sums = match self.accounts.get_mut(account) {
            Some(sums) => sums,
            None => {
                self.size += ACCOUNT;
                self.accounts.entry(account.to_owned()).or_default()
            }
        };
        let of_minute = sums.iter_mut().rev().take(LOOKED_AT).take_while(|sum| sum.minute == minute);
        match of_minute.into_iter().find(|sum| sum.network == network) {
            Some(sum) => {
                sum.messages = sum.messages.saturating_add(messages);
                sum.recipients = sum.recipients.saturating_add(recipients);
                sum.largest = sum.largest.max(largest);
            }
            None => {
                sums.push(Sum { minute, messages, recipients, largest, network });
                self.size += 1;
            }
        }
        while self.size > self.most && self.accounts.len() > 1 {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.one_in = self.one_in.saturating_mul(2);
        self.accounts.retain(|account, _| hash(account).is_multiple_of(self.one_in));
        self.size = self.accounts.values().map(|sums| ACCOUNT + sums.len()).sum();
    }

    /// Returns the accounts, by name.
    pub fn into_sorted(self) -> Vec<Stream> {
        let streams = self.accounts.into_iter().map(|(account, sums)| Stream { account, sums });
        let mut streams = Vec::from_iter(streams);
        streams.sort_unstable_by(|one, other| one.account.cmp(&other.account));
        streams
    }
}

/// The same in every process.
pub fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(account: &str, at: i64, network: Option<&str>, recipients: u32) -> Charged {
        Charged::of(account, at, network.map(|network| network.parse().unwrap()), recipients)
    }

    #[test]
    fn a_minute_of_one_network_is_one_sum() {
        let mut streams = Streams::default();
        streams.add(&mail("al", 60, Some("192.0.2.0/24"), 3));
        streams.add(&mail("al", 119, Some("198.51.100.0/24"), 1));
        streams.add(&mail("al", 119, Some("192.0.2.0/24"), 5));
        streams.add(&mail("al", 120, Some("192.0.2.0/24"), 1));
        streams.add(&mail("bo", 120, None, 1));
        assert_eq!((streams.span, streams.messages, streams.recipients), (Some((60, 120)), 5, 11));
        let streams = streams.into_sorted();
        let names: Vec<_> = streams.iter().map(|stream| (stream.account.as_str(), stream.sums.len())).collect();
        assert_eq!(names, [("al", 3), ("bo", 1)]);
        let Sum { messages, recipients, largest, .. } = streams[0].sums[0];
        assert_eq!((messages, recipients, largest, streams[0].sums[0].at()), (2, 8, 5, 60));
    }

    #[test]
    fn too_many_accounts_are_sampled_by_their_names() {
        let mut streams = Streams::bounded(1000);
        let name = |number: i64| format!("sender{number}@example.com");
        for number in 0..2000 {
            streams.add(&mail(&name(number % 1000), number * 60, None, 1));
        }
        assert_eq!((streams.one_in, streams.messages), (16, 2000), "all mail is counted");
        let kept = streams.into_sorted();
        assert!((40..90).contains(&kept.len()), "{}", kept.len());
        assert!(kept.iter().all(|stream| stream.sums.len() == 2), "what is kept is kept whole");
    }
}
