//! The database: whether it can be reached, has its tables, and the daemon counts in it.

use std::process::Command;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::clock;
use crate::commands::scrape;
use crate::commit::learning;
use crate::config::Config;
use crate::doctor::Finding;
use crate::limiter::day::RESET_OVERDUE;
use crate::policy::lists::Lists;
use crate::policy::quota::Window;
use crate::store::Store;
use crate::store::migrate::{MigrateError, Step};
use crate::telemetry::counters::DATABASE_AWAY;

/// For all that is asked of one server.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The unit that runs the daemon.
pub const SERVICE_UNIT: &str = "policyd-rate-guard.service";

/// Whether the running daemon says that it has lost the database. None if no daemon can be asked. What this command sees may
/// differ: the daemon writes, and runs in its unit's sandbox.
pub fn is_counting_in_memory(config: &Config) -> Option<bool> {
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

/// Whether the database can be reached.
pub async fn look_at(config: &Config, findings: &mut Vec<Finding>) -> bool {
    let mut store = Store::reading(&config.database);
    let policy = config.terms(Lists::default(), TimeZone::system()).policy;
    let looked = async {
        let pending = store.migrations().await?.into_iter().filter(|step| !step.applied);
        let (slow, needed): (Vec<Step>, Vec<Step>) = pending.partition(|step| step.slow);
        let (mut reset, mut learns, mut refused_next_time) = (None, Vec::new(), false);
        if needed.is_empty() {
            let now = clock::now();
            reset = store.last_reset(now).await?;
            learns = learning::of(&mut store, &policy, now).await?;
            refused_next_time = store.may_be_refused_next_time().await?;
        }
        Ok::<_, MigrateError>((needed, slow, reset, learns, refused_next_time))
    };
    let looked = tokio::time::timeout(TIMEOUT, looked).await;
    let place = store.place();
    store.abandon();
    let why = match looked {
        Ok(Ok((needed, slow, reset, learns, refused_next_time))) => {
            findings.extend(refused_next_time.then(|| login(&place)));
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

/// Finds what is wrong with those of several servers that are not `used`.
async fn one_of_several(config: &Config, used: &str) -> Vec<Finding> {
    let places = config.database.places();
    let mut findings = Vec::new();
    for place in places.iter().filter(|_| places.len() > 1) {
        let mut store = Store::reading(&config.database.only_at(place));
        if store.place() == used {
            continue;
        }
        let why = match tokio::time::timeout(TIMEOUT, store.may_be_refused_next_time()).await {
            Ok(Ok(refused_next_time)) => {
                findings.extend(refused_next_time.then(|| login(&store.place())));
                continue;
            }
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

/// The server takes the login for as long as it runs.
fn login(place: &str) -> Finding {
    Finding::problem(
        "login",
        format!("{place}: it has no TLS, and the user logs in by caching_sha2_password"),
        "The server remembers the password until it ends, or until FLUSH PRIVILEGES. Then it asks for the password itself, which is \
         sent over TLS only: nothing is counted in the database any more.",
        "turn TLS on in the server, which makes a certificate for itself unless it is told not to (tls_version=, skip_ssl); or let \
         the user log in otherwise: ALTER USER … IDENTIFIED WITH mysql_native_password BY …, where the server has that"
            .to_owned(),
    )
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

pub fn not_counting(place: &str) -> Finding {
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
