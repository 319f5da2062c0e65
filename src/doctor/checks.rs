//! The checks of Postfix's configuration: is the daemon asked, at the right stage, before anything that ends the list, and so
//! that its absence refuses nothing?

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Finding;
use super::postfix::{PolicyCheck, Postfix, Service};
use crate::config::ListenAddress;

/// The check as it should stand.
pub const GOOD: &str =
    "smtpd_data_restrictions = check_policy_service { unix:rateguard/policyd, timeout=5s, default_action=DUNNO }";
/// The same where the size of a message is known.
const GOOD_FOR_BYTES: &str = "smtpd_end_of_data_restrictions = check_policy_service { unix:rateguard/policyd, timeout=5s, default_action=DUNNO }";
/// The same as master.cf takes it, after `-o `.
const GOOD_FOR_SERVICE: &str =
    "smtpd_data_restrictions=check_policy_service,{unix:rateguard/policyd,timeout=5s,default_action=DUNNO}";

/// Restrictions that end their list for everybody who has logged in.
const ENDS_FOR_LOGINS: [&str; 4] = ["permit", "permit_sasl_authenticated", "reject", "defer"];
/// Restrictions that end their list for some clients or recipients.
const ENDS_FOR_SOME: [&str; 7] = [
    "permit_mynetworks",
    "permit_tls_clientcerts",
    "permit_tls_all_clientcerts",
    "permit_inet_interfaces",
    "permit_auth_destination",
    "permit_mx_backup",
    "permit_dnswl_client",
];

/// What is to be known of the daemon.
#[derive(Debug, Clone, Copy)]
pub struct Daemon<'a> {
    /// Where it listens, or might.
    pub sockets: &'a [ListenAddress],
    pub decision_timeout: Duration,
    /// Whether one of LIMITS counts bytes.
    pub counts_bytes: bool,
}

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

