//! Which limits only warn so far, because too little is known of senders.

use jiff::tz::TimeZone;

use super::standings::learnt_since;
use crate::limiter::decide::Policy;
use crate::limiter::moment;
use crate::limiter::usual::{self, Peaks, Usual};
use crate::store::{Failure, Store};

/// A limit that only warns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learning {
    /// As written.
    pub limit: String,
    /// From when on it acts, in seconds since 1970. None if nothing is known yet.
    pub acts_from: Option<i64>,
}

/// Returns the limits of a policy that only warn at `now`, in seconds since 1970.
pub async fn of(store: &mut Store, policy: &Policy, now: i64) -> Result<Vec<Learning>, Failure> {
    if !policy.learns() {
        return Ok(Vec::new());
    }
    let learnt = store.learnt_since(&learnt_since(now)).await?;
    let usual = Usual {
        today: usual::today(now),
        first_day: learnt.first_day,
        networks_since: learnt.networks_since,
        peaks: Peaks::default(),
    };
    let learning = policy
        .limits
        .iter()
        .filter(|limit| limit.learns())
        .map(|limit| Learning { limit: limit.written.clone(), acts_from: usual.acts_from(limit) });
    Ok(learning.filter(|one| one.acts_from.is_none_or(|acts_from| acts_from > now)).collect())
}

impl Learning {
    /// Returns it in words, with times of a zone.
    pub fn told(&self, zone: &TimeZone) -> String {
        let days = usual::LEARNING;
        match self.acts_from.and_then(|at| moment::with_offset(at, zone)) {
            Some(at) => format!("`{}` only warns until {at}, when the database knows {days} days", self.limit),
            None => format!("`{}` only warns until the database knows {days} days; it knows none yet", self.limit),
        }
    }
}
