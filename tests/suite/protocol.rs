//! The policy protocol at its socket: what every version of Postfix sends, in any pieces, and what nobody should send.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use crate::support::client::{ACCEPTED, BLOCKED, Client, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::wait;

const ALICE: &str = "alice@example.com";
/// ACTION_ON_ERROR in these tests, so that it is told from an answer to good mail.
const IN_DOUBT: &str = "DEFER in doubt";
/// How long a request may take once it has begun, and a reply until it is read.
const TIMEOUT: Duration = Duration::from_secs(10);

fn daemon() -> Daemon {
    Setup::sqlite().setting("ACTION_ON_ERROR", IN_DOUBT).start()
}

/// The daemon does what it is for.
fn answers_as_before(daemon: &Daemon) {
    assert_eq!(daemon.connect().ask(&Request::data("good@example.com", 1)), ACCEPTED);
    assert_eq!(daemon.connect_tcp().ask(&Request::data("good@example.com", 1)), ACCEPTED);
}

/// Sends bytes that end a request, and expects the answer for requests that make no sense; the connection stays of use.
fn is_in_doubt_about(daemon: &Daemon, bytes: &[u8]) {
    let mut client = daemon.connect();
    client.send_raw(bytes);
    assert_eq!(client.reply(), IN_DOUBT);
    assert_eq!(client.ask(&Request::data("good@example.com", 1)), ACCEPTED, "on the same connection");
}

mod good_input {
    use super::*;

