//! The checks of Postfix's configuration: is the daemon asked, at the right stage, before anything that ends the list, and so
//! that its absence refuses nothing?

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Finding;
use super::postfix::{PolicyCheck, Postfix};
use crate::config::ListenAddress;

/// The check as it should stand.
pub const GOOD: &str =
    "smtpd_data_restrictions = check_policy_service { unix:rateguard/policyd, timeout=5s, default_action=DUNNO }";

/// Restrictions that end their list for everybody who has logged in.
const ENDS_FOR_LOGINS: [&str; 5] = ["permit", "permit_sasl_authenticated", "reject", "defer", "defer_if_reject"];
/// Restrictions that end their list for some clients.
const ENDS_FOR_SOME: [&str; 2] = ["permit_mynetworks", "permit_tls_clientcerts"];

/// Where a check leads, seen from outside of any chroot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Unix(PathBuf),
    /// As written after `inet:`.
    Tcp(String),
}

/// Resolves a check's address as smtpd does: unix paths are relative to the queue directory.
fn target(address: &str, queue_directory: &str) -> Target {
    match address.strip_prefix("unix:") {
        Some(path) => Target::Unix(Path::new(queue_directory).join(path)),
        None => Target::Tcp(address.strip_prefix("inet:").unwrap_or(address).to_owned()),
    }
}

/// Where the checks lead that are meant for us.
pub fn targets(postfix: &Postfix, sockets: &[ListenAddress]) -> Vec<Target> {
    let queue = queue_directory(postfix);
    let checks = postfix.policy_checks().into_iter().filter(|check| is_meant(check, queue, sockets));
    checks.map(|check| target(&check.address, queue)).collect()
}

fn queue_directory(postfix: &Postfix) -> &str {
    postfix.main.get("queue_directory").map_or("/var/spool/postfix", String::as_str)
}

/// A check at our socket's usual place is meant for us, also when the daemon is told to listen elsewhere.
fn is_meant(check: &PolicyCheck, queue: &str, sockets: &[ListenAddress]) -> bool {
    is_ours(&target(&check.address, queue), sockets) || check.address.contains("rateguard")
}

/// Whether a check leads to one of these sockets of ours.
fn is_ours(target: &Target, sockets: &[ListenAddress]) -> bool {
    sockets.iter().any(|socket| match (target, socket) {
        (Target::Unix(path), ListenAddress::Unix(ours)) => path == ours,
        (Target::Tcp(written), ListenAddress::Tcp(ours)) => {
            let local = written.replace("localhost", "127.0.0.1");
            local == ours.to_string() || ours.ip().is_unspecified() && local.ends_with(&format!(":{}", ours.port()))
        }
        _ => false,
    })
}

/// Everything that can be said from the configuration alone. `decision_timeout` is the daemon's.
pub fn configuration(postfix: &Postfix, sockets: &[ListenAddress], decision_timeout: Duration) -> Vec<Finding> {
    let queue = queue_directory(postfix);
    let checks = postfix.policy_checks();
    let ours: Vec<&PolicyCheck> = checks.iter().filter(|check| is_meant(check, queue, sockets)).collect();
    let mut findings = Vec::new();
    if postfix.services.is_empty() {
        findings.push(Finding::problem(
            "no-smtpd",
            "master.cf has no smtpd service".to_owned(),
            "Postfix accepts no mail over SMTP, so there is nothing to limit.",
            "enable smtp or submission in master.cf".to_owned(),
        ));
    } else if ours.is_empty() {
        findings.push(Finding::problem(
            "not-asked",
            format!("no restriction list of any smtpd service asks this daemon{}", others(&checks)),
            "Nothing is limited.",
            GOOD.to_owned(),
        ));
    }
    for check in ours {
        one_check(postfix, check, queue, decision_timeout, &mut findings);
    }
    findings.sort_by_key(|finding| finding.severity);
    findings.dedup();
    findings
}

