//! The standing of an account, limit by limit: what is used, what is allowed, what happens beyond it, and when there is room again.
//! Says of the next message what [`super::decide`] would.

use super::day::next_reset;
use super::decide::{Policy, Standing};
use crate::policy::duration;
use crate::policy::limit::{Limit, Measure, Per};
use crate::policy::quota::{self, Window};
use crate::policy::steps::{Step, StepAction};
use crate::protocol::reply::{Action, Strictness};

/// The standing of an account in one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Whether it is a step of the quota, and not one of LIMITS.
    pub is_quota: bool,
    /// The limit as it stands in logs: `1x quota 1000`, `30 recipients/5m`.
    pub limit: String,
    /// In which time: `24h`, `message`, or `reset`.
    pub per: String,
    pub used: u64,
    /// None if the account has no such limit.
    pub allowed: Option<u64>,
    /// What happens beyond it now. None for a step that only notifies.
    pub action: Option<Action>,
    /// For a limit that depends on what was learnt about the account.
    pub learnt: Option<Learnt>,
    /// Whether the next message, to one recipient and from a place that is known, is beyond it.
    pub exceeded: bool,
    /// When that message would be within it again, in seconds since 1970. None if it is now, or never will be.
    pub free_at: Option<i64>,
}

/// What a limit that learns depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learnt {
    /// How much is usual in its time. None if that is not known, or not asked.
    pub usual: Option<u64>,
    /// Whether it only warns so far.
    pub only_warns: bool,
    /// From when on it acts, in seconds since 1970. None if the database knows nothing yet.
    pub acts_from: Option<i64>,
}

/// Every limit that an account has: the quota's steps, lowest first, then LIMITS as written.
pub fn explain(policy: &Policy, standing: &Standing, now: i64) -> Vec<Explained> {
    let steps = policy.steps.iter().map(|step| of_step(policy, step, standing, now));
    steps.chain(policy.limits.iter().map(|limit| of_limit(limit, standing, now))).collect()
}

/// What the next message to one recipient would be told, if it would be held or refused: of the strictest the quota's highest
/// step, else the first of LIMITS.
pub fn blocking(explained: &[Explained]) -> Option<&Explained> {
    let strictness = |one: &Explained| one.action.as_ref().filter(|_| one.exceeded).map(Action::strictness);
    let strictest =
        explained.iter().filter_map(strictness).max().filter(|&strictness| strictness >= Strictness::Hold)?;
    let of =
        |is_quota| explained.iter().filter(move |one| one.is_quota == is_quota && strictness(one) == Some(strictest));
    of(true).next_back().or_else(|| of(false).next())
}

/// What is used of the quota: of messages and recipients the greater.
pub fn quota_used(policy: &Policy, standing: &Standing, now: i64) -> u64 {
    let (messages, recipients) = match policy.window {
        Window::Reset => (u64::from(standing.messages), u64::from(standing.recipients)),
        Window::Sliding(window) => (
            standing.history.used(Measure::Messages, window, now),
            standing.history.used(Measure::Recipients, window, now),
        ),
    };
    messages.max(recipients)
}

fn of_step(policy: &Policy, step: &Step, standing: &Standing, now: i64) -> Explained {
    let used = quota_used(policy, standing, now);
    let allowed = step.allowed(standing.quota);
    let exceeded = allowed.is_some_and(|allowed| used.saturating_add(1) > allowed);
    let free_at = match (policy.window, allowed) {
        (Window::Reset, Some(allowed)) if allowed > 0 => next_reset(now, &policy.zone),
        (Window::Sliding(window), Some(allowed)) => {
            let free = |measure| standing.history.free_at(measure, window, allowed, 1, now);
            free(Measure::Messages).zip(free(Measure::Recipients)).map(|(one, other)| one.max(other))
        }
        _ => None,
    };
    let quota = quota::written(standing.quota);
    Explained {
        is_quota: true,
        limit: format!("{} quota {quota}", step.factor_written()),
        per: match policy.window {
            Window::Reset => "reset".to_owned(),
            Window::Sliding(window) => duration::show(window),
        },
        used,
        allowed,
        action: match &step.action {
            StepAction::Notify => None,
            StepAction::Act(action) => Some(action.clone()),
        },
        learnt: None,
        exceeded,
        free_at: free_at.filter(|_| exceeded),
    }
}