    /// Each `.in` is what a version of Postfix sends in one connection, each `.ref` what it is to be answered: with a quota
    /// of 3 a message of two recipients, asked about at each stage; one of `<>`; and one too many, asked about twice.
    fn transcripts() -> Vec<(String, Vec<u8>, String)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
        let mut transcripts = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "in") {
                let replies = fs::read_to_string(path.with_extension("ref")).unwrap();
                transcripts.push((path.display().to_string(), fs::read(path).unwrap(), replies));
            }
        }
        assert_eq!(transcripts.len(), 8, "a version's transcript is missing");
        transcripts
    }

    /// Everything the daemon says until it closes, after the client has said that nothing more comes.
    fn replies_to(mut client: Client, pieces: &mut dyn Iterator<Item = &[u8]>) -> String {
        pieces.for_each(|piece| client.send_raw(piece));
        client.finish_sending();
        let mut replies = String::new();
        while let Ok(action) = client.try_reply() {
            replies += &format!("action={action}\n\n");
        }
        replies
    }

    #[test]
    fn requests_of_each_version_of_postfix_are_answered() {
        let daemon = Setup::sqlite().setting("QUOTA", "3").start();
        for (name, requests, expected) in transcripts() {
            assert_eq!(replies_to(daemon.connect(), &mut [&requests[..]].into_iter()), expected, "{name}");
        }
        assert_eq!(daemon.database().rows("ratelimits"), 8);
        assert_eq!(daemon.database().number("SELECT COUNT(*) FROM ratelimits WHERE rcpt_counter = 4"), 8);
    }

    #[test]
    fn pieces_of_any_size_are_answered_the_same() {
        let daemon = Setup::sqlite().setting("QUOTA", "3").start();
        for (size, (name, requests, expected)) in [1, 1, 2, 3, 7, 61, 500, 4096].into_iter().zip(transcripts()) {
            assert_eq!(replies_to(daemon.connect_tcp(), &mut requests.chunks(size)), expected, "{name} by {size}");
        }
    }

    #[test]
    fn a_connection_stays_open_for_any_number_of_requests() {
        let daemon = daemon();
        for mut client in [daemon.connect(), daemon.connect_tcp()] {
            for _ in 0..500 {
                assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
            }
            assert!(client.is_silent_for(Duration::from_millis(20)), "nothing follows a reply, nobody closes");
        }
        assert_eq!(daemon.database().counters(ALICE).unwrap().msg_counter, 1000);
    }

    #[test]
    fn several_requests_in_one_write_are_answered_in_order() {
        let daemon = Setup::sqlite().setting("QUOTA", "20").setting("ACTION_ON_ERROR", IN_DOUBT).start();
        let mut client = daemon.connect();
        let requests: Vec<Request> = (0..40).map(|_| Request::data(ALICE, 1)).collect();
        let expected = [vec![ACCEPTED; 20], vec![BLOCKED; 20]].concat();
        assert_eq!(client.pipeline(&requests), expected);
        let mixed = [Request::data("bob", 1), Request::data("bob", 1).recipient_count("x"), Request::data(ALICE, 1)];
        assert_eq!(client.pipeline(&mixed), [ACCEPTED, IN_DOUBT, BLOCKED]);
    }

    #[test]
    fn unknown_attributes_are_ignored_and_of_repeated_ones_the_last_counts() {
        let daemon = daemon();
        let mut client = daemon.connect();
        client.send_raw(
            b"request=smtpd_access_policy\nsasl_username=nobody\nnew_in_postfix_4=a=b\nprotocol_state=DATA\n\
              sasl_username=alice@example.com\nrecipient_count=2\n=\n\n",
        );
        assert_eq!(client.reply(), IN_DOUBT, "a line without a name is no attribute");
        client.send_raw(
            b"request=smtpd_access_policy\nsasl_username=nobody\nnew_in_postfix_4=a=b\nprotocol_state=DATA\n\
              sasl_username=alice@example.com\nrecipient_count=2\n\n",
        );
        assert_eq!(client.reply(), ACCEPTED);
        assert_eq!(daemon.database().counters(ALICE).unwrap().rcpt_counter, 2);
        assert_eq!(daemon.database().rows("ratelimits"), 1);
    }

    #[test]
    fn equals_signs_and_utf_8_stand_in_values() {
        let daemon = daemon();
        let mut client = daemon.connect();
        assert_eq!(client.ask(&Request::data("jürgen=x@exämple.com", 1).sender("bounce+a=b@example.com")), ACCEPTED);
        let messages = daemon.database().messages("jürgen=x@exämple.com");
        assert_eq!(messages[0].from_addr, "bounce+a=b@example.com");
    }

    #[test]
    fn other_stages_are_let_through_and_warned_of_once() {
        let mut daemon = Setup::sqlite().setting("QUOTA", "0").start();
        let mut client = daemon.connect();
        for stage in ["CONNECT", "EHLO", "HELO", "MAIL", "VRFY", "ETRN", ""] {
            for _ in 0..3 {
                assert_eq!(client.ask(&Request::data(ALICE, 1).protocol_state(stage)), ACCEPTED, "{stage}");
            }
        }
        assert_eq!(daemon.database().rows("ratelimits"), 0);
        daemon.term();
        for stage in ["CONNECT", "EHLO", "HELO", "MAIL", "VRFY", "ETRN", ""] {
            let warning = format!("asks at stage {stage:?}, where there are no recipients to count");
            assert_eq!(daemon.log().matches(&warning).count(), 1, "{warning}");
        }
    }
}

mod bad_input {
    use super::*;

    #[test]
    fn what_has_no_newline_is_cut_off_at_64_kilobytes() {
        let mut daemon = daemon();
        endless_line(&daemon);
        daemon.await_log("exceeds its bound");
        answers_as_before(&daemon);
    }

    fn endless_line(daemon: &Daemon) {
        for mut client in [daemon.connect(), daemon.connect_tcp()] {
            client.send_raw(&[b'x'; 64 * 1024]);
            assert!(client.is_silent_for(Duration::from_millis(20)), "64 KiB are within the bound");
            client.send_raw(b"x");
            assert!(client.is_closed_within(TIMEOUT / 2));
        }
    }

    #[test]
    fn lines_that_never_end_the_request_are_cut_off_too() {
        let daemon = daemon();
        endless_request(&daemon);
        answers_as_before(&daemon);
    }

    fn endless_request(daemon: &Daemon) {
        let mut client = daemon.connect();
        client.send_raw(&b"helo_name=x\n".repeat(64 * 1024 / 12 + 1));
        assert!(client.is_closed_within(TIMEOUT / 2));
    }

    #[test]
    fn a_line_without_an_equals_sign_is_answered_in_doubt() {
        let daemon = daemon();
        no_attributes(&daemon);
        answers_as_before(&daemon);
    }

