//! Whose quota, how much, and what is answered then.

use std::time::Duration;

use super::checker::{Checked, Checker, Reported};
use crate::account::AccountRules;
use crate::config::typed::{Answers, ListFiles, Quota};
use crate::config::values;
use crate::policy::limits;
use crate::policy::steps::Steps;
use crate::policy::strikes::Strikes;
use crate::policy::syntax::Mistake;
use crate::policy::text;
use crate::protocol::reply::{Action, Strictness};

/// The timeout in the Postfix snippet of the manual: an answer that comes later is one that Postfix does not wait for.
const POSTFIX_TIMEOUT: Duration = Duration::from_secs(5);

impl Checker<'_> {
    pub fn accounts(&mut self) -> Checked<AccountRules> {
        let limit_by = self.get("LIMIT_BY", values::attributes);
        let login_domain = self.optional("LOGIN_DOMAIN", values::domain);
        let strip_domain = self.get("SENDER_STRIP_DOMAIN", values::flag);
        let (login_domain, strip_domain) = (login_domain?, strip_domain?);
        if login_domain.is_some() && strip_domain {
            self.warn("LOGIN_DOMAIN", "has no meaning with SENDER_STRIP_DOMAIN=True, which cuts the domain off");
        }
        Ok(AccountRules { limit_by: limit_by?, login_domain, strip_domain })
    }

    /// `text_blocked` is the text of actions without a text.
    pub fn quota(&mut self, text_blocked: &str) -> Checked<Quota> {
        let default = self.get("QUOTA", values::quota);
        let window = self.get("QUOTA_WINDOW", values::window);
        let steps = self.get("QUOTA_STEPS", values::text);
        let steps = steps.and_then(|written| self.rules("QUOTA_STEPS", Steps::parse(&written, text_blocked)));
        let limits = self.get("LIMITS", values::text);
        let limits = limits.and_then(|written| self.rules("LIMITS", limits::parse(&written, text_blocked)));
        let strikes = self.get("STRIKES", values::text);
        let strikes = strikes.and_then(|written| self.rules("STRIKES", Strikes::parse(&written)));
        let networks_ignore = self.get("NETWORKS_IGNORE", values::networks);
        Ok(Quota {
            default: default?,
            window: window?,
            steps: steps?,
            limits: limits?,
            strikes: strikes?,
            networks_ignore: networks_ignore?,
        })
    }

    /// What was read of a setting with a syntax of its own, or every mistake in it.
    fn rules<T, P: std::fmt::Display>(&mut self, name: &'static str, read: Result<T, Vec<Mistake<P>>>) -> Checked<T> {
        read.map_err(|mistakes| {
            for mistake in mistakes {
                let _: Checked<T> = self.fail(name, mistake.to_string());
            }
            Reported
        })
    }

    pub fn lists(&mut self) -> Checked<ListFiles> {
        let allow = self.optional("ALLOWLIST", values::path);
        let deny = self.optional("DENYLIST", values::path);
        let deny_action = self.get("DENYLIST_ACTION", values::action);
        let (allow, deny) = (allow?, deny?);
        for (name, path) in [("ALLOWLIST", &allow), ("DENYLIST", &deny)] {
            if let Some(path) = path {
                self.warn_if_others_write(name, path);
            }
        }
        Ok(ListFiles { allow, deny, deny_action: deny_action? })
    }

    pub fn answers(&mut self) -> Checked<Answers> {
        let text_blocked = self.get("ACTION_TEXT_BLOCKED", values::text);
        if let Ok(written) = &text_blocked {
            for mistake in text::check(written) {
                let _: Checked<()> = self.fail("ACTION_TEXT_BLOCKED", mistake.to_string());
            }
        }
        let accepted = self.get("ACTION_ACCEPTED", values::action);
        let on_error = self.get("ACTION_ON_ERROR", values::action);
        let decision_timeout = self.get("DECISION_TIMEOUT", values::duration);
        if accepted.as_ref().is_ok_and(|action: &Action| action.word() == "OK") {
            self.warn(
                "ACTION_ACCEPTED",
                "ends Postfix's restriction list: checks after this one are skipped; prefer DUNNO",
            );
        }
        if on_error.as_ref().is_ok_and(|action| action.strictness() >= Strictness::Hold) {
            self.warn("ACTION_ON_ERROR", "keeps mail back or refuses it when this program is in trouble; prefer DUNNO");
        }
        if decision_timeout.is_ok_and(|timeout| timeout >= POSTFIX_TIMEOUT) {
            self.warn(
                "DECISION_TIMEOUT",
                "is not below the timeout that main.cf should have (5s); Postfix would give up first",
            );
        }
        Ok(Answers {
            accepted: accepted?,
            on_error: on_error?,
            text_blocked: text_blocked?,
            decision_timeout: decision_timeout?,
        })
    }
}
