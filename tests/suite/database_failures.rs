//! The database fails in every way it can. Mail goes on, each answer comes in time, what was counted is exact, and counting
//! resumes by itself.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{ACCEPTED, BLOCKED, Client, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::database::Database;
use crate::support::proxy::Proxy;
use crate::support::server::Server;
use crate::support::stream::Address;
use crate::support::traffic::{Answered, Traffic, senders};
use crate::support::wait;

/// DECISION_TIMEOUT in these tests.
const DECISION_TIMEOUT: Duration = Duration::from_secs(2);
/// What a loaded machine may add.
const SLACK: Duration = Duration::from_secs(2);
/// Ends a wait that is in vain. What was judged from memory is charged first, which takes a busy machine its time.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// DB_TLS where a proxy has to find a word in what passes.
const READABLE: &str = "off";

const ALICE: &str = "alice@example.com";
const AWAY: &str = "Mail goes on; until the database is back";
const BACK: &str = " is back after ";

fn setup(database: &Database) -> Setup {
    Setup::on(database).setting("DECISION_TIMEOUT", "2s")
}

/// The recipients counted for a sender; 0 without a row.
fn counted(database: &Database, sender: &str) -> i64 {
    database.counters(sender).map_or(0, |row| row.rcpt_counter)
}

fn timed(client: &mut Client, request: &Request) -> (String, Duration) {
    let asked = Instant::now();
    (client.ask(request), asked.elapsed())
}

/// Waits until the log has said so many times that the database is back; from then on requests are counted.
fn await_back(daemon: &Daemon, times: usize) {
    daemon.await_log_times(BACK, times, BACK_WITHIN);
    assert_counted(daemon);
}

fn assert_counted(daemon: &Daemon) {
    let before = counted(daemon.database(), ALICE);
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), ACCEPTED);
    assert_eq!(counted(daemon.database(), ALICE), before + 1);
}

/// The log has said so many times that the database is away, and as often that it is back.
fn assert_said(daemon: &Daemon, times: usize) {
    let log = daemon.log();
    assert_eq!((log.matches(AWAY).count(), log.matches(BACK).count()), (times, times));
}

/// All were answered in time and let through, and those that the log calls counted are in the database, once.
fn assert_answered_and_exact(daemon: &Daemon, database: &Database, answered: &[Answered]) {
    for answer in answered {
        assert_eq!(answer.action, ACCEPTED);
        assert!(answer.took < DECISION_TIMEOUT + SLACK, "{answer:?}");
    }
    let log = daemon.log();
    let decisions = log.lines().filter(|line| line.contains("status=ACCEPTED") && !line.contains("counted in memory"));
    let said: HashSet<&str> =
        decisions.filter_map(|line| line.split_whitespace().find(|word| is_queue_id(word))).collect();
    assert!(said.len() > 50, "{} decisions", said.len());
    let rows = database.select(&["msgid"], "FROM messages");
    let written: HashSet<String> = rows.iter().map(|row| format!("{}:", row[0])).collect();
    assert_eq!(written.len(), rows.len(), "no message is charged twice");
    let missing: Vec<_> = said.iter().filter(|id| !written.contains(**id)).collect();
    assert!(missing.is_empty(), "answered as counted, and not in the database: {missing:?}");
    let differing = database.number(
        "SELECT COUNT(*) FROM ratelimits WHERE rcpt_counter <> \
         (SELECT COUNT(*) FROM messages WHERE messages.ratelimit_id = ratelimits.id)",
    );
    assert_eq!(differing, 0, "counters and audit log say the same");
}

fn is_queue_id(word: &str) -> bool {
    word.starts_with("4bX") && word.ends_with(':')
}

