//! `doctor`: looks at the settings, the database, the sockets and Postfix's own configuration, and says what to mend.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::query::{self, PACKAGED_SOCKET};
use super::{print, print_json};
use crate::cli;
use crate::commit::breaker;
use crate::commit::committer::RESET_OVERDUE;
use crate::config::{self, Config, ListenAddress, Sources, Window};
use crate::doctor::checks::{self, GOOD, Target};
use crate::doctor::postfix::Postfix;
use crate::doctor::{Finding, Severity};
use crate::exit::{Exit, Failed};
use crate::store::Store;
use crate::system::privileges;

/// For one socket, and for the database.
const PATIENCE: Duration = Duration::from_secs(5);
/// PolicydRateGuard's files that bear our names, and what in them tells.
const PREDECESSOR: [&str; 4] = [
    "/etc/systemd/system/policyd-rate-guard.service",
    "/etc/systemd/system/policyd-rate-guard-cleanup.service",
    "/etc/systemd/system/policyd-rate-guard-cleanup.timer",
    "/etc/logrotate.d/policyd-rate-guard",
];
const PREDECESSOR_FOLDER: &str = "/opt/policyd-rate-guard";

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    findings: &'a [Finding],
}

pub fn run(sources: &Sources, options: &cli::Doctor) -> Result<Exit, Failed> {
    let mut findings = Vec::new();
    let config = match config::load(sources) {
        Ok(loaded) => {
            findings.extend(loaded.warnings.iter().map(|warning| setting(Severity::Advice, warning.to_string())));
            Some(loaded.config)
        }
        Err(error) => {
            findings.extend(error.findings.iter().map(|found| setting(Severity::Problem, found.to_string())));
            None
        }
    };
    let postfix = read_postfix(options.postconf.as_deref(), &mut findings);
    predecessor(&mut findings);
    if let Some(config) = &config {
        // What follows is seen as the daemon and Postfix see it: as USER, not as root.
        privileges::become_user(&config.sockets).map_err(|error| Failed::new(Exit::OsError, error))?;
        if let Err(error) = config::load_lists(config) {
            findings.extend(error.findings.iter().map(|found| setting(Severity::Problem, found.to_string())));
        }
        look_at(config, postfix.as_ref(), &mut findings)?;
    }
    findings.sort_by_key(|finding| finding.severity);
    let ok = findings.iter().all(|finding| finding.severity != Severity::Problem);
    if options.output.json {
        print_json(&Report { ok, findings: &findings })?;
    } else {
        for finding in &findings {
            let mark = match finding.severity {
                Severity::Problem => "PROBLEM",
                Severity::Advice => "advice ",
            };
            let Finding { id, what, why, mend, .. } = finding;
            print(&format!("{mark} {id}: {what}\n        {why}\n        mend: {mend}\n\n"))?;
        }
        print(if ok { "All is well.\n" } else { "There are problems; mend them and run this again.\n" })?;
    }
    Ok(if ok { Exit::Ok } else { Exit::Findings })
}

fn look_at(config: &Config, postfix: Option<&Postfix>, findings: &mut Vec<Finding>) -> Result<(), Failed> {
    let mut sockets: Vec<ListenAddress> = config.sockets.listen.clone();
    if !config.sockets.explicit && Path::new(PACKAGED_SOCKET).exists() {
        sockets = vec![ListenAddress::Unix(PACKAGED_SOCKET.into())];
    }
    let mut asked: BTreeSet<String> = BTreeSet::new();
    if let Some(postfix) = postfix {
        findings.extend(checks::configuration(postfix, &sockets, config.answers.decision_timeout));
        let queue = postfix.main.get("queue_directory").map_or("/var/spool/postfix", String::as_str);
        for check in postfix.policy_checks() {
            let target = checks::target(&check.address, queue);
            if !checks::is_ours(&target, &sockets) && !check.address.contains("rateguard") {
                continue;
            }
            let address = match target {
                Target::Unix(path) => Some(ListenAddress::Unix(path)),
                Target::Tcp(written) => query::named(&written).ok(),
            };
            sockets.extend(address);
        }
    }
    for socket in &sockets {
        if asked.insert(query::shown(socket)) {
            one_socket(socket, findings);
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::new(Exit::OsError, format_args!("cannot start the runtime: {error}")))?;
    runtime.block_on(database(config, findings));
    Ok(())
}

/// A test request, which is not counted.
fn one_socket(socket: &ListenAddress, findings: &mut Vec<Finding>) {
    let name = query::shown(socket);
    let Err(error) = query::ask(socket, &query::test_request(), PATIENCE) else { return };
    let (id, mend) = match error.kind() {
        io::ErrorKind::PermissionDenied => (
            "no-permission",
            "the socket and its directories must let user postfix in: with the packaged socket unit, directory root:root \
             0755 and socket postfix:postfix 0660 (run doctor as root to see it as that user)"
                .to_owned(),
        ),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ("nobody-listens", "systemctl start policyd-rate-guard.socket policyd-rate-guard.service".to_owned())
        }
        _ => ("no-answer", "systemctl status policyd-rate-guard.service; then restart it".to_owned()),
    };
    findings.push(Finding::problem(
        id,
        format!("{name}: {error}"),
        "Postfix gets no answer here, and lets mail pass or refuses it by its default_action.",
        mend,
    ));
}

