//! From past requests to what each account sent: who is charged for it, what of it was not asked about before, and from where
//! it came, as the daemon sees it.

use std::time::Duration;

use jiff::Timestamp;

use super::streams::Streams;
use crate::account::{Attributes, network};
use crate::commit::deduplication::{Deduplication, New, News};
use crate::limiter::terms::{Known, Terms};
use crate::limiter::verdict::{FailOpen, Verdict};
use crate::protocol::request::Request;
use crate::replay::PastRequest;
use crate::replay::judge::request;

/// Sorts past requests by accounts.
pub struct Intake {
    terms: Terms,
    deduplication: Deduplication,
    began: Option<i64>,
    pub streams: Streams,
    /// How many were without a login, and so are charged to no account.
    pub nobody: u64,
    /// How many were on the ALLOWLIST or the DENYLIST, and so count nowhere.
    pub listed: u64,
}

impl Intake {
    /// `terms` must have the zone of the log.
    pub fn new(terms: Terms) -> Intake {
        let deduplication = Deduplication::default();
        Intake { terms, deduplication, began: None, streams: Streams::default(), nobody: 0, listed: 0 }
    }

    /// Takes the next request, at a time in Unix seconds.
    pub fn take(&mut self, at: i64, asked: &PastRequest) {
        // The log's time does not go back.
        let at = self.streams.span.map_or(at, |(_, last)| last.max(at));
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
            Known::Charged(account) => self.charge(&account.key, at, &request),
        }
    }

    fn charge(&mut self, account: &str, at: i64, request: &Request) {
        let elapsed = Duration::from_secs(at.abs_diff(*self.began.get_or_insert(at)));
        let asked = self.deduplication.asked(account, request);
        let News::Some(New { increase, recipients_of_message, .. }) = self.deduplication.news(&asked) else { return };
        // Everything passes here; which verdict is remembered for repeats is all the same.
        self.deduplication.remember(&asked, &Verdict::InDoubt(FailOpen::Stopping), true, elapsed);
        let address = network::address(&request.client_address);
        let ignored = |address| self.terms.policy.networks_ignore.iter().any(|ignored| ignored.contains(&address));
        let network = address.filter(|address| !ignored(*address)).map(network::place);
        if increase.is_mail() {
            let (messages, recipients) = (increase.messages, increase.recipients);
            self.streams.add(account, at, network, messages, recipients, recipients_of_message);
        }
    }
}