/// While the breaker is open nobody waits: 99 of 100 answers come within a small part of DECISION_TIMEOUT. What a loaded machine
/// adds to that is measured in the same moments, by requests that nobody is charged for and that need no database.
fn assert_quick(daemon: &Daemon) {
    let mut client = daemon.connect();
    let pairs = (0..300).map(|_| [ALICE, ""].map(|login| timed(&mut client, &Request::data(login, 1)).1));
    let (counted, free): (Vec<_>, Vec<_>) = pairs.map(|[counted, free]| (counted, free)).unzip();
    let (counted, free) = (percentile_99(counted), percentile_99(free));
    assert!(counted < free + DECISION_TIMEOUT / 4, "p99 {counted:?}; of what needs no database {free:?}");
}

fn percentile_99(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

fn killed_ten_times_under_load<S: Server>() {
    let server = S::start();
    let database = server.database();
    let daemon = setup(&database).setting("QUOTA", "unlimited").start();
    let traffic = Traffic::start(&daemon.unix_address(), &senders(8), Duration::from_millis(20));
    for time in 1..=10 {
        traffic.await_answers(20);
        server.kill9();
        daemon.await_log_times(AWAY, time, DECISION_TIMEOUT + SLACK);
        assert_quick(&daemon);
        traffic.await_answers(20);
        server.start_again();
        daemon.await_log_times(BACK, time, BACK_WITHIN);
    }
    traffic.await_answers(20);
    let answered = traffic.stop();
    assert_answered_and_exact(&daemon, &database, &answered);
    assert_said(&daemon, 10);
}

fn frozen_under_load<S: Server>() {
    let server = S::shared();
    let database = server.database();
    let proxy = Proxy::tcp(Address::Tcp(server.address()));
    let daemon = setup(&database.over_tcp(proxy.tcp_address())).setting("QUOTA", "unlimited").start();
    let traffic = Traffic::start(&daemon.unix_address(), &senders(8), Duration::from_millis(20));
    for time in 1..=2 {
        traffic.await_answers(50);
        proxy.freeze();
        daemon.await_log_times(AWAY, time, DECISION_TIMEOUT + SLACK);
        assert_quick(&daemon);
        traffic.await_answers(50);
        proxy.resume();
        daemon.await_log_times(BACK, time, BACK_WITHIN);
    }
    traffic.await_answers(50);
    let answered = traffic.stop();
    assert_answered_and_exact(&daemon, &database, &answered);
    assert_said(&daemon, 2);
}

fn refused_or_full_or_locked_out_at_the_start<S: Server>() {
    let server = S::start();
    let database = server.database();
    let over_tcp = database.over_tcp(server.address());

    // The password is wrong until somebody corrects it.
    server.let_in("other", "the right one");
    let daemon =
        setup(&over_tcp).setting("DB_USER", "other").setting("DB_PASSWORD", "not the right one").start_without_tables();
    assert!(daemon.ready_after() < Duration::from_secs(5));
    assert_quick(&daemon);
    server.let_in("other", "not the right one");
    await_back(&daemon, 1);
    assert_said(&daemon, 1);

    // It does not run.
    server.kill9();
    let mut daemon = setup(&over_tcp).start_without_tables();
    assert!(daemon.ready_after() < Duration::from_secs(5));
    assert_quick(&daemon);
    server.start_again();
    await_back(&daemon, 1);
    assert_said(&daemon, 1);
    assert!(daemon.term().success());
}

fn too_many_connections<S: Server>() {
    // Options of both servers that leave few connections.
    let server = S::start_with(S::FEW_CONNECTIONS);
    let database = server.database();
    let fill = || {
        let mut sessions = Vec::new();
        while let Ok(session) = database.try_session() {
            sessions.push(session);
        }
        sessions
    };
    let sessions = fill();
    assert!(sessions.len() > 1);
    let daemon = setup(&database).start_without_tables();
    assert_quick(&daemon);
    drop(sessions);
    await_back(&daemon, 1);
    assert_said(&daemon, 1);
}

fn read_only<S: Server>() {
    let server = S::start();
    let database = server.database();
    let daemon = setup(&database).start();
    assert_counted(&daemon);
    server.refuse_writes();
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), ACCEPTED);
    daemon.await_log_times(AWAY, 1, DECISION_TIMEOUT + SLACK);
    assert_quick(&daemon);
    assert_eq!(counted(&database, ALICE), 1);
    server.take_writes();
    await_back(&daemon, 1);
    assert_said(&daemon, 1);

    server.refuse_writes();
    let daemon = setup(&database).start_without_tables();
    assert_quick(&daemon);
    server.take_writes();
    await_back(&daemon, 1);
}

