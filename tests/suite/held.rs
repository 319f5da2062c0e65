//! `held` on a live database, with a queue that two scripts in the place of postqueue(1) and postsuper(1) keep in files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::client::{Client, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::root::is_root;

const ALICE: &str = "alice@example.com";
const BOB: &str = "bob@example.com";
const USAGE: i32 = 64;
const UNAVAILABLE: i32 = 69;

/// A mail server whose quota is one message of two recipients; the next two are held.
struct Server {
    daemon: Daemon,
    bin: PathBuf,
}

impl Server {
    fn new(setup: Setup) -> Server {
        let bin = setup.folder().join("bin");
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let daemon = setup
            .setting("QUOTA", "2")
            .setting("QUOTA_WINDOW", "24h")
            .setting("QUOTA_STEPS", "1x HOLD quota exceeded; 3x REJECT enough")
            .setting("HOST_NAME", "mx1.example.com")
            .environment("PATH", &path)
            .start();
        fs::create_dir(&bin).unwrap();
        for queue in ["hold", "deferred"] {
            fs::create_dir(bin.join(queue)).unwrap();
        }
        let server = Server { daemon, bin };
        server.script("postqueue", "[ \"$1\" = -j ] || exit 1\nfor file in hold/* deferred/*; do [ ! -f \"$file\" ] || sed \"s!QUEUE!${file%/*}!\" \"$file\"; done");
        server.script(
            "postsuper",
            r#"[ "$(id -u)" = 0 ] || { echo "postsuper: fatal: use of this command is reserved for the superuser" >&2; exit 1; }
echo "$*" >> calls
while read -r id; do
    [ -f "hold/$id" ] || [ -f "deferred/$id" ] || continue
    case "$*" in
    '-h -') mv "deferred/$id" hold/ && echo "postsuper: $id: placed on hold" >&2 ;;
    '-H -') mv "hold/$id" deferred/ && echo "postsuper: $id: released from hold" >&2 ;;
    '-d - hold') rm "hold/$id" && echo "postsuper: $id: removed" >&2 ;;
    esac