    fn no_attributes(daemon: &Daemon) {
        is_in_doubt_about(daemon, b"GET / HTTP/1.0\r\n\r\n");
        is_in_doubt_about(daemon, b"sasl_username=alice\nrecipient_count\n\n");
        is_in_doubt_about(daemon, b"=value\n\n");
        is_in_doubt_about(daemon, b"request=junk\n\n");
    }

    #[test]
    fn an_empty_request_is_answered_in_doubt() {
        let daemon = daemon();
        empty_requests(&daemon);
        answers_as_before(&daemon);
    }

    fn empty_requests(daemon: &Daemon) {
        is_in_doubt_about(daemon, b"\n");
        let mut client = daemon.connect();
        client.send_raw(b"\n\n\n");
        assert_eq!([client.reply(), client.reply(), client.reply()], [IN_DOUBT; 3]);
    }

    #[test]
    fn more_attributes_than_postfix_could_send_are_answered_in_doubt() {
        let daemon = daemon();
        many_attributes(&daemon);
        answers_as_before(&daemon);
    }

    fn many_attributes(daemon: &Daemon) {
        is_in_doubt_about(daemon, &[&b"a=b\n".repeat(257)[..], b"\n"].concat());
    }

    #[test]
    fn nul_bytes_and_control_characters_are_made_harmless() {
        let daemon = daemon();
        nul_bytes(&daemon);
        assert_eq!(daemon.database().counters("ab[31mc").unwrap().rcpt_counter, 1);
        answers_as_before(&daemon);
    }

    fn nul_bytes(daemon: &Daemon) {
        let mut client = daemon.connect();
        client.send_raw(b"protocol_state=DATA\nsasl_username=a\0b\x07\x1b[31mc\nsender=\0\nqueue_id=\0\n\n");
        assert_eq!(client.reply(), ACCEPTED);
        is_in_doubt_about(daemon, b"\0\0\0\n\n");
        is_in_doubt_about(daemon, b"recipient_count=1\0\n\n");
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_made_harmless() {
        let daemon = daemon();
        invalid_utf_8(&daemon);
        let kept = daemon.database().select(&["sender", "from_addr"], "FROM messages WHERE sender LIKE 'j%'");
        assert_eq!(kept, [["j\u{fffd}rgen", "\u{fffd}\u{fffd}"]]);
        answers_as_before(&daemon);
    }

    fn invalid_utf_8(daemon: &Daemon) {
        let mut client = daemon.connect();
        client.send_raw(b"protocol_state=DATA\nsasl_username=j\xfcrgen\nsender=\xff\xfe\nrecipient=\xc3\n\n");
        assert_eq!(client.reply(), ACCEPTED);
        is_in_doubt_about(daemon, b"\xff\xfe\n\n");
    }

    #[test]
    fn a_recipient_count_of_minus_1_is_answered_in_doubt_and_not_counted() {
        refuses_the_count("-1");
    }

    #[test]
    fn a_recipient_count_of_abc_is_answered_in_doubt_and_not_counted() {
        refuses_the_count("abc");
    }

    #[test]
    fn a_recipient_count_of_99999999999_is_answered_in_doubt_and_not_counted() {
        refuses_the_count("99999999999");
    }

    #[test]
    fn a_recipient_count_above_a_million_is_answered_in_doubt_and_not_counted() {
        refuses_the_count("1000001");
    }

    fn refuses_the_count(count: &str) {
        let daemon = daemon();
        is_in_doubt_about(&daemon, &Request::data(ALICE, 1).recipient_count(count).to_bytes());
        assert_eq!(daemon.database().counters(ALICE), None);
        answers_as_before(&daemon);
    }

    #[test]
    fn half_a_request_and_then_the_end_counts_nothing_and_is_not_answered() {
        let daemon = daemon();
        torn_requests(&daemon);
        assert_eq!(daemon.database().counters("torn@example.com"), None);
        answers_as_before(&daemon);
    }

    fn torn_requests(daemon: &Daemon) {
        let mut whole = Request::data("torn@example.com", 1).to_bytes();
        whole.pop();
        for part in [&whole[..], &whole[..whole.len() - 1], &whole[..whole.len() / 2], &whole[..1]] {
            let mut client = daemon.connect();
            client.send_raw(part);
            client.finish_sending();
            assert!(client.is_closed_within(TIMEOUT / 2));
        }
    }

    #[test]
    fn half_a_request_and_then_silence_is_cut_off_while_idle_connections_stay() {
        let mut daemon = daemon();
        let (mut silent, mut idle, mut fresh) = (daemon.connect(), daemon.connect(), daemon.connect_tcp());
        assert_eq!(idle.ask(&Request::data(ALICE, 1)), ACCEPTED);
        silent.send_raw(b"request=smtpd_access_policy\nproto");
        let begun = Instant::now();
        assert!(silent.is_closed_within(TIMEOUT * 2));
        assert!(begun.elapsed() >= TIMEOUT - Duration::from_millis(100), "{:?}", begun.elapsed());
        daemon.await_log("begun and not ended");
        for client in [&mut idle, &mut fresh] {
            assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED, "an idle connection is never closed");
        }
    }

