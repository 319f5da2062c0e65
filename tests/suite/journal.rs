//! What is answered while the database is away is charged when it is back, once and at its time, whoever is killed meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::client::{ACCEPTED, BLOCKED, Client, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::database::Database;
use crate::support::http;
use crate::support::proxy::Proxy;
use crate::support::server::Server;
use crate::support::stream::Address;
use crate::support::traffic::senders;
use crate::support::wait;

/// ACTION_ON_ERROR.
const IN_DOUBT: &str = "WARN in doubt";
const ALICE: &str = "alice@example.com";
const AWAY: &str = "Mail goes on; until the database is back";
const BACK: &str = " is back after ";
/// What a start, or the way back to the database, may take on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A database that somebody holds counts as away when half of this is over.
fn sqlite() -> Setup {
    Setup::sqlite().setting("DECISION_TIMEOUT", "1s")
}

/// A message that was answered, and the minutes in which it was asked about and answered.
struct Answered {
    queue_id: String,
    minutes: [i64; 2],
}

/// Connections that ask message after message, and connect again when the daemon has gone.
struct Mail {
    shared: Arc<Shared>,
    connections: Vec<JoinHandle<Vec<Answered>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Mail {
    fn start(daemon: &Address, senders: &[String], pace: Duration) -> Mail {
        let shared = Arc::new(Shared::default());
        let connect = |sender: &String| {
            let (shared, sender, address) = (shared.clone(), sender.clone(), daemon.clone());
            thread::spawn(move || send(&shared, &address, &sender, pace))
        };
        let connections = senders.iter().map(connect).collect();
        Mail { shared, connections }
    }

    /// Waits until so many more answers have come.
    fn await_answers(&self, more: u64) {
        let goal = self.shared.answered.load(Ordering::Relaxed) + more;
        wait::until(LIMIT, "answers", || (self.shared.answered.load(Ordering::Relaxed) >= goal).then_some(()));
    }

    fn stop(self) -> Vec<Answered> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.connections.into_iter().flat_map(|connection| connection.join().unwrap()).collect()
    }
}

fn send(shared: &Shared, address: &Address, sender: &str, pace: Duration) -> Vec<Answered> {
    let (mut answered, mut client) = (Vec::new(), None);
    while !shared.stop.load(Ordering::Relaxed) {
        if client.is_none() {
            client = Client::try_connect(address).ok();
        }
        let Some(connected) = &mut client else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let queue_id = format!("4bX{:07}zGH", shared.asked.fetch_add(1, Ordering::Relaxed));
        let asked = minute();
        match connected.try_ask(&Request::data(sender, 1).queue_id(&queue_id)) {
            // Whether that is counted is known to nobody: the database died within its COMMIT.
            Ok(action) if action == IN_DOUBT => {}
            Ok(action) => {
                assert_eq!(action, ACCEPTED);
                answered.push(Answered { queue_id, minutes: [asked, minute()] });
                shared.answered.fetch_add(1, Ordering::Relaxed);
                thread::sleep(pace);
            }
            Err(_) => client = None,
        }
    }
    answered
}

fn minute() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap().div_euclid(60)
}

/// The numbers of a query.
fn numbers(database: &Database, columns: &[&str], rest: &str) -> Vec<Vec<i64>> {
    let rows = database.select(columns, rest);
    rows.iter().map(|row| row.iter().map(|text| text.parse::<f64>().unwrap() as i64).collect()).collect()
}

fn is_mysql(database: &Database) -> bool {
    database.settings().contains(&("DB_DRIVER".to_owned(), "mysql".to_owned()))
}

