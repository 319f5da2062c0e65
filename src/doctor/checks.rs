//! The checks of Postfix's configuration: whether the daemon is asked, at the right stage, before a restriction that ends the
//! list, and in a way that no mail is refused while it is down.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Finding;
use super::postfix::{PolicyCheck, Postfix, Service};
use crate::config::{ListenAddress, OPENED_BY_THE_DAEMON};

/// The check as it should stand.
pub const GOOD: &str =
    "smtpd_data_restrictions = check_policy_service { unix:rateguard/policyd, timeout=5s, default_action=DUNNO }";
/// The same at the end of a message, when its size is known.
const GOOD_FOR_BYTES: &str = "smtpd_end_of_data_restrictions = check_policy_service { unix:rateguard/policyd, timeout=5s, default_action=DUNNO }";
/// The same as master.cf takes it, after `-o `.
const GOOD_FOR_SERVICE: &str =
    "smtpd_data_restrictions=check_policy_service,{unix:rateguard/policyd,timeout=5s,default_action=DUNNO}";

/// Restrictions that end their list for every client that has logged in.
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

/// What the checks need to know of the daemon.
#[derive(Clone, Copy)]
pub struct Daemon<'a> {
    /// Where it listens, or might.
    pub sockets: &'a [ListenAddress],
    /// Returns the addresses of a target, with names looked up and links followed; none if a name cannot be looked up now.
    pub addresses: &'a dyn Fn(&Target) -> Vec<ListenAddress>,
    pub decision_timeout: Duration,
    /// Whether one of LIMITS counts bytes.
    pub counts_bytes: bool,
}

/// Where a check leads, seen from outside of any chroot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Unix(PathBuf),
    /// `host:port`
    Tcp(String),
}

impl Daemon<'_> {
    /// Whether a check leads to this daemon. A name that cannot be looked up now may be ours if the port is.
    fn is_at(&self, target: &Target) -> bool {
        let found = (self.addresses)(target);
        let port = |ours: &ListenAddress| matches!((ours, target), (ListenAddress::Tcp(ours), Target::Tcp(written)) if written.ends_with(&format!(":{}", ours.port())));
        if found.is_empty() {
            return self.sockets.iter().any(port);
        }
        found.iter().any(|found| {
            self.sockets.iter().any(|ours| match (ours, found) {
                (ListenAddress::Tcp(ours), ListenAddress::Tcp(found)) if ours.ip().is_unspecified() => {
                    ours.port() == found.port()
                }
                _ => ours == found,
            })
        })
    }

    /// Whether a check asks at a port that is ours here, on whichever host.
    fn has_port_of(&self, target: &Target) -> bool {
        let Target::Tcp(written) = target else { return false };
        let port = written.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        self.sockets.iter().any(|ours| matches!(ours, ListenAddress::Tcp(ours) if Some(ours.port()) == port))
    }

    /// Whether a check's name is that of several hosts: one host has an address of each kind at the most.
    fn has_several_hosts(&self, target: &Target) -> bool {
        let found = (self.addresses)(target);
        let count = |is_v4| {
            let of_kind = found
                .iter()
                .filter(|address| matches!(address, ListenAddress::Tcp(address) if address.is_ipv4() == is_v4));
            of_kind.count()
        };
        count(true).max(count(false)) > 1
    }

    /// A check at our socket's usual place is meant for us, also when the daemon is told to listen elsewhere.
    fn is_meant(&self, postfix: &Postfix, check: &PolicyCheck) -> bool {
        self.is_at(&target(postfix, check)) || check.address.contains("rateguard")
    }
}

/// Resolves a check's address as smtpd does: unix paths are relative to the queue directory, in a chroot all of them.
fn target(postfix: &Postfix, check: &PolicyCheck) -> Target {
    let path = ["unix:", "local:"].iter().find_map(|kind| check.address.strip_prefix(kind));
    let Some(path) = path else {
        let written = check.address.strip_prefix("inet:").unwrap_or(&check.address);
        return Target::Tcp(if written.contains(':') { written.to_owned() } else { format!("localhost:{written}") });
    };
    let in_chroot = service_of(postfix, check).is_some_and(|service| postfix.is_chrooted(service));
    let path = if in_chroot { path.trim_start_matches('/') } else { path };
    Target::Unix(queue_directory(postfix).join(path))
}

/// Whether a check names an absolute path that leads nowhere in the chroot of its service.
fn is_lost_in_chroot(postfix: &Postfix, check: &PolicyCheck, daemon: Daemon<'_>) -> bool {
    check.address.starts_with("unix:/")
        && service_of(postfix, check).is_some_and(|service| postfix.is_chrooted(service))
        && !daemon.is_at(&target(postfix, check))
}