    #[test]
    fn a_client_that_sends_and_never_reads_is_let_go() {
        let daemon = daemon();
        let mut client = daemon.connect();
        client.set_limit(TIMEOUT * 3);
        let requests = b"\n".repeat(1000);
        let error = loop {
            if let Err(error) = client.try_send_raw(&requests) {
                break error;
            }
        };
        assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
        answers_as_before(&daemon);
    }

    /// Sends until nothing more is taken. The connection stays open as long as what is returned.
    fn unread_replies(daemon: &Daemon) -> Client {
        let mut client = daemon.connect();
        client.set_limit(Duration::from_millis(100));
        while client.try_send_raw(&b"\n".repeat(1000)).is_ok() {}
        answers_as_before(daemon);
        client
    }

    /// 2,000 connections, of which one in 50 asks something.
    fn idle_connections(daemon: &Daemon) -> Vec<Client> {
        let mut clients: Vec<Client> = (0..2000).map(|_| daemon.connect()).collect();
        for client in clients.iter_mut().step_by(50) {
            assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
        }
        clients
    }

    fn room_for_connections() {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(most >= 4096, "these tests need 4096 open files, and may have {most}; raise `ulimit -Hn`");
        setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    }

    #[test]
    fn two_thousand_idle_connections_leave_room_for_others() {
        room_for_connections();
        let daemon = Setup::sqlite().setting("QUOTA", "unlimited").start();
        let mut clients = idle_connections(&daemon);
        answers_as_before(&daemon);
        let last = clients.last_mut().unwrap();
        assert_eq!(last.ask(&Request::data(ALICE, 1)), ACCEPTED);
    }

    #[test]
    fn another_round_of_all_of_it_takes_less_than_2_megabytes_more() {
        room_for_connections();
        let mut daemon = Setup::sqlite().setting("ACTION_ON_ERROR", IN_DOUBT).setting("QUOTA", "unlimited").start();
        let round = |daemon: &Daemon| {
            endless_line(daemon);
            endless_request(daemon);
            no_attributes(daemon);
            empty_requests(daemon);
            many_attributes(daemon);
            nul_bytes(daemon);
            invalid_utf_8(daemon);
            torn_requests(daemon);
            let open = (unread_replies(daemon), idle_connections(daemon));
            answers_as_before(daemon);
            drop(open);
        };
        let settled = |daemon: &mut Daemon| {
            wait::until(Duration::from_secs(20), "all connections are closed", || {
                daemon.signal(Signal::SIGHUP);
                daemon.await_notification("READY=1").contains("STATUS=0 connections").then_some(())
            });
            daemon.resident()
        };
        round(&daemon);
        let mut sizes = vec![settled(&mut daemon)];
        // The allocator takes and gives back a few megabytes in the first rounds. What is lost in a round is lost in each.
        let steady = (0..5).any(|_| {
            round(&daemon);
            sizes.push(settled(&mut daemon));
            sizes.windows(2).any(|pair| pair[1] < pair[0] + (2 << 20))
        });
        assert!(steady, "bytes after each round: {sizes:?}");
    }
}
