//! What is counted, for whom, and that it is exact: every answered request stands in the database, a quota of N lets N
//! through, and nothing is counted twice.

use std::thread;
use std::time::Duration;

use crate::support::client::{ACCEPTED, BLOCKED, Client, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::database::Counters;
use crate::support::load::Load;
use crate::support::server::Server;
use crate::support::wait;

const ALICE: &str = "alice@example.com";

/// The row of a sender that is there.
fn row(daemon: &Daemon, sender: &str) -> Counters {
    daemon.database().counters(sender).unwrap_or_else(|| panic!("{sender} has no row"))
}

/// (msg_counter, rcpt_counter) of a sender that has a row.
fn used(daemon: &Daemon, sender: &str) -> (i64, i64) {
    let row = row(daemon, sender);
    (row.msg_counter, row.rcpt_counter)
}

/// One request, or several with one reply each, in their order.
fn answers(client: &mut Client, requests: &[Request]) -> Vec<String> {
    requests.iter().map(|request| client.ask(request)).collect()
}

#[test]
fn of_64_connections_at_once_exactly_the_quota_gets_through_and_every_recipient_is_counted() {
    const QUOTA: u64 = 20_000;
    let daemon = Setup::sqlite().setting("QUOTA", &QUOTA.to_string()).setting("LOG_LEVEL", "ERROR").start();
    let load = Load::default();
    load.run(&daemon.unix_address(), 64, 1000, || Request::data(ALICE, 1), || {});
    assert_eq!((load.answered(), load.accepted()), (64_000, QUOTA));
    let expected = Counters {
        quota: QUOTA as i64,
        quota_reset: QUOTA as i64,
        quota_locked: false,
        msg_counter: 64_000,
        rcpt_counter: 64_000,
        msg_total: 64_000,
        rcpt_total: 64_000,
    };
    assert_eq!(row(&daemon, ALICE), expected);
    assert_eq!(daemon.database().rows("messages"), 64_000);
    assert_eq!(daemon.database().number("SELECT COUNT(*) FROM messages WHERE blocked = 0"), QUOTA as i64);
}

#[test]
fn every_answered_request_is_in_the_database_after_the_daemon_was_killed() {
    let mut daemon = Setup::sqlite().setting("QUOTA", "20000").setting("LOG_LEVEL", "ERROR").start();
    let address = daemon.unix_address();
    let load = Load::default();
    load.run(
        &address,
        64,
        1000,
        || Request::data(ALICE, 1),
        || {
            wait::until(Duration::from_secs(30), "3,000 answers", || (load.answered() >= 3000).then_some(()));
            daemon.kill9();
        },
    );
    assert!(load.answered() < 64_000, "the daemon was killed too late to say anything");
    let between = |counted: i64, load: &Load| {
        assert!((load.answered()..=load.asked()).contains(&(counted as u64)), "{counted} counted, {load:?}");
    };
    between(used(&daemon, ALICE).1, &load);

    daemon.start_again();
    load.run(&address, 64, 300, || Request::data(ALICE, 1), || {});
    let (messages, recipients) = used(&daemon, ALICE);
    assert_eq!(messages, recipients);
    between(recipients, &load);
    assert_eq!(daemon.database().rows("messages"), messages, "counter and audit log are written together");
}

#[test]
fn two_daemons_on_one_file_let_one_quota_through() {
    let first = Setup::sqlite().setting("QUOTA", "300").start();
    let second = Setup::on(first.database()).setting("QUOTA", "300").start();
    let (one, two) = (Load::default(), Load::default());
    one.run(
        &first.unix_address(),
        8,
        50,
        || Request::data(ALICE, 1),
        || {
            two.run(&second.unix_address(), 8, 50, || Request::data(ALICE, 1), || {});
        },
    );
    assert_eq!(one.answered() + two.answered(), 800);
    assert_eq!(one.accepted() + two.accepted(), 300, "{one:?} {two:?}");
    assert_eq!(used(&first, ALICE), (800, 800));
}

#[test]
fn a_message_that_would_exceed_the_quota_is_refused_and_still_counted() {
    let daemon = Setup::sqlite().setting("QUOTA", "10").start();
    let mut client = daemon.connect();
    assert_eq!(client.ask(&Request::data(ALICE, 10)), ACCEPTED);
    assert_eq!(client.ask(&Request::data(ALICE, 1)), BLOCKED);
    assert_eq!(used(&daemon, ALICE), (2, 11));
    assert_eq!(client.ask(&Request::data("bob@example.com", 11)), BLOCKED, "a first message may be too large, too");
    assert_eq!(used(&daemon, "bob@example.com"), (1, 11));
}

#[test]
fn a_quota_of_0_lets_nothing_through_and_unlimited_everything() {
    let daemon = Setup::sqlite().setting("QUOTA", "0").start();
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), BLOCKED);
    let daemon = Setup::sqlite().setting("QUOTA", "unlimited").start();
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1_000_000)), ACCEPTED);
    assert_eq!(row(&daemon, ALICE).quota, 4_294_967_295);
}

