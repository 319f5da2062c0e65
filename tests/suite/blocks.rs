//! `sender block` and `sender unblock`: a block counts for the next message on every host, before anything else.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::support::client::{ACCEPTED, BLOCKED, Client, Request};
use crate::support::daemon::Setup;
use crate::support::proxy::Proxy;
use crate::support::stream::Address;
use crate::support::wait;

const ALICE: &str = "alice@example.com";
const BOB: &str = "bob@example.com";
const HELD: &str = "HOLD this account is blocked";
const NO_USER: i32 = 67;

/// Runs `sender …`, which must succeed: what it printed on standard output and on standard error.
fn sender(setup: &Setup, arguments: &[&str]) -> (String, String) {
    let output = setup.run("sender", arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {stdout}{stderr}");
    (stdout, stderr)
}

fn json(setup: &Setup, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&sender(setup, &arguments).0).unwrap()
}

fn ask(client: &mut Client, sender: &str) -> String {
    client.ask(&Request::data(sender, 1))
}

crate::on_each_database! {
    what_is_blocked_on_one_host_is_refused_on_the_other_at_the_next_message
    a_block_comes_before_quotas_and_lists
    blocked_mail_uses_up_no_window
    a_domain_is_blocked_and_a_block_ends_by_itself
    a_panel_blocks_by_sql
    lists_and_commands_tell_of_blocks
    who_comes_over_a_limit_again_and_again_is_blocked
}

mod run {
    use super::*;

    pub fn what_is_blocked_on_one_host_is_refused_on_the_other_at_the_next_message(setup: Setup) {
        let first = setup.start();
        let second = Setup::on(first.database()).start();
        let mut clients = [first.connect(), second.connect()];
        for round in 0..3 {
            let action = ["HOLD", "DEFER", "reject"][round];
            assert_eq!(clients.each_mut().map(|client| ask(client, ALICE)), [ACCEPTED; 2], "{round}");
            sender(first.setup(), &["block", "Alice@Example.com", "--action", action]);
            let answer = format!("{} this account is blocked", action.to_uppercase());
            assert_eq!(clients.each_mut().map(|client| ask(client, ALICE)), [answer.as_str(); 2]);
            assert_eq!(clients.each_mut().map(|client| ask(client, BOB)), [ACCEPTED; 2]);
            sender(second.setup(), &["unblock", ALICE]);
        }
        assert_eq!(clients.each_mut().map(|client| ask(client, ALICE)), [ACCEPTED; 2]);
        let written = first.database().messages(ALICE);
        let written: Vec<(&str, &str)> = written
            .iter()
            .map(|row| (row.action.as_str(), row.reason.as_str()))
            .filter(|(action, _)| *action != "DUNNO")
            .collect();
        let each = ["HOLD", "DEFER", "REJECT"].map(|action| [(action, "blocked: manual"); 2]);
        assert_eq!(written, each.concat());
    }