/// A slip in the address is easier to see beside what is asked.
fn others(checks: &[PolicyCheck]) -> String {
    let addresses: BTreeSet<&str> = checks.iter().map(|check| check.address.as_str()).collect();
    if addresses.is_empty() {
        return String::new();
    }
    format!(", but {}", Vec::from_iter(addresses).join(", "))
}

fn one_check(
    postfix: &Postfix,
    check: &PolicyCheck,
    queue: &str,
    decision_timeout: Duration,
    findings: &mut Vec<Finding>,
) {
    let place = format!("{} of {}", check.list, check.service);
    stage(postfix, check, &place, findings);
    for word in &check.before {
        if ENDS_FOR_LOGINS.contains(&word.as_str()) {
            findings.push(Finding::problem(
                "list-ends-before",
                format!("{place}: {word} stands before the policy check"),
                "It ends the list for those who have logged in, so their mail is never asked about.",
                format!("put check_policy_service before {word}, or better: {GOOD}"),
            ));
        } else if ENDS_FOR_SOME.contains(&word.as_str()) {
            findings.push(Finding::advice(
                "list-may-end-before",
                format!("{place}: {word} stands before the policy check"),
                "Mail of those clients (a webmail server, web sites) is not limited.",
                format!("put check_policy_service before {word}, or better: {GOOD}"),
            ));
        }
    }
    let service = postfix.services.iter().find(|service| service.name == check.service);
    let parameter = |option: &str, parameter: &str| {
        let set = check.options.get(option).cloned();
        set.or_else(|| service.map(|service| postfix.value(service, parameter).to_owned())).unwrap_or_default()
    };
    let default_action = parameter("default_action", "smtpd_policy_service_default_action");
    let action = default_action.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if !["DUNNO", "OK", "PERMIT"].contains(&action.as_str()) {
        findings.push(Finding::problem(
            "no-default-action",
            format!("{place}: without default_action=DUNNO, with {default_action:?}"),
            "When the daemon does not run, Postfix refuses all mail.",
            GOOD.to_owned(),
        ));
    }
    let timeout = parameter("timeout", "smtpd_policy_service_timeout");
    match seconds(&timeout) {
        Some(limit) if Duration::from_secs(limit) <= decision_timeout => findings.push(Finding::problem(
            "timeout-too-short",
            format!("{place}: timeout={timeout} is not above DECISION_TIMEOUT ({} s)", decision_timeout.as_secs_f32()),
            "Postfix gives up before the daemon answers.",
            GOOD.to_owned(),
        )),
        Some(limit) if limit <= 10 => {}
        _ => findings.push(Finding::advice(
            "timeout-too-long",
            format!("{place}: timeout={}", if timeout.is_empty() { "100s (the default)" } else { &timeout }),
            "A daemon that hangs would delay each mail for twice that time.",
            GOOD.to_owned(),
        )),
    }
    let chrooted = service.is_some_and(|service| postfix.is_chrooted(service));
    if let Some(path) = check.address.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
        let relative = Path::new(path).strip_prefix(queue).ok().map(Path::display);
        if chrooted {
            findings.push(Finding::problem(
                "absolute-in-chroot",
                format!("{place}: {} is absolute, and {} runs chrooted", check.address, check.service),
                "Inside the chroot there is no such path: Postfix does not find the socket, and asks nobody.",
                format!("unix:{}", relative.map_or_else(|| "rateguard/policyd".to_owned(), |path| path.to_string())),
            ));
        } else if let Some(relative) = relative {
            findings.push(Finding::advice(
                "absolute",
                format!("{place}: {} is absolute", check.address),
                "It works until somebody switches smtpd's chroot on; relative to the queue directory it works in both cases.",
                format!("unix:{relative}"),
            ));
        }
    }
    if parameter("request_limit", "smtpd_policy_service_request_limit") == "1" {
        findings.push(Finding::advice(
            "request-limit",
            format!("{place}: smtpd_policy_service_request_limit = 1"),
            "That was for servers that close the connection after each reply. This one keeps it open; a new connection for \
             each request only costs time.",
            "smtpd_policy_service_request_limit = 0".to_owned(),
        ));
    }
}