async fn database(config: &Config, findings: &mut Vec<Finding>) {
    let mut store = Store::new(&config.database);
    let place = store.place();
    let looked = async {
        let pending: Vec<String> =
            store.migrations().await?.into_iter().filter(|step| !step.applied).map(|step| step.name).collect();
        let reset = if pending.is_empty() { store.last_reset().await? } else { None };
        Ok::<_, crate::store::migrate::MigrateError>((pending, reset))
    };
    let looked = tokio::time::timeout(PATIENCE, looked).await;
    match looked {
        Err(_) => findings.push(unreachable(&place, &format!("no answer within {} s", PATIENCE.as_secs()))),
        Ok(Err(error)) => findings.push(unreachable(&place, &error.to_string())),
        Ok(Ok((pending, _))) if !pending.is_empty() => findings.push(Finding::problem(
            "not-migrated",
            format!("{place}: the tables lack {}", pending.join(", ")),
            "The daemon makes them when it starts; until then nothing is counted.",
            "policyd-rate-guard migrate".to_owned(),
        )),
        Ok(Ok((_, Some(reset)))) if config.quota.window == Window::Reset && breaker::now() - reset > RESET_OVERDUE => {
            let hours = (breaker::now() - reset) / 3600;
            findings.push(Finding::problem(
                "not-reset",
                format!("the counters were last reset {hours} hours ago"),
                "With QUOTA_WINDOW=reset, senders stay blocked until `cleanup` runs.",
                "systemctl enable --now policyd-rate-guard-cleanup.timer, or set QUOTA_WINDOW=24h, which needs no timer"
                    .to_owned(),
            ));
        }
        Ok(Ok(_)) => {}
    }
    store.abandon();
}

fn unreachable(place: &str, reason: &str) -> Finding {
    Finding::problem(
        "database",
        format!("{place}: {reason}"),
        "While the database is away each sender is only counted in the daemon's memory.",
        "start the database, or correct the DB_* settings".to_owned(),
    )
}

/// What postconf says, or why it says nothing.
fn read_postfix(postconf: Option<&Path>, findings: &mut Vec<Finding>) -> Option<Postfix> {
    let program = postconf.map_or_else(find_postconf, Path::to_owned);
    let ask = |options: &str| {
        let output = Command::new(&program).arg(options).output()?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        }
    };
    let read = ask("-x").and_then(|main| Ok((main, ask("-Mx")?, ask("-Px")?)));
    match read {
        Ok((main, master, overrides)) => Some(Postfix::parse(&main, &master, &overrides)),
        Err(error) => {
            findings.push(Finding::problem(
                "no-postconf",
                format!("cannot run {}: {error}", program.display()),
                "Postfix's configuration could not be looked at.",
                format!("run this on the mail server; main.cf should have: {GOOD}"),
            ));
            None
        }
    }
}

/// postconf lies in sbin, which is not on everybody's PATH.
fn find_postconf() -> PathBuf {
    let known = ["/usr/sbin/postconf", "/usr/local/sbin/postconf"];
    known.into_iter().map(PathBuf::from).find(|path| path.exists()).unwrap_or_else(|| PathBuf::from("postconf"))
}

/// PolicydRateGuard's files, which shadow the packages'.
fn predecessor(findings: &mut Vec<Finding>) {
    for path in PREDECESSOR {
        let tells = std::fs::read_to_string(path).is_ok_and(|text| text.contains(PREDECESSOR_FOLDER));
        if tells {
            findings.push(Finding::problem(
                "predecessor",
                format!("{path} is PolicydRateGuard's"),
                "It has the name of ours and wins over it.",
                "follow docs/migrating.md (/usr/share/doc/policyd-rate-guard/docs/migrating.md)".to_owned(),
            ));
        }
    }
}

fn setting(severity: Severity, what: String) -> Finding {
    Finding {
        severity,
        id: "settings",
        what,
        why: "The daemon does not start with an error in its settings; a warning has no or another effect than meant."
            .to_owned(),
        mend: "correct the settings file; `policyd-rate-guard check` shows what is in effect".to_owned(),
    }
}
