//! The terms on which requests are answered: the part of the configuration that a reload may change between two requests.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;

use super::decide::Policy;
use crate::account::{Account, AccountRules, Attributes};
use crate::policy::lists::{Hit, Lists, Which};
use crate::policy::strikes::Strikes;
use crate::protocol::reply::Action;

#[derive(Debug, Clone)]
pub struct Terms {
    pub policy: Policy,
    pub strikes: Strikes,
    pub accounts: AccountRules,
    pub lists: Lists,
    pub deny_action: Action,
    /// From a request's arrival to its answer.
    pub decision_timeout: Duration,
    /// The name of this mail server in audit rows.
    pub host: String,
    /// Whether audit rows are written.
    pub message_log: bool,
}

/// What the lists say of all mail of a name that is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub hit: Hit,
    /// Whether it is so at this moment; else it is at other hours.
    pub now: bool,
    /// What is answered then, in the place of quota and limits.
    pub action: Action,
}

/// What is known of a request before anything is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It is on a list, which says what is answered unless its account is blocked.
    Listed(Hit, Action, Option<Account>),
    /// There is no account to charge it to.
    Nobody,
    /// The account to charge it to.
    Charged(Account),
}

impl Terms {
    /// What needs no counting to be known. The lists are looked at first; `local_time`, the server's, is asked for only if
    /// there are any.
    pub fn know(&self, asked: &Attributes<'_>, local_time: impl FnOnce() -> DateTime) -> Known {
        let account = Account::of(asked, &self.accounts);
        if !self.lists.is_empty()
            && let Some(hit) = self.lists.find(asked, &self.accounts, local_time())
        {
            let action = self.listed_action(hit.list);
            return Known::Listed(hit, action, account);
        }
        account.map_or(Known::Nobody, Known::Charged)
    }

    /// What the lists say of a name that is counted, at a time in seconds since 1970. Its client or envelope sender may be on
    /// a list as well, which only a request tells.
    pub fn listed(&self, name: &str, now: i64) -> Option<Listed> {
        if self.lists.is_empty() {
            return None;
        }
        let local = Timestamp::from_second(now).unwrap_or_default().to_zoned(self.policy.zone.clone()).datetime();
        let (hit, now) = self.lists.find_name(name, local)?;
        let action = self.listed_action(hit.list);
        Some(Listed { hit, now, action })
    }

    fn listed_action(&self, list: Which) -> Action {
        match list {
            Which::Allow => self.policy.accepted.clone(),
            Which::Deny => self.deny_action.clone(),
        }
    }
}
