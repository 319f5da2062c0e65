//! `doctor`: looks at the settings, the database, the sockets and Postfix's own configuration, and says what to mend.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jiff::tz::TimeZone;
use nix::unistd::{self, AccessFlags, User};
use serde_json::json;

use super::database::runtime;
use super::output::{print, print_json};
use super::programs;
use super::query::{self, PACKAGED_SOCKET};
use super::scrape;
use super::table::clean;
use crate::cli;
use crate::clock;
use crate::commit::learning;
use crate::config::{self, Config, ListenAddress, Sources};
use crate::doctor::checks::{self, Daemon, GOOD, Target};
use crate::doctor::journal::{self, Journal};
use crate::doctor::postfix::Postfix;
use crate::doctor::{Finding, Severity, access, handed, selinux};
use crate::exit::{Exit, Failed};
use crate::journal::entry::Entry;
use crate::journal::file::{self, JournalFile};
use crate::limiter::day::RESET_OVERDUE;
use crate::policy::limit::Measure;
use crate::policy::lists::Lists;
use crate::policy::quota::Window;
use crate::store::Store;
use crate::store::migrate::{MigrateError, Step};
use crate::system::privileges;
use crate::telemetry::counters::DATABASE_AWAY;

/// For one socket, and for the database.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Where units of PolicydRateGuard shadow ours of the same names.
const SHADOWING_UNITS: [&str; 3] = [
    "/etc/systemd/system/policyd-rate-guard.service",
    "/etc/systemd/system/policyd-rate-guard-cleanup.service",
    "/etc/systemd/system/policyd-rate-guard-cleanup.timer",
];
/// Where its logrotate file stands in the place of ours.
const SHADOWING_LOGROTATE: &str = "/etc/logrotate.d/policyd-rate-guard";
const SOCKET_UNIT: &str = "policyd-rate-guard.socket";
const SERVICE_UNIT: &str = "policyd-rate-guard.service";
/// What each unit of ours has among its `Documentation=`.
const MANUAL_PAGE: &str = "man:policyd-rate-guard";

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
    let instances = read_postfix(options.postconf.as_deref(), &mut findings);
    predecessor(&mut findings);
    if let Some(config) = &config {
        // What follows is seen as the daemon and Postfix see it: as USER, not as root.
        match privileges::become_user(&config.sockets) {
            Ok(_) => look_at(config, &instances, &mut findings)?,
            Err(error) => findings.push(setting(Severity::Problem, error.to_string())),
        }
    }
    findings.sort_by_key(|finding| finding.severity);
    let ok = findings.iter().all(|finding| finding.severity != Severity::Problem);
    if options.output.json {
        print_json(&json!({ "ok": ok, "findings": findings }))?;
    } else {
        for finding in &findings {
            let mark = match finding.severity {
                Severity::Problem => "PROBLEM",
                Severity::Advice => "advice ",
            };
            let Finding { id, .. } = finding;
            // They quote main.cf and what database servers say.
            let [what, why, mend] = [&finding.what, &finding.why, &finding.mend].map(|text| clean(text));
            print(&format!("{mark} {id}: {what}\n        {why}\n        mend: {mend}\n\n"))?;
        }
        print(if ok { "All is well.\n" } else { "There are problems; mend them and run this again.\n" })?;
    }
    Ok(if ok { Exit::Ok } else { Exit::Findings })
}