/// Everything that can be said from the configuration alone.
pub fn configuration(postfix: &Postfix, daemon: Daemon<'_>) -> Vec<Finding> {
    let queue = queue_directory(postfix);
    let checks = postfix.policy_checks();
    let ours: Vec<&PolicyCheck> = checks.iter().filter(|check| is_meant(check, queue, daemon.sockets)).collect();
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
    } else {
        for service in &postfix.services {
            one_service(postfix, service, &ours, daemon, &mut findings);
        }
    }
    for check in ours {
        one_check(postfix, check, queue, daemon.decision_timeout, &mut findings);
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

/// Does a service leave out what the others ask? Each may have restriction lists of its own.
fn one_service(
    postfix: &Postfix,
    service: &Service,
    ours: &[&PolicyCheck],
    daemon: Daemon<'_>,
    findings: &mut Vec<Finding>,
) {
    let Service { name, .. } = service;
    let lists = Vec::from_iter(ours.iter().filter(|check| check.service == *name).map(|check| check.list));
    if lists.is_empty() {
        if postfix.value(service, "smtpd_sasl_auth_enable").eq_ignore_ascii_case("yes") {
            // A content filter gives mail back there, which was asked about when it came in; or a webmail logs in.
            let local = ["127.", "[::1]:", "::1:", "localhost:"].iter().any(|host| name.starts_with(host));
            let finding = if local { Finding::advice } else { Finding::problem };
            findings.push(finding(
                "not-asked",
                format!("clients may log in to {name}, and none of its restriction lists asks this daemon"),
                "Who sends there is not limited.",
                format!("in master.cf, for {name}: -o {GOOD_FOR_SERVICE}; where nobody is to log in: -o smtpd_sasl_auth_enable=no"),
            ));
        }
    } else if daemon.counts_bytes && !lists.contains(&"smtpd_end_of_data_restrictions") {
        findings.push(Finding::problem(
            "no-bytes",
            format!("LIMITS count bytes, and smtpd_end_of_data_restrictions of {name} does not ask this daemon"),
            "The size of a message is known at its end only: no byte is counted.",
            format!(
                "{GOOD_FOR_BYTES} (beside the check that is there; a message that is asked about twice is charged once)"
            ),
        ));
    }
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
    // It is for the restriction that follows, and no other.
    if check.before.last().is_some_and(|word| word == "warn_if_reject") {
        findings.push(Finding::problem(
            "only-warned",
            format!("{place}: warn_if_reject stands before the policy check"),
            "Refusals are only logged, as while a policy is tried: that mail goes out.",
            format!("without warn_if_reject: {GOOD}"),
        ));
    }
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
    use crate::doctor::Severity;

    const MASTER: &str = "smtp inet n - y - - smtpd\n";

    fn findings(main: &str, master: &str, overrides: &str, counts_bytes: bool) -> Vec<Finding> {
        let postfix = Postfix::parse(&format!("queue_directory = /var/spool/postfix\n{main}"), master, overrides);
        let sockets = [
            ListenAddress::Unix("/var/spool/postfix/rateguard/policyd".into()),
            ListenAddress::Tcp("127.0.0.1:10033".parse().unwrap()),
        ];
        configuration(&postfix, Daemon { sockets: &sockets, decision_timeout: Duration::from_secs(2), counts_bytes })
    }

    fn found(main: &str) -> Vec<&'static str> {
        findings(main, MASTER, "", false).into_iter().map(|finding| finding.id).collect()
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
            (format!("smtpd_data_restrictions = permit_auth_destination, {service}"), "list-may-end-before"),
            (format!("smtpd_data_restrictions = warn_if_reject {service}"), "only-warned"),
            (format!("smtpd_policy_service_request_limit = 1\nsmtpd_data_restrictions = {service}"), "request-limit"),
        ] {
            assert_eq!(found(&main), [id], "{main}");
        }
    }

    #[test]
    fn what_only_seems_to_end_the_list_or_to_soften_the_check_is_no_finding() {
        for before in ["defer_if_reject", "defer_if_permit", "warn_if_reject reject_unauth_pipelining,"] {
            let main = GOOD.replace("check_policy_service", &format!("{before} check_policy_service"));
            assert!(found(&main).is_empty(), "{main}");
        }
    }

    #[test]
    fn a_service_that_takes_logins_and_does_not_ask_is_named() {
        let master = "smtp inet n - y - - smtpd\nsubmission inet n - y - - smtpd\nsubmissions inet n - y - - smtpd\n\
                      127.0.0.1:10025 inet n - y - - smtpd\n";
        let auth = "submission/inet/smtpd_sasl_auth_enable = yes\nsubmissions/inet/smtpd_sasl_auth_enable = yes\n";
        let ours = "submission/inet/smtpd_data_restrictions = check_policy_service { unix:rateguard/policyd, timeout=5s, \
                    default_action=DUNNO }\n";
        let said = |main: &str, overrides: &str| {
            let findings = findings(main, master, overrides, false);
            findings.into_iter().map(|finding| (finding.severity, finding.id, finding.what)).collect::<Vec<_>>()
        };
        let named = said("", &format!("{auth}{ours}"));
        assert!(
            matches!(&*named, [(Severity::Problem, "not-asked", what)] if what.contains("submissions/inet")),
            "{named:?}"
        );
        let overridden = said(GOOD, &format!("{auth}submissions/inet/smtpd_data_restrictions = permit\n"));
        assert_eq!(overridden, named);
        assert!(said(GOOD, auth).is_empty());
        // Behind a content filter there is nobody to limit.
        let filter =
            "127.0.0.1:10025/inet/smtpd_data_restrictions =\n127.0.0.1:10025/inet/smtpd_sasl_auth_enable = yes\n";
        let filter = said(GOOD, filter);
        assert!(matches!(&*filter, [(Severity::Advice, "not-asked", _)]), "{filter:?}");
    }

    #[test]
    fn bytes_are_known_at_the_end_of_a_message_only() {
        let ids = |main: &str| Vec::from_iter(findings(main, MASTER, "", true).into_iter().map(|finding| finding.id));
        assert_eq!(ids(GOOD), ["no-bytes"]);
        assert!(ids(GOOD_FOR_BYTES).is_empty());
        assert!(ids(&format!("{GOOD}\n{GOOD_FOR_BYTES}\n")).is_empty());
    }
}