fn of_limit(limit: &Limit, standing: &Standing, now: i64) -> Explained {
    let allowed = standing.allowed(limit);
    // Only what grows is judged, and a message from a known network adds none.
    let from_known = limit.measure == Measure::Networks || limit.measure.is_from_new_networks();
    let (used, amount, window) = match limit.per {
        Per::Message => (0, 1, None),
        Per::Window(window) => {
            (standing.history.used(limit.measure, window, now), if from_known { 0 } else { 1 }, Some(window))
        }
    };
    let judged = !limit.measure.is_from_new_networks();
    let exceeded = judged && allowed.is_some_and(|allowed| used.saturating_add(amount) > allowed);
    let free_at = allowed
        .zip(window)
        .and_then(|(allowed, window)| standing.history.free_at(limit.measure, window, allowed, amount, now));
    let only_warns = standing.only_warns(limit, now);
    Explained {
        is_quota: false,
        limit: limit.written.clone(),
        per: limit.per.to_string(),
        used,
        allowed,
        action: Some(if only_warns { limit.action.as_warning() } else { limit.action.clone() }),
        learnt: limit.learns().then(|| {
            let usual = standing.history.usual();
            Learnt {
                usual: usual.zip(window).and_then(|(usual, window)| usual.peaks.of(limit.measure, window)),
                only_warns,
                acts_from: usual.and_then(|usual| usual.acts_from(limit)),
            }
        }),
        exceeded,
        free_at: free_at.filter(|_| exceeded),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::limiter::decide::{Facts, decide};
    use crate::limiter::increase::Increase;
    use crate::policy::{limits, steps::Steps};

    const NOON: i64 = 1_800_014_400; // 2027-01-15 12:00 UTC

    fn policy(window: Window) -> Policy {
        let text = "later";
        Policy {
            new_quota: 20,
            window,
            steps: Steps::parse("0.5x NOTIFY; 1x HOLD full; 2x REJECT far too full", text).unwrap(),
            limits: limits::parse(
                "10 recipients/5m DEFER slow down; 2 networks/1h WARN travels; 9 recipients/message",
                text,
            )
            .unwrap(),
            networks_ignore: Vec::new(),
            accepted: Action::DUNNO,
            on_error: Action::DUNNO,
            zone: TimeZone::UTC,
        }
    }

    fn facts(recipients: u32, network: u8, now: i64) -> Facts<'static> {
        Facts {
            account: "alice@example.com",
            increase: Increase { messages: 1, recipients, bytes: 0 },
            outstanding: Increase { messages: 1, recipients, bytes: 0 },
            recipients_of_message: recipients,
            network: Some(format!("192.0.{network}.0/24").parse().unwrap()),
            now,
        }
    }

    proptest! {
        #[test]
        fn the_next_message_is_told_what_was_explained_until_the_moment_that_was_named(
            stream in proptest::collection::vec((0i64..400, 1u32..9, 0u8..3), 1..40),
            sliding in any::<bool>(),
            quota in 0u32..40,
        ) {
            let window = if sliding { Window::Sliding(Duration::from_secs(1800)) } else { Window::Reset };
            let policy = policy(window);
            let mut standing = Standing::new(quota);
            let mut now = NOON;
            let mut last = 0;
            for (pause, recipients, network) in stream {
                now += pause;
                last = network;
                decide(&policy, &mut standing, &facts(recipients, network, now));
            }
            let told = |at: i64| decide(&policy, &mut standing.clone(), &facts(1, last, at));
            let explained = explain(&policy, &standing, now);
            let blocking = blocking(&explained);
            let decision = told(now);
            prop_assert_eq!(blocking.is_some(), decision.blocked);
            if let Some(limit) = blocking {
                prop_assert_eq!(limit.action.as_ref().unwrap().word(), decision.action.word());
                if let (true, Some(at)) = (sliding, limit.free_at) {
                    let still = told(at - 1);
                    prop_assert!(still.blocked, "free before the moment that was named");
                    let freed = told(at);
                    prop_assert!(freed.action != decision.action || freed.reason != decision.reason);
                }
            }
        }
    }

    #[test]
    fn an_unlimited_sender_has_no_quota_to_exceed_and_limits_all_the_same() {
        let standing = Standing::new(crate::policy::quota::UNLIMITED);
        let explained = explain(&policy(Window::Reset), &standing, NOON);
        let seen: Vec<_> = explained.iter().map(|one| (one.limit.as_str(), one.allowed, one.exceeded)).collect();
        assert_eq!(
            seen,
            [
                ("0.5x quota unlimited", None, false),
                ("1x quota unlimited", None, false),
                ("2x quota unlimited", None, false),
                ("10 recipients/5m", Some(10), false),
                ("2 networks/1h", Some(2), false),
                ("9 recipients/message", Some(9), false),
            ]
        );
    }

    #[test]
    fn who_may_not_send_is_never_free() {
        let explained = explain(&policy(Window::Reset), &Standing::new(0), NOON);
        assert!(explained[1].exceeded && explained[1].free_at.is_none());
    }
}
