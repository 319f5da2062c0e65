//! Limits how often a line is logged: repeated warnings, and the decision lines of an account that stays blocked.

use std::fmt::Display;
use std::panic::Location;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::DECISION;
use super::decision::{DecisionLine, escaped};
use super::throttle::{Throttle, Verdict};

/// The period of both limits.
pub const PERIOD: Duration = Duration::from_secs(60);

/// How many lines of one blocked account are logged in a period; the rest is counted.
const BLOCKED_LINES: u64 = 10;

/// Warnings have few keys, all of them ours; blocked accounts are bounded by the memory that they take.
const MAX_WARNINGS: usize = 256;
const MAX_SENDERS: usize = 4096;

static WARNINGS: LazyLock<Mutex<Throttle<String>>> =
    LazyLock::new(|| Mutex::new(Throttle::new(1, PERIOD, MAX_WARNINGS)));
static BLOCKED: LazyLock<Mutex<Throttle<String>>> =
    LazyLock::new(|| Mutex::new(Throttle::new(BLOCKED_LINES, PERIOD, MAX_SENDERS)));

/// Logs a warning, at most once a [`PERIOD`] for its `key`; the next one says how many were left out.
///
/// The key is a few words of ours that people read too, never text from the network.
#[track_caller]
pub fn warn_limited(key: &str, message: impl Display) {
    let verdict = lock(&WARNINGS).admit(key, Instant::now());
    match verdict {
        Verdict::Pass { suppressed: 0 } => warn_from(Location::caller(), format_args!("{message}")),
        Verdict::Pass { suppressed } => {
            warn_from(Location::caller(), format_args!("{message} (and {suppressed} more like it before)"));
        }
        Verdict::Suppress => {}
    }
}

/// Logs a decision about `account`, whose quota it is. Refusals are limited per account; the one that reaches the limit
/// is always logged.
pub fn log_decision(account: &str, mut decision: DecisionLine<'_>) {
    if decision.blocked && !decision.limit_reached {
        match lock(&BLOCKED).admit(account, Instant::now()) {
            Verdict::Pass { suppressed } => decision.suppressed = suppressed,
            Verdict::Suppress => return,
        }
    }
    log::log!(target: DECISION, decision.level(), "{decision}");
}

/// Logs how many lines were left out for keys that went quiet. To be called about once a [`PERIOD`]: it makes room for other keys.
pub fn report_quiet() {
    let now = Instant::now();
    report(lock(&WARNINGS).ended(now), lock(&BLOCKED).ended(now));
}

/// Logs all that was left out and not yet told: at the end of the program, before the log is flushed.
pub fn report_all() {
    report(lock(&WARNINGS).drain(), lock(&BLOCKED).drain());
}

fn report(warnings: Vec<Suppressed>, blocked: Vec<Suppressed>) {
    for Suppressed { key, count } in warnings {
        log::warn!("{count} more warnings were not logged: {}", key.as_deref().unwrap_or("of various kinds"));
    }
    for Suppressed { key, count } in blocked {
        match key {
            Some(sender) => log::warn!("{count} more refusals of sender {} were not logged", escaped(&sender)),
            None => log::warn!("{count} more refusals of various senders were not logged"),
        }
    }
}

type Suppressed = super::throttle::Suppressed<String>;

/// `log::warn!` with the place of our caller.
fn warn_from(place: &Location<'_>, message: std::fmt::Arguments<'_>) {
    log::logger().log(
        &log::Record::builder()
            .level(log::Level::Warn)
            .target(module_path!())
            .file(Some(place.file()))
            .line(Some(place.line()))
            .args(message)
            .build(),
    );
}

/// The throttle is whole after every call, so a lock poisoned by a panic elsewhere is good.
fn lock<T>(throttle: &Mutex<T>) -> MutexGuard<'_, T> {
    throttle.lock().unwrap_or_else(PoisonError::into_inner)
}