/// Each message that was answered is in the audit log once, at its minute; counters and history say the same as the log.
fn assert_charged_once(database: &Database, answered: &[Answered]) {
    let at = if is_mysql(database) { "UNIX_TIMESTAMP(created_at)" } else { "EXTRACT(EPOCH FROM created_at)" };
    let at = &format!("FLOOR({at} / 60)");
    let rows = database.select(&["msgid", at], "FROM messages");
    let charged: HashMap<&str, i64> =
        rows.iter().map(|row| (row[0].as_str(), row[1].parse::<f64>().unwrap() as i64)).collect();
    assert_eq!(charged.len(), rows.len(), "no message is charged twice");
    for Answered { queue_id, minutes: [first, last] } in answered {
        let minute =
            charged.get(queue_id.as_str()).unwrap_or_else(|| panic!("{queue_id} was answered, and is not charged"));
        assert!((first..=last).contains(&minute), "{queue_id}: {minute} is not from {first} to {last}");
    }
    let usage = if is_mysql(database) { "`usage`" } else { "usage" };
    let sums = |rows: Vec<Vec<i64>>| rows.into_iter().map(|row| (row[0], row[1], row[2])).collect::<HashSet<_>>();
    let history = numbers(database, &["ratelimit_id", "minute", "recipients"], &format!("FROM {usage}"));
    let minutes =
        format!("FROM (SELECT ratelimit_id, {at} AS minute FROM messages) AS logged GROUP BY ratelimit_id, minute");
    let logged = numbers(database, &["ratelimit_id", "minute", "COUNT(*)"], &minutes);
    assert_eq!(sums(history), sums(logged), "history and audit log say the same of each minute");
    let differing = database.number(
        "SELECT COUNT(*) FROM ratelimits WHERE rcpt_counter <> \
         (SELECT COUNT(*) FROM messages WHERE messages.ratelimit_id = ratelimits.id)",
    );
    assert_eq!(differing, 0, "counters and audit log say the same");
}

fn kill_and_start_again(daemon: &mut Daemon) {
    daemon.kill9();
    daemon.start_again();
}

fn counted(database: &Database, sender: &str) -> i64 {
    database.counters(sender).map_or(0, |row| row.rcpt_counter)
}

fn killed_twice_while_the_database_is_away<S: Server>() {
    let server = S::start();
    let database = server.database();
    let setup = Setup::on(&database).setting("QUOTA", "unlimited").setting("ACTION_ON_ERROR", IN_DOUBT);
    let mut daemon = setup.start();
    let mail = Mail::start(&daemon.unix_address(), &senders(8), Duration::from_millis(5));
    mail.await_answers(50);
    server.kill9();
    daemon.await_log_times(AWAY, 1, LIMIT);
    for _ in 0..2 {
        mail.await_answers(150);
        kill_and_start_again(&mut daemon);
    }
    mail.await_answers(150);
    server.start_again();
    daemon.await_log_times(BACK, 1, LIMIT);
    mail.await_answers(50);
    let answered = mail.stop();
    assert!(answered.len() >= 550);
    daemon.term();
    assert_charged_once(&database, &answered);
    assert!(daemon.log().contains(" were charged from the journal, 0 are lost"), "{}", daemon.log());
}

/// The reply to the transaction that charges the journal is lost, and then the daemon is killed before the file is emptied.
fn killed_between_the_commit_and_the_end_of_the_file<S: Server>() {
    let server = S::shared();
    let database = server.database();
    let proxy = Proxy::tcp(Address::Tcp(server.address()));
    let behind = Setup::on(&database.over_tcp(proxy.tcp_address())).setting("DB_TLS", "off");
    let mut daemon = behind.setting("QUOTA", "30").start();
    let mut client = daemon.connect();
    assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
    proxy.refuse();
    assert!((0..20).all(|_| client.ask(&Request::data(ALICE, 1)) == ACCEPTED));
    proxy.lose_reply_to(b"INSERT INTO messages");
    wait::until(LIMIT, "a part of the journal was charged", || (proxy.lost() > 0).then_some(()));
    daemon.kill9();
    // A new daemon knows nobody but by the journal.
    proxy.refuse();
    daemon.start_again();
    let mut client = daemon.connect();
    assert_eq!(client.ask(&Request::data(ALICE, 10)), ACCEPTED, "20 of 30 are in the journal");
    assert_eq!(client.ask(&Request::data(ALICE, 1)), BLOCKED);
    proxy.resume();
    daemon.await_log_times(BACK, 1, LIMIT);
    assert_eq!(counted(&database, ALICE), 32, "once, also what was refused");
    assert_eq!(database.messages(ALICE).iter().map(|message| message.rcpt_count).sum::<i64>(), 32);
    assert_eq!(client.ask(&Request::data(ALICE, 1)), BLOCKED);
    let reasons: HashSet<String> = database.messages(ALICE).into_iter().map(|message| message.reason).collect();
    assert!(reasons.contains("counted in memory"), "{reasons:?}");
    assert!(reasons.contains("counted in memory; 1x quota 30: 31"), "{reasons:?}");
}