#[test]
fn a_new_sender_gets_a_row_with_the_quota_of_the_settings() {
    let daemon = Setup::sqlite().setting("QUOTA", "7").start();
    assert_eq!(daemon.database().counters(ALICE), None);
    daemon.connect().ask(&Request::data(ALICE, 2));
    let row = row(&daemon, ALICE);
    assert_eq!((row.quota, row.quota_reset, row.quota_locked), (7, 7, false));
    assert_eq!((row.msg_counter, row.rcpt_counter, row.msg_total, row.rcpt_total), (1, 2, 1, 2));
}

#[test]
fn a_quota_changed_by_sql_counts_for_the_very_next_message() {
    let daemon = Setup::sqlite().start();
    let mut client = daemon.connect();
    assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
    for (quota, answer) in [(1, BLOCKED), (3, ACCEPTED), (3, BLOCKED), (1000, ACCEPTED)] {
        daemon.database().execute(&format!("UPDATE ratelimits SET quota = {quota} WHERE sender = '{ALICE}'"));
        assert_eq!(client.ask(&Request::data(ALICE, 1)), answer, "with a quota of {quota}");
    }
}

#[test]
fn a_login_with_a_null_sender_reaches_the_quota_like_any_other() {
    let daemon = Setup::sqlite().setting("QUOTA", "2").start();
    let mut client = daemon.connect();
    let bounce = || Request::data(ALICE, 1).sender("");
    assert_eq!(answers(&mut client, &[bounce(), bounce(), bounce()]), [ACCEPTED, ACCEPTED, BLOCKED]);
    assert_eq!(used(&daemon, ALICE), (3, 3));
}

#[test]
fn a_request_without_a_login_is_not_counted() {
    let daemon = Setup::sqlite().setting("QUOTA", "0").start();
    let mut client = daemon.connect();
    assert_eq!(client.ask(&Request::data("", 5).sender(ALICE)), ACCEPTED);
    assert_eq!(client.ask(&Request::data("", 5).sender(ALICE).without("sasl_username")), ACCEPTED);
    assert_eq!(daemon.database().rows("ratelimits"), 0);
}

#[test]
fn logins_that_differ_in_case_share_a_quota() {
    let daemon = Setup::sqlite().setting("QUOTA", "3").start();
    let mut client = daemon.connect();
    let logins = ["Alice@Example.com", "ALICE@EXAMPLE.COM", "alice@example.com", "aLICE@example.COM"];
    let actions = logins.map(|login| client.ask(&Request::data(login, 1)));
    assert_eq!(actions, [ACCEPTED, ACCEPTED, ACCEPTED, BLOCKED]);
    assert_eq!(daemon.database().rows("ratelimits"), 1);
    assert_eq!(used(&daemon, ALICE), (4, 4));
}

