//! What stands in the daemon's log, and that no log daemon and no sender can make it a burden.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::client::{ACCEPTED, BLOCKED, Request};
use crate::support::daemon::{Daemon, Setup};

const ALICE: &str = "alice@example.com";
const TIMEOUT: Duration = Duration::from_secs(20);

/// What follows the time stamp, of the lines that have `text` in them.
fn lines_with(daemon: &Daemon, text: &str) -> Vec<String> {
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains(text));
    lines.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

#[test]
fn a_decision_is_one_line_in_policyd_rate_guards_form() {
    let mut daemon = Setup::sqlite().setting("QUOTA", "3").start();
    let mut client = daemon.connect();
    let told = |recipients| {
        Request::data("Alice@Example.com", recipients)
            .queue_id("4XyZ12bcdfzGH")
            .client_name("unknown")
            .client_address("2001:db8::7")
            .helo_name("[192.0.2.7]")
            .sender("bounce+a=b@example.com")
    };
    client.ask(&told(1));
    client.ask(&told(3));
    client.ask(&told(1).queue_id("").sasl_method("").sender(""));
    daemon.term();
    let start = "client=unknown[2001:db8::7], helo=[192.0.2.7]";
    let login = "sasl_username=Alice@Example.com";
    assert_eq!(
        lines_with(&daemon, "status="),
        [
            format!(
                "INFO 4XyZ12bcdfzGH: {start}, sasl_method=PLAIN, {login}, from=bounce+a=b@example.com, to=bob@example.org, \
                 recipient_count=1, curr_count=1/3, status=ACCEPTED"
            ),
            format!(
                "WARN 4XyZ12bcdfzGH: {start}, sasl_method=PLAIN, {login}, from=bounce+a=b@example.com, to=, \
                 recipient_count=3, curr_count=4/3, status=BLOCKED (QUOTA_LIMIT_REACHED)"
            ),
            format!(
                "WARN NOQUEUE: {start}, sasl_method=, {login}, from=, to=bob@example.org, recipient_count=1, \
                 curr_count=5/3, status=BLOCKED"
            ),
        ]
    );
}

#[test]
fn no_text_from_the_network_can_forge_or_disguise_a_line() {
    let mut daemon = Setup::sqlite().start();
    let mut client = daemon.connect();
    let hostile = [
        "x, sasl_username=boss@example.com, status=ACCEPTED",
        "x\r2026-01-01T00:00:00.000+00:00 ERROR forged",
        "x\x1b[2J\x07\x00\x7f\u{85}",
        "x\u{202e}\u{2028}\u{2066}\u{feff}",
    ];
    for (number, text) in hostile.into_iter().enumerate() {
        let login = format!("login{number}@example.com");
        let request = Request::data(&login, 1).helo_name(text).sender(text).recipient(text).client_name(text);
        assert_eq!(client.ask(&request.sasl_method(text).queue_id(text)), ACCEPTED);
        // At the stage where the name itself is shown.
        client.ask(&Request::data(&login, 1).protocol_state(text));
        client.ask(&Request::data(&login, 1).recipient_count(text));
    }
    daemon.term();
    let log = daemon.log();
    let strange = |c: char| c.is_control() && c != '\n' || "\u{202e}\u{2028}\u{2066}\u{feff}".contains(c);
    assert!(!log.contains(strange), "{log:?}");
    let decisions = lines_with(&daemon, "curr_count=");
    assert_eq!(decisions.len(), hostile.len());
    for line in &decisions {
        let names: Vec<&str> = line.split(", ").filter_map(|field| field.split('=').next()).collect();
        let expected =
            ["helo", "sasl_method", "sasl_username", "from", "to", "recipient_count", "curr_count", "status"];
        assert_eq!(names[1..], expected, "{line}");
    }
    let stamps = log.lines().filter(|line| line.get(..2) == Some("20") && line.get(10..11) == Some("T")).count();
    assert_eq!(stamps, log.lines().count(), "every line begins with its time: {log}");
}

#[test]
fn no_name_that_a_stranger_chose_shows_a_field_that_is_not_ours() {
    let mut daemon = Setup::sqlite()
        .setting("LIMIT_BY", "sender")
        .setting("QUOTA", "2")
        .setting("QUOTA_STEPS", "0.5x NOTIFY; 1x REJECT full")
        .setting("WEBHOOK_ENABLED", "True")
        .setting("WEBHOOK_URL", "http://127.0.0.1:1/")
        .start();
    let sender = "q: client=x[198.51.100.7], helo=y, status=blocked@a.example";
    (0..3).for_each(|_| drop(daemon.connect().ask(&Request::data("", 1).sender(sender))));
    daemon.await_log("webhook: telling about ");
    daemon.term();
    assert_eq!(lines_with(&daemon, "has reached 0.5x").len(), 1, "{}", daemon.log());
    assert_eq!(lines_with(&daemon, ", helo=y").len(), 0, "{}", daemon.log());
}