fn a_connection_that_was_lost_while_idle_is_replaced<S: Server>() {
    let server = S::shared();
    let database = server.database();
    let proxy = Proxy::tcp(Address::Tcp(server.address()));
    let daemon = setup(&database.over_tcp(proxy.tcp_address())).start();
    let mut client = daemon.connect();
    for asked in 1..=5 {
        assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
        assert_eq!(counted(&database, ALICE), asked);
        proxy.drop_connections();
    }
    assert_said(&daemon, 0);
}

fn a_connection_that_is_lost_within_a_transaction_loses_and_doubles_nothing<S: Server>() {
    let server = S::shared();
    let database = server.database();
    let proxy = Proxy::tcp(Address::Tcp(server.address()));
    let daemon = setup(&database.over_tcp(proxy.tcp_address())).setting("DB_TLS", READABLE).start();
    let mut client = daemon.connect();
    client.ask(&Request::data(ALICE, 1));
    proxy.lose_reply_to(b"BEGIN");
    let (answer, took) = timed(&mut client, &Request::data(ALICE, 1));
    assert_eq!(answer, ACCEPTED);
    assert!(took < DECISION_TIMEOUT + SLACK && proxy.lost() >= 1, "{took:?}");
    daemon.await_log_times(AWAY, 1, DECISION_TIMEOUT);
    assert_eq!(counted(&database, ALICE), 1, "judged from memory");
    proxy.resume();
    await_back(&daemon, 1);
    assert_eq!(database.rows("messages"), counted(&database, ALICE));
}

fn a_lone_decision_takes_few_round_trips<S: Server>() {
    let server = S::shared();
    let proxy = Proxy::tcp(Address::Tcp(server.address()));
    let daemon = setup(&server.database().over_tcp(proxy.tcp_address())).start();
    let mut client = daemon.connect();
    let mut round_trips = |sender: &str| {
        let before = proxy.requests();
        assert_eq!(client.ask(&Request::data(sender, 1)), ACCEPTED);
        proxy.requests() - before
    };
    // The least of several: what takes long on a busy machine is tried again.
    let new = senders(5).iter().map(|sender| round_trips(sender)).min();
    let known = (0..5).map(|_| round_trips(ALICE)).min();
    // Reads go with BEGIN, writes with COMMIT; but MySQL's COMMIT goes apart, since what is before it may be interrupted.
    let apart = u32::from(S::COMMITS_APART);
    assert_eq!(known, Some(2 + apart));
    assert!(new <= Some(4 + apart), "{new:?} with a row to be made");
}

/// What was let through, where a sender was seen and what is usual for it are read at once.
fn a_history_is_one_round_trip_more<S: Server>() {
    let server = S::shared();
    let database = server.database();
    let proxy = Proxy::tcp(Address::Tcp(server.address()));
    let limits = "3x usual recipients/1h min 900 HOLD; 900 recipients/1h from new networks HOLD; 900 networks/1h HOLD";
    let daemon = setup(&database.over_tcp(proxy.tcp_address())).setting("LIMITS", limits).start();
    let mut client = daemon.connect();
    assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
    let mut round_trips = || {
        // As if another daemon had charged it.
        database.execute("UPDATE ratelimits SET msg_total = msg_total + 1");
        let before = proxy.requests();
        assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
        proxy.requests() - before
    };
    let least = (0..5).map(|_| round_trips()).min();
    assert_eq!(least, Some(3 + u32::from(S::COMMITS_APART)));
}