/// Is it asked at a stage where there is something to count?
fn stage(postfix: &Postfix, check: &PolicyCheck, place: &str, findings: &mut Vec<Finding>) {
    let early = ["smtpd_client_restrictions", "smtpd_helo_restrictions", "smtpd_sender_restrictions"];
    let service = postfix.services.iter().find(|service| service.name == check.service);
    let delayed = service.is_none_or(|service| postfix.value(service, "smtpd_delay_reject") != "no");
    if check.list == "smtpd_etrn_restrictions" || early.contains(&check.list) && !delayed {
        findings.push(Finding::problem(
            "wrong-stage",
            format!("{place}: at this stage there are no recipients yet"),
            "Nothing is counted, and nothing is limited.",
            GOOD.to_owned(),
        ));
    } else if early.contains(&check.list)
        || ["smtpd_relay_restrictions", "smtpd_recipient_restrictions"].contains(&check.list)
    {
        findings.push(Finding::advice(
            "early-stage",
            format!("{place}: asked once per RCPT TO"),
            "Recipients count that Postfix refuses afterwards, and each one costs a request. At DATA the recipients are known.",
            GOOD.to_owned(),
        ));
    }
}

/// A time of main.cf in seconds. Without a unit smtpd_policy_service_timeout counts seconds.
fn seconds(written: &str) -> Option<u64> {
    let digits = written.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    match written.get(digits.len()..)? {
        "" | "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: &str = "smtp inet n - y - - smtpd\n";

    fn found(main: &str) -> Vec<&'static str> {
        let postfix = Postfix::parse(&format!("queue_directory = /var/spool/postfix\n{main}"), MASTER, "");
        let sockets = [
            ListenAddress::Unix("/var/spool/postfix/rateguard/policyd".into()),
            ListenAddress::Tcp("127.0.0.1:10033".parse().unwrap()),
        ];
        let findings = configuration(&postfix, &sockets, Duration::from_secs(2));
        findings.into_iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn a_good_set_up_is_clean() {
        assert!(found(GOOD).is_empty());
        let by_defaults = "smtpd_policy_service_default_action = DUNNO\nsmtpd_policy_service_timeout = 5s\n\
                           smtpd_end_of_data_restrictions = check_policy_service inet:127.0.0.1:10033, permit_mynetworks\n";
        assert!(found(by_defaults).is_empty());
    }

    #[test]
    fn each_broken_set_up_has_its_name() {
        let service = "check_policy_service { unix:rateguard/policyd, timeout=5s, default_action=DUNNO }";
        for (main, id) in [
            ("smtpd_data_restrictions = check_policy_service inet:127.0.0.1:9998".to_owned(), "not-asked"),
            (format!("smtpd_data_restrictions = permit_sasl_authenticated, {service}"), "list-ends-before"),
            (format!("smtpd_data_restrictions = permit_mynetworks, {service}"), "list-may-end-before"),
            (format!("smtpd_etrn_restrictions = {service}"), "wrong-stage"),
            (format!("smtpd_delay_reject = no\nsmtpd_sender_restrictions = {service}"), "wrong-stage"),
            (format!("smtpd_recipient_restrictions = {service}"), "early-stage"),
            (
                "smtpd_data_restrictions = check_policy_service { unix:rateguard/policyd, timeout=5s }".to_owned(),
                "no-default-action",
            ),
            (format!("smtpd_data_restrictions = {}", service.replace("5s", "100s")), "timeout-too-long"),
            (format!("smtpd_data_restrictions = {}", service.replace("5s", "1s")), "timeout-too-short"),
            (
                format!("smtpd_data_restrictions = {}", service.replace("unix:", "unix:/var/spool/postfix/")),
                "absolute-in-chroot",
            ),
            (format!("smtpd_policy_service_request_limit = 1\nsmtpd_data_restrictions = {service}"), "request-limit"),
        ] {
            assert_eq!(found(&main), [id], "{main}");
        }
    }
}