#[test]
fn a_blocked_sender_who_goes_on_has_ten_lines_and_then_a_count() {
    let mut daemon = Setup::sqlite().setting("QUOTA", "1").start();
    let mut client = daemon.connect();
    let begun = Instant::now();
    for number in 0..60 {
        let expected = if number == 0 { ACCEPTED } else { BLOCKED };
        assert_eq!(client.ask(&Request::data(ALICE, 1)), expected);
    }
    client.ask(&Request::data("bob@example.com", 2));
    daemon.term();
    assert!(begun.elapsed() < Duration::from_secs(60), "a minute later there may be one more line");
    let lines = lines_with(&daemon, "sasl_username=alice@example.com");
    assert_eq!(lines.len(), 1 + 1 + 10, "accepted, the first block, and ten more");
    assert!(lines[1].contains("status=BLOCKED (QUOTA_LIMIT_REACHED)"), "{}", lines[1]);
    assert_eq!(lines_with(&daemon, "sasl_username=bob@example.com").len(), 1, "nobody else's line is left out");
    assert!(daemon.log().contains("48 more refusals of sender alice@example.com were not logged"), "{}", daemon.log());
    assert_eq!(daemon.database().counters(ALICE).unwrap().rcpt_counter, 60);
}

#[test]
fn the_same_warning_is_logged_once_and_then_counted() {
    let mut daemon = Setup::sqlite().start();
    let mut client = daemon.connect();
    for _ in 0..25 {
        client.ask(&Request::data(ALICE, 1).recipient_count("x"));
    }
    daemon.term();
    assert_eq!(lines_with(&daemon, "makes no sense").len(), 1, "{}", daemon.log());
    assert!(daemon.log().contains("24 more warnings were not logged: nonsense"), "{}", daemon.log());
}

mod syslog {
    use super::*;

    /// A log daemon's socket, which the daemon's user may write to.
    fn listen(path: &Path) -> UnixDatagram {
        let socket = UnixDatagram::bind(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        socket
    }

    /// The next line that has `text` in it.
    fn next_with(socket: &UnixDatagram, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let mut datagram = [0; 9000];
            assert!(begun.elapsed() < TIMEOUT, "no line with {text}");
            // The end of any child process may interrupt a read that has a time-out.
            let Ok(length) = socket.recv(&mut datagram) else { continue };
            let line = String::from_utf8(datagram[..length].to_vec()).unwrap();
            if line.contains(text) {
                return line;
            }
        }
    }

    #[test]
    fn lines_go_on_after_the_log_daemon_was_restarted_and_none_is_lost() {
        let setup = Setup::sqlite();
        let path = setup.folder().join("dev-log");
        let first = listen(&path);
        let daemon = setup.setting("SYSLOG", &path.display().to_string()).setting("QUOTA", "1").start();
        let mut client = daemon.connect();
        client.ask(&Request::data("first@example.com", 1));
        let line = next_with(&first, "first@example.com");
        let ident = format!("policyd-rate-guard[{}]: ", daemon.id());
        assert!(line.starts_with("<22>") && line.contains(&ident), "facility mail, level info: {line}");
        client.ask(&Request::data("first@example.com", 1));
        let line = next_with(&first, "first@example.com");
        assert!(line.starts_with("<20>") && line.contains("status=BLOCKED (QUOTA_LIMIT_REACHED)"), "warning: {line}");

        drop(first);
        fs::remove_file(&path).unwrap();
        for number in 0..20 {
            client.ask(&Request::data(&format!("between{number}@example.com"), 1));
        }
        let second = listen(&path);
        client.ask(&Request::data("second@example.com", 1));
        for number in 0..20 {
            next_with(&second, &format!("sasl_username=between{number}@example.com"));
        }
        next_with(&second, "second@example.com");
    }

    #[test]
    fn a_reload_switches_it_on_and_off_and_standard_error_too() {
        let setup = Setup::sqlite();
        let path = setup.folder().join("dev-log");
        let socket = listen(&path);
        let mut daemon = setup.start();
        daemon.change_setting("SYSLOG", &path.display().to_string());
        daemon.change_setting("LOG_CONSOLE", "False");
        daemon.hup();
        daemon.connect().ask(&Request::data("first@example.com", 1));
        next_with(&socket, "first@example.com");
        daemon.change_setting("SYSLOG", "False");
        daemon.hup();
        daemon.connect().ask(&Request::data("second@example.com", 1));
        daemon.await_log("second@example.com");
        assert!(!daemon.log().contains("first@example.com") && !daemon.log().contains("restart"), "{}", daemon.log());
    }

    #[test]
    fn a_log_daemon_that_hangs_delays_no_answer_and_not_the_end() {
        let setup = Setup::sqlite();
        let path = setup.folder().join("dev-log");
        // Its socket takes what the kernel holds for it, and then nothing more.
        let hung = listen(&path);
        let mut daemon = setup.setting("SYSLOG", &path.display().to_string()).start();
        let mut client = daemon.connect();
        let mut took: Vec<Duration> = Vec::new();
        for number in 0..1500 {
            let begun = Instant::now();
            client.ask(&Request::data(&format!("{number}@example.com"), 1));
            took.push(begun.elapsed());
        }
        // A single slow one is the machine's; what waits for the log waits at each of the later lines.
        took.sort_unstable();
        assert!(took[1000] < Duration::from_secs(1), "{took:?}");
        daemon.await_log("hangs; lines for it wait");
        // It wakes up, and has lost nothing.
        for number in 0..1500 {
            next_with(&hung, &format!("sasl_username={number}@example.com"));
        }
        daemon.await_log("takes lines again");
        for number in 0..1500 {
            client.ask(&Request::data(&format!("{number}@example.org"), 1));
        }
        let begun = Instant::now();
        assert_eq!(daemon.term().code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
}