/// Returns the targets of the checks that are meant for this daemon, but for those that [`configuration`] finds to lead nowhere.
pub fn targets(instances: &[Postfix], daemon: Daemon<'_>) -> Vec<Target> {
    let of = |postfix: &Postfix| {
        let checks = postfix.policy_checks().into_iter();
        let checks =
            checks.filter(|check| daemon.is_meant(postfix, check) && !is_lost_in_chroot(postfix, check, daemon));
        checks.map(|check| target(postfix, &check)).collect::<Vec<_>>()
    };
    instances.iter().flat_map(of).collect()
}

fn queue_directory(postfix: &Postfix) -> &Path {
    Path::new(postfix.main.get("queue_directory").map_or("/var/spool/postfix", String::as_str))
}

fn service_of<'a>(postfix: &'a Postfix, check: &PolicyCheck) -> Option<&'a Service> {
    postfix.services.iter().find(|service| service.name == check.service)
}

/// Returns all findings on the configuration of all instances.
pub fn configuration(instances: &[Postfix], daemon: Daemon<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let checks: Vec<(&Postfix, PolicyCheck)> = instances
        .iter()
        .flat_map(|postfix| postfix.policy_checks().into_iter().map(move |check| (postfix, check)))
        .collect();
    let ours: Vec<&PolicyCheck> =
        checks.iter().filter(|(postfix, check)| daemon.is_meant(postfix, check)).map(|(_, check)| check).collect();
    if instances.iter().all(|postfix| postfix.services.is_empty()) {
        findings.push(Finding::problem(
            "no-smtpd",
            "master.cf has no smtpd service".to_owned(),
            "Postfix accepts no mail over SMTP, so there is nothing to limit.",
            "enable smtp or submission in master.cf".to_owned(),
        ));
    } else if ours.is_empty() {
        let tables = instances.iter().any(Postfix::has_access_tables);
        findings.push(Finding::problem(
            "not-asked",
            format!("no restriction list of any smtpd service asks this daemon{}", others(&checks)),
            if tables {
                "Nothing is limited, unless an access table asks by itself; what these hold is not looked at."
            } else {
                "Nothing is limited."
            },
            GOOD.to_owned(),
        ));
    }
    for postfix in instances.iter().filter(|_| !ours.is_empty()) {
        for service in &postfix.services {
            one_service(postfix, service, &ours, daemon, &mut findings);
        }
    }
    for postfix in instances {
        findings.extend(postfix.services.iter().filter_map(|service| several_daemons(postfix, service, daemon)));
    }
    for (postfix, check) in checks.iter().filter(|(postfix, check)| daemon.is_meant(postfix, check)) {
        one_check(postfix, check, daemon, &mut findings);
    }
    findings.sort_by_key(|finding| finding.severity);
    let mut told = Vec::new();
    findings.into_iter().for_each(|finding| {
        if !told.contains(&finding) {
            told.push(finding);
        }
    });
    told
}

/// Lists the addresses that are asked, so that a typing error is seen.
fn others(checks: &[(&Postfix, PolicyCheck)]) -> String {
    let addresses: BTreeSet<&str> = checks.iter().map(|(_, check)| check.address.as_str()).collect();
    if addresses.is_empty() {
        return String::new();
    }
    format!(", but {}", Vec::from_iter(addresses).join(", "))
}

/// A port that the daemon opens by default, where `check` has no setting to warn about.
pub fn port(address: &ListenAddress) -> Option<Finding> {
    address.others_may_take().then(|| {
        Finding::advice(
            "tcp-port",
            format!("{address} {OPENED_BY_THE_DAEMON}"),
            "Whoever answers Postfix decides on its mail: with BCC he gets a copy of each, with OK nothing is limited.",
            "docs/migrating.md, \"A TCP port\"; or the packaged socket unit alone, with unix:rateguard/policyd in main.cf".to_owned(),
        )
    })
}

