//! The tests' own tools, tested: a helper that quietly does nothing would make other tests pass.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Barrier;
use std::time::Duration;
use std::{fs, thread};

use nix::sys::signal::Signal;

use crate::support::client::{Client, Request};
use crate::support::daemon::Setup;
use crate::support::database::Database;
use crate::support::postgres::Postgres;
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::scratch::{self, Scratch};
use crate::support::server::Server;
use crate::support::stream::Address;
use crate::support::wait;

/// Answers each request on each connection with `DUNNO` and the value of `name`.
fn responder(name: &'static str) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let (mut received, mut buffer) = (String::new(), [0; 4096]);
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    received.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
                    while let Some((request, rest)) = received.split_once("\n\n") {
                        let value = request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
                        let reply = format!("action=DUNNO {}\n\n", value.unwrap_or("absent"));
                        if request.contains("helo_name=bye") || stream.write_all(reply.as_bytes()).is_err() {
                            return;
                        }
                        received = rest.to_owned();
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_request_has_the_attributes_of_postfix_in_its_order() {
    let request =
        Request::data("alice@example.com", 3).instance("1.2.3.0").queue_id("4bXq").policy_context("submission");
    let text = String::from_utf8(request.to_bytes()).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let expected = "request protocol_state protocol_name client_address client_name client_port reverse_client_name \
        server_address server_port helo_name sender recipient recipient_count queue_id instance size etrn_domain stress \
        sasl_method sasl_username sasl_sender ccert_subject ccert_issuer ccert_fingerprint ccert_pubkey_fingerprint \
        encryption_protocol encryption_cipher encryption_keysize policy_context";
    assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
    assert!(text.contains("\nsasl_username=alice@example.com\n"), "{text}");
    assert!(text.contains("\nrecipient=\nrecipient_count=3\nqueue_id=4bXq\ninstance=1.2.3.0\n"), "{text}");
    assert!(text.ends_with("\npolicy_context=submission\n\n"), "{text}");
    assert_ne!(Request::data("a", 1).to_bytes(), Request::data("a", 1).to_bytes(), "two messages, two instances");
}

#[test]
fn a_client_asks_again_and_again_on_one_connection() {
    let mut client = Client::connect(&responder("recipient_count"));
    assert_eq!(client.ask(&Request::data("alice@example.com", 3)), "DUNNO 3");
    assert_eq!(client.ask(&Request::rcpt("alice@example.com", "bob@example.org")), "DUNNO 0");
    assert_eq!(client.ask(&Request::data("alice", 1).without("recipient_count")), "DUNNO absent");
    let many: Vec<Request> = (0..50).map(|count| Request::data("alice", count)).collect();
    let expected: Vec<String> = (0..50).map(|count| format!("DUNNO {count}")).collect();
    assert_eq!(client.pipeline(&many), expected);
    assert!(client.is_silent_for(Duration::from_millis(20)));
    client.send(&Request::data("alice", 1).helo_name("bye"));
    assert!(client.is_closed_within(Duration::from_secs(5)));
}

#[test]
fn a_client_gives_up_on_a_reply_that_never_comes() {
    let mut client = Client::connect(&responder("size"));
    client.set_limit(Duration::from_millis(50));
    client.send_raw(b"request=smtpd_access_policy\n");
    assert!(client.try_reply().is_err());
}

#[test]
fn a_frozen_proxy_accepts_and_is_silent_until_it_resumes() {
    let proxy = Proxy::tcp(responder("size"));
    let mut client = Client::connect(proxy.address());
    assert_eq!(client.ask(&Request::data("alice", 1).size(1)), "DUNNO 1");
    proxy.freeze();
    client.send(&Request::data("alice", 1).size(2));
    assert!(client.is_silent_for(Duration::from_millis(50)));
    let mut late = Client::connect(proxy.address());
    late.send(&Request::data("alice", 1).size(3));
    assert!(late.is_silent_for(Duration::from_millis(50)));
    proxy.resume();
    assert_eq!((client.reply().as_str(), late.reply().as_str()), ("DUNNO 2", "DUNNO 3"));
}

#[test]
fn a_proxy_cuts_and_refuses_connections_on_unix_sockets_too() {
    let scratch = Scratch::new(None);
    let proxy = Proxy::unix(&scratch.join("proxy"), responder("size"));
    let mut client = Client::connect(proxy.address());
    assert_eq!(client.ask(&Request::data("alice", 1).size(1)), "DUNNO 1");
    proxy.drop_connections();
    assert!(client.is_closed_within(Duration::from_secs(5)));
    let mut next = Client::connect(proxy.address());
    assert_eq!(next.ask(&Request::data("alice", 1).size(2)), "DUNNO 2");
    proxy.refuse();
    assert!(next.is_closed_within(Duration::from_secs(5)));
    assert!(Client::connect(proxy.address()).is_closed_within(Duration::from_secs(5)));
    proxy.resume();
    assert_eq!(Client::connect(proxy.address()).ask(&Request::data("alice", 1).size(4)), "DUNNO 4");
}

#[test]
fn a_process_is_gone_with_its_folder_when_the_test_binary_is() {
    let scratch = Scratch::new(None);
    let mut process = Process::spawn(Command::new("sleep").arg("1000"), Signal::SIGTERM, scratch.path());
    process.abandon();
    assert_eq!(process.wait(Duration::from_secs(30)).signal(), Some(Signal::SIGTERM as i32));
    wait::until(Duration::from_secs(30), "the guard removes the folder", || (!scratch.path().exists()).then_some(()));
}

#[test]
fn a_folder_that_many_tests_publish_at_once_is_there_whole() {
    let scratch = Scratch::new(None);
    let source = scratch.join("source");
    let names: Vec<String> = (0..200).map(|number| format!("{number}/{number}")).collect();
    for name in &names {
        fs::create_dir_all(source.join(name)).unwrap();
    }
    let place = scratch.join("published");
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                scratch::publish(&source, &place);
                for name in &names {
                    assert!(place.join(name).is_dir(), "{name} is missing");
                }
            });
        }
    });
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "drafts are left");
}

