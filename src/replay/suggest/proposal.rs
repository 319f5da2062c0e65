//! The settings that are proposed: round numbers, a little above what past mail needs.

use super::form::{BURST, Form, HOUR, NETWORKS, NEW_NETWORKS, QUOTA, USUAL_DAY, USUAL_HOUR, rounded_up};
use super::sweep::SenderMonths;
use crate::limiter::decide::Policy;
use crate::policy::limit::Limit;
use crate::policy::quota::Window;

/// The quota stands above all but so many sender-months, as a part of 1: those above get a quota of their own.
const ABOVE_QUOTA: usize = 100;
/// A limit touches one of so many sender-months at the most.
const TOUCHED: usize = 1000;
/// No amount is proposed below these: some weeks of mail do not show all that is good.
const LEAST_QUOTA: u64 = 100;
/// With what is usual.
const LEARNT: [(Form, u64); 3] = [(USUAL_HOUR, 50), (USUAL_DAY, 100), (NEW_NETWORKS, 15)];
/// As long as too little is known for that.
const PLAIN: [(Form, u64); 3] = [(BURST, 30), (HOUR, 60), (NETWORKS, 6)];

/// Settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    pub quota: u64,
    pub limits: Vec<Limit>,
    /// The accounts that need more than the quota, and what fits them.
    pub own_quotas: Vec<(u32, u64)>,
}

impl Proposal {
    /// None if no mail can tell.
    pub fn of(months: &SenderMonths) -> Option<Proposal> {
        let above = months.len(QUOTA).div_ceil(ABOVE_QUOTA);
        let quota = rounded_up(months.tightest(QUOTA, above)?.amount).max(LEAST_QUOTA);
        let own = months.touched(QUOTA, quota).accounts;
        let forms = if months.len(USUAL_HOUR) > 0 { LEARNT } else { PLAIN };
        let limit = |(form, least): (Form, u64)| {
            let level = months.tightest(form, months.len(form) / TOUCHED)?;
            Some(form.limit(rounded_up(level.amount).max(least)))
        };
        Some(Proposal {
            quota,
            limits: forms.into_iter().filter_map(limit).collect(),
            own_quotas: own.into_iter().map(|(account, needed)| (account, rounded_up(needed))).collect(),
        })
    }

    /// The quota that an account would have for itself.
    pub fn own_quota(&self, account: u32) -> Option<u32> {
        let own = self.own_quotas.iter().find(|(own, _)| *own == account);
        own.map(|(_, quota)| u32::try_from(*quota).unwrap_or(u32::MAX))
    }

    /// What it makes of a policy.
    pub fn applied_to(&self, policy: &Policy) -> Policy {
        Policy {
            new_quota: u32::try_from(self.quota).unwrap_or(u32::MAX),
            window: Window::Sliding(QUOTA.window),
            limits: self.limits.clone(),
            ..policy.clone()
        }
    }

    /// LIMITS, as it is written.
    pub fn limits_written(&self) -> String {
        let written = self.limits.iter().map(ToString::to_string);
        written.collect::<Vec<_>>().join("; ")
    }
}
