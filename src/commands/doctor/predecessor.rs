//! Files of PolicydRateGuard that stand in the place of ours.

use std::path::Path;

use crate::doctor::Finding;

/// Where units of PolicydRateGuard shadow ours of the same names.
const SHADOWING_UNITS: [&str; 3] = [
    "/etc/systemd/system/policyd-rate-guard.service",
    "/etc/systemd/system/policyd-rate-guard-cleanup.service",
    "/etc/systemd/system/policyd-rate-guard-cleanup.timer",
];
/// Where its logrotate file stands in the place of ours.
const SHADOWING_LOGROTATE: &str = "/etc/logrotate.d/policyd-rate-guard";
/// What each unit of ours has among its `Documentation=`.
const MANUAL_PAGE: &str = "man:policyd-rate-guard";

/// Finds PolicydRateGuard's files that shadow the package's, as /usr/libexec/policyd-rate-guard/predecessor does.
pub fn look_for(findings: &mut Vec<Finding>) {
    let has = |path: &str, text: &str| std::fs::read_to_string(path).is_ok_and(|content| content.contains(text));
    // A unit of ours names our manual page, also as an edited copy; a masked one is no file.
    let units = SHADOWING_UNITS.into_iter().filter(|path| Path::new(path).is_file() && !has(path, MANUAL_PAGE));
    // Ours sends a signal; its own restarts the service.
    let logrotate = Some(SHADOWING_LOGROTATE).filter(|path| has(path, "restart policyd-rate-guard"));
    findings.extend(units.chain(logrotate).map(|path| {
        Finding::problem(
            "predecessor",
            format!("{path} is PolicydRateGuard's"),
            "It has the name of ours and wins over it.",
            "/usr/libexec/policyd-rate-guard/predecessor report prints the commands to switch over; see docs/migrating.md"
                .to_owned(),
        )
    }));
}