done"#,
        );
        server
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.bin.join(name);
        fs::write(&path, format!("#!/bin/sh\ncd '{}' || exit 1\n{text}\n", self.bin.display())).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    fn client(&self) -> Client {
        self.daemon.connect()
    }

    /// Puts a message on hold, as Postfix has it.
    fn queue(&self, id: &str, sender: &str, arrived: i64) {
        let line = json!({"queue_name": "QUEUE", "queue_id": id, "arrival_time": arrived, "message_size": 314,
            "forced_expire": false, "sender": sender, "recipients": [{"address": "x@example.net"}]});
        fs::write(self.bin.join("hold").join(id), format!("{line}\n")).unwrap();
    }

    /// Sends as many messages as there are ids; all but the first of a sender are held.
    fn send(&self, client: &mut Client, sender: &str, ids: &[&str]) {
        for (number, id) in ids.iter().enumerate() {
            let action = client.ask(&Request::data(sender, 2).queue_id(id));
            assert_eq!(action.starts_with("HOLD"), number > 0, "{action}");
            if action.starts_with("HOLD") {
                self.queue(id, sender, now());
            }
        }
    }

    fn on_hold(&self) -> Vec<String> {
        let files = fs::read_dir(self.bin.join("hold")).unwrap();
        let mut ids: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        ids.sort();
        ids
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.daemon.setup().run("held", arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    fn told(&self, arguments: &[&str]) -> String {
        let (status, stdout, stderr) = self.run(arguments);
        assert_eq!(status, 0, "{arguments:?}: {stdout}{stderr}");
        stdout
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.told(&[arguments, &["--json"]].concat())).unwrap()
    }

    fn states(&self, sender: &str) -> Vec<(String, String)> {
        let rows = self.daemon.database().select(
            &["msgid", "queue_state"],
            &format!("FROM messages WHERE sender = '{sender}' AND queue_state <> '' ORDER BY id"),
        );
        rows.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

crate::on_each_database! {
    only_what_this_program_holds_is_released_and_deleted
    what_is_held_for_a_compromised_account_stays
    other_hosts_are_named
    by_the_quota_the_oldest_go_first_and_never_more_than_it_has_room_for
    a_block_holds_what_is_in_the_queue_and_its_end_lets_it_go_or_deletes_it
}

mod run {
    use super::*;

    pub fn only_what_this_program_holds_is_released_and_deleted(setup: Setup) {
        if !is_root("held release") {
            return;
        }
        let server = Server::new(setup);
        let mut client = server.client();
        server.send(&mut client, ALICE, &["4A11CE0", "4A11CE1", "4A11CE2"]);
        server.send(&mut client, BOB, &["4B0B000", "4B0B001"]);
        // A milter's, and an id that another mail has got after ours had gone.
        server.queue("4D11E51", ALICE, now());
        server.queue("4A11CE2", ALICE, now() + 60);

        let all = server.told(&[]);
        assert!(all.contains("alice@example.com     1           2  "), "{all}");
        assert!(all.contains("bob@example.com       1           2  "), "{all}");
        assert!(all.contains("1x quota 2") && all.contains("2 more on hold, not by this program"), "{all}");
        let listed = server.json(&["list", ALICE]);
        assert_eq!(listed["messages"].as_array().unwrap().len(), 1, "{listed}");
        assert_eq!(listed["messages"][0]["queue_id"], "4A11CE1");

        // A line that cannot be read is left out, and said.
        server.queue("ALL", ALICE, now());
        for arguments in [&[] as &[&str], &["list", ALICE], &["release", ALICE, "--dry-run"]] {
            let (status, _, stderr) = server.run(arguments);
            assert!(status == 0 && stderr.contains("1 messages of the queue are left out"), "{arguments:?}: {stderr}");
        }
        fs::remove_file(server.bin.join("hold/ALL")).unwrap();

        let would = server.told(&["release", ALICE, "--dry-run"]);
        assert!(would.starts_with("alice@example.com: 1 messages would be released, 2 recipients\n"), "{would}");
        assert_eq!(server.on_hold(), ["4A11CE1", "4A11CE2", "4B0B001", "4D11E51"]);

        let released = server.told(&["release", ALICE]);
        assert!(released.starts_with("alice@example.com: 1 messages released, 2 recipients\n"), "{released}");
        assert_eq!(server.on_hold(), ["4A11CE2", "4B0B001", "4D11E51"]);
        assert_eq!(server.states(ALICE), [("4A11CE1".to_owned(), "released".to_owned())]);
        assert!(server.told(&["release", ALICE]).starts_with("Nothing released.\n"), "again and again");

        // Somebody puts it on hold again: that is not ours.
        server.queue("4A11CE1", ALICE, now());
        assert!(server.told(&["delete", ALICE]).starts_with("Nothing deleted.\n"));
        assert_eq!(server.on_hold(), ["4A11CE1", "4A11CE2", "4B0B001", "4D11E51"]);

        let (status, _, stderr) = server.run(&["delete"]);
        assert_eq!(status, USAGE, "everybody's mail is asked about");
        assert!(stderr.contains("--yes"), "{stderr}");
        let deleted = server.json(&["delete", "--yes"]);
        assert_eq!((&deleted["deleted"], &deleted["senders"][0]["sender"]), (&json!(1), &json!(BOB)));
        assert_eq!(server.on_hold(), ["4A11CE1", "4A11CE2", "4D11E51"]);
        assert_eq!(server.states(BOB), [("4B0B001".to_owned(), "deleted".to_owned())]);
        let calls = fs::read_to_string(server.bin.join("calls")).unwrap();
        assert!(calls.lines().all(|call| call == "-H -" || call == "-d - hold"), "{calls}");
    }

    pub fn what_is_held_for_a_compromised_account_stays(setup: Setup) {
        if !is_root("held release") {
            return;
        }
        let server = Server::new(setup);
        let mut client = server.client();
        server.send(&mut client, ALICE, &["4A11CE0", "4A11CE1", "4A11CE2"]);
        server.daemon.database().execute("UPDATE messages SET reason = 'blocked: compromised' WHERE msgid = '4A11CE1'");
        let released = server.told(&["release", "@example.com"]);
        assert!(released.contains("1 messages released") && released.contains("--even-compromised"), "{released}");
        assert_eq!(server.on_hold(), ["4A11CE1"]);
        let chosen = server.told(&["release", ALICE, "--reason", "quota", "--even-compromised"]);
        assert!(chosen.starts_with("Nothing released.\n"), "{chosen}");
        server.told(&["release", ALICE, "--even-compromised", "--since", "1h"]);
        assert_eq!(server.on_hold().len(), 0);
    }

    pub fn other_hosts_are_named(setup: Setup) {
        let server = Server::new(setup);
        let mut client = server.client();
        server.send(&mut client, ALICE, &["4A11CE0", "4A11CE1"]);
        server.send(&mut client, BOB, &["4B0B000", "4B0B001"]);
        server.daemon.database().execute("UPDATE messages SET host = 'mx2.example.com' WHERE msgid = '4B0B001'");
        let told = server.json(&[]);
        assert_eq!(told["host"], "mx1.example.com");
        assert_eq!(told["senders"].as_array().unwrap().len(), 1, "{told}");
        assert_eq!(
            (&told["elsewhere"][0]["host"], &told["elsewhere"][0]["held"]),
            (&json!("mx2.example.com"), &json!(1))
        );
        for oldest in [&told["senders"][0]["oldest"], &told["elsewhere"][0]["oldest"]] {
            assert!(oldest.as_str().unwrap().ends_with('Z'), "{told}");
        }
        assert!(server.told(&[]).contains("On mx2.example.com: up to 1 held"), "{}", server.told(&[]));
        // Rows of an older version have no host.
        server.daemon.database().execute("UPDATE messages SET host = ''");
        assert_eq!(server.json(&[])["senders"].as_array().unwrap().len(), 2);
    }

    pub fn a_block_holds_what_is_in_the_queue_and_its_end_lets_it_go_or_deletes_it(setup: Setup) {
        if !is_root("sender block --queue") {
            return;
        }
        let server = Server::new(setup);
        let mut client = server.client();
        server.defer(&mut client, ALICE, "4A11CE0");
        server.send(&mut client, BOB, &["4B0B000", "4B0B001"]);
        server.defer(&mut client, "carol@example.org", "4CA0101");
        // Of an hour ago: not within the time that is named.
        server.queue("4D11E51", ALICE, now() - 3000);
        let blocked = server.sender(&["block", ALICE, "--queue", "30m"]);
        assert!(blocked.contains("Put on hold from the queue: 1 messages, 2 recipients"), "{blocked}");
        assert_eq!(server.on_hold(), ["4A11CE0", "4B0B001", "4D11E51"]);
        assert_eq!(server.states(ALICE), [("4A11CE0".to_owned(), "held".to_owned())]);
        let listed = server.json(&["list", ALICE]);
        assert_eq!(listed["messages"][0]["reason"], "blocked: manual", "{listed}");

        // Blocked mail is held as well; one command lets all of it go.
        assert!(client.ask(&Request::data(ALICE, 2).queue_id("4A11CE1")).starts_with("HOLD"));
        server.queue("4A11CE1", ALICE, now());
        let blocked = server.sender(&["list", "--blocked"]);
        let held = |line: &str| line.split_whitespace().nth(7).map(str::to_owned);
        let line = blocked.lines().find(|line| line.starts_with(ALICE)).unwrap();
        assert_eq!(held(line).as_deref(), Some("2"), "{blocked}");
        let listed: Value = serde_json::from_str(&server.sender(&["list", "--blocked", "--json"])).unwrap();
        assert_eq!((&listed[0]["held"], &listed[1]["held"]), (&json!(2), &json!(1)), "{listed}");
        let ended = server.sender(&["unblock", ALICE, "--release"]);
        assert!(ended.contains("alice@example.com: 2 messages released, 4 recipients"), "{ended}");
        assert_eq!(server.on_hold(), ["4B0B001", "4D11E51"]);

        // Of an account that was taken over nothing goes by itself; and what was let go is held again.
        server.sender(&["block", ALICE, "--queue", "30m", "--reason", "compromised"]);
        assert_eq!(server.on_hold(), ["4A11CE0", "4A11CE1", "4B0B001", "4D11E51"]);
        assert!(server.told(&["release", ALICE]).contains("--even-compromised"));
        let ended = server.sender(&["unblock", ALICE, "--release"]);
        assert!(ended.contains("Nothing released.") && ended.contains("2 more of accounts"), "{ended}");
        server.sender(&["block", BOB, "--reason", "compromised"]);
        assert!(server.told(&["release", BOB]).starts_with("Nothing released."), "held for its quota before");
        let deleted = server.sender(&["unblock", ALICE, "--delete"]);
        assert!(deleted.contains("alice@example.com: 2 messages deleted"), "{deleted}");
        let shown: Value = serde_json::from_str(&server.sender(&["show", ALICE, "--json"])).unwrap();
        let story: Vec<&str> =
            shown["story"].as_array().unwrap().iter().map(|line| line["what"].as_str().unwrap()).collect();
        assert_eq!((story.first(), story.last()), (Some(&"blocked"), Some(&"deleted")), "{shown}");
        for (what, number) in [("blocked", 2), ("block_ended", 2), ("deleted", 1)] {
            assert_eq!(story.iter().filter(|one| **one == what).count(), number, "{what} in {story:?}");
        }
        assert_eq!(server.on_hold(), ["4B0B001", "4D11E51"]);
        assert!(server.bin.join("deferred/4CA0101").is_file(), "another's");
    }

    pub fn by_the_quota_the_oldest_go_first_and_never_more_than_it_has_room_for(setup: Setup) {
        if !is_root("held release") {
            return;
        }
        let mut server = Server::new(setup.setting("LIMITS", "3 recipients/message HOLD crowd"));
        let mut client = server.client();
        server.send(&mut client, ALICE, &["4A11CE0", "4A11CE1", "4A11CE2"]);
        server.send(&mut client, BOB, &["4B0B000", "4B0B001"]);
        // A limit's.
        client.ask(&Request::data("carol@example.com", 4).queue_id("4CA0101"));
        server.queue("4CA0101", "carol@example.com", now());
        assert!(server.told(&["release", "--by-quota"]).starts_with("HELD=keep"));
        server.daemon.change_setting("HELD", "release");
        assert!(server.told(&["release", "--by-quota"]).starts_with("Nothing released.\n"), "the quotas are used up");

        // Room for one message of two recipients.
        let reset = server.daemon.setup().run("sender", &["reset", ALICE]);
        assert!(reset.status.success());
        server.queue("4A11CE2", ALICE, now() - 600);
        let released = server.told(&["release", "--by-quota"]);
        assert!(released.starts_with("alice@example.com: 1 messages released, 2 recipients\n"), "{released}");
        assert_eq!(server.on_hold(), ["4A11CE1", "4B0B001", "4CA0101"], "the oldest");
        assert!(server.told(&["release", "--by-quota"]).starts_with("Nothing released.\n"), "again and again");
        // The daemon knows what went on.
        assert!(client.ask(&Request::data(ALICE, 1)).starts_with("HOLD"));
        assert_eq!(server.daemon.database().messages(ALICE).len(), 4, "no message is logged twice");
    }
}

impl Server {
    fn sender(&self, arguments: &[&str]) -> String {
        let output = self.daemon.setup().run("sender", arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Puts a message that was let through into the deferred queue.
    fn defer(&self, client: &mut Client, sender: &str, id: &str) {
        client.ask(&Request::data(sender, 2).queue_id(id));
        self.queue(id, sender, now());
        fs::rename(self.bin.join("hold").join(id), self.bin.join("deferred").join(id)).unwrap();
    }
}

#[test]
fn what_a_block_has_put_on_hold_is_noted_when_the_queue_cannot_be_read_again() {
    if !is_root("sender block --queue") {
        return;
    }
    let server = Server::new(Setup::sqlite());
    server.defer(&mut server.client(), ALICE, "4A11CE0");
    let good = fs::read_to_string(server.bin.join("postqueue")).unwrap();
    let once = "[ ! -e looked ] || { echo 'postqueue: fatal: mail system is down' >&2; exit 69; }\n: > looked\n[ ";
    fs::write(server.bin.join("postqueue"), good.replacen("[ ", once, 1)).unwrap();
    let output = server.daemon.setup().run("sender", &["block", ALICE, "--queue", "30m"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(UNAVAILABLE), "{stderr}");
    assert!(stderr.contains("mail system is down") && stderr.contains("the block counts all the same"), "{stderr}");
    assert_eq!(server.on_hold(), ["4A11CE0"]);
    assert_eq!(server.states(ALICE), [("4A11CE0".to_owned(), "held".to_owned())]);
}

#[test]
fn what_postfixs_commands_say_when_they_fail_is_told() {
    if !is_root("held release") {
        return;
    }
    let server = Server::new(Setup::sqlite());
    let mut client = server.client();
    server.send(&mut client, ALICE, &["4A11CE0", "4A11CE1", "4A11CE2"]);
    let good = fs::read_to_string(server.bin.join("postsuper")).unwrap();

    // It ends after the first.
    fs::write(
        server.bin.join("postsuper"),
        good.replace("done", "echo 'postsuper: fatal: disk on fire' >&2; exit 1; done"),
    )
    .unwrap();
    let (status, stdout, stderr) = server.run(&["release", ALICE]);
    assert_eq!(status, UNAVAILABLE);
    assert!(stdout.contains("1 messages released") && stdout.contains("1 were not released"), "{stdout}");
    assert!(stderr.contains("disk on fire"), "{stderr}");
    assert_eq!(server.states(ALICE).len(), 1, "what was done is noted");

    server.script("postqueue", "echo 'postqueue: fatal: mail system is down' >&2; exit 69");
    let (status, stdout, stderr) = server.run(&["release", ALICE]);
    assert_eq!((status, stdout.as_str()), (UNAVAILABLE, ""));
    assert!(stderr.contains("mail system is down"), "{stderr}");

    // Half a listing is none.
    server.script("postqueue", "cat hold/*; echo '{\"queue_name\": \"hold\", '");
    let (status, _, stderr) = server.run(&["release", ALICE]);
    assert_eq!(status, UNAVAILABLE);
    assert!(stderr.contains("is not a message in JSON"), "{stderr}");
    assert_eq!(server.on_hold().len(), 1);
}