/// The daemon's host, or the network between, goes without a word while a transaction holds rows.
fn an_abandoned_transaction_ends_by_itself<S: Server>() {
    let server = S::shared();
    let database = server.database();
    let proxy = Proxy::tcp(Address::Tcp(server.address()));
    let daemon = setup(&database.over_tcp(proxy.tcp_address())).setting("DB_TLS", READABLE).start();
    let mut client = daemon.connect();
    client.ask(&Request::data(ALICE, 1));
    proxy.freeze_at(b"INSERT INTO messages");
    client.ask(&Request::data(ALICE, 1));
    let session = database.session();
    let update = "UPDATE ratelimits SET quota_reset = 7 WHERE sender = 'alice@example.com'";
    wait::until(Duration::from_secs(60), "nobody holds the row any more", || session.try_execute(update).ok());
    assert_eq!(counted(&database, ALICE), 1);
}

/// The end of a transaction that counts.
const COMMIT_OF_A_BATCH: &[u8] = b"COMMIT; SELECT";

fn what_became_of_a_commit_is_found_out<S: Server>() {
    let server = S::shared();
    for is_committed in [true, false] {
        let database = server.database();
        let proxy = Proxy::tcp(Address::Tcp(server.address()));
        let daemon = setup(&database.over_tcp(proxy.tcp_address())).setting("DB_TLS", READABLE).start();
        let mut client = daemon.connect();
        if is_committed {
            proxy.lose_reply_to(COMMIT_OF_A_BATCH)
        } else {
            proxy.cut_at(COMMIT_OF_A_BATCH)
        }
        client.send(&Request::data(ALICE, 1));
        wait::until(DECISION_TIMEOUT, "a COMMIT is lost", || (proxy.lost() > 0).then_some(()));
        proxy.resume();
        assert_eq!(client.reply(), ACCEPTED);
        assert_eq!(counted(&database, ALICE), 1);
        assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
        assert_eq!((counted(&database, ALICE), database.rows("messages")), (2, 2));
        assert_said(&daemon, 0);
        assert!(!daemon.log().contains("commit_unknown"), "{}", daemon.log());
    }
}

fn an_unknown_outcome_of_commit_is_never_tried_again<S: Server>() {
    let server = S::shared();
    for is_committed in [true, false] {
        let database = server.database();
        let proxy = Proxy::tcp(Address::Tcp(server.address()));
        let daemon = setup(&database.over_tcp(proxy.tcp_address())).setting("DB_TLS", READABLE).start();
        let mut client = daemon.connect();
        // Nobody says what became of it.
        if is_committed {
            proxy.refuse_after(COMMIT_OF_A_BATCH)
        } else {
            proxy.refuse_from(COMMIT_OF_A_BATCH)
        }
        let message = Request::data(ALICE, 1);
        let (answer, took) = timed(&mut client, &message);
        assert_eq!(answer, ACCEPTED);
        assert!(took < DECISION_TIMEOUT + SLACK, "{took:?}");
        daemon.await_log_times("(commit_unknown)", 1, DECISION_TIMEOUT);
        proxy.resume();
        daemon.await_log_times(BACK, 1, BACK_WITHIN);
        let written = i64::from(is_committed);
        wait::until(DECISION_TIMEOUT, "the server ended it", || (counted(&database, ALICE) == written).then_some(()));
        assert_eq!(client.ask(&message), ACCEPTED, "Postfix may ask about it again");
        assert_eq!(counted(&database, ALICE), written, "and it is not charged again");
        assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
        assert_eq!(counted(&database, ALICE), written + 1);
    }
}

