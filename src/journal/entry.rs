//! One answered request, as the journal keeps it: what it adds to its account, and its row of the audit log. As JSON, so that
//! people can read it, and a later version can add to it. Pure.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::account::MAX_KEY;
use crate::limiter::increase::Increase;
use crate::protocol::request::without_controls;

/// The longest text kept beside the account, in bytes: what a request shows is no longer either.
const MAX_TEXT: usize = 512;

/// A request that was answered and is not charged yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The key that is counted.
    pub account: String,
    /// When it was decided, in Unix seconds.
    pub at: i64,
    /// What it adds to the counters.
    #[serde(with = "Amount")]
    pub increase: Increase,
    /// What windows hold of it, if it was let through.
    #[serde(with = "Amount")]
    pub outstanding: Increase,
    pub let_through: bool,
    /// Whether it came from a network that is new to its account.
    #[serde(default)]
    pub from_new_network: bool,
    pub blocked: bool,
    /// The client's network. None if it is not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<IpNet>,
    /// None if it has no row in the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Audit>,
}

/// What only the audit log shows of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Audit {
    pub queue_id: String,
    pub from: String,
    pub to: String,
    pub client_address: String,
    pub client_name: String,
    pub action: String,
    pub reason: String,
}

/// How an amount is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Increase")]
struct Amount {
    messages: u32,
    recipients: u32,
    bytes: u64,
}

impl Entry {
    /// The text of the entry. None if it cannot be written, which only a bug can bring about.
    pub fn encode(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    /// Reads an entry's text. None if it is none, or has no account that a request can have.
    pub fn decode(text: &[u8]) -> Option<Entry> {
        let entry: Entry = serde_json::from_slice(text).ok()?;
        let Entry { account, at, .. } = &entry;
        let is_key = !account.is_empty() && account.chars().count() <= MAX_KEY && !account.contains(char::is_control);
        (is_key && *at >= 0).then(|| Entry { audit: entry.audit.map(Audit::cleaned), ..entry })
    }
}

impl Audit {
    /// The same with texts as long as are kept, and without control characters.
    pub fn cleaned(self) -> Audit {
        let clean = |mut text: String| {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
            without_controls(text)
        };
        Audit {
            queue_id: clean(self.queue_id),
            from: clean(self.from),
            to: clean(self.to),
            client_address: clean(self.client_address),
            client_name: clean(self.client_name),
            action: clean(self.action),
            reason: clean(self.reason),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    fn increase() -> impl Strategy<Value = Increase> {
        any::<(u32, u32, u64)>().prop_map(|(messages, recipients, bytes)| Increase { messages, recipients, bytes })
    }

    fn audit() -> impl Strategy<Value = Audit> {
        any::<[String; 7]>().prop_map(|[queue_id, from, to, client_address, client_name, action, reason]| {
            Audit { queue_id, from, to, client_address, client_name, action, reason }.cleaned()
        })
    }

    pub fn any_entry() -> impl Strategy<Value = Entry> {
        let network = prop::option::of(any::<[u8; 4]>().prop_map(|ip| IpNet::new(ip.into(), 24).unwrap().trunc()));
        let flags = any::<(bool, bool, bool)>();
        ("[^\\pC]{1,255}", 0..i64::MAX, increase(), increase(), flags, network, prop::option::of(audit())).prop_map(
            |(account, at, increase, outstanding, (let_through, from_new_network, blocked), network, audit)| Entry {
                account,
                at,
                increase,
                outstanding,
                let_through,
                from_new_network,
                blocked,
                network,
                audit,
            },
        )
    }

    proptest! {
        #[test]
        fn an_entry_is_read_as_it_was_written(entry in any_entry()) {
            let text = entry.encode().unwrap();
            prop_assert!(!text.contains(&b'\n'));
            prop_assert_eq!(Entry::decode(&text), Some(entry));
        }
    }

    #[test]
    fn what_is_no_entry_is_none() {
        let good = r#"{"account":"alice","at":1,"increase":{"messages":1,"recipients":2,"bytes":0},
            "outstanding":{"messages":1,"recipients":2,"bytes":0},"let_through":true,"blocked":false}"#;
        assert!(Entry::decode(good.as_bytes()).is_some());
        assert!(
            Entry::decode(good.replace('}', r#","later":1}"#).as_bytes()).is_some(),
            "a later version may add to it"
        );
        for (one, other) in
            [("alice", ""), ("alice", r"a\u0001"), ("\"at\":1", "\"at\":-1"), ("\"at\":1,", ""), ("true", "1")]
        {
            assert_eq!(Entry::decode(good.replacen(one, other, 1).as_bytes()), None, "{one} is {other:?}");
        }
    }
}