#[test]
fn a_row_that_was_typed_in_by_hand_is_found_in_any_case() {
    let daemon = Setup::sqlite().start();
    daemon.database().execute("INSERT INTO ratelimits (sender, quota) VALUES ('Alice@Example.COM', 1)");
    let mut client = daemon.connect();
    let requests = [Request::data(ALICE, 1), Request::data(ALICE, 1)];
    assert_eq!(answers(&mut client, &requests), [ACCEPTED, BLOCKED]);
    assert_eq!(used(&daemon, "Alice@Example.COM"), (2, 2));
}

#[test]
fn a_login_of_4000_characters_is_limited_by_itself() {
    let daemon = Setup::sqlite().setting("QUOTA", "1").start();
    let mut client = daemon.connect();
    let long = |end: &str| "x".repeat(4000 - end.len()) + end;
    for login in [long("a"), long("b")] {
        let requests = [Request::data(&login, 1), Request::data(&login, 1)];
        assert_eq!(answers(&mut client, &requests), [ACCEPTED, BLOCKED]);
    }
    assert_eq!(daemon.database().rows("ratelimits"), 2);
    assert_eq!(daemon.database().number("SELECT MAX(LENGTH(sender)) FROM ratelimits"), 190 + 1 + 32);
}

#[test]
fn a_counter_at_the_end_of_its_column_stays_there_and_its_sender_stays_blocked() {
    const END: i64 = 4_294_967_295;
    let daemon = Setup::sqlite().start();
    let mut client = daemon.connect();
    for (before, quota) in [(END, 1000), (END - 5, 1000), (END, END - 1), (END - 5, END - 1)] {
        daemon.database().execute(&format!(
            "DELETE FROM ratelimits; INSERT INTO ratelimits
                (sender, quota, msg_counter, rcpt_counter, msg_total, rcpt_total)
                VALUES ('{ALICE}', {quota}, {before}, {before}, {before}, {before})"
        ));
        for _ in 0..7 {
            // The quota is exceeded by the last of the first seven at the latest.
            client.ask(&Request::data(ALICE, 10));
        }
        assert_eq!(client.ask(&Request::data(ALICE, 10)), BLOCKED, "{before} of {quota}");
        let row = row(&daemon, ALICE);
        let counters = [row.msg_counter, row.rcpt_counter, row.msg_total, row.rcpt_total];
        assert_eq!(counters, [END; 4], "{before} of {quota}");
    }
    daemon.database().execute(&format!("UPDATE ratelimits SET quota = {END}"));
    assert_eq!(client.ask(&Request::data(ALICE, 10)), ACCEPTED, "unlimited is unlimited");
}

#[test]
fn each_message_has_an_audit_row_with_what_postfix_told() {
    let daemon = Setup::sqlite().setting("QUOTA", "3").start();
    let mut client = daemon.connect();
    let told = |request: Request| {
        request.queue_id("4XyZ12bcdfzGH").client_name("mail.example.net").client_address("2001:db8::25")
    };
    client.ask(&told(Request::data("Alice@Example.com", 1).sender("o'hara=x@example.org")));
    client.ask(&told(Request::data(ALICE, 3).sender("")));
    let messages = daemon.database().messages(ALICE);
    let [accepted, blocked] = &messages[..] else { panic!("{messages:?}") };
    for message in [accepted, blocked] {
        assert_eq!((message.msgid.as_str(), message.sender.as_str()), ("4XyZ12bcdfzGH", ALICE));
        assert_eq!(
            (message.client_name.as_str(), message.client_address.as_str()),
            ("mail.example.net", "2001:db8::25")
        );
    }
    assert_eq!((accepted.from_addr.as_str(), accepted.to_addr.as_str()), ("o'hara=x@example.org", "bob@example.org"));
    assert_eq!((accepted.rcpt_count, accepted.blocked), (1, false));
    assert_eq!((accepted.action.as_str(), accepted.reason.as_str()), ("DUNNO", ""));
    assert_eq!((blocked.from_addr.as_str(), blocked.to_addr.as_str()), ("", ""));
    assert_eq!((blocked.rcpt_count, blocked.blocked), (3, true));
    assert_eq!((blocked.action.as_str(), blocked.reason.as_str()), ("DEFER_IF_PERMIT", "1x quota 3: 4"));
    let linked = "SELECT COUNT(*) FROM messages JOIN ratelimits ON ratelimits.id = messages.ratelimit_id
        WHERE ABS(strftime('%s', messages.created_at) - strftime('%s', 'now')) < 60";
    assert_eq!(daemon.database().number(linked), 2, "each belongs to its sender's row and was made now, in UTC");
}

