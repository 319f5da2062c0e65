//! What the limiter and `cleanup` need of the configuration.

use jiff::tz::TimeZone;

use super::typed::Config;
use crate::limiter::decide::Policy;
use crate::limiter::retention::Retention;
use crate::limiter::terms::Terms;
use crate::policy::limit::longest_window;
use crate::policy::lists::Lists;

impl Config {
    /// The terms on which requests are answered. The lists are read apart, see [`super::load_lists`]; times are shown in `zone`.
    pub fn terms(&self, lists: Lists, zone: TimeZone) -> Terms {
        Terms {
            policy: Policy {
                new_quota: self.quota.default,
                window: self.quota.window,
                steps: self.quota.steps.clone(),
                limits: self.quota.limits.clone(),
                networks_ignore: self.quota.networks_ignore.clone(),
                accepted: self.answers.accepted.clone(),
                on_error: self.answers.on_error.clone(),
                zone,
            },
            strikes: self.quota.strikes.clone(),
            accounts: self.accounts.clone(),
            lists,
            deny_action: self.lists.deny_action.clone(),
            decision_timeout: self.answers.decision_timeout,
            host: self.host.clone(),
            message_log: self.audit.message_log,
        }
    }

    /// MESSAGE_RETENTION and USAGE_RETENTION. History is kept at least as long as the longest window.
    pub fn retention(&self) -> Retention {
        let longest = longest_window(self.quota.window, &self.quota.limits);
        Retention::new(self.audit.message_retention, self.audit.usage_retention, longest)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::{self, Sources};
    use crate::limiter::retention::Retention;

    #[test]
    fn history_is_kept_for_every_window_that_is_set() {
        for (settings, messages, usage, window) in [
            (vec![("USAGE_RETENTION", "1")], 0, 1, None),
            (vec![("USAGE_RETENTION", "30"), ("MESSAGE_RETENTION", "9")], 9, 30, None),
            (vec![("USAGE_RETENTION", "1"), ("QUOTA_WINDOW", "14d")], 0, 1, Some(14)),
            (vec![("USAGE_RETENTION", "1"), ("LIMITS", "5 messages/3d; 9 messages/1h")], 0, 1, Some(3)),
        ] {
            let config = config::load(&Sources::new(None, settings.iter().copied(), false)).unwrap().config;
            let window = window.map(|days: u64| Duration::from_secs(days * 24 * 60 * 60));
            assert_eq!(config.retention(), Retention::new(messages, usage, window), "{settings:?}");
        }
    }
}
