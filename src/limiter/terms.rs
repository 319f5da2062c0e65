//! The terms on which requests are answered: the part of the configuration that a reload may change between two requests.

use std::time::Duration;

use super::decide::Policy;
use crate::config::{self, Config};
use crate::protocol::reply::Action;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub policy: Policy,
    pub subject: config::Subject,
    /// From a request's arrival to its answer.
    pub decision_timeout: Duration,
    /// Whether audit rows are written.
    pub message_log: bool,
}

impl From<&Config> for Terms {
    fn from(config: &Config) -> Terms {
        Terms {
            policy: Policy {
                new_quota: config.quota.default,
                accepted: config.answers.accepted.clone(),
                blocked: Action::defer_if_permit(&config.answers.text_blocked),
                on_error: config.answers.on_error.clone(),
            },
            subject: config.subject.clone(),
            decision_timeout: config.answers.decision_timeout,
            message_log: config.audit.message_log,
        }
    }
}