#[test]
fn without_message_log_there_is_no_audit_row() {
    let daemon = Setup::sqlite().setting("MESSAGE_LOG", "False").setting("QUOTA", "1").start();
    let mut client = daemon.connect();
    let requests = [Request::data(ALICE, 1), Request::data(ALICE, 1)];
    assert_eq!(answers(&mut client, &requests), [ACCEPTED, BLOCKED]);
    assert_eq!((used(&daemon, ALICE), daemon.database().rows("messages")), ((2, 2), 0));
}

#[test]
fn a_message_asked_about_again_is_charged_once_and_gets_the_same_answer() {
    let daemon = Setup::sqlite().setting("QUOTA", "3").start();
    let mut client = daemon.connect();
    let (accepted, blocked) = (Request::data(ALICE, 3), Request::data(ALICE, 1));
    for _ in 0..3 {
        // Postfix asks again on another connection.
        assert_eq!(client.ask(&accepted), ACCEPTED);
        assert_eq!(daemon.connect_tcp().ask(&blocked), BLOCKED);
    }
    assert_eq!(used(&daemon, ALICE), (2, 4));
    assert_eq!(daemon.database().rows("messages"), 2);
    assert_eq!(client.ask(&accepted.instance("")), BLOCKED, "a request without an instance is never a repeat");
}

#[test]
fn a_message_asked_about_on_many_connections_at_once_is_charged_once() {
    let daemon = Setup::sqlite().start();
    let request = Request::data(ALICE, 2);
    let mut clients: Vec<Client> = (0..16).map(|_| daemon.connect()).collect();
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| assert_eq!(client.ask(&request), ACCEPTED));
        }
    });
    assert_eq!(used(&daemon, ALICE), (1, 2));
}

#[test]
fn a_check_at_data_and_at_end_of_message_charges_the_message_once() {
    let daemon = Setup::sqlite().setting("QUOTA", "5").start();
    let mut client = daemon.connect();
    let data = Request::data(ALICE, 5);
    assert_eq!(client.ask(&data), ACCEPTED);
    assert_eq!(client.ask(&data.protocol_state("END-OF-MESSAGE").size(12_345)), ACCEPTED);
    assert_eq!(used(&daemon, ALICE), (1, 5));
    assert_eq!(client.ask(&Request::end_of_message(ALICE, 1, 100)), BLOCKED, "alone, it charges too");
}

#[test]
fn checks_at_rcpt_add_up_to_what_data_says() {
    let daemon = Setup::sqlite().setting("QUOTA", "3").start();
    let mut client = daemon.connect();
    let recipients = ["a@example.org", "b@example.org", "c@example.org"];
    let rcpt = |recipient: &str| Request::rcpt(ALICE, recipient).instance("1.2.3.0");
    for (number, recipient) in recipients.into_iter().enumerate() {
        assert_eq!(client.ask(&rcpt(recipient)), ACCEPTED);
        assert_eq!(used(&daemon, ALICE), (1, number as i64 + 1));
    }
    assert_eq!(client.ask(&rcpt("A@example.org")), ACCEPTED);
    assert_eq!(client.ask(&Request::data(ALICE, 3).instance("1.2.3.0")), ACCEPTED);
    assert_eq!(used(&daemon, ALICE), (1, 3));
    assert_eq!(daemon.database().rows("messages"), 3, "one for each request that charged something");
    assert_eq!(client.ask(&Request::data(ALICE, 4).instance("1.2.3.0")), BLOCKED);
    assert_eq!((used(&daemon, ALICE), daemon.database().rows("messages")), ((1, 4), 4));
}