fn look_at(config: &Config, instances: &[Postfix], findings: &mut Vec<Finding>) -> Result<(), Failed> {
    if let Err(error) = config::load_lists(config) {
        findings.extend(error.findings.iter().map(|found| setting(Severity::Problem, found.to_string())));
    }
    // Where the daemon listens. Sockets that systemd hands over replace the default, but none that was written.
    let handed = handed_over();
    let told = match (config.sockets.explicit, handed.is_empty()) {
        (false, false) => handed.clone(),
        (false, true) if is_there(Path::new(PACKAGED_SOCKET)) => vec![ListenAddress::Unix(PACKAGED_SOCKET.into())],
        _ => config.sockets.listen.clone(),
    };
    if !config.sockets.explicit && handed.is_empty() {
        findings.extend(told.iter().filter_map(checks::port));
    }
    findings.extend(handed.iter().filter_map(for_everybody));
    let own: Vec<ListenAddress> = told.iter().chain(&handed).cloned().collect();
    let mut asked_by_postfix = Vec::new();
    if !instances.is_empty() {
        // The default stays an address of ours: main.cf asks there in PolicydRateGuard's set-up.
        let ours: Vec<ListenAddress> = own.iter().chain(&config.sockets.listen).map(followed).collect();
        let daemon = Daemon {
            sockets: &ours,
            addresses: &addresses,
            decision_timeout: config.answers.decision_timeout,
            counts_bytes: config.quota.limits.iter().any(|limit| limit.measure == Measure::Bytes),
        };
        findings.extend(checks::configuration(instances, daemon));
        asked_by_postfix.extend(checks::targets(instances, daemon).into_iter().filter_map(|target| match target {
            Target::Unix(path) => Some(ListenAddress::Unix(path)),
            Target::Tcp(_) => addresses(&target).into_iter().next(),
        }));
    }
    let mut asked: BTreeSet<String> = BTreeSet::new();
    for socket in told.iter().chain(&asked_by_postfix) {
        if asked.insert(socket.to_string()) {
            one_socket(socket, &own, findings);
            if let (Some(postfix), ListenAddress::Unix(path)) = (instances.first(), socket)
                && asked_by_postfix.contains(socket)
            {
                for_postfix(path, postfix, config, findings);
                findings.extend(for_selinux(path));
            }
        }
    }
    let in_reach = runtime()?.block_on(database(config, findings));
    let is_away = is_counting_in_memory(config);
    // A database that cannot be reached from here either has its finding already.
    if in_reach && is_away == Some(true) {
        findings.push(not_counting(&Store::reading(&config.database).place()));
    }
    // While the database is away it is as it should be.
    let is_found = |found: &Journal| is_away != Some(true) || matches!(found, Journal::Unusable(_));
    if let Some(config::Journal { directory, .. }) = &config.journal
        && let Some(found) = look_at_journal(directory).filter(is_found)
    {
        findings.push(journal::judge(&file::path(directory), found));
    }
    Ok(())
}

/// Whether the running daemon says that it has lost the database. None if no daemon can be asked. What this command sees may
/// differ: the daemon writes, and runs in its unit's sandbox.
fn is_counting_in_memory(config: &Config) -> Option<bool> {
    let metrics = config.status.listen.as_ref().map(|listen| scrape::read(&scrape::agent(), &scrape::address(listen)));
    if let Some(Ok(daemon)) = metrics {
        return Some(!daemon.database_up);
    }
    // systemd keeps the text of a daemon that has ended.
    let asked = ["show", "--value", "-p", "ActiveState", "-p", "StatusText", SERVICE_UNIT];
    let shown = Command::new("systemctl").args(asked).output().ok()?;
    let shown = String::from_utf8_lossy(&shown.stdout);
    let is_active = shown.lines().any(|line| line == "active");
    is_active.then(|| shown.contains(DATABASE_AWAY))
}

/// What there is to say of the journal in a state directory.
fn look_at_journal(directory: &Path) -> Option<Journal> {
    let mut oldest = None;
    let see = |payload: &[u8]| {
        oldest = oldest.or_else(|| Some(Entry::decode(payload)?.at));
    };
    let path = file::path(directory);
    // The daemon makes the file.
    let written = if is_there(&path) { path.as_path() } else { directory };
    let looked = unistd::access(written, AccessFlags::W_OK).map_err(|error| error.desc().to_owned());
    match looked.and_then(|()| JournalFile::look(directory, see).map_err(|error| error.to_string())) {
        Ok(Some(held)) if held.records > 0 => {
            let oldest = oldest.map_or(0, |at| clock::now().saturating_sub(at));
            Some(Journal::Waiting { requests: held.records, oldest })
        }
        Ok(_) => None,
        Err(reason) => Some(Journal::Unusable(reason)),
    }
}

/// Follows links, so that a socket has one path.
fn followed(address: &ListenAddress) -> ListenAddress {
    match address {
        ListenAddress::Unix(path) => ListenAddress::Unix(path.canonicalize().unwrap_or_else(|_| path.clone())),
        ListenAddress::Tcp(_) => address.clone(),
    }
}

