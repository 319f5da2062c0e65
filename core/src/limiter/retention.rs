//! What is kept, and for how long. `cleanup` deletes the rest, and `replay` with it: what one deletes, the other must not count.

use std::time::Duration;

use super::usual;
use crate::policy::duration::seconds;

const DAY: i64 = 24 * 60 * 60;
/// A row of an account without a login is deleted when it was not used for so long, and has no history left.
const IDLE: i64 = 7 * DAY;
/// History is kept so much longer than any window: that reaches up to a minute further back than its length, and hosts'
/// clocks differ.
const SPARE: i64 = 60 * 60;
/// Minutes are kept for so long at least: until days are made of them, which cleanup does before it deletes any.
const MINUTES: i64 = 3 * DAY;
/// When networks were first seen is kept for longer than they are new.
const ARRIVALS: i64 = 3 * DAY;
/// Notices are kept longer than any window.
const NOTICES: i64 = 62 * DAY;
/// How far an outage journal was charged is kept for longer than a host whose daemon was killed stays switched off.
const JOURNALS: i64 = 366 * DAY;
/// Strikes, and blocks that are over, are kept for longer than any rule of STRIKES looks back.
const STORY: i64 = 367 * DAY;
/// The history of an adopted database is filled in so far back although no window is that long: one may be set later.
const MIN_FILLED: Duration = Duration::from_secs(24 * 60 * 60);

/// How long things are kept, by the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Of messages, in seconds. None: they are never deleted.
    messages: Option<i64>,
    /// Of minutes, in seconds.
    history: i64,
}

impl Retention {
    /// Of MESSAGE_RETENTION and USAGE_RETENTION in days, and the longest window that a decision looks at.
    pub fn new(message_days: u32, usage_days: u32, longest_window: Option<Duration>) -> Retention {
        let seconds_of = |days: u32| i64::from(days) * DAY;
        Retention {
            messages: Some(seconds_of(message_days)).filter(|&kept| kept > 0),
            history: longest_window.map_or(0, seconds).max(seconds_of(usage_days)).max(MINUTES).saturating_add(SPARE),
        }
    }

    /// Messages before this time are deleted. None: all are kept.
    pub fn messages_before(self, now: i64) -> Option<i64> {
        self.messages.map(|kept| now.saturating_sub(kept))
    }

    /// History before this time is deleted.
    pub fn history_before(self, now: i64) -> i64 {
        now.saturating_sub(self.history)
    }

    /// Networks that were last seen before this time are deleted.
    pub fn networks_before(self, now: i64) -> i64 {
        now.saturating_sub(self.history.max(usual::KEPT))
    }

    /// Rows of senders without a login are deleted if they were last used before this.
    pub fn idle_before(self, now: i64) -> i64 {
        now.saturating_sub(self.history.max(IDLE))
    }
}

/// When networks were first seen is deleted if that was before this time.
pub fn arrivals_before(now: i64) -> i64 {
    now.saturating_sub(ARRIVALS)
}

/// Days before this time are deleted.
pub fn days_before(now: i64) -> i64 {
    now.saturating_sub(usual::KEPT)
}

/// Notices before this time are deleted.
pub fn notices_before(now: i64) -> i64 {
    now.saturating_sub(NOTICES)
}

/// How far outage journals were charged is deleted if they last were before this time.
pub fn journals_before(now: i64) -> i64 {
    now.saturating_sub(JOURNALS)
}

/// Strikes before this time are deleted, and blocks that were over before it.
pub fn story_before(now: i64) -> i64 {
    now.saturating_sub(STORY)
}

/// From when on the history of an adopted database is filled in, for windows up to this one.
pub fn filled_since(now: i64, longest_window: Duration) -> i64 {
    now.saturating_sub(seconds(longest_window.max(MIN_FILLED)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_looks_at_what_is_deleted() {
        let now = 1000 * DAY;
        for (usage_days, window, days) in [(1, None, 3), (30, None, 30), (1, Some(14), 14), (3, Some(2), 3)] {
            let window = window.map(|days: u64| Duration::from_secs(days * 24 * 60 * 60));
            let kept = Retention::new(0, usage_days, window);
            assert_eq!(kept.history_before(now), now - days * DAY - SPARE, "{usage_days} {window:?}");
            assert_eq!(kept.idle_before(now), kept.history_before(now).min(now - IDLE), "{usage_days} {window:?}");
        }
    }

    #[test]
    fn messages_are_kept_for_ever_or_for_days() {
        assert_eq!(Retention::new(0, 1, None).messages_before(1000 * DAY), None);
        assert_eq!(Retention::new(30, 1, None).messages_before(1000 * DAY), Some(970 * DAY));
    }
}
