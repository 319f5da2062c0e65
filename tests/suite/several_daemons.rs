//! Several daemons on one database: counts are exact, quotas are shared, and `cleanup` from several hosts resets once.

use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::support::client::{ACCEPTED, BLOCKED, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::database::Database;
use crate::support::server::Server;
use crate::support::traffic::{Answered, Traffic, senders};
use crate::support::wait;

/// ACTION_ON_ERROR in these tests, so that it is told from an answer to what was counted.
const DOUBTFUL: &str = "OK";
/// What the log says of a request that was let through in doubt.
const IN_DOUBT: &str = "let through without being counted";

/// Three daemons that start together on one database.
fn three_daemons(database: &Database, quota: u32) -> Vec<Daemon> {
    let start = || {
        let setup = Setup::on(database).setting("QUOTA", &quota.to_string()).setting("ACTION_ON_ERROR", DOUBTFUL);
        setup.setting("LOG_LEVEL", "WARNING").start()
    };
    let daemons = thread::scope(|scope| {
        let starting: Vec<_> = (0..3).map(|_| scope.spawn(start)).collect();
        starting.into_iter().map(|daemon| daemon.join().unwrap()).collect()
    });
    // One that started while another made the tables may have begun without the database.
    for daemon in &daemons {
        await_counted(daemon, database);
    }
    daemons
}

/// Waits until the daemon's answers are counted.
fn await_counted(daemon: &Daemon, database: &Database) {
    let (mut client, sender) = (daemon.connect(), format!("probe{}@example.net", daemon.id()));
    wait::until(Duration::from_secs(20), "the daemon counts", || {
        client.ask(&Request::data(&sender, 1));
        database.counters(&sender)
    });
}

fn counts_are_exact_and_quotas_are_shared<S: Server>() {
    const QUOTA: u32 = 1000;
    const CONNECTIONS: usize = 32;
    const REQUESTS: usize = 1000;
    let database = S::shared().database();
    let daemons = three_daemons(&database, QUOTA);
    let senders = senders(50);
    // Of each connection, by sender: what was accepted, and what was answered in doubt.
    let answered: Vec<Vec<[i64; 2]>> = thread::scope(|scope| {
        let ask = |daemon: &Daemon, offset: usize| {
            let (mut client, senders) = (daemon.connect(), &senders);
            move || {
                let mut answered = vec![[0; 2]; senders.len()];
                for number in (0..senders.len()).cycle().skip(offset % senders.len()).take(REQUESTS) {
                    match client.ask(&Request::data(&senders[number], 1)).as_str() {
                        ACCEPTED => answered[number][0] += 1,
                        DOUBTFUL => answered[number][1] += 1,
                        answer => assert_eq!(answer, BLOCKED),
                    }
                }
                answered
            }
        };
        let connections = daemons.iter().flat_map(|daemon| (0..CONNECTIONS).map(move |offset| ask(daemon, offset)));
        let asking: Vec<_> = connections.map(|connection| scope.spawn(connection)).collect();
        asking.into_iter().map(|connection| connection.join().unwrap()).collect()
    });
    let each = i64::try_from(daemons.len() * CONNECTIONS * REQUESTS / senders.len()).unwrap();
    let quota = i64::from(QUOTA);
    let mut in_doubt = 0;
    for (number, sender) in senders.iter().enumerate() {
        let [through, doubtful] = [0, 1].map(|kind| answered.iter().map(|one| one[number][kind]).sum::<i64>());
        // On a busy machine another daemon may hold a row for longer than is waited. Such a request may be counted or not.
        assert!((quota - doubtful..=quota).contains(&through), "{sender}: {through} let through, {doubtful} in doubt");
        let row = database.counters(sender).unwrap();
        let total = row.msg_total;
        assert_eq!([row.msg_counter, row.rcpt_counter, row.rcpt_total], [total; 3], "{sender}");
        assert!((each - doubtful..=each).contains(&total), "{sender}: {total} counted, {doubtful} in doubt");
        in_doubt += doubtful;
    }
    let ours = "FROM messages WHERE sender LIKE 'sender%'";
    let written = database.number(&format!("SELECT COUNT(*) {ours}"));
    let through = database.number(&format!("SELECT COUNT(*) {ours} AND blocked = 0"));
    assert!((each * 50 - in_doubt..=each * 50).contains(&written), "{written} written, {in_doubt} in doubt");
    assert!((quota * 50 - in_doubt..=quota * 50).contains(&through), "{through} let through, {in_doubt} in doubt");
    assert!(in_doubt <= each / 2, "one in a hundred is no busy machine any more: {in_doubt}");
}

fn the_first_requests_of_a_sender_make_one_row<S: Server>() {
    let database = S::shared().database();
    let daemons = three_daemons(&database, 1000);
    for sender in ["new@example.com", "newer@example.com", "newest@example.com"] {
        let start = Barrier::new(64);
        thread::scope(|scope| {
            for number in 0..64 {
                let (mut client, start) = (daemons[number % daemons.len()].connect(), &start);
                scope.spawn(move || {
                    start.wait();
                    assert_eq!(client.ask(&Request::data(sender, 1)), ACCEPTED);
                });
            }
        });
        assert_eq!(database.number(&format!("SELECT COUNT(*) FROM ratelimits WHERE sender = '{sender}'")), 1);
        assert_eq!(database.counters(sender).unwrap().rcpt_counter, 64);
    }
}

fn cleanup_from_several_hosts_resets_once<S: Server>() {
    let database = S::shared().database();
    let daemon = Setup::on(&database).start();
    let mut client = daemon.connect();
    let sender = "alice@example.com";
    client.ask(&Request::data(sender, 3));
    let hosts: Vec<Setup> = (0..3).map(|_| Setup::on(&database)).collect();
    let said: Vec<String> = thread::scope(|scope| {
        let run = |host: &Setup| {
            let output = host.run("cleanup", &["--unless-within", "20h"]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let running: Vec<_> = hosts.iter().map(|host| scope.spawn(move || run(host))).collect();
        running.into_iter().map(|host| host.join().unwrap()).collect()
    });
    let count = |words: &str| said.iter().filter(|line| line.contains(words)).count();
    assert_eq!((count("senders reset"), count("were reset recently and stay")), (1, 2), "{said:?}");
    assert_eq!(database.counters(sender).unwrap().rcpt_counter, 0);
    client.ask(&Request::data(sender, 1));
    hosts[1].run("cleanup", &["--unless-within", "20h"]);
    assert_eq!(database.counters(sender).unwrap().rcpt_counter, 1, "the daily timer of another host comes too late");
    hosts[1].run("cleanup", &[]);
    assert_eq!(database.counters(sender).unwrap().rcpt_counter, 0);
}

fn a_cleanup_of_many_rows_costs_nobody_an_answer<S: Server>() {
    const ROWS: i64 = 1_000_000;
    // One server's at a time: what another one writes on the same disk is no cost of this.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let database = S::shared().database();
    let daemon = Setup::on(&database).setting("MESSAGE_RETENTION", "30").setting("LOG_LEVEL", "WARNING").start();
    let session = database.session();
    session.execute(
        "INSERT INTO ratelimits (sender, msg_counter, rcpt_counter, msg_total, rcpt_total) \
         VALUES ('seed@example.com', 1, 1, 1, 1)",
    );
    let mut rows = 1;
    while rows < ROWS / 2 {
        let more = rows.min(ROWS / 2 - rows);
        session.execute(&format!(
            "INSERT INTO ratelimits (sender, msg_counter, rcpt_counter, msg_total, rcpt_total) \
             SELECT CONCAT('many', id, '-', {rows}, '@example.com'), 1, 1, 1, 1 FROM ratelimits ORDER BY id LIMIT {more}"
        ));
        rows += more;
    }
    session.execute(
        "INSERT INTO messages (ratelimit_id, sender, rcpt_count, blocked, created_at) \
         SELECT id, sender, 1, 0, '2020-01-01 00:00:00' FROM ratelimits",
    );
    // As a table has them that was not filled a moment ago: PostgreSQL gathers them within a minute.
    session.execute(S::GATHER_STATISTICS);
    let senders = senders(16);
    // What a loaded machine and its disk add is seen in the same moments, by a daemon with a database of its own on this server.
    let elsewhere = S::shared().database();
    let beside = Setup::on(&elsewhere).setting("LOG_LEVEL", "WARNING").start();
    let pace = Duration::from_millis(5);
    let load = Traffic::start(&beside.unix_address(), &senders, pace);
    let traffic = Traffic::start(&daemon.unix_address(), &senders, pace);
    traffic.await_answers(100);
    let output = daemon.setup().run_within(Duration::from_secs(600), "cleanup", &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    let (answered, loaded) = (traffic.stop(), load.stop());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(&format!("{} messages deleted", ROWS / 2)), "{said}");
    assert_eq!(database.number("SELECT COUNT(*) FROM ratelimits WHERE sender LIKE 'many%' AND rcpt_counter <> 0"), 0);
    assert!(!daemon.log().contains(IN_DOUBT), "{}", daemon.log());
    for sender in &senders {
        let asked = answered.iter().filter(|answer| answer.sender == *sender).count();
        assert_eq!(database.counters(sender).unwrap().rcpt_total, i64::try_from(asked).unwrap());
    }
    let slowest = |answers: &[Answered]| answers.iter().map(|answer| answer.took).max().unwrap();
    let (slowest, beside) = (slowest(&answered), slowest(&loaded));
    assert!(slowest < beside + Duration::from_secs(2), "{slowest:?}; beside it {beside:?}");
}

crate::on_each_server! {
    counts_are_exact_and_quotas_are_shared
    the_first_requests_of_a_sender_make_one_row
    cleanup_from_several_hosts_resets_once
    a_cleanup_of_many_rows_costs_nobody_an_answer
}