    pub fn a_block_comes_before_quotas_and_lists(setup: Setup) {
        let lists = crate::support::scratch::Scratch::unprivileged();
        let write = |name: &str, line: &str| {
            let path = lists.join(name);
            fs::write(&path, line).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (allow, deny) = (write("allow", "@example.org\n"), write("deny", "eve@example.com\n"));
        lists.hand_over();
        let daemon = setup.setting("ALLOWLIST", &allow).setting("DENYLIST", &deny).start();
        let mut client = daemon.connect();
        let setup = daemon.setup();
        for name in [ALICE, "listed@example.org", "eve@example.com", "never@example.net"] {
            sender(setup, &["block", name, "--action", "REJECT", "--text", "call us"]);
        }
        sender(setup, &["set", ALICE, "--quota", "unlimited"]);
        for name in [ALICE, "listed@example.org", "eve@example.com", "never@example.net"] {
            assert_eq!(ask(&mut client, name), "REJECT call us", "{name}");
        }
        assert_eq!(ask(&mut client, "other@example.org"), ACCEPTED);
        assert!(daemon.database().counters("other@example.org").is_none(), "mail on the list is not counted");
        assert_eq!(daemon.database().messages("listed@example.org").len(), 1, "what a block stops is written");
        sender(setup, &["block", "eve@example.com", "--action", "HOLD"]);
        sender(setup, &["unblock", "listed@example.org"]);
        assert_eq!(ask(&mut client, "listed@example.org"), ACCEPTED);
        assert_eq!(ask(&mut client, "eve@example.com"), HELD, "as strict as the list");
    }

    pub fn blocked_mail_uses_up_no_window(setup: Setup) {
        let daemon = setup.setting("QUOTA", "3").setting("QUOTA_WINDOW", "1h").start();
        let (mut client, setup) = (daemon.connect(), daemon.setup());
        assert_eq!(ask(&mut client, ALICE), ACCEPTED);
        sender(setup, &["block", ALICE]);
        for _ in 0..5 {
            assert_eq!(ask(&mut client, ALICE), HELD);
        }
        sender(setup, &["unblock", ALICE]);
        assert_eq!([(); 3].map(|()| ask(&mut client, ALICE)), [ACCEPTED, ACCEPTED, BLOCKED]);
        sender(setup, &["block", ALICE]);
        let (told, _) = sender(setup, &["unblock", ALICE]);
        assert!(told.contains("Its next mail still gets DEFER_IF_PERMIT (1x quota 3)"), "{told}");
    }

    pub fn a_domain_is_blocked_and_a_block_ends_by_itself(setup: Setup) {
        let daemon = setup.setting("LOGIN_DOMAIN", "example.com").start();
        let (mut client, setup) = (daemon.connect(), daemon.setup());
        sender(setup, &["block", "@example.com", "--for", "1h"]);
        for (login, answer) in [(ALICE, HELD), ("alice", HELD), ("bob@sub.example.com", ACCEPTED)] {
            assert_eq!(ask(&mut client, login), answer, "{login}");
        }
        let (told, stderr) = sender(setup, &["unblock", ALICE]);
        assert_eq!(told, "alice@example.com is not blocked\n");
        assert!(stderr.contains("all logins of example.com are blocked"), "{stderr}");
        sender(setup, &["block", "@example.com", "--for", "1s"]);
        wait::until(Duration::from_secs(10), "the block is over", || {
            (ask(&mut client, ALICE) == ACCEPTED).then_some(())
        });
        assert_eq!(json(setup, &["list", "--blocked"]), Value::Array(vec![]));
        let blocks = json(setup, &["show", ALICE])["blocks"].clone();
        let ended: Vec<bool> = blocks.as_array().unwrap().iter().map(|block| block["ended_at"].is_null()).collect();
        assert_eq!(ended, [true, false], "one was over by itself, the other was replaced");
    }

    pub fn a_panel_blocks_by_sql(setup: Setup) {
        let daemon = setup.start();
        let mut client = daemon.connect();
        assert_eq!(ask(&mut client, ALICE), ACCEPTED);
        sender(daemon.setup(), &["block", BOB]);
        let database = daemon.database();
        database.execute(
            "INSERT INTO blocks (account, since, action, reason) VALUES ('Alice@example.com', 1, 'PREPEND x', 'abuse')",
        );
        database.execute("UPDATE revisions SET number = number + 1 WHERE name = 'blocks'");
        assert_eq!(ask(&mut client, ALICE), HELD, "what is no action of a block holds");
        let listed = json(daemon.setup(), &["list", "--blocked", "--filter", "alice"]);
        assert_eq!(listed.as_array().unwrap().len(), 1, "found as it is written, in whatever case: {listed}");
        let (shown, _) = sender(daemon.setup(), &["show", ALICE]);
        assert!(shown.contains("abuse"), "{shown}");
        sender(daemon.setup(), &["unblock", ALICE]);
        assert_eq!([ask(&mut client, ALICE), ask(&mut client, BOB)], [ACCEPTED, HELD]);
    }

    pub fn who_comes_over_a_limit_again_and_again_is_blocked(setup: Setup) {
        let set = |setup: Setup| {
            let setup =
                setup.setting("QUOTA", "2").setting("QUOTA_WINDOW", "1h").setting("LIMITS", "1 messages/1h WARN many");
            setup.setting("STRIKES", "2 in 24h BLOCK 1h; 3 in 7d BLOCK").start()
        };
        let mut first = set(setup);
        let second = set(Setup::on(first.database()));
        let database = first.database().clone();
        let mut clients = [first.connect(), second.connect()];
        assert_eq!([send(&mut clients[0], 9), send(&mut clients[1], 9)], [BLOCKED; 2]);
        assert_eq!(strikes(&database), 1, "retries are none, on either host");
        first.term();
        first.start_again();
        let mut client = first.connect();
        assert_eq!(send(&mut client, 3), BLOCKED);
        assert_eq!(strikes(&database), 1, "nor after a restart");
        pass_time(&database, 3700);
        first.term();
        first.start_again();
        let mut client = first.connect();
        assert_eq!(send(&mut client, 1), BLOCKED, "the strike that blocks");
        assert_eq!([send(&mut client, 1), send(&mut clients[1], 1)], [HELD; 2]);
        assert_eq!(strikes(&database), 2, "what a block stops is none");
        let shown = json(first.setup(), &["show", ALICE]);
        assert_eq!(
            (&shown["block"]["reason"], &shown["block"]["note"]),
            (&"strikes".into(), &"2 strikes in 24h".into())
        );
        assert_eq!(shown["strikes"].as_array().unwrap().len(), 2);
        let forgiven = json(first.setup(), &["unblock", ALICE, "--forgive"]);
        assert_eq!((&forgiven["strikes_forgotten"], strikes(&database)), (&2.into(), 0));
        assert_eq!(send(&mut client, 1), BLOCKED);
    }

    pub fn lists_and_commands_tell_of_blocks(setup: Setup) {
        let daemon = setup.setting("QUOTA", "1").start();
        let (mut client, setup) = (daemon.connect(), daemon.setup());
        assert_eq!(
            [ask(&mut client, ALICE), ask(&mut client, BOB), ask(&mut client, BOB)],
            [ACCEPTED, ACCEPTED, BLOCKED]
        );
        let (told, _) = sender(setup, &["block", ALICE, "--reason", "Compromised", "--note", "ticket 7"]);
        assert!(
            told.starts_with("alice@example.com is blocked since ") && told.contains("; compromised, by "),
            "{told}"
        );
        assert!(told.ends_with("To end it: policyd-rate-guard sender unblock alice@example.com\n"), "{told}");
        let replaced = json(setup, &["block", ALICE, "--for", "2h", "--reason", "compromised"]);
        assert_eq!(
            (&replaced["block"]["reason"], &replaced["replaced"][0]["note"]),
            (&"compromised".into(), &"ticket 7".into())
        );
        let kept = json(setup, &["block", ALICE, "--for", "2h", "--note", "again"]);
        assert_eq!(kept["block"]["reason"], "compromised", "what protects its mail stays");
        let manual = json(setup, &["block", ALICE, "--reason", "manual"]);
        assert_eq!(manual["block"]["reason"], "manual", "unless another reason is named");
        sender(setup, &["block", ALICE, "--for", "2h", "--reason", "compromised"]);
        let (_, told) = sender(setup, &["block", "ghost@example.com"]);
        assert!(told.contains("ghost@example.com has sent nothing here yet"), "{told}");
        let (_, told) = sender(setup, &["unblock", "gohst@example.com"]);
        assert!(told.contains("gohst@example.com has sent nothing here yet"), "{told}");
        let listed = json(setup, &["list", "--blocked"]);
        let listed: Vec<(&Value, &Value, &Value)> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|line| (&line["sender"], &line["blocked"], &line["block"]["reason"]))
            .collect();
        let (hold, null) = (Value::from("HOLD"), Value::Null);
        let [ghost, alice, bob] = ["ghost@example.com", ALICE, BOB].map(Value::from);
        let [manual, compromised, defer] = ["manual", "compromised", "DEFER_IF_PERMIT"].map(Value::from);
        assert_eq!(listed, [(&ghost, &hold, &manual), (&alice, &hold, &compromised), (&bob, &defer, &null)]);
        let (table, _) = sender(setup, &["list", "--blocked"]);
        assert!(table.starts_with("BLOCKED ") && table.contains("\n\nSENDER "), "{table}");
        for verb in [&["set", ALICE, "--quota", "500"][..], &["reset", ALICE]] {
            let (_, told) = sender(setup, verb);
            assert!(told.contains("blocked since") && told.contains("sender unblock alice@example.com"), "{told}");
        }
        let shown = json(setup, &["show", ALICE]);
        assert_eq!((&shown["next"], &shown["block"]["action"]), (&HELD.into(), &HELD.into()));
        assert_eq!(shown["blocks"].as_array().unwrap().len(), 5);
        let (shown, _) = sender(setup, &["show", ALICE]);
        assert!(
            shown.contains("\nWhat happened\nWHEN ")
                && shown.contains("next mail  HOLD")
                && shown.contains("\n  blocked    alice@example.com is blocked since"),
            "{shown}"
        );
        let output = setup.run("sender", &["show", "ghost@example.com"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(NO_USER) && told.contains("is blocked since"), "{told}");
        assert_eq!(
            sender(setup, &["unblock", "ghost@example.com"]).0.split(" since").next(),
            Some("Ended: ghost@example.com is blocked")
        );
        assert_eq!(ask(&mut client, ALICE), HELD);
    }
}

#[test]
fn a_mariadb_that_is_away_frees_nobody_who_is_blocked() {
    use crate::support::mariadb::MariaDb;
    let server = MariaDb::shared();
    let database = server.database();
    let proxy = Proxy::tcp(Address::Tcp(server.address()));
    let daemon = Setup::on(&database.over_tcp(proxy.tcp_address())).start();
    let mut client = daemon.connect();
    assert_eq!(ask(&mut client, BOB), ACCEPTED);
    sender(&Setup::on(&database), &["block", ALICE]);
    // Hers was not asked about: any mail brings the blocks along.
    assert_eq!(ask(&mut client, BOB), ACCEPTED);
    proxy.refuse();
    assert_eq!([ask(&mut client, ALICE), ask(&mut client, BOB)], [HELD, ACCEPTED]);
}

/// So many messages of alice's: the last answer.
fn send(client: &mut Client, messages: usize) -> String {
    (0..messages).map(|_| ask(client, ALICE)).last().unwrap()
}

fn strikes(database: &crate::support::database::Database) -> i64 {
    database.number("SELECT COUNT(*) FROM strikes")
}

/// Makes what was counted and struck lie further back than any of the test's windows, as if that time had passed.
fn pass_time(database: &crate::support::database::Database, seconds: i64) {
    database.execute(&format!("UPDATE strikes SET struck_at = struck_at - {seconds}"));
}
