//! From past requests to the mail of accounts: who is charged for it, what of it was not asked about before, and from where it
//! came, as the daemon sees it.

use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;

use super::PastRequest;
use super::judge::request;
use crate::account::{Attributes, network};
use crate::commit::deduplication::{Deduplication, New, News};
use crate::limiter::increase::Increase;
use crate::limiter::terms::{Known, Terms};
use crate::limiter::verdict::{FailOpen, Verdict};
use crate::protocol::request::Request;

/// Mail of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charged {
    /// In Unix seconds, none before that of the one before.
    pub at: i64,
    pub account: String,
    /// None if it is not counted as a place.
    pub network: Option<IpNet>,
    pub mail: Increase,
    /// How many recipients its message has in all.
    pub largest: u32,
}

#[cfg(test)]
impl Charged {
    /// One message.
    pub fn of(account: &str, at: i64, network: Option<IpNet>, recipients: u32) -> Charged {
        let mail = Increase { messages: 1, recipients, bytes: 0 };
        Charged { at, account: account.to_owned(), network, mail, largest: recipients }
    }
}

/// Sorts past requests by accounts.
pub struct Intake {
    terms: Terms,
    deduplication: Deduplication,
    began: Option<i64>,
    last: i64,
    /// How many were without a login, and so are charged to no account.
    pub nobody: u64,
    /// How many were on the ALLOWLIST or the DENYLIST, and so count nowhere.
    pub listed: u64,
}

impl Intake {
    /// `terms` must have the zone of the log.
    pub fn new(terms: Terms) -> Intake {
        let deduplication = Deduplication::default();
        Intake { terms, deduplication, began: None, last: i64::MIN, nobody: 0, listed: 0 }
    }

    /// Takes the next request, at a time in Unix seconds. Returns what is new about it. None if that is nothing, or nobody's.
    pub fn take(&mut self, at: i64, asked: &PastRequest) -> Option<Charged> {
        // The log's time does not go back.
        self.last = self.last.max(at);
        let at = self.last;
        let request = request(asked);
        let attributes = Attributes {
            sasl_username: &request.sasl_username,
            sender: &request.sender,
            client_address: &request.client_address,
        };
        let zone = &self.terms.policy.zone;
        let local_time = || Timestamp::from_second(at).unwrap_or_default().to_zoned(zone.clone()).datetime();
        match self.terms.know(&attributes, local_time) {
            Known::Nobody => self.nobody += 1,
            Known::Listed(..) => self.listed += 1,
            Known::Charged(account) => return self.charge(account.key, at, &request),
        }
        None
    }

    fn charge(&mut self, account: String, at: i64, request: &Request) -> Option<Charged> {
        let elapsed = Duration::from_secs(at.abs_diff(*self.began.get_or_insert(at)));
        let asked = self.deduplication.asked(&account, request);
        let News::Some(New { increase, recipients_of_message, .. }) = self.deduplication.news(&asked) else {
            return None;
        };
        // Everything passes here; which verdict is remembered for repeats is all the same.
        self.deduplication.remember(&asked, &Verdict::InDoubt(FailOpen::Stopping), true, elapsed);
        let address = network::address(&request.client_address);
        let ignored = |address| self.terms.policy.networks_ignore.iter().any(|ignored| ignored.contains(&address));
        let network = address.filter(|address| !ignored(*address)).map(network::place);
        let charged = Charged { at, account, network, mail: increase, largest: recipients_of_message };
        increase.is_mail().then_some(charged)
    }
}