/// Galera, and MySQL's Group Replication, undo a transaction at its COMMIT where another node's has come first, and say so.
fn what_the_server_undoes_at_commit_is_tried_again<S: Server>() {
    let server = S::shared();
    for number in [1213, 3101] {
        let database = server.database();
        let proxy = Proxy::tcp(Address::Tcp(server.address()));
        let daemon = setup(&database.over_tcp(proxy.tcp_address())).setting("DB_TLS", READABLE).start();
        let mut client = daemon.connect();
        client.ask(&Request::data(ALICE, 1));
        database.execute(&format!(
            "CREATE PROCEDURE lost() BEGIN ROLLBACK; SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}; END"
        ));
        proxy.replace_once(b"COMMIT; SELECT ", b"CALL lost() -- ");
        assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
        assert_eq!(proxy.lost(), 1);
        assert_eq!((counted(&database, ALICE), database.rows("messages")), (2, 2));
        assert_said(&daemon, 0);
        assert!(!daemon.log().contains("let through"), "{}", daemon.log());
    }
}

fn what_was_last_known_of_each_sender_goes_on_in_memory_while_the_database_is_away<S: Server>() {
    let server = S::shared();
    for window in ["reset", "24h"] {
        let database = server.database();
        let proxy = Proxy::tcp(Address::Tcp(server.address()));
        let behind = setup(&database.over_tcp(proxy.tcp_address())).setting("QUOTA_WINDOW", window);
        let mut daemon = behind.setting("QUOTA", "5").start();
        let mut client = daemon.connect();
        let [news, thief] = ["news@example.com", "thief@example.com"];
        database.execute(&format!(
            "INSERT INTO ratelimits (sender, quota) VALUES ('{thief}', 0), ('{news}', {})",
            u32::MAX
        ));
        assert_eq!(client.ask(&Request::data(news, 9)), ACCEPTED);
        assert_eq!(client.ask(&Request::data(thief, 1)), BLOCKED);
        assert_eq!(client.ask(&Request::data(ALICE, 4)), ACCEPTED);
        for outage in 1..=2 {
            proxy.refuse();
            let answers: Vec<String> = (0..3).map(|_| client.ask(&Request::data(ALICE, 1))).collect();
            // What was answered in the first outage counts in the second.
            let first = if outage == 1 { ACCEPTED } else { BLOCKED };
            assert_eq!(answers, [first, BLOCKED, BLOCKED], "4 of 5 are used, {window}, outage {outage}");
            assert_eq!(client.ask(&Request::data(news, 9)), ACCEPTED);
            assert_eq!(client.ask(&Request::data(thief, 1)), BLOCKED);
            let bob = if outage == 1 { ACCEPTED } else { BLOCKED };
            assert_eq!(client.ask(&Request::data("bob@example.com", 5)), bob, "nobody knows him");
            daemon.await_log("counted in memory");
            wait::until(Duration::from_secs(15), "STATUS= says so", || {
                daemon.notification().filter(|said| said.contains("the database is away, counting in memory"))
            });
            proxy.resume();
            daemon.await_log_times(BACK, outage, BACK_WITHIN);
        }
        assert!(daemon.log().contains("6 requests were judged from memory"), "{}", daemon.log());
        assert_eq!(client.ask(&Request::data(ALICE, 1)), BLOCKED, "what was answered meanwhile is charged");
        assert_eq!(client.ask(&Request::data(ALICE, 1)), BLOCKED);
    }
}

