//! The kinds of limits that are tried.

use std::time::Duration;

use crate::limiter::decide::Standing;
use crate::policy::decimal::Decimal;
use crate::policy::duration;
use crate::policy::limit::{Amount, Limit, Measure, Per};
use crate::protocol::reply::Action;

const MINUTE: u64 = 60;
const AN_HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * AN_HOUR;
/// How many times what is usual.
const FACTOR: &str = "3";

/// A limit without its amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    pub measure: Measure,
    pub window: Duration,
    /// Whether the amount is a `min`, beside a multiple of what is usual.
    pub usual: bool,
    /// Whether it stands in QUOTA, for itself.
    pub is_quota: bool,
}

const fn form(measure: Measure, seconds: u64) -> Form {
    Form { measure, window: Duration::from_secs(seconds), usual: false, is_quota: false }
}

/// QUOTA, in the window of 24 hours.
pub const QUOTA: Form = Form { is_quota: true, ..form(Measure::Recipients, DAY) };
pub const USUAL_HOUR: Form = Form { usual: true, ..form(Measure::Recipients, AN_HOUR) };
pub const USUAL_DAY: Form = Form { usual: true, ..form(Measure::Recipients, DAY) };
pub const NETWORKS: Form = form(Measure::Networks, AN_HOUR);
pub const NEW_NETWORKS: Form = form(Measure::NewRecipients, AN_HOUR);
pub const BURST: Form = form(Measure::Recipients, 5 * MINUTE);
pub const HOUR: Form = form(Measure::Recipients, AN_HOUR);

/// How many there are.
pub const COUNT: usize = 8;
pub const FORMS: [Form; COUNT] =
    [QUOTA, BURST, HOUR, form(Measure::Recipients, 7 * DAY), USUAL_HOUR, USUAL_DAY, NETWORKS, NEW_NETWORKS];

impl Form {
    /// Whether it depends on what was learnt.
    pub fn learns(self) -> bool {
        self.usual || self.measure.is_from_new_networks()
    }

    /// As it stands in the settings.
    pub fn written(self, amount: u64) -> String {
        let (measure, window) = (self.measure.name(), duration::show(self.window));
        match self {
            Form { is_quota: true, .. } => format!("QUOTA={amount}"),
            Form { usual: true, .. } => format!("{FACTOR}x usual {measure}/{window} min {amount}"),
            _ if self.measure.is_from_new_networks() => format!("{amount} {measure}/{window} from new networks"),
            _ => format!("{amount} {measure}/{window}"),
        }
    }

    /// The text of its action.
    fn reason(self) -> &'static str {
        match self.measure {
            _ if self.usual => "unusual amount of mail",
            Measure::Networks => "many networks",
            measure if measure.is_from_new_networks() => "mail from new networks",
            _ => "too much mail at once",
        }
    }

    /// The limit with an amount; for QUOTA the one that is the same for all accounts. It holds mail: so what a window holds does
    /// not depend on the amount.
    pub fn limit(self, amount: u64) -> Limit {
        let factor = Decimal::parse(FACTOR).unwrap_or(Decimal::ONE);
        Limit {
            amount: if self.usual { Amount::Usual { factor, min: amount } } else { Amount::Count(amount) },
            measure: self.measure,
            per: Per::Window(self.window),
            action: Action::parse(&format!("HOLD {}", self.reason())).unwrap_or(Action::DUNNO),
            written: self.written(amount),
        }
    }

    /// Returns the least amount with which the mail that was just added passes. 0 if it passes with any.
    pub fn needed(self, standing: &Standing, is_new: bool, now: i64) -> u64 {
        if self.measure.is_from_new_networks() && !is_new {
            return 0;
        }
        let used = standing.history.used(self.measure, self.window, now);
        let by_itself = if self.usual { standing.allowed(&self.limit(0)).unwrap_or(u64::MAX) } else { 0 };
        if used > by_itself { used } else { 0 }
    }
}

/// Returns the next round number from this one on: 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6 or 8 times a power of ten, never below 10.
pub fn rounded_up(amount: u64) -> u64 {
    const ROUND: [u64; 10] = [10, 12, 15, 20, 25, 30, 40, 50, 60, 80];
    let mut scale = 1u64;
    loop {
        let round = ROUND.iter().map(|round| round.saturating_mul(scale));
        if let Some(round) = round.into_iter().find(|round| *round >= amount) {
            return round;
        }
        scale = scale.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::limits;
    use proptest::prelude::*;

    #[test]
    fn a_form_is_read_as_it_is_written() {
        for form in FORMS {
            let limit = form.limit(50);
            if form.is_quota {
                assert_eq!((limit.written.as_str(), limit.amount), ("QUOTA=50", Amount::Count(50)));
                continue;
            }
            let read = limits::parse(&format!("{} {}", limit.written, limit.action), "later").unwrap();
            assert_eq!(read, [limit]);
        }
    }

    proptest! {
        #[test]
        fn a_round_number_is_a_quarter_more_at_the_most(amount in 11u64..1 << 40) {
            let round = rounded_up(amount);
            prop_assert!(amount <= round && round * 2 <= amount * 3 && rounded_up(round) == round, "{}", round);
        }
    }
}