/// What is answered while a journal is charged that an earlier daemon has left goes by that journal.
fn a_reset_of_a_sender_meanwhile_holds<S: Server>() {
    let server = S::shared();
    for window in ["reset", "24h"] {
        let database = server.database();
        let proxy = Proxy::tcp(Address::Tcp(server.address()));
        let behind = Setup::on(&database.over_tcp(proxy.tcp_address())).setting("QUOTA_WINDOW", window);
        let daemon = behind.setting("QUOTA", "5").start();
        let mut client = daemon.connect();
        assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
        proxy.refuse();
        assert_eq!(client.ask(&Request::data(ALICE, 4)), ACCEPTED);
        assert_eq!(client.ask(&Request::data(ALICE, 1)), BLOCKED);
        // Another host frees her while this one does not reach the database.
        thread::sleep(Duration::from_millis(1100));
        let freed = Setup::on(&database).setting("QUOTA_WINDOW", window).run("sender", &["reset", ALICE]);
        assert!(freed.status.success());
        proxy.resume();
        daemon.await_log_times(BACK, 1, LIMIT);
        let row = database.counters(ALICE).unwrap();
        assert_eq!((row.rcpt_counter, row.rcpt_total), (0, 6), "{window}");
        assert_eq!(client.ask(&Request::data(ALICE, 5)), ACCEPTED);
        assert_eq!(client.ask(&Request::data(ALICE, 1)), BLOCKED);
    }
}

crate::on_each_server! {
    killed_twice_while_the_database_is_away
    killed_between_the_commit_and_the_end_of_the_file
    a_reset_of_a_sender_meanwhile_holds
}

#[test]
fn killed_while_somebody_holds_the_sqlite_file() {
    let mut daemon = sqlite().setting("QUOTA", "9").start();
    let database = daemon.database().clone();
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), ACCEPTED);
    let holder = database.session();
    holder.execute("BEGIN EXCLUSIVE");
    for _ in 0..2 {
        assert_eq!(daemon.connect().ask(&Request::data(ALICE, 3)), ACCEPTED);
        kill_and_start_again(&mut daemon);
    }
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 3)), ACCEPTED, "6 of 9 are in the journal");
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), BLOCKED);
    holder.execute("COMMIT");
    daemon.await_log_times(BACK, 1, LIMIT);
    assert_eq!(counted(&database, ALICE), 11);
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), BLOCKED);
}

#[test]
fn what_an_earlier_daemon_left_is_charged_before_mail_is_let_in() {
    let mut daemon = sqlite().setting("QUOTA", "5").start();
    let database = daemon.database().clone();
    let holder = database.session();
    holder.execute("BEGIN EXCLUSIVE");
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 3)), ACCEPTED);
    daemon.kill9();
    holder.execute("COMMIT");
    daemon.start_again();
    assert_eq!(counted(&database, ALICE), 3);
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 3)), BLOCKED);
    assert!(daemon.log().contains("1 requests that were answered while the database was away are to be charged"));
}

#[test]
fn the_metrics_tell_how_much_is_written_and_since_when() {
    let daemon = sqlite().with_metrics().start();
    let metric = |name: &str| {
        let scraped = http::get(daemon.setup().metrics_address(), "/metrics").body;
        let line = scraped.lines().find(|line| line.split(' ').next() == Some(name)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{name} is not in {scraped}")).split(' ').nth(1).unwrap().parse::<i64>().unwrap()
    };
    let written = || metric("policyd_rate_guard_journal_requests");
    assert_eq!((metric("policyd_rate_guard_journal_up"), written()), (1, 0));
    let holder = daemon.database().session();
    holder.execute("BEGIN EXCLUSIVE");
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), ACCEPTED);
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), ACCEPTED);
    assert_eq!(written(), 2);
    assert!(metric("policyd_rate_guard_journal_bytes") > 200);
    wait::until(LIMIT, "the oldest grows older", || {
        (metric("policyd_rate_guard_journal_age_seconds") > 0).then_some(())
    });
    holder.execute("COMMIT");
    daemon.await_log_times(BACK, 1, LIMIT);
    wait::until(LIMIT, "nothing is left", || (written() == 0).then_some(()));
    assert_eq!(metric("policyd_rate_guard_journal_age_seconds"), 0);
    let counters = ["policyd_rate_guard_journal_charged_total", "policyd_rate_guard_journal_lost_total"].map(metric);
    assert_eq!(counters, [2, 0]);
}