/// While `locker` holds alice's row or is making it, she alone is let through in doubt, and nobody else waits.
fn only_alice_is_let_through_in_doubt<S: Server>(lock: &str, release: &str, alice_is_there: bool) {
    let database = S::shared().database();
    let daemon = setup(&database).setting("QUOTA", "unlimited").start();
    if alice_is_there {
        daemon.connect().ask(&Request::data(ALICE, 1));
    }
    let others = senders(20);
    let traffic = Traffic::start(&daemon.unix_address(), &others, Duration::from_millis(20));
    let usual_rate = || traffic.rate_while(|| traffic.await_answers(400));
    traffic.await_answers(100);
    let before = usual_rate();
    let locker = database.session();
    locker.execute("BEGIN");
    locker.execute(lock);
    let asks = Traffic::start(&daemon.unix_address(), &[ALICE.to_owned()], Duration::ZERO);
    let locked = traffic.rate_while(|| asks.await_answers(3));
    let alices = asks.stop();
    locker.execute(release);
    let after = usual_rate();
    let answered = traffic.stop();
    for answer in &alices {
        assert_eq!(answer.action, ACCEPTED);
        assert!(answer.took < DECISION_TIMEOUT + SLACK, "{answer:?}");
    }
    daemon.await_log_times("alice@example.com: let through without being counted", 1, DECISION_TIMEOUT);
    assert!(daemon.log().contains("(locked)"));
    // She is answered once a second. Who waited with her would be answered as seldom.
    assert!(locked > before.min(after) / 8.0, "{locked} answers a second, {before} before and {after} after");
    for sender in &others {
        let asked = answered.iter().filter(|answer| answer.sender == *sender).count();
        assert_eq!(counted(&database, sender), i64::try_from(asked).unwrap(), "{sender}");
    }
    let before = counted(&database, ALICE);
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), ACCEPTED);
    assert_eq!(counted(&database, ALICE), before + 1, "counted again");
    assert_said(&daemon, 0);
}

fn a_row_that_somebody_holds<S: Server>() {
    let lock = "UPDATE ratelimits SET quota_reset = 7 WHERE sender = 'alice@example.com'";
    only_alice_is_let_through_in_doubt::<S>(lock, "COMMIT", true);
}

fn a_row_that_somebody_is_making<S: Server>() {
    let lock = "INSERT INTO ratelimits (sender, quota) VALUES ('alice@example.com', 10)";
    only_alice_is_let_through_in_doubt::<S>(lock, "COMMIT", false);
    only_alice_is_let_through_in_doubt::<S>(lock, "ROLLBACK", false);
}

/// A nightly dump, an index being built: for seconds or minutes nothing can be written. Mail is judged from memory, and a
/// quota is a quota, although the breaker's own small write may go through meanwhile.
fn mail_is_limited_from_memory_while_tables_are_locked<S: Server>(tables: &[&str]) {
    const QUOTA: usize = 5;
    let database = S::shared().database();
    let settings = setup(&database).setting("QUOTA", &QUOTA.to_string());
    let daemon = settings.setting("QUOTA_WINDOW", "24h").start();
    let locker = database.session();
    locker.execute("BEGIN");
    locker.execute(&S::lock_tables(tables));
    let senders = senders(4);
    let traffic = Traffic::start(&daemon.unix_address(), &senders, Duration::from_millis(20));
    traffic.await_answers(400);
    let answered = traffic.stop();
    for answer in &answered {
        assert!(answer.took < DECISION_TIMEOUT + SLACK, "{answer:?}");
    }
    for sender in &senders {
        let accepted = answered.iter().filter(|answer| answer.sender == *sender && answer.action == ACCEPTED).count();
        // Those who find out that it is the table are let through in doubt.
        assert!((QUOTA..=QUOTA + 3).contains(&accepted), "{sender}: {accepted}\n{}", daemon.log());
    }
    locker.execute(S::UNLOCK_TABLES);
    wait::until(Duration::from_secs(60), "counting in the database", || {
        daemon.connect().ask(&Request::data(ALICE, 1));
        (counted(&database, ALICE) > 0).then_some(())
    });
}

