//! `sender` on a live database: what is changed counts for the next message, and what is shown is what decisions are made by.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use crate::support::client::{ACCEPTED, BLOCKED, Client, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::database::Database;
use crate::support::traffic::{Traffic, senders};
use serde_json::Value;

const ALICE: &str = "alice@example.com";
const NO_USER: i32 = 67;
const USAGE: i32 = 64;

/// Runs `sender …` on the database of a daemon: its exit status and what it printed.
fn sender(setup: &Setup, arguments: &[&str]) -> (i32, String, String) {
    let output = setup.run("sender", arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// As [`sender`], for what must succeed: what it printed.
fn told(setup: &Setup, arguments: &[&str]) -> String {
    let (status, stdout, stderr) = sender(setup, arguments);
    assert_eq!(status, 0, "{arguments:?}: {stdout}{stderr}");
    stdout
}

fn json(setup: &Setup, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&told(setup, &arguments)).unwrap()
}

/// So many messages of one recipient: how many were let through.
fn accepted(client: &mut Client, sender: &str, messages: usize) -> usize {
    (0..messages).filter(|_| client.ask(&Request::data(sender, 1)) == ACCEPTED).count()
}

fn quotas(database: &Database, sender: &str) -> (i64, i64, bool) {
    let row = database.counters(sender).unwrap_or_else(|| panic!("{sender} has no row"));
    (row.quota, row.quota_reset, row.quota_locked)
}

crate::on_each_database! {
    a_quota_counts_for_the_next_message
    a_quota_for_this_period_is_gone_with_the_next_cleanup
    new_logins_get_their_domains_quota
    a_reset_frees_at_once_and_history_stays
    show_explains_each_limit_and_what_was_blocked
    lists_are_sorted_filtered_and_know_who_is_blocked
    delete_takes_the_history_and_on_demand_the_messages
    three_daemons_give_new_logins_their_domains_quota_exactly
    while_64_connections_send_every_command_works_and_no_mail_is_answered_otherwise
}

mod run {
    use super::*;

    pub fn a_quota_counts_for_the_next_message(setup: Setup) {
        let daemon = setup.setting("QUOTA", "3").start();
        let mut client = daemon.connect();
        assert_eq!(accepted(&mut client, ALICE, 5), 3);
        assert_eq!(
            told(daemon.setup(), &["set", "Alice@Example.COM", "--quota", "8"]),
            "alice@example.com: quota 8 (was 3)\n"
        );
        assert_eq!(accepted(&mut client, ALICE, 5), 3, "5 were counted, also refused ones");
        told(daemon.setup(), &["set", ALICE, "--quota", "unlimited"]);
        assert_eq!(accepted(&mut client, ALICE, 5), 5);
        told(daemon.setup(), &["set", ALICE, "--quota", "0"]);
        assert_eq!(accepted(&mut client, ALICE, 1), 0);
        let made = told(daemon.setup(), &["set", "bob@example.com", "--quota", "1", "--lock"]);
        assert_eq!(made, "bob@example.com: quota 1 (new), locked: cleanup leaves it\n");
        assert_eq!(accepted(&mut client, "bob@example.com", 2), 1);
        assert_eq!(quotas(daemon.database(), "bob@example.com"), (1, 1, true));
        let report = json(daemon.setup(), &["set", "bob@example.com", "--unlock"]);
        assert_eq!(
            (&report["quota"], &report["quota_locked"], &report["made"]),
            (&1.into(), &false.into(), &false.into())
        );
    }

    pub fn a_quota_for_this_period_is_gone_with_the_next_cleanup(setup: Setup) {
        let daemon = setup.setting("QUOTA", "10").start();
        let setup = daemon.setup();
        let once = told(setup, &["set", ALICE, "--quota", "50", "--once"]);
        assert_eq!(once, "alice@example.com: quota 50 (new), until cleanup makes it 10\n");
        told(setup, &["set", "bob@example.com", "--quota", "50", "--once", "--lock"]);
        assert!(setup.run("cleanup", &[]).status.success());
        assert_eq!(quotas(daemon.database(), ALICE), (10, 10, false));
        assert_eq!(quotas(daemon.database(), "bob@example.com"), (50, 10, true));
    }

    pub fn new_logins_get_their_domains_quota(setup: Setup) {
        let daemon = setup.setting("QUOTA", "3").start();
        let setup = daemon.setup();
        let mut client = daemon.connect();
        assert_eq!(accepted(&mut client, "old@example.com", 2), 2);
        assert_eq!(accepted(&mut client, "old@exampleXcom", 1), 1);
        told(setup, &["set", "@Example.com", "--quota", "5"]);
        let dry = Request::data("looked@example.com", 4).with("policyd_rate_guard_dry_run", "yes");
        assert_eq!(client.ask(&dry.clone()), ACCEPTED, "a dry run knows it too");
        assert_eq!(accepted(&mut client, "new@example.com", 7), 5);
        assert_eq!(accepted(&mut client, "old@example.com", 2), 1, "who has a row keeps it");
        assert_eq!(accepted(&mut client, "new@other.example", 7), 3);
        // Logins that end alike, but are of another domain; a login that looks like the domain's row.
        assert_eq!(accepted(&mut client, "new@sub.example.com", 7), 3);
        assert_eq!(accepted(&mut client, "@example.com", 7), 5, "a login of that domain without a user");
        assert_eq!(daemon.database().counters("@example.com").unwrap().msg_total, 0, "no mail is charged to it");
        assert_eq!(quotas(daemon.database(), "new@example.com"), (5, 5, false));

        told(setup, &["set", "locked@example.com", "--quota", "1", "--lock"]);
        let (status, _, stderr) = sender(setup, &["set", ALICE, "--quota", "1", "--existing"]);
        assert!(status == USAGE && stderr.contains("@example.com"), "{status} {stderr}");
        let applied = json(setup, &["set", "@example.com", "--quota", "9", "--existing"]);
        assert_eq!(applied["logins_changed"], 3, "old, new, and the one without a user");
        for (login, quota) in [("old@example.com", 9), ("new@example.com", 9), ("locked@example.com", 1)] {
            assert_eq!(quotas(daemon.database(), login).0, quota, "{login}");
        }
        for login in ["old@exampleXcom", "new@sub.example.com", "new@other.example"] {
            assert_eq!(quotas(daemon.database(), &login.to_lowercase()).0, 3, "{login}");
        }
        told(setup, &["set", "made@example.com", "--lock"]);
        assert_eq!(quotas(daemon.database(), "made@example.com"), (9, 9, true), "a row made by hand begins so as well");
    }

    pub fn a_reset_frees_at_once_and_history_stays(setup: Setup) {
        let limits = "4 messages/1h; 1 networks/1h";
        let daemon = setup.setting("QUOTA", "3").setting("QUOTA_WINDOW", "24h").setting("LIMITS", limits).start();
        let mut client = daemon.connect();
        for _ in 0..3 {
            // More than once in a second, too.
            assert_eq!(accepted(&mut client, ALICE, 5), 3);
            assert_eq!(client.ask(&Request::data(ALICE, 1).client_address("198.51.100.7")), BLOCKED);
            told(daemon.setup(), &["reset", ALICE]);
            assert_eq!(daemon.database().counters(ALICE).unwrap().rcpt_counter, 0);
        }
        assert_eq!(accepted(&mut client, ALICE, 1), 1);
        let usage = if matches!(daemon.database().settings()[0].1.as_str(), "mysql") { "`usage`" } else { "usage" };
        let through = daemon.database().select(&["SUM(recipients)"], &format!("FROM {usage}"));
        assert_eq!(through, [["10"]], "all that was let through is remembered");
        assert_eq!(daemon.database().messages(ALICE).len(), 19);
        // On a host whose clock was a day ahead.
        daemon.database().execute("UPDATE ratelimits SET window_from = window_from + 86400");
        assert_eq!(accepted(&mut client, ALICE, 1), 0, "what was let through counts");
        assert_eq!(daemon.database().select(&["window_from"], "FROM ratelimits"), [["0"]], "and will tomorrow");
        told(daemon.setup(), &["reset", ALICE]);
        assert_eq!(accepted(&mut client, ALICE, 4), 3);
        let (status, _, stderr) = sender(daemon.setup(), &["reset", "nobody@example.com"]);
        assert!(status == NO_USER && stderr.contains("nobody@example.com"), "{status} {stderr}");
    }

    pub fn show_explains_each_limit_and_what_was_blocked(setup: Setup) {
        let limits = "100 recipients/message REJECT too many; 2 messages/1h DEFER slow down";
        let daemon = setup.setting("QUOTA", "20").setting("QUOTA_WINDOW", "24h").setting("LIMITS", limits).start();
        let mut client = daemon.connect();
        client.ask(&Request::data(ALICE, 3));
        client.ask(&Request::data(ALICE, 4));
        let refused = Request::data(ALICE, 5).queue_id("4BEFED1").client_address("2001:db8::7");
        assert_eq!(client.ask(&refused), "DEFER slow down");
        let shown = json(daemon.setup(), &["show", ALICE]);
        let limits: Vec<_> = shown["limits"].as_array().unwrap().iter().collect();
        let row = |at: usize| {
            (limits[at]["limit"].as_str().unwrap(), limits[at]["used"].as_u64(), limits[at]["exceeded"].as_bool())
        };
        assert_eq!(row(0), ("1x quota 20", Some(7), Some(false)));
        assert_eq!(row(1), ("100 recipients/message", Some(0), Some(false)));
        assert_eq!(row(2), ("2 messages/1h", Some(2), Some(true)));
        assert!(limits[2]["free_at"].as_str().unwrap().ends_with(":00Z"), "{shown}");
        assert_eq!(shown["next"], "DEFER slow down");
        assert_eq!(shown["blocked"].as_array().unwrap().len(), 1);
        let blocked = &shown["blocked"][0];
        assert_eq!((&blocked["queue_id"], &blocked["reason"]), (&"4BEFED1".into(), &"2 messages/1h: 3".into()));
        let hours = shown["hours"].as_array().unwrap();
        assert_eq!(hours.len(), 24);
        assert_eq!(hours.iter().map(|hour| hour["recipients"].as_i64().unwrap()).sum::<i64>(), 7);
        let text = told(daemon.setup(), &["show", ALICE]);
        for part in ["next mail  DEFER (2 messages/1h); free again 20", "1x quota 20", "2001:db8::7", "4BEFED1"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.is_ascii(), "a pipe gets plain text");
        told(daemon.setup(), &["set", "@example.com", "--quota", "5"]);
        assert!(told(daemon.setup(), &["show", "@example.com"]).contains("no mail counts against it"));
        assert_eq!(sender(daemon.setup(), &["show", "nobody"]).0, NO_USER);
    }

    pub fn lists_are_sorted_filtered_and_know_who_is_blocked(setup: Setup) {
        let daemon = setup.setting("QUOTA", "5").setting("QUOTA_WINDOW", "24h").start();
        let mut client = daemon.connect();
        for (login, recipients) in [("anna@example.com", 2), ("bob_1@example.com", 5), ("bobx1@example.com", 4)] {
            assert_eq!(client.ask(&Request::data(login, recipients)), ACCEPTED);
        }
        assert_eq!(client.ask(&Request::data("zoe@example.com", 9)), BLOCKED, "more than the quota at once");
        told(daemon.setup(), &["set", "anna@example.com", "--quota", "50"]);
        let names = |arguments: &[&str]| -> Vec<String> {
            let list = json(daemon.setup(), arguments);
            let name = |row: &Value| row["sender"].as_str().unwrap().trim_end_matches("@example.com").to_owned();
            list.as_array().unwrap().iter().map(name).collect()
        };
        assert_eq!(names(&["list"]), ["bob_1", "bobx1", "anna", "zoe"]);
        assert_eq!(names(&["list", "--sort", "name", "-n", "2"]), ["anna", "bob_1"]);
        assert_eq!(names(&["list", "--sort", "quota"])[0], "anna");
        assert_eq!(names(&["list", "--filter", "BOB_"]), ["bob_1"], "_ stands for itself");
        assert_eq!(names(&["list", "--blocked"]), ["bob_1"], "a mail of one recipient of zoe's would pass");
        let text = told(daemon.setup(), &["list"]);
        let line = text.lines().find(|line| line.starts_with("bob_1")).unwrap();
        assert!(line.contains("   5      5  100%") && line.ends_with("DEFER_IF_PERMIT"), "{text}");
        assert_eq!(told(daemon.setup(), &["list", "--filter", "nobody"]), "There are no senders.\n");
    }

    pub fn delete_takes_the_history_and_on_demand_the_messages(setup: Setup) {
        let daemon = setup.setting("QUOTA_WINDOW", "24h").start();
        let mut client = daemon.connect();
        for login in [ALICE, "bob@example.com"] {
            accepted(&mut client, login, 3);
        }
        let (status, _, stderr) = sender(daemon.setup(), &["delete", ALICE]);
        assert!(status == USAGE && stderr.contains("--yes"), "{status} {stderr}");
        told(daemon.setup(), &["delete", ALICE, "--yes"]);
        assert_eq!(daemon.database().counters(ALICE), None);
        assert_eq!(daemon.database().messages(ALICE).len(), 3, "the audit log stays");
        let report = json(daemon.setup(), &["delete", "bob@example.com", "--yes", "--messages"]);
        assert_eq!(report["messages_deleted"], 3);
        assert_eq!(daemon.database().messages("bob@example.com").len(), 0);
        assert_eq!(accepted(&mut client, ALICE, 2), 2, "the running daemon makes a new row");
        assert_eq!(daemon.database().counters(ALICE).unwrap().msg_total, 2);
        assert_eq!(sender(daemon.setup(), &["delete", "bob@example.com", "--yes"]).0, NO_USER);
    }

    pub fn three_daemons_give_new_logins_their_domains_quota_exactly(setup: Setup) {
        let first = setup.setting("QUOTA", "100").setting("QUOTA_WINDOW", "24h").start();
        told(first.setup(), &["set", "@example.com", "--quota", "7"]);
        let start = || Setup::on(first.database()).setting("QUOTA", "100").setting("QUOTA_WINDOW", "24h").start();
        let daemons: [&Daemon; 3] = [&first, &start(), &start()];
        let logins = senders(20);
        let through: usize = thread::scope(|scope| {
            let asking: Vec<_> = daemons
                .iter()
                .flat_map(|daemon| [*daemon; 2])
                .map(|daemon| {
                    let (mut client, logins) = (daemon.connect(), &logins);
                    scope.spawn(move || logins.iter().map(|login| accepted(&mut client, login, 5)).sum::<usize>())
                })
                .collect();
            asking.into_iter().map(|asking| asking.join().unwrap()).sum()
        });
        assert_eq!(through, 20 * 7);
        for login in &logins {
            assert_eq!(quotas(first.database(), login), (7, 7, false), "{login}");
        }
    }

    pub fn while_64_connections_send_every_command_works_and_no_mail_is_answered_otherwise(setup: Setup) {
        let daemon = setup
            .setting("QUOTA", "unlimited")
            .setting("QUOTA_WINDOW", "24h")
            .setting("LIMITS", "1000000 recipients/1h; 5 networks/1h")
            .setting("MESSAGE_RETENTION", "30")
            .setting("LOG_LEVEL", "WARNING")
            .start();
        let setup = daemon.setup();
        let postconf = postconf(setup);
        let traffic = Traffic::start(&daemon.unix_address(), &senders(64), Duration::ZERO);
        traffic.await_answers(500);
        for line in [
            "sender list",
            "sender list --blocked",
            "sender show sender01@example.com",
            "sender set sender02@example.com --quota 1000000",
            "sender set @example.com --quota 900000 --existing",
            "sender reset sender03@example.com",
            "sender delete sender04@example.com --yes --messages",
            "top",
            "top --by blocked",
            "top --by networks",
            "query --sasl-username sender05@example.com",
            "query --sasl-username sender05@example.com --dry-run",
            "check",
            "migrate",
            "migrate --status",
            "cleanup",
            &format!("doctor --postconf {postconf}"),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            let output = setup.run(words[0], &words[1..]);
            let said = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&said));
            traffic.await_answers(200);
        }
        let answers = traffic.stop();
        assert!(answers.iter().all(|answer| answer.action == ACCEPTED));
        assert!(!daemon.log().contains("let through without being counted"), "{}", daemon.log());
        for sender in ["sender00@example.com", "sender01@example.com", "sender03@example.com", "sender63@example.com"] {
            let asked = answers.iter().filter(|answer| answer.sender == sender).count();
            let row = daemon.database().counters(sender).unwrap();
            assert_eq!(row.msg_total, i64::try_from(asked).unwrap(), "{sender}: none lost and none twice");
        }
    }

    /// Stands in for the program of a Postfix that asks this daemon, and is written as its documentation says.
    fn postconf(setup: &Setup) -> String {
        let path = setup.folder().join("postconf");
        let script = format!(
            "#!/bin/sh\ncase $1 in\n-x) cat <<'X'\nqueue_directory = {}\nmail_owner = nobody\nsmtpd_data_restrictions = \
             check_policy_service {{ unix:policy, timeout=5s, default_action=DUNNO }}\nX\n;;\n\
             -Mx) echo 'smtp inet n - y - - smtpd' ;;\nesac\n",
            setup.folder().display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }
}

