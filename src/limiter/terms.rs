//! The terms on which requests are answered: the part of the configuration that a reload may change between two requests.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::decide::Policy;
use super::lists::Lists;
use crate::config::{self, Config};
use crate::protocol::reply::Action;

#[derive(Debug, Clone)]
pub struct Terms {
    pub policy: Policy,
    pub subject: config::Subject,
    pub lists: Lists,
    pub deny_action: Action,
    /// From a request's arrival to its answer.
    pub decision_timeout: Duration,
    /// Whether audit rows are written.
    pub message_log: bool,
}

impl Terms {
    pub fn new(config: &Config, lists: Lists, zone: TimeZone) -> Terms {
        Terms {
            policy: Policy {
                new_quota: config.quota.default,
                window: config.quota.window,
                steps: config.quota.steps.clone(),
                limits: config.quota.limits.clone(),
                networks_ignore: config.quota.networks_ignore.clone(),
                accepted: config.answers.accepted.clone(),
                on_error: config.answers.on_error.clone(),
                zone,
            },
            subject: config.subject.clone(),
            lists,
            deny_action: config.lists.deny_action.clone(),
            decision_timeout: config.answers.decision_timeout,
            message_log: config.audit.message_log,
        }
    }
}
