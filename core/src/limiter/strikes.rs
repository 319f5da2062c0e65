//! Strikes: how often a sender came over a limit, and whether that blocks it. One strike per sender, limit and window. Pure.

use super::day;
use super::decide::Policy;
use super::decision::Reason;
use crate::policy::duration::{self, seconds};
use crate::policy::limit::Per;
use crate::policy::quota::Window;
pub use crate::policy::strikes::Strikes;

/// What every step of the quota is called as the limit of a strike: who comes over two of them in a window strikes once.
const QUOTA: &str = "quota";
/// The window, in seconds, of a limit that is for each message by itself.
const OF_MESSAGE: i64 = 3600;

/// A time at which a sender came over a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// `quota`, or one of LIMITS as written.
    pub limit: String,
    /// In Unix seconds.
    pub at: i64,
}

/// The block that strikes have earned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// In Unix seconds; None until somebody ends it.
    pub until: Option<i64>,
    /// How many strikes in what time: `3 strikes in 24h`.
    pub why: String,
}

/// The limit that a strike is of, and where its window begins: none for a block.
pub fn of(policy: &Policy, reason: &Reason, now: i64) -> Option<(String, i64)> {
    let Reason::Limit { limit, is_quota, .. } = reason else { return None };
    if *is_quota {
        let from = match policy.window {
            Window::Reset => day::began(now, &policy.zone),
            Window::Sliding(window) => now.saturating_sub(seconds(window)),
        };
        return Some((QUOTA.to_owned(), from));
    }
    let length = match policy.limits.iter().find(|one| one.written == *limit).map(|one| one.per) {
        Some(Per::Window(window)) => seconds(window),
        _ => OF_MESSAGE,
    };
    Some((limit.clone(), now.saturating_sub(length)))
}

/// Whether coming over a limit is a strike of its own: the last one of that limit lies before `window_from`, where the limit's
/// window begins. A strike that another host noted with a clock ahead of ours counts as one of this window.
pub fn is_new(known: &[Strike], limit: &str, window_from: i64) -> bool {
    known.iter().filter(|strike| strike.limit == limit).all(|strike| strike.at <= window_from)
}

/// The block that strikes up to `now` have earned by any of the rules: of several the longest.
pub fn sentence(rules: &Strikes, known: &[Strike], now: i64) -> Option<Sentence> {
    let reached = rules.iter().filter(|rule| {
        let from = now.saturating_sub(seconds(rule.within));
        known.iter().filter(|strike| strike.at > from).count() >= rule.number as usize
    });
    let longest = reached.max_by_key(|rule| rule.lasts.map_or(i64::MAX, seconds))?;
    let strikes = if longest.number == 1 { "strike" } else { "strikes" };
    Some(Sentence {
        until: longest.lasts.map(|lasts| now.saturating_add(seconds(lasts))),
        why: format!("{} {strikes} in {}", longest.number, duration::show(longest.within)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules() -> Strikes {
        Strikes::parse("3 in 24h BLOCK 1h; 6 in 7d BLOCK").unwrap()
    }

    fn strikes(at: &[i64]) -> Vec<Strike> {
        at.iter().map(|&at| Strike { limit: "quota".to_owned(), at }).collect()
    }

    #[test]
    fn enough_strikes_in_their_time_block() {
        const HOUR: i64 = 3600;
        let told = |at: &[i64], now| sentence(&rules(), &strikes(at), now);
        let once = |now| Some(Sentence { until: Some(now + HOUR), why: "3 strikes in 24h".to_owned() });
        assert_eq!(told(&[1, 2], 2), None);
        assert_eq!(told(&[1, 2, 3], 3), once(3));
        assert_eq!(told(&[1, 2, 24 * HOUR + 1], 24 * HOUR + 1), None, "the first has passed");
        let for_ever = Some(Sentence { until: None, why: "6 strikes in 7d".to_owned() });
        assert_eq!(told(&[1, 2, 3, 90_000, 90_001, 90_002], 90_002), for_ever);
        assert_eq!(sentence(&Strikes::default(), &strikes(&[1, 2, 3]), 3), None);
    }

    proptest! {
        /// Whatever a client does, of several hosts and after restarts too (nothing is remembered here but what was noted): of
        /// each limit no two strikes lie in one window, and no window in which it came over the limit is without one.
        #[test]
        fn there_is_one_strike_per_window_and_limit_however_often_a_client_retries(
            steps in prop::collection::vec((0i64..400, 0usize..3), 1..300),
        ) {
            const WINDOWS: [(&str, i64); 3] = [("quota", 3600), ("30 recipients/5m", 300), ("5 messages/1m", 60)];
            let mut noted: Vec<Strike> = Vec::new();
            let mut now = 1_800_000_000;
            for (step, which) in steps {
                now += step;
                let (limit, window) = WINDOWS[which];
                if is_new(&noted, limit, now - window) {
                    noted.push(Strike { limit: limit.to_owned(), at: now });
                }
                let in_window = noted.iter().filter(|strike| strike.limit == limit && strike.at > now - window).count();
                prop_assert_eq!(in_window, 1);
            }
            for (limit, window) in WINDOWS {
                let of: Vec<i64> = noted.iter().filter(|strike| strike.limit == limit).map(|strike| strike.at).collect();
                prop_assert!(of.windows(2).all(|pair| pair[1] - pair[0] >= window));
            }
        }
    }
}