/// Finds a service that does not ask this daemon though others do: each may have restriction lists of its own.
fn one_service(
    postfix: &Postfix,
    service: &Service,
    ours: &[&PolicyCheck],
    daemon: Daemon<'_>,
    findings: &mut Vec<Finding>,
) {
    let Service { name, .. } = service;
    let asking = Vec::from_iter(ours.iter().filter(|check| check.service == *name));
    let lists = Vec::from_iter(asking.iter().map(|check| check.list));
    if let Some(PolicyCheck { list, table: Some(table), .. }) = asking.first()
        && asking.iter().all(|check| check.table.is_some())
    {
        findings.push(Finding::advice(
            "only-by-table",
            format!("{list} of {name} asks this daemon where {table} says so, and nowhere else"),
            "Senders that the table does not name are not limited.",
            format!("where all are to be limited: {GOOD}"),
        ));
    }
    if lists.is_empty() {
        if postfix.value(service, "smtpd_sasl_auth_enable").eq_ignore_ascii_case("yes") {
            // A content filter hands mail back there, which was asked about before; or a webmail server logs in.
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

/// Finds a service whose checks lead to more than one daemon of this kind, as far as settings show: each charges the message.
fn several_daemons(postfix: &Postfix, service: &Service, daemon: Daemon<'_>) -> Option<Finding> {
    let checks = postfix.policy_checks().into_iter().filter(|check| check.service == service.name);
    let asking: Vec<(PolicyCheck, Target)> = checks
        .filter(|check| check.list != "smtpd_etrn_restrictions")
        .map(|check| (target(postfix, &check), check))
        .filter(|(target, check)| daemon.is_meant(postfix, check) || daemon.has_port_of(target))
        .map(|(target, check)| (check, target))
        .collect();
    let ours = asking.iter().filter(|(_, target)| daemon.is_at(target)).count();
    let others: BTreeSet<&str> =
        asking.iter().filter(|(_, target)| !daemon.is_at(target)).map(|(check, _)| check.address.as_str()).collect();
    let name = &service.name;
    let what = if others.len() + ours.min(1) > 1 {
        let places = asking.iter().map(|(check, _)| format!("{} in {}", check.address, check.list));
        format!("{name} asks more than one daemon: {}", Vec::from_iter(places).join(", "))
    } else {
        // At the other stages Postfix asks once for each recipient.
        let once = ["smtpd_data_restrictions", "smtpd_end_of_data_restrictions"];
        let is_asked_again = asking.len() > 1 || asking.iter().any(|(check, _)| !once.contains(&check.list));
        let (check, _) = asking.iter().find(|(_, target)| is_asked_again && daemon.has_several_hosts(target))?;
        format!("{name} asks about a message more than once, and {} has several addresses", check.address)
    };
    Some(Finding::problem(
        "several-daemons",
        what,
        "What was asked about a message is known to the daemon that was asked: each of them counts it.",
        "let all checks of a service ask one daemon, best that on the same host; docs/databases.md, \"One message, one host\"".to_owned(),
    ))
}

fn one_check(postfix: &Postfix, check: &PolicyCheck, daemon: Daemon<'_>, findings: &mut Vec<Finding>) {
    let place = format!("{} of {}", check.list, check.service);
    stage(postfix, check, &place, findings);
    if check.before.last().is_some_and(|word| word == "warn_if_reject") {
        findings.push(Finding::problem(
            "only-warned",
            format!("{place}: warn_if_reject stands before the policy check"),
            "Refusals are only logged, as while a policy is tried: that mail goes out.",
            format!("without warn_if_reject: {GOOD}"),
        ));
    }
    let service = service_of(postfix, check);
    // There, permit_sasl_authenticated ends the list for no client.
    let without_logins =
        service.is_some_and(|service| postfix.value(service, "smtpd_sasl_auth_enable").eq_ignore_ascii_case("no"));
    for word in &check.before {
        if word == "permit_sasl_authenticated" && without_logins {
            continue;
        }
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
    let parameter = |option: &str, parameter: &str| {
        let set = check.options.get(option).cloned();
        set.or_else(|| service.map(|service| postfix.value(service, parameter).to_owned())).unwrap_or_default()
    };
    let default_action = parameter("default_action", "smtpd_policy_service_default_action");
    let action = default_action.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if !["DUNNO", "OK", "PERMIT", "RELAY", "WARN", "INFO"].contains(&action.as_str()) {
        findings.push(Finding::problem(
            "no-default-action",
            format!("{place}: without default_action=DUNNO, with {default_action:?}"),
            "When the daemon does not run, Postfix refuses all mail.",
            GOOD.to_owned(),
        ));
    }
    let timeout = parameter("timeout", "smtpd_policy_service_timeout");
    match seconds(&timeout) {
        Some(limit) if Duration::from_secs(limit) <= daemon.decision_timeout => findings.push(Finding::problem(
            "timeout-too-short",
            format!(
                "{place}: timeout={timeout} is not above DECISION_TIMEOUT ({} s)",
                daemon.decision_timeout.as_secs_f32()
            ),
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
        let relative = Path::new(path).strip_prefix(queue_directory(postfix)).ok().map(Path::display);
        if is_lost_in_chroot(postfix, check, daemon) {
            findings.push(Finding::problem(
                "absolute-in-chroot",
                format!("{place}: {} is absolute, and {} runs chrooted", check.address, check.service),
                "Inside the chroot there is no such path: Postfix does not find the socket, and asks nobody.",
                format!("unix:{}", relative.map_or_else(|| "rateguard/policyd".to_owned(), |path| path.to_string())),
            ));
        } else if chrooted {
            findings.push(Finding::advice(
                "absolute",
                format!("{place}: {} is absolute within the chroot", check.address),
                "It works until somebody switches smtpd's chroot off; relative to the queue directory it works in both cases.",
                format!("unix:{}", path.trim_start_matches('/')),
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

/// Finds a check at a stage at which there is nothing to count.
fn stage(postfix: &Postfix, check: &PolicyCheck, place: &str, findings: &mut Vec<Finding>) {
    let early = ["smtpd_client_restrictions", "smtpd_helo_restrictions", "smtpd_sender_restrictions"];
    let service = service_of(postfix, check);
    let delayed =
        service.is_none_or(|service| !postfix.value(service, "smtpd_delay_reject").eq_ignore_ascii_case("no"));
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
        let main = format!("queue_directory = /var/spool/postfix\n{main}");
        of_instances(&[Postfix::parse(&main, master, overrides, None)], counts_bytes)
    }

    fn of_instances(instances: &[Postfix], counts_bytes: bool) -> Vec<Finding> {
        let sockets = [
            ListenAddress::Unix("/var/spool/postfix/rateguard/policyd".into()),
            ListenAddress::Tcp("127.0.0.1:10033".parse().unwrap()),
            ListenAddress::Tcp("[::]:10034".parse().unwrap()),
        ];
        let addresses = |target: &Target| match target {
            Target::Unix(path) => vec![ListenAddress::Unix(path.clone())],
            Target::Tcp(written) if written.starts_with("balanced:") => ["127.0.0.1:10033", "192.0.2.1:10033"]
                .map(|address| ListenAddress::Tcp(address.parse().unwrap()))
                .to_vec(),
            Target::Tcp(written) => {
                let address = written.replace("localhost", "127.0.0.1").replace("mx:", "192.0.2.1:").parse();
                address.map(ListenAddress::Tcp).into_iter().collect()
            }
        };
        let decision_timeout = Duration::from_secs(2);
        let daemon = Daemon { sockets: &sockets, addresses: &addresses, decision_timeout, counts_bytes };
        let found = configuration(instances, daemon);
        if found.iter().any(|finding| finding.id == "absolute-in-chroot") {
            assert!(targets(instances, daemon).is_empty(), "that nobody listens there would be said twice");
        }
        found
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
    fn a_port_that_others_may_take_is_named() {
        for (address, found) in [("127.0.0.1:10033", true), ("127.0.0.1:783", false)] {
            let address = ListenAddress::Tcp(address.parse().unwrap());
            assert_eq!(port(&address).is_some(), found, "{address}");
        }
        assert_eq!(port(&ListenAddress::Unix("/a/b".into())), None);
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
    fn what_asks_this_daemon_is_seen_however_it_is_written() {
        let defaults = "smtpd_policy_service_default_action = DUNNO\nsmtpd_policy_service_timeout = 5s\n";
        for check in [
            "check_policy_service inet:localhost:10033",
            "check_policy_service inet:10033",
            "CHECK_POLICY_SERVICE inet:127.0.0.1:10033",
            "Check_Policy_Service { inet:127.0.0.1:10033 }",
            "check_policy_service inet:mx:10034",
            "check_policy_service inet:[2001:db8::1]:10034",
            "check_policy_service inet:name-server-is-away:10033",
            "check_policy_service local:rateguard/policyd",
            "warn_if_reject reject, check_policy_service unix:rateguard/policyd",
        ] {
            assert!(found(&format!("{defaults}smtpd_data_restrictions = {check}")).is_empty(), "{check}");
        }
        for check in ["inet:192.0.2.1:10033", "inet:localhost:10035", "unix:private/other"] {
            let main = format!("{defaults}smtpd_data_restrictions = check_policy_service {check}");
            assert_eq!(found(&main), ["not-asked"], "{check}");
        }
        // The chroot's root is the queue directory.
        let absolute = format!("{defaults}smtpd_data_restrictions = check_policy_service unix:/rateguard/policyd");
        assert_eq!(found(&absolute), ["absolute"]);
    }

    #[test]
    fn a_class_that_only_an_access_table_names_is_no_problem() {
        let class = format!(
            "smtpd_restriction_classes = rl, other\nother = permit\nrl = {}\n",
            &GOOD["smtpd_data_restrictions = ".len()..]
        );
        let table = "smtpd_data_restrictions = check_sasl_access hash:/etc/postfix/limits";
        assert_eq!(found(&format!("{class}{table}")), ["only-by-table"]);
        assert!(found(&format!("{class}{table}, rl")).is_empty());
        // What a table says by itself is not known.
        let why = |main: &str| findings(main, MASTER, "", false)[0].why.clone();
        assert!(why(table).contains("unless an access table asks"));
        assert_eq!(why("smtpd_data_restrictions = permit_mynetworks"), "Nothing is limited.");
    }

    #[test]
    fn a_permit_for_logins_ends_nothing_where_nobody_logs_in() {
        let main = GOOD.replace("check_policy", "PERMIT_SASL_AUTHENTICATED, check_policy");
        assert_eq!(found(&main), ["list-ends-before"]);
        assert_eq!(found(&format!("smtpd_sasl_auth_enable = yes\n{main}")), ["list-ends-before"]);
        assert!(found(&format!("smtpd_sasl_auth_enable = no\n{main}")).is_empty());
    }

    #[test]
    fn all_instances_of_postfix_are_looked_at() {
        let first = |main: &str| Postfix::parse(main, MASTER, "", None);
        let other = |main: &str| Postfix::parse(main, MASTER, "", Some("/etc/postfix-out"));
        let ids = |instances: &[Postfix]| {
            Vec::from_iter(of_instances(instances, false).into_iter().map(|finding| finding.id))
        };
        let disabled = "master_service_disable = inet\n";
        assert_eq!(ids(&[first(disabled)]), ["no-smtpd"]);
        assert!(ids(&[first(disabled), other(GOOD)]).is_empty());
        assert!(ids(&[first(""), other(GOOD)]).is_empty());
        assert_eq!(ids(&[first(GOOD), other("smtpd_sasl_auth_enable = yes")]), ["not-asked"]);
        assert_eq!(ids(&[first(disabled), other("")]), ["not-asked"]);
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
        // Behind a content filter no client is to be limited.
        let filter =
            "127.0.0.1:10025/inet/smtpd_data_restrictions =\n127.0.0.1:10025/inet/smtpd_sasl_auth_enable = yes\n";
        let filter = said(GOOD, filter);
        assert!(matches!(&*filter, [(Severity::Advice, "not-asked", _)]), "{filter:?}");
    }

    #[test]
    fn checks_that_lead_to_several_daemons_are_named() {
        let defaults = "smtpd_policy_service_default_action = DUNNO\nsmtpd_policy_service_timeout = 5s\n";
        let found = |data: &str, end: &str| {
            found(&format!("{defaults}smtpd_data_restrictions = {data}\nsmtpd_end_of_data_restrictions = {end}\n"))
        };
        let (ours, here) = ("check_policy_service unix:rateguard/policyd", "check_policy_service inet:127.0.0.1:10033");
        let (elsewhere, other) =
            ("check_policy_service inet:192.0.2.1:10033", "check_policy_service inet:192.0.2.1:10023");
        assert_eq!(found(ours, elsewhere), ["several-daemons"]);
        assert_eq!(found(here, elsewhere), ["several-daemons"]);
        assert_eq!(found(&format!("{here}, {elsewhere}"), ""), ["several-daemons"]);
        for (data, end) in [(ours, here), (here, here), (ours, other), (ours, ""), (elsewhere, elsewhere)] {
            assert!(!found(data, end).contains(&"several-daemons"), "{data} {end}");
        }
        // A name with several addresses is that of several hosts.
        let balanced = "check_policy_service inet:balanced:10033";
        assert_eq!(found(balanced, balanced), ["several-daemons"]);
        assert!(found(balanced, "").is_empty() && found("", balanced).is_empty(), "it is asked once");
    }

    #[test]
    fn bytes_are_known_at_the_end_of_a_message_only() {
        let ids = |main: &str| Vec::from_iter(findings(main, MASTER, "", true).into_iter().map(|finding| finding.id));
        assert_eq!(ids(GOOD), ["no-bytes"]);
        assert!(ids(GOOD_FOR_BYTES).is_empty());
        assert!(ids(&format!("{GOOD}\n{GOOD_FOR_BYTES}\n")).is_empty());
    }
}