/// What every database must let the tests do.
fn reads_and_writes(database: &Database, id: &str, text: &str) {
    database.execute(&format!(
        "CREATE TABLE ratelimits (id {id}, sender {text}, quota BIGINT, quota_reset BIGINT, quota_locked BOOLEAN,
            msg_counter BIGINT, rcpt_counter BIGINT, msg_total BIGINT, rcpt_total BIGINT);
         CREATE TABLE messages (id {id}, msgid {text}, sender {text}, rcpt_count INT, blocked BOOLEAN, from_addr {text},
            to_addr {text}, client_address {text}, client_name {text}, action {text}, reason {text});
         INSERT INTO ratelimits (sender, quota, quota_reset, quota_locked, msg_counter, rcpt_counter, msg_total, rcpt_total)
            VALUES ('o''hara', 4294967295, 10, TRUE, 1, 2, 3, 4);
         INSERT INTO messages (sender, rcpt_count, blocked, reason) VALUES ('o''hara', 2, FALSE, 'quota'), ('x', 1, TRUE, '')"
    ));
    let counters = database.counters("o'hara").unwrap();
    assert_eq!((counters.quota, counters.quota_reset, counters.quota_locked), (4_294_967_295, 10, true));
    assert_eq!((counters.msg_counter, counters.rcpt_counter, counters.msg_total, counters.rcpt_total), (1, 2, 3, 4));
    assert_eq!(database.counters("nobody"), None);
    let messages = database.messages("o'hara");
    assert_eq!(messages.len(), 1);
    let message = &messages[0];
    assert_eq!(
        (message.rcpt_count, message.blocked, message.reason.as_str(), message.msgid.as_str()),
        (2, false, "quota", "")
    );
    assert_eq!(database.rows("messages"), 2);

    let holder = database.session();
    holder.execute("BEGIN");
    assert_eq!(holder.try_execute("UPDATE ratelimits SET quota = 7").unwrap(), 1);
    drop(holder);
    assert_eq!(database.counters("o'hara").unwrap().quota, 4_294_967_295, "what was not committed is rolled back");
}

#[test]
fn sqlite_is_read_and_written() {
    let scratch = Scratch::new(None);
    let file = scratch.join("test.db");
    std::fs::File::create(&file).unwrap();
    let database = Database::sqlite(&file);
    assert_eq!(database.file().as_deref(), Some(file.as_path()));
    reads_and_writes(&database, "INTEGER PRIMARY KEY", "TEXT");
}

fn tables_like_mariadbs_are_read_and_written_and_survive_sigkill<S: Server>() {
    let server = S::start();
    let (first, second) = (server.database(), server.database());
    reads_and_writes(&first, "BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY", "VARCHAR(255)");
    assert_eq!(second.number("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()"), 0);
    assert_eq!(first.number("SELECT CAST(@@innodb_flush_log_at_trx_commit AS SIGNED)"), 1);
    server.kill9();
    assert!(first.try_session().is_err());
    server.start_again();
    assert_eq!(first.counters("o'hara").unwrap().rcpt_counter, 2);
}