#[test]
fn a_message_counts_at_least_one_recipient() {
    let daemon = Setup::sqlite().start();
    let mut client = daemon.connect();
    // Before Postfix 2.3 the count said nothing.
    client.ask(&Request::data(ALICE, 0));
    client.ask(&Request::data(ALICE, 0).without("recipient_count"));
    client.ask(&Request::end_of_message(ALICE, 0, 10));
    assert_eq!(used(&daemon, ALICE), (3, 3));
}

#[test]
fn a_dry_run_is_judged_and_changes_nothing() {
    let daemon = Setup::sqlite().setting("QUOTA", "2").start();
    let mut client = daemon.connect();
    let dry = |recipients| Request::data(ALICE, recipients).with("policyd_rate_guard_dry_run", "yes");
    assert_eq!(answers(&mut client, &[dry(2), dry(3)]), [ACCEPTED, BLOCKED]);
    assert_eq!(daemon.database().rows("ratelimits"), 0, "not even a row is made");
    let request = dry(2);
    assert_eq!(client.ask(&request), ACCEPTED);
    assert_eq!(client.ask(&request.without("policyd_rate_guard_dry_run")), ACCEPTED);
    assert_eq!(used(&daemon, ALICE), (1, 2), "the message itself is no repeat of its dry run");
    assert_eq!(answers(&mut client, &[dry(1), dry(1)]), [BLOCKED, BLOCKED]);
    assert_eq!((used(&daemon, ALICE), daemon.database().rows("messages")), ((1, 2), 1));
}

fn a_new_sender_costs_no_look_at_every_row<S: Server>() {
    const ROWS: i64 = 4096;
    const NEW: i64 = 20;
    let database = S::shared().database();
    let daemon = Setup::on(&database).start();
    let session = database.session();
    session.execute("INSERT INTO ratelimits (sender) VALUES ('seed@example.com')");
    while session.number("SELECT COUNT(*) FROM ratelimits") < ROWS {
        session.execute(
            "INSERT INTO ratelimits (sender) SELECT CONCAT(MAX_ID.id + ratelimits.id, '@example.com') \
             FROM ratelimits, (SELECT MAX(id) AS id FROM ratelimits) AS MAX_ID",
        );
    }
    session.execute(S::GATHER_STATISTICS);
    session.execute("INSERT INTO ratelimits (sender, quota) VALUES ('Typed@Example.com', 1)");
    let before = session.number(S::ROWS_READ);
    let mut client = daemon.connect();
    for number in 0..NEW {
        assert_eq!(client.ask(&Request::data(&format!("new{number}@example.org"), 1)), ACCEPTED);
    }
    for expected in [ACCEPTED, BLOCKED] {
        assert_eq!(client.ask(&Request::data("typed@example.com", 1)), expected);
    }
    // PostgreSQL's sessions tell at their end; up to PostgreSQL 14 a moment later.
    drop(daemon);
    wait::until(Duration::from_secs(20), "sessions end", || (session.number(S::SESSIONS) == 0).then_some(()));
    let read = wait::until(Duration::from_secs(20), "what was read", || {
        Some(session.number(S::ROWS_READ) - before).filter(|read| *read > 0)
    });
    // Every row is read now and then, for the quotas that hold in an outage.
    assert!(read < ROWS * NEW / 4, "{read} rows");
}

crate::on_each_server! {
    a_new_sender_costs_no_look_at_every_row
}