/// Where a whole table is locked each row seems held, also that of a sender whose row was.
fn a_locked_table_is_not_taken_for_a_row_that_was_held<S: Server>() {
    let database = S::shared().database();
    let daemon = setup(&database).setting("QUOTA", "3").start();
    let mut alice = daemon.connect();
    assert_eq!(alice.ask(&Request::data(ALICE, 1)), ACCEPTED);
    let locker = database.session();
    locker.execute("BEGIN");
    locker.execute("UPDATE ratelimits SET quota_reset = 7 WHERE sender = 'alice@example.com'");
    assert_eq!(alice.ask(&Request::data(ALICE, 1)), ACCEPTED);
    daemon.await_log_times("(locked)", 1, DECISION_TIMEOUT);
    locker.execute("ROLLBACK");
    locker.execute("BEGIN");
    locker.execute(&S::lock_tables(&["ratelimits", "messages", "networks", "meta"]));
    let answers: Vec<String> = (0..8).map(|_| alice.ask(&Request::data(ALICE, 1))).collect();
    assert_eq!(answers.last().map(String::as_str), Some(BLOCKED), "{answers:?}");
    locker.execute(S::UNLOCK_TABLES);
}

/// A server need not notice that a client is gone while its statement waits.
fn a_daemon_that_is_killed_while_it_waits_leaves_nothing_on_the_server<S: Server>() {
    const GONE_WITHIN: Duration = Duration::from_secs(2);
    let server = S::start();
    // What counts, and what a start changes in the tables of an older version.
    for (tables, is_starting) in [(&["ratelimits", "messages", "networks", "meta"][..], false), (&["messages"], true)] {
        for lock in S::table_locks(tables) {
            let database = server.database();
            let mut daemon = setup(&database).start();
            daemon.connect().ask(&Request::data(ALICE, 1));
            let (locker, observer) = (database.session(), database.session());
            if is_starting {
                daemon.term();
                locker.execute("ALTER TABLE messages DROP COLUMN queue_state_at");
            }
            locker.execute("BEGIN");
            locker.execute(&lock);
            if is_starting {
                daemon.start_again();
            } else {
                daemon.connect().send(&Request::data(ALICE, 1));
            }
            let waiting = format!("{}{}", S::SESSIONS, S::AND_WAIT);
            let waits = || (observer.number(&waiting) > 0).then_some(());
            wait::until(Duration::from_secs(20), &format!("a statement waits for {lock}"), waits);
            daemon.kill9();
            let locker_alone = || (observer.number(S::SESSIONS) <= 1).then_some(());
            wait::until(GONE_WITHIN + SLACK, &format!("the daemon's sessions end under {lock}"), locker_alone);
        }
    }
}

fn the_audit_log_is_locked<S: Server>() {
    mail_is_limited_from_memory_while_tables_are_locked::<S>(&["messages"]);
}

fn all_tables_are_locked<S: Server>() {
    mail_is_limited_from_memory_while_tables_are_locked::<S>(&["ratelimits", "messages", "networks", "meta"]);
}

fn deadlocks_are_tried_again<S: Server>() {
    let server = S::start_with(S::QUICK_DEADLOCKS);
    let database = server.database();
    let daemon = setup(&database).setting("QUOTA", "unlimited").setting("LOG_LEVEL", "WARNING").start();
    let senders = senders(4);
    let mut client = daemon.connect();
    for sender in &senders {
        client.ask(&Request::data(sender, 1));
    }
    let (first, last) = (&senders[0], &senders[3]);
    // The daemon takes rows in the order of senders. Who takes them in the other order meets it half-way; more rows changed
    // make MariaDB choose the daemon's transaction as the one to undo.
    let rows: Vec<String> = (0..200).map(|number| format!("('zz{number}')")).collect();
    database.execute(&format!("INSERT INTO ratelimits (sender) VALUES {}", rows.join(", ")));
    let traffic = Traffic::start(&daemon.unix_address(), &[senders.as_slice(), &senders].concat(), Duration::ZERO);
    let started = Instant::now();
    let session = database.session();
    let touch = |which: &str| {
        session
            .try_execute(&format!("UPDATE ratelimits SET quota_reset = (quota_reset + 1) % 1000 WHERE sender {which}"))
    };
    // MariaDB 11.8 ends a transaction by which rows were changed since it first looked, before it can wait for one.
    session.execute(S::READ_COMMITTED);
    while server.deadlocks(&database) < 5 {
        assert!(started.elapsed() < Duration::from_secs(60), "no deadlock can be provoked");
        session.execute("BEGIN");
        let touched = touch("LIKE 'zz%'").and_then(|_| touch(&format!("= '{last}'"))).and_then(|_| {
            thread::sleep(Duration::from_millis(2));
            touch(&format!("= '{first}'"))
        });
        session.execute(if touched.is_ok() { "COMMIT" } else { "ROLLBACK" });
    }
    let answered = traffic.stop();
    assert!(!daemon.log().contains("let through without being counted"), "{}", daemon.log());
    for sender in &senders {
        let asked = 1 + answered.iter().filter(|answer| answer.sender == *sender).count();
        assert_eq!(counted(&database, sender), i64::try_from(asked).unwrap());
    }
}

