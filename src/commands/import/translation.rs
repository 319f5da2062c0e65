//! What another program's settings come to here, and what the translations have in common. Pure.

use std::time::Duration;

use crate::account::{Account, AccountRules, Attributes, LimitBy};
use crate::policy::duration;
use crate::policy::quota::UNLIMITED;
use crate::protocol::reply::Action;

/// The longest window that a limit may have here, in seconds.
const LONGEST: u64 = 31 * 24 * 3600;
/// The largest quota that is a number.
pub const LARGEST: u64 = UNLIMITED as u64 - 1;

/// What another program's settings come to here.
#[derive(Debug, Default)]
pub struct Translation {
    /// Our settings.
    pub settings: Vec<(&'static str, String)>,
    /// Quotas by the key of their account.
    pub quotas: Vec<(String, u32)>,
    /// What it has counted against these quotas, each key once.
    pub counts: Vec<Count>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// What has no like here. The command then ends with status 1.
    pub lost: Vec<String>,
}

/// What another program has counted of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    pub key: String,
    pub recipients: u32,
    /// When it is to be counted here, in seconds since 1970: it leaves the window that much later.
    pub at: i64,
}

impl Translation {
    /// Notes what was counted of an account; of several numbers the largest counts.
    pub fn count(&mut self, count: Count) {
        match self.counts.iter_mut().find(|known| known.key == count.key) {
            Some(known) if known.recipients < count.recipients => *known = count,
            Some(_) => {}
            None => self.counts.push(count),
        }
    }
}

#[cfg(test)]
impl Translation {
    /// The settings, each as a line of the file.
    pub fn written(&self) -> Vec<String> {
        self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    pub fn own_quotas(&self) -> Vec<(&str, u32)> {
        self.quotas.iter().map(|(key, quota)| (key.as_str(), *quota)).collect()
    }
}

/// A window as LIMITS writes it. None if it is too short or too long.
pub fn shown(seconds: u64) -> Option<String> {
    (60..=LONGEST).contains(&seconds).then(|| duration::show(Duration::from_secs(seconds)))
}

/// An action as ours is written. None if it is none that can be sent. `;` would end it in LIMITS.
pub fn action(written: &str) -> Option<String> {
    Action::parse(&written.replace(';', ",")).ok().map(|action| action.to_string())
}

/// A quota of this number.
pub fn quota(number: u64) -> u32 {
    u32::try_from(number.min(LARGEST)).unwrap_or(UNLIMITED - 1)
}

/// The key by which a login, an envelope sender or an address is counted. None if it is none.
pub fn key(id: &str, by: LimitBy) -> Option<String> {
    let attributes = match by {
        LimitBy::SaslUsername => Attributes { sasl_username: id, ..Attributes::default() },
        LimitBy::Sender => Attributes { sender: id, ..Attributes::default() },
        LimitBy::ClientAddress => Attributes { client_address: id, ..Attributes::default() },
    };
    let rules = AccountRules { limit_by: vec![by], login_domain: None, strip_domain: false };
    Some(Account::of(&attributes, &rules)?.key)
}

/// Which of these numbers is there most often; of several the largest.
pub fn commonest(numbers: impl Iterator<Item = u64> + Clone) -> Option<u64> {
    numbers.clone().max_by_key(|number| (numbers.clone().filter(|other| other == number).count(), *number))
}