/// Returns the addresses of a check; none if its name cannot be looked up now.
fn addresses(target: &Target) -> Vec<ListenAddress> {
    match target {
        Target::Unix(path) => vec![followed(&ListenAddress::Unix(path.clone()))],
        Target::Tcp(written) => {
            let (host, port) = written.rsplit_once(':').unwrap_or((written, ""));
            let port = port_of_service(port).unwrap_or_else(|| port.to_owned());
            ListenAddress::parse(&format!("inet:{host}:{port}")).unwrap_or_default()
        }
    }
}

/// Returns the port of a service's name in services(5).
fn port_of_service(name: &str) -> Option<String> {
    let services = std::fs::read_to_string("/etc/services").ok()?;
    let ports = services.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (official, port) = (words.next()?, words.next()?.strip_suffix("/tcp")?);
        (official == name || words.any(|alias| alias == name)).then(|| port.to_owned())
    });
    ports.into_iter().next()
}

/// Returns the sockets that systemd hands over; none without systemd.
fn handed_over() -> Vec<ListenAddress> {
    let shown = Command::new("systemctl").args(["show", "-p", handed::PROPERTIES, SOCKET_UNIT]).output();
    shown.map(|output| handed::addresses(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
}

/// Whether a file exists. True also if the directory may not be entered: then it is not known.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |_| true)
}

/// A test request, which is not counted. `own` is where the daemon listens.
fn one_socket(socket: &ListenAddress, own: &[ListenAddress], findings: &mut Vec<Finding>) {
    let name = socket.to_string();
    let Err(error) = query::ask(socket, &query::test_request(), TIMEOUT) else { return };
    let (id, mend) = match error.kind() {
        io::ErrorKind::PermissionDenied => (
            "no-permission",
            "the socket and its directories must let user postfix in: with the packaged socket unit, directory root:root \
             0755 and socket postfix:postfix 0660 (run doctor as root to see it as that user)"
                .to_owned(),
        ),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused if own.contains(socket) => (
            "nobody-listens",
            // systemd does not start a socket whose service runs already.
            "systemctl stop policyd-rate-guard.service; \
             systemctl start policyd-rate-guard.socket policyd-rate-guard.service"
                .to_owned(),
        ),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            let own: Vec<String> = own.iter().map(ToString::to_string).collect();
            (
                "nobody-listens",
                format!("in main.cf, ask where the daemon listens ({}); or name this socket in SOCKET", own.join(", ")),
            )
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

/// A socket of the socket unit's that every user of this host may connect to. Of one that the daemon makes, SOCKET_MODE was warned of.
fn for_everybody(socket: &ListenAddress) -> Option<Finding> {
    let ListenAddress::Unix(path) = socket else { return None };
    let directories = path.ancestors().skip(1).filter_map(permissions);
    access::may_connect(access::ANYBODY, permissions(path)?, directories).then(|| {
        Finding::advice(
            "open-socket",
            format!("every user of this host may connect to {socket}"),
            "Whoever connects may ask in anybody's name, and so use up others' quotas.",
            format!(
                "SocketUser=postfix and SocketMode=0660 (`systemctl edit {SOCKET_UNIT}`), as the packaged unit has them"
            ),
        )
    })
}

/// Owner, group and mode; `None` where that cannot be looked at.
fn permissions(path: &Path) -> Option<access::Permissions> {
    let metadata = path.metadata().ok()?;
    Some(access::Permissions { uid: metadata.uid(), gid: metadata.gid(), mode: metadata.mode() })
}

/// smtpd connects as Postfix's own user, which USER need not be.
fn for_postfix(path: &Path, postfix: &Postfix, config: &Config, findings: &mut Vec<Finding>) {
    let owner = postfix.main.get("mail_owner").map_or("postfix", String::as_str);
    let Some(user) = User::from_name(owner).ok().flatten().filter(|_| owner != config.sockets.user) else { return };
    // A socket that cannot be looked at has its finding already.
    let Some(socket) = permissions(path) else { return };
    let directories = path.ancestors().skip(1).filter_map(permissions);
    if !access::may_connect(access::User { uid: user.uid.as_raw(), gid: user.gid.as_raw() }, socket, directories) {
        findings.push(Finding::problem(
            "no-permission",
            format!("unix:{}: user {owner} may not connect", path.display()),
            "smtpd runs as that user, with its own group alone.",
            format!("set GROUP to the group of user {owner}, or listen on the socket that systemd hands over"),
        ));
    }
}

/// Checks the packaged socket only, which our policy module is for: what a site's own policy allows is not known here.
fn for_selinux(path: &Path) -> Option<Finding> {
    let directory = path.parent().filter(|_| path == Path::new(PACKAGED_SOCKET))?;
    let enforce = std::fs::read_to_string("/sys/fs/selinux/enforce").ok()?;
    let context = Command::new("stat").args(["-c", "%C"]).arg(directory).output().ok()?;
    selinux::judge(&enforce, directory, &String::from_utf8_lossy(&context.stdout))
}

/// Whether the database can be reached.
async fn database(config: &Config, findings: &mut Vec<Finding>) -> bool {
    let mut store = Store::reading(&config.database);
    let policy = config.terms(Lists::default(), TimeZone::system()).policy;
    let looked = async {
        let pending = store.migrations().await?.into_iter().filter(|step| !step.applied);
        let (slow, needed): (Vec<Step>, Vec<Step>) = pending.partition(|step| step.slow);
        let (mut reset, mut learns) = (None, Vec::new());
        if needed.is_empty() {
            let now = clock::now();
            reset = store.last_reset(now).await?;
            learns = learning::of(&mut store, &policy, now).await?;
        }
        Ok::<_, MigrateError>((needed, slow, reset, learns))
    };
    let looked = tokio::time::timeout(TIMEOUT, looked).await;
    let place = store.place();
    store.abandon();
    let why = match looked {
        Ok(Ok((needed, slow, reset, learns))) => {
            findings.extend(one_of_several(config, &place).await);
            findings.extend(store.long_log().map(|bytes| long_log(&place, bytes)));
            findings.extend(learns.iter().map(|one| still_learning(&one.told(&policy.zone))));
            findings.extend(tables(&place, &needed, &slow));
            findings.extend(reset.and_then(|reset| overdue(config.quota.window, (clock::now() - reset).max(0))));
            return true;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
    };
    findings.push(unreachable(&place, &why));
    false
}

/// SQLite's write-ahead log is far longer than it should be.
fn long_log(place: &str, bytes: u64) -> Finding {
    Finding::advice(
        "long-log",
        format!("{place}: its write-ahead log has {} MB", bytes >> 20),
        "Another process reads the file for long, and keeps the log from being written back: it grows with each message, until \
         the disk is full.",
        "end that process; `fuser` on the file names it. The log is short again soon after".to_owned(),
    )
}

/// Finds those of several servers that cannot be reached, while `used` can.
async fn one_of_several(config: &Config, used: &str) -> Vec<Finding> {
    let places = config.database.places();
    let mut findings = Vec::new();
    for place in places.iter().filter(|_| places.len() > 1) {
        let mut store = Store::reading(&config.database.only_at(place));
        let why = match tokio::time::timeout(TIMEOUT, store.reach()).await {
            Ok(Ok(())) => continue,
            Ok(Err(failure)) => failure.words().to_owned(),
            Err(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        };
        findings.push(Finding::advice(
            "one-server",
            format!("{}: {why}", store.place()),
            "It is one of several in DB_HOST or DB_SOCKET. Nothing is lost as long as another takes writes.",
            format!("start the server, or mend the way to it; at this moment {used} is used"),
        ));
    }
    findings
}

/// A limit that only warns so far.
fn still_learning(told: &str) -> Finding {
    Finding::advice(
        "learning",
        format!("LIMITS: {told}"),
        "What is usual must be known before what is not is stopped.",
        "nothing: it acts by itself then".to_owned(),
    )
}

/// Finds what the tables lack: a table or column without which nothing is counted, or an index.
fn tables(place: &str, needed: &[Step], slow: &[Step]) -> Option<Finding> {
    let lack = |steps: &[Step]| {
        let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        format!("{place}: the tables lack {}", names.join(", "))
    };
    if !needed.is_empty() {
        return Some(Finding::problem(
            "not-migrated",
            lack(needed),
            "The daemon makes them when it starts; until then nothing is counted.",
            "policyd-rate-guard migrate".to_owned(),
        ));
    }
    (!slow.is_empty()).then(|| {
        Finding::advice(
            "no-index",
            lack(slow),
            "All of a large table is read where a part would do: by `cleanup`, `sender show`, `watch` and the page.",
            "policyd-rate-guard migrate, which may take minutes; mail goes on meanwhile".to_owned(),
        )
    })
}

/// Finds that the last reset, so many seconds ago, is overdue.
fn overdue(window: Window, ago: i64) -> Option<Finding> {
    let hours = ago / 3600;
    let timer = "systemctl enable --now policyd-rate-guard-cleanup.timer";
    (ago > RESET_OVERDUE).then(|| match window {
        Window::Reset => Finding::problem(
            "not-reset",
            format!("the counters were last reset {hours} hours ago"),
            "With QUOTA_WINDOW=reset, senders stay blocked until `cleanup` runs.",
            format!("{timer}; with QUOTA_WINDOW=24h quotas need no reset, but old rows still go by that timer"),
        ),
        Window::Sliding(_) => Finding::advice(
            "not-cleaned",
            format!("`cleanup` has not run for {hours} hours"),
            "It deletes what is past its retention: without it the tables grow for ever.",
            timer.to_owned(),
        ),
    })
}

fn unreachable(place: &str, reason: &str) -> Finding {
    Finding::problem(
        "database",
        format!("{place}: {reason}"),
        "While the database is away each sender is judged from the daemon's memory, by this host alone.",
        "start the database, or correct the DB_* settings".to_owned(),
    )
}

fn not_counting(place: &str) -> Finding {
    Finding::problem(
        "not-counting",
        format!("{place}: it can be read from here, but the daemon says: {DATABASE_AWAY}"),
        "Each sender is judged from the daemon's memory, by this host alone. The disk may be full, the server read-only, a right to write \
         missing; or the path of DB_DATABASE or DB_SOCKET lies outside of what the unit may write and see.",
        format!(
            "`journalctl -t policyd-rate-guard` has what the database answered. The unit may write below \
             /var/lib/policyd-rate-guard, and has a /tmp of its own and no /home: move the file or the socket, or \
             allow its directory with ReadWritePaths= (`systemctl edit {SERVICE_UNIT}`, and the same for \
             policyd-rate-guard-cleanup.service). After a change of DB_*: restart"
        ),
    )
}

/// Returns the configuration of each instance of Postfix; none, and a finding, if postconf(1) cannot be run.
fn read_postfix(postconf: Option<&Path>, findings: &mut Vec<Finding>) -> Vec<Postfix> {
    let program = postconf.map_or_else(|| programs::find("postconf"), Path::to_owned);
    let ask = |directory: Option<&str>, options: &str| {
        let directory = directory.into_iter().flat_map(|directory| ["-c", directory]);
        let output = Command::new(&program).args(directory).arg(options).output()?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        }
    };
    let read = |directory: Option<&str>| -> io::Result<Postfix> {
        let (main, master, overrides) = (ask(directory, "-x")?, ask(directory, "-Mx")?, ask(directory, "-Px")?);
        Ok(Postfix::parse(&main, &master, &overrides, directory))
    };
    let all = read(None).and_then(|first| {
        let others = first.other_instances();
        let others = others.iter().map(|directory| read(Some(directory))).collect::<io::Result<Vec<_>>>()?;
        Ok([vec![first], others].concat())
    });
    all.unwrap_or_else(|error| {
        findings.push(Finding::problem(
            "no-postconf",
            format!("cannot run {}: {error}", program.display()),
            "Postfix's configuration could not be looked at.",
            format!("run this on the mail server; main.cf should have: {GOOD}"),
        ));
        Vec::new()
    })
}

/// Finds PolicydRateGuard's files that shadow the package's, as /usr/libexec/policyd-rate-guard/predecessor does.
fn predecessor(findings: &mut Vec<Finding>) {
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