/// The database asks to try again without end whenever alice is counted.
fn contended_is_who_was_tried_again_in_vain<S: Server>() {
    const IN_DOUBT: &str = "DEFER in doubt";
    let server = S::shared();
    let database = server.database();
    let mut daemon = setup(&database).setting("ACTION_ON_ERROR", IN_DOUBT).start();
    server.contend(&database, ALICE);
    let (mut alice, mut other) = (daemon.connect(), daemon.connect());
    for _ in 0..2 {
        assert_eq!(other.ask(&Request::data("bob@example.com", 1)), ACCEPTED);
        let (answer, took) = timed(&mut alice, &Request::data(ALICE, 1));
        assert_eq!(answer, IN_DOUBT);
        assert!(took < DECISION_TIMEOUT + SLACK, "{took:?}");
    }
    // All of them in one batch.
    daemon.stop();
    let mut others: Vec<Client> = (0..10).map(|_| daemon.connect()).collect();
    alice.send(&Request::data(ALICE, 1));
    for (number, client) in others.iter_mut().enumerate() {
        client.send(&Request::data(&format!("other{number}@example.com"), 1));
    }
    daemon.cont();
    assert!(others.iter_mut().all(|client| client.reply() == ACCEPTED), "{}", daemon.log());
    assert_eq!(alice.reply(), IN_DOUBT);
    assert_eq!((database.counters(ALICE), counted(&database, "bob@example.com")), (None, 2));
    assert_eq!(database.rows("ratelimits"), 11);
    assert_said(&daemon, 0);
    assert!(daemon.term().success());
    assert!(daemon.log().contains("; let through in doubt: contended 3\n"), "{}", daemon.log());
}

crate::on_each_server! {
    killed_ten_times_under_load
    frozen_under_load
    refused_or_full_or_locked_out_at_the_start
    too_many_connections
    read_only
    a_connection_that_was_lost_while_idle_is_replaced
    a_connection_that_is_lost_within_a_transaction_loses_and_doubles_nothing
    a_lone_decision_takes_few_round_trips
    a_history_is_one_round_trip_more
    an_abandoned_transaction_ends_by_itself
    what_became_of_a_commit_is_found_out
    an_unknown_outcome_of_commit_is_never_tried_again
    what_was_last_known_of_each_sender_goes_on_in_memory_while_the_database_is_away
    a_row_that_somebody_holds
    a_row_that_somebody_is_making
    a_locked_table_is_not_taken_for_a_row_that_was_held
    a_daemon_that_is_killed_while_it_waits_leaves_nothing_on_the_server
    the_audit_log_is_locked
    all_tables_are_locked
    deadlocks_are_tried_again
    contended_is_who_was_tried_again_in_vain
}

mod at_commit {
    use super::what_the_server_undoes_at_commit_is_tried_again;

    crate::on_mariadb_and_mysql! { what_the_server_undoes_at_commit_is_tried_again }
}