#[test]
fn without_a_place_for_the_journal_it_is_said_and_mail_is_counted_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    for (setup, said) in [
        (sqlite().environment("STATE_DIRECTORY", missing.to_str().unwrap()), Some("No such file or directory")),
        (sqlite().setting("JOURNAL_SIZE", "0"), None),
    ] {
        let mut daemon = setup.with_metrics().setting("QUOTA", "2").start();
        let holder = daemon.database().session();
        holder.execute("BEGIN EXCLUSIVE");
        assert_eq!(daemon.connect().ask(&Request::data(ALICE, 2)), ACCEPTED);
        assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), BLOCKED);
        let scraped = http::get(daemon.setup().metrics_address(), "/metrics").body;
        assert!(scraped.contains("\npolicyd_rate_guard_journal_up 0\n"), "{scraped}");
        holder.execute("COMMIT");
        daemon.await_log_times(BACK, 1, LIMIT);
        assert_eq!(counted(daemon.database(), ALICE), 0);
        daemon.await_log("2 requests were judged from memory meanwhile and are not in it");
        let warned = daemon.log().contains("Without a journal, what is answered while the database is away");
        assert_eq!(warned, said.is_some());
        assert!(said.is_none_or(|said| daemon.log().contains(said)), "{}", daemon.log());
    }
}

#[test]
fn two_daemons_of_one_state_directory_do_not_share_a_journal() {
    let first = sqlite().start();
    let directory = first.setup().folder().to_str().unwrap().to_owned();
    let mut second = sqlite().environment("STATE_DIRECTORY", &directory).start();
    second.await_log("outage.journal: another daemon uses it");
    assert_eq!(second.connect().ask(&Request::data(ALICE, 1)), ACCEPTED);
}

#[test]
fn a_tail_that_a_power_cut_has_torn_is_cut_off_and_said() {
    let mut daemon = sqlite().start();
    let holder = daemon.database().session();
    holder.execute("BEGIN EXCLUSIVE");
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 3)), ACCEPTED);
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 5)), ACCEPTED);
    daemon.kill9();
    let path = daemon.setup().folder().join("outage.journal");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
    holder.execute("COMMIT");
    daemon.start_again();
    assert_eq!(counted(daemon.database(), ALICE), 3);
    assert!(
        daemon.log().contains("bytes are no whole record, as after a power cut, and were cut off"),
        "{}",
        daemon.log()
    );
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), ACCEPTED);
    assert_eq!(counted(daemon.database(), ALICE), 4);
}

#[test]
fn what_follows_a_damaged_record_is_kept_and_doctor_names_it() {
    let mut daemon = sqlite().start();
    let holder = daemon.database().session();
    holder.execute("BEGIN EXCLUSIVE");
    for recipients in [3, 5, 7] {
        assert_eq!(daemon.connect().ask(&Request::data(ALICE, recipients)), ACCEPTED);
    }
    daemon.kill9();
    let path = daemon.setup().folder().join("outage.journal");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    holder.execute("COMMIT");
    daemon.start_again();
    assert_eq!(counted(daemon.database(), ALICE), 3);
    assert!(daemon.log().contains("a record is damaged; the "), "{}", daemon.log());
    let kept = std::fs::read(path.with_extension("journal.unreadable")).unwrap();
    assert!(bytes.ends_with(&kept) && kept.len() > bytes.len() / 2);
    let report = daemon.setup().run("doctor", &["--postconf", "/nonexistent"]);
    let report = String::from_utf8_lossy(&report.stdout);
    assert!(report.contains("advice  journal-unreadable"), "{report}");
}