#[test]
fn a_list_decides_in_the_place_of_a_quota_and_is_told() {
    let setup = Setup::sqlite().setting("QUOTA", "3").setting("QUOTA_STEPS", "1x REJECT over");
    let (allow, deny) = (setup.folder().join("allow"), setup.folder().join("deny"));
    fs::write(&allow, "").unwrap();
    fs::write(&deny, "").unwrap();
    let setup = setup.setting("ALLOWLIST", allow.to_str().unwrap()).setting("DENYLIST", deny.to_str().unwrap());
    let mut daemon = setup.setting("DENYLIST_ACTION", "HOLD denied sender").start();
    let mut client = daemon.connect();
    for login in [ALICE, "bob@example.com"] {
        client.ask(&Request::data(login, 1));
    }
    fs::write(&allow, "@example.com\ncarol@example.net\n").unwrap();
    fs::write(&deny, "bob@example.com\nsender:<>\n").unwrap();
    daemon.hup();
    let setup = daemon.setup();

    // The admin's first thought about a stolen password, which does nothing here.
    let (status, _, stderr) = sender(setup, &["set", ALICE, "--quota", "0"]);
    assert!(status == 0 && stderr.contains("ALLOWLIST has @example.com: its mail is not counted"), "{stderr}");
    assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
    let text = told(setup, &["show", ALICE]);
    assert!(text.contains("list       ALLOWLIST has @example.com: ") && text.contains("next mail  DUNNO\n"), "{text}");
    let shown = json(setup, &["show", ALICE]);
    assert_eq!((&shown["next"], &shown["listed"]["list"]), (&"DUNNO".into(), &"ALLOWLIST".into()));
    assert_eq!(shown["limits"][0]["exceeded"], true, "what the list keeps from acting is shown as it is");

    assert_eq!(client.ask(&Request::data("bob@example.com", 1)), "HOLD denied sender");
    let shown = json(setup, &["show", "bob@example.com"]);
    assert_eq!((&shown["next"], &shown["listed"]["entry"]), (&"HOLD denied sender".into(), &"bob@example.com".into()));
    let list = json(setup, &["list", "--sort", "name"]);
    assert_eq!((&list[0]["blocked"], &list[1]["blocked"]), (&Value::Null, &"HOLD".into()), "{list}");
    let lines = told(setup, &["list", "--sort", "name"]);
    assert!(lines.contains("  on ALLOWLIST\n") && lines.contains("  HOLD, on DENYLIST\n"), "{lines}");

    assert_eq!(client.ask(&Request::data("carol@example.net", 9)), ACCEPTED);
    let (status, _, stderr) = sender(setup, &["show", "carol@example.net"]);
    assert!(status == NO_USER && stderr.contains("; ALLOWLIST has carol@example.net: "), "{stderr}");

    // What is asked can be told without the lists.
    fs::write(&allow, "*@example.com\n").unwrap();
    let (status, stdout, stderr) = sender(setup, &["show", ALICE]);
    assert!(status == 0 && stdout.contains("next mail  REJECT"), "{stdout}{stderr}");
    assert!(stderr.contains("leaves ALLOWLIST and DENYLIST out: ") && stderr.contains("allow:1"), "{stderr}");
}

#[test]
fn what_makes_no_sense_is_said() {
    let setup = Setup::sqlite();
    for (arguments, why) in [
        (&["set", ALICE][..], "--quota"),
        (&["set", ALICE, "--quota", "-1"], "0 to 4294967294"),
        (&["set", ALICE, "--quota", "4294967295"], "unlimited"),
        (&["set", ALICE, "--once"], "--quota"),
        (&["set", "", "--quota", "1"], "NAME is empty"),
        (&["list", "-n", "0"], "0 is not in"),
    ] {
        let (status, _, stderr) = sender(&setup, arguments);
        assert!(status == USAGE && stderr.contains(why), "{arguments:?}: {status} {stderr}");
    }
    assert_eq!(told(&setup, &["list"]), "There are no senders.\n");
}