#[test]
fn postgres_is_read_and_written_and_survives_sigkill() {
    let server = Postgres::start();
    let (first, second) = (server.database(), server.database());
    reads_and_writes(&first, "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "TEXT");
    assert_eq!(second.number("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'public'"), 0);
    assert_eq!(first.select(&["setting"], "FROM pg_settings WHERE name = 'synchronous_commit'"), [["on"]]);
    server.kill9();
    assert!(first.try_session().is_err());
    server.start_again();
    assert_eq!(first.counters("o'hara").unwrap().rcpt_counter, 2);
}

fn a_server_is_started_once_and_shared<S: Server>() {
    let (one, two) = (S::shared().database(), S::shared().database());
    one.execute("CREATE TABLE t (id INT)");
    assert!(two.session().try_execute("SELECT * FROM t").is_err(), "each database is its own");
    // From several threads at once, as tests do.
    let addresses: Vec<_> = thread::scope(|scope| {
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(|| S::shared().address())).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(addresses, [S::shared().address(); 4], "one server");
}

fn a_proxy_loses_the_reply_to_commit_after_the_server_has_committed<S: Server>() {
    let database = S::shared().database();
    database.execute("CREATE TABLE t (id INT)");
    let proxy = Proxy::tcp(Address::Tcp(S::shared().address()));
    let session = database.over_tcp(proxy.tcp_address()).session_as_set();
    session.execute("BEGIN");
    session.execute("INSERT INTO t VALUES (1)");
    proxy.lose_reply_to(b"COMMIT");
    assert!(session.try_execute("COMMIT").is_err());
    assert_eq!(proxy.lost(), 1);
    wait::until(Duration::from_secs(5), "the row is there", || (database.rows("t") == 1).then_some(()));
}

#[test]
fn a_daemon_answers_on_both_sockets_and_counts() {
    let daemon = Setup::sqlite().start();
    assert!(daemon.ready_after() > Duration::ZERO);
    let (mut unix, mut tcp) = (daemon.connect(), daemon.connect_tcp());
    assert_eq!(unix.ask(&Request::data("alice@example.com", 1)), "DUNNO");
    assert_eq!(tcp.ask(&Request::data("alice@example.com", 1)), "DUNNO");
    let counters = daemon.database().counters("alice@example.com").unwrap();
    assert_eq!((counters.msg_total, counters.rcpt_counter), (2, 2));
    assert!(daemon.resident() > 1_000_000);
}

#[test]
fn a_daemon_is_reloaded_frozen_ended_killed_and_started_again() {
    let mut daemon = Setup::sqlite().start();
    daemon.change_setting("QUOTA", "7");
    daemon.hup();
    let mut client = daemon.connect();
    daemon.stop();
    client.send(&Request::data("alice@example.com", 1));
    assert!(client.is_silent_for(Duration::from_millis(50)));
    daemon.cont();
    assert_eq!(client.reply(), "DUNNO");
    let pid = daemon.id();
    assert!(daemon.term().success(), "{}", daemon.log());
    assert!(client.is_closed_within(Duration::from_secs(5)));
    daemon.start_again();
    assert_ne!(daemon.id(), pid);
    assert_eq!(daemon.connect().ask(&Request::data("alice@example.com", 1)), "DUNNO");
    daemon.kill9();
    daemon.start_again();
    assert_eq!(daemon.database().counters("alice@example.com").unwrap().msg_total, 2);
}

#[test]
#[should_panic(expected = "the daemon ended before it said READY=1")]
fn a_daemon_that_cannot_start_fails_the_test_at_once() {
    let _ = Setup::sqlite().setting("SOCKET", "no-such-folder/socket,nonsense").start_without_tables();
}

#[test]
fn a_command_that_ends_by_itself_gives_its_output() {
    let output = Setup::sqlite().setting("QUOTA", "many").run("check", &[]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).contains("QUOTA"));
}

fn a_daemon_counts_directly_and_through_a_proxy<S: Server>() {
    let database = S::shared().database();
    let proxy = Proxy::tcp(Address::Tcp(S::shared().address()));
    let direct = Setup::on(&database).start();
    let through = Setup::on(&database.over_tcp(proxy.tcp_address())).start();
    for daemon in [&direct, &through] {
        assert_eq!(daemon.connect().ask(&Request::data("alice@example.com", 3)), "DUNNO");
    }
    assert_eq!(database.counters("alice@example.com").unwrap().rcpt_counter, 6, "{}", through.log());
    assert_eq!(database.messages("alice@example.com").len(), 2);
}

crate::on_each_server! {
    a_server_is_started_once_and_shared
    a_proxy_loses_the_reply_to_commit_after_the_server_has_committed
    a_daemon_counts_directly_and_through_a_proxy
}

mod alike {
    use super::*;

    crate::on_mariadb_and_mysql! { tables_like_mariadbs_are_read_and_written_and_survive_sigkill }
}
