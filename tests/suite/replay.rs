//! `replay`: past mail through the policy of the settings, as the daemon would have judged it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use crate::support::client::{Client, Request};
use crate::support::clock::noon_here;
use crate::support::daemon::Setup;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;

/// 2026-11-21 12:00 UTC: when the transcripts were last written to.
const WRITTEN: u64 = 1_795_262_400;
const LADDER: &str = "1x HOLD quota exceeded; 2x REJECT max quota exceeded";

fn setup() -> Setup {
    // A database that does not exist and is not made.
    Setup::sqlite().environment("TZ", "Europe/Zurich").setting("QUOTA_WINDOW", "24h")
}

/// Writes a log that was last changed at a time.
fn write(setup: &Setup, name: &str, bytes: &[u8], changed: u64) -> PathBuf {
    let path = setup.folder().join(name);
    let mut file = File::create(&path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(changed)).unwrap();
    path
}

fn transcript(setup: &Setup, name: &str) -> PathBuf {
    let path = folder().join(name).with_extension("in");
    write(setup, &format!("{name}.log"), &fs::read(path).unwrap(), WRITTEN)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/replay")
}

fn replay(setup: &Setup, files: &[&Path], options: &[&str]) -> Output {
    let files = files.iter().map(|path| path.to_str().unwrap());
    setup.run("replay", &files.chain(options.iter().copied()).collect::<Vec<_>>())
}

fn text(setup: &Setup, files: &[&Path], options: &[&str]) -> String {
    let output = replay(setup, files, options);
    assert!(output.status.success(), "{}{}", shown(&output.stdout), shown(&output.stderr));
    shown(&output.stdout)
}

fn json(setup: &Setup, files: &[&Path]) -> Value {
    serde_json::from_str(&text(setup, files, &["--json"])).unwrap()
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `(messages, passed, held, deferred, rejected)`.
fn sums(report: &Value) -> [u64; 5] {
    ["messages", "passed", "held", "deferred", "rejected"].map(|name| report[name].as_u64().unwrap())
}

/// With `UPDATE=1` in the environment the references are written anew.
fn is_as_recorded(name: &str, found: &str) {
    let path = folder().join(name).with_extension("ref");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, found).unwrap();
    }
    assert_eq!(found, fs::read_to_string(&path).unwrap(), "{}", path.display());
}

#[test]
fn logs_of_each_kind_give_what_was_recorded() {
    let ladder = |setup: Setup| setup.setting("QUOTA", "5").setting("QUOTA_STEPS", LADDER);
    for (name, setup) in [
        ("postfix", ladder(setup())),
        ("policyd", setup().setting("QUOTA", "60").setting("LIMITS", "4 networks/10m HOLD many networks")),
        ("policydrateguard", setup().setting("QUOTA", "3").setting("QUOTA_WINDOW", "reset")),
        ("both", ladder(setup())),
        // As a mail server wrote it, whose daemon had these settings.
        ("debian-12", ladder(setup()).setting("LIMITS", "4 recipients/message DEFER too many at once")),
    ] {
        let log = transcript(&setup, name);
        let mut found = text(&setup, &[&log], &["--each"]);
        found.push('\n');
        found.push_str(&text(&setup, &[&log], &[]).replace(log.to_str().unwrap(), "LOG"));
        is_as_recorded(name, &found);
        assert!(!setup.folder().join("policyd-rate-guard.db").exists(), "nothing is counted anywhere");
    }
}

#[test]
fn counters_are_reset_at_local_midnight_and_windows_are_not() {
    let reset = setup().setting("QUOTA", "7").setting("QUOTA_WINDOW", "reset");
    let log = transcript(&reset, "postfix");
    // Before the timer's run, ten seconds after midnight, alice has sent to seven; then to two more.
    assert_eq!(sums(&json(&reset, &[&log])), [5, 5, 0, 0, 0]);
    let sliding = reset.setting("QUOTA_WINDOW", "24h");
    let report = json(&sliding, &[&log]);
    assert_eq!(sums(&report), [5, 4, 0, 1, 0]);
    assert_eq!(report["top"][0]["sender"], "alice@example.com");
    assert_eq!(report["top"][0]["first_refused"]["at"], "2026-11-20T23:00:30Z");
    assert_eq!(report["top"][0]["first_refused"]["limit"], "1x quota 7");
    assert_eq!(report["without_login"], 1);
    assert_eq!(report["recipients_unknown"], 1, "carol's, refused at the time");
}

#[test]
fn several_limits_are_told_apart() {
    let limits = "3 recipients/1m DEFER slow down; 1 networks/1h WARN another place; 2 recipients/message REJECT crowd";
    let setup = setup().setting("LIMITS", limits);
    let log = transcript(&setup, "postfix");
    let report = json(&setup, &[&log]);
    assert_eq!(sums(&report), [5, 3, 0, 0, 2]);
    assert_eq!((&report["warned"], &report["senders_refused"]), (&2.into(), &1.into()));
    let limit = &report["limits"][0];
    assert_eq!((&limit["limit"], &limit["action"]), (&"2 recipients/message".into(), &"REJECT".into()));
    assert_eq!((&limit["messages"], &limit["senders"]), (&2.into(), &1.into()));
}

#[test]
fn bytes_come_from_postfix_also_where_the_daemon_has_told_of_the_message() {
    let setup = setup().setting("LIMITS", "5000 bytes/1h HOLD heavy");
    let log = transcript(&setup, "both");
    let report = json(&setup, &[&log]);
    assert_eq!(sums(&report), [3, 2, 1, 0, 0]);
    assert_eq!(report["top"][0]["sender"], "bob@example.com", "9,000 bytes; alice's second came when it was released");
}

#[test]
fn rotated_files_packed_or_not_are_one_log_in_any_order() {
    let setup = setup().setting("QUOTA", "5").setting("QUOTA_STEPS", LADDER);
    let whole = fs::read_to_string(folder().join("postfix.in")).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let (old, new) = lines.split_at(12);
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(old.concat().as_bytes()).unwrap();
    let old = write(&setup, "mail.log.1.gz", &packed.finish().unwrap(), WRITTEN);
    let new = write(&setup, "mail.log", new.concat().as_bytes(), WRITTEN);
    let log = transcript(&setup, "postfix");
    let expected = json(&setup, &[&log]);
    assert_eq!(json(&setup, &[&new, &old]), expected);
    assert_eq!(json(&setup, &[&old, &new]), expected);
    // The same lines in two logs, as syslog and mail.log have them: each message is one.
    let twice = json(&setup, &[&log, &old, &new]);
    assert_eq!((sums(&twice), &twice["top"]), (sums(&expected), &expected["top"]));
}

#[test]
fn a_log_that_runs_over_new_year_has_the_right_years_and_can_be_cut() {
    let setup = setup().setting("QUOTA", "1");
    let line = |at: &str, id: u32| {
        format!("{at} mx policyd[1]: Updating db: alice/alice@example.com/192.0.2.{id}/1/1\nno line of a log\n")
    };
    let lines = [
        line("Dec 30 08:00:00", 1),
        line("Dec 31 23:59:59", 2),
        line("Jan  1 00:00:00", 3),
        line("Jan  2 08:00:00", 4),
    ];
    // 2026-01-02 12:00 UTC.
    let log = write(&setup, "mail.log", lines.concat().as_bytes(), 1_767_355_200);
    let report = json(&setup, &[&log]);
    assert_eq!((&report["first"], &report["last"]), (&"2025-12-30T07:00:00Z".into(), &"2026-01-02T07:00:00Z".into()));
    assert_eq!(sums(&report), [4, 3, 0, 1, 0], "the first of January is within the 24 hours of New Year's Eve");
    assert_eq!((&report["lines"]["unknown"], &report["lines"]["policyd"]), (&4.into(), &4.into()));
    assert_eq!(report["lines"]["missed"], 0);
    assert!(report["hints"][0].as_str().unwrap().ends_with("mail.log, line 2."), "{report}");
    let part = text(&setup, &[&log], &["--json", "--since", "2026-01-01", "--until", "2026-01-02T08:00"]);
    let part: Value = serde_json::from_str(&part).unwrap();
    assert_eq!((sums(&part), &part["first"]), ([1, 1, 0, 0, 0], &"2025-12-31T23:00:00Z".into()));
}

#[test]
fn lists_decide_at_the_log_s_time() {
    let setup = setup().setting("QUOTA", "1");
    let allow = setup.folder().join("allow");
    let deny = setup.folder().join("deny");
    // The 20th of November 2026 was a Friday.
    fs::write(&allow, "alice@example.com hours=Fri,22:00-23:59\n").unwrap();
    fs::write(&deny, "carol@example.com\n").unwrap();
    let setup = setup.setting("ALLOWLIST", allow.to_str().unwrap()).setting("DENYLIST", deny.to_str().unwrap());
    let log = transcript(&setup, "postfix");
    let report = json(&setup, &[&log]);
    assert_eq!(report["allowlisted"], 2);
    // On Saturday the first of one passes, and the next is refused.
    assert_eq!(sums(&report), [5, 3, 1, 1, 0]);
    assert_eq!(report["top"][1]["first_refused"]["limit"], "denylisted: carol@example.com");
}

#[test]
fn when_nobody_reads_on_the_log_is_not_read_to_its_end() {
    let setup = setup();
    let pipeline = format!("{} | head -n 1", setup.typed("replay --each -"));
    let mut shell =
        Command::new("sh").args(["-c", &pipeline]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut log = shell.stdin.take().unwrap();
    let line = |number: u64| {
        let (minute, second) = (number / 60 % 60, number % 60);
        format!(
            "2026-11-21T{:02}:{minute:02}:{second:02}+01:00 INFO 4b{number}z: client=mx[192.0.2.7], helo=, sasl_method=, \
             sasl_username=alice@example.com, from=, to=, recipient_count=1, curr_count=1/1000, status=ACCEPTED\n",
            number / 3600 % 24
        )
    };
    let lost = (0..200_000).find(|&number| log.write_all(line(number % 86_400).as_bytes()).is_err());
    assert!(lost.is_some(), "200,000 lines were read for one");
    drop(log);
    let output = shell.wait_with_output().unwrap();
    assert_eq!(shown(&output.stdout).lines().count(), 1, "{}", shown(&output.stdout));
}

#[test]
fn senders_own_quotas_are_taken_over_when_asked_for() {
    let setup = setup().setting("QUOTA", "1");
    for (name, quota) in [("alice@example.com", "100"), ("@example.com", "2")] {
        assert!(setup.run("sender", &["set", name, "--quota", quota]).status.success());
    }
    let log = transcript(&setup, "postfix");
    assert_eq!(sums(&json(&setup, &[&log]))[1], 2, "alice's one recipient, carol's one");
    let report: Value = serde_json::from_str(&text(&setup, &[&log], &["--json", "--quotas"])).unwrap();
    assert_eq!(sums(&report), [5, 5, 0, 0, 0]);
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let setup = setup();
    let output = replay(&setup, &[Path::new("/nonexistent/mail.log")], &[]);
    assert_eq!(output.status.code(), Some(74));
    assert!(shown(&output.stderr).contains("cannot open /nonexistent/mail.log"), "{}", shown(&output.stderr));
    assert_eq!(replay(&setup, &[], &[]).status.code(), Some(64));

    let says = |bytes: &str, hint: &str| {
        let log = write(&setup, "some.log", bytes.as_bytes(), WRITTEN);
        let output = replay(&setup, &[&log], &[]);
        assert_eq!(output.status.code(), Some(1), "no message in it");
        assert!(shown(&output.stdout).contains(hint), "{}", shown(&output.stdout));
    };
    says("", "There is not one line.");
    says("127.0.0.1 - - [21/Nov/2026:08:00:00 +0100] \"GET /\"\n", "is this the mail log?");
    says("Nov 21 08:00:00 mx postfix/qmgr[1]: 4Xy01: removed\n", "is this the log of the host that clients talk to?");
    let incoming = "Nov 21 08:00:00 mx postfix/smtpd[1]: 4XvQ6t0PQzz9s: client=mx.example.org[198.51.100.1]\n\
                    Nov 21 08:00:00 mx postfix/qmgr[1]: 4XvQ6t0PQzz9s: from=<a@b>, size=1, nrcpt=1 (queue active)\n";
    says(incoming, "is this the log of the submission server?");
}

/// Postfix's lines on one message of three recipients, each behind `head`.
fn message(head: &str, syslog_name: &str) -> String {
    let lines = [
        "submission/smtpd[1]: 4F9D195432C: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=alice@example.com",
        "cleanup[2]: 4F9D195432C: message-id=<1@example.com>",
        "qmgr[3]: 4F9D195432C: from=<alice@example.com>, size=1234, nrcpt=3 (queue active)",
    ];
    lines.map(|line| format!("{head}{syslog_name}/{line}\n")).concat()
}

#[test]
fn what_was_not_understood_is_never_passed_over_with_status_0() {
    let setup = setup();
    let good = message("2026-11-21T08:00:00+01:00 mx ", "postfix");
    let odd = "Okt 21 08:00:00 mx postfix/qmgr[3]: 4F9D195432D: from=<a@b>, size=1, nrcpt=1 (queue active)\n";
    for (lines, odd_lines, status) in [(1, 1, 1), (40, 1, 0), (40, 2, 1), (1, 0, 0)] {
        let log = write(&setup, "some.log", (good.repeat(lines) + &odd.repeat(odd_lines)).as_bytes(), WRITTEN);
        let output = replay(&setup, &[&log], &["--json"]);
        assert_eq!(output.status.code(), Some(status), "{odd_lines} of {lines}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&report["lines"]["missed"], &report["incomplete"]), (&odd_lines.into(), &(status == 1).into()));
        let hints = report["hints"].to_string();
        assert_eq!(
            hints.contains("month is not English") && hints.contains("Okt 21 08:00:00"),
            odd_lines > 0,
            "{hints}"
        );
    }
}

#[test]
fn the_beginnings_of_messages_alone_are_no_result() {
    let setup = setup();
    let whole = message("2026-11-21T08:00:00+01:00 mx ", "postfix");
    let begin = |id: u32| whole.lines().next().unwrap().replace("4F9D195432C", &format!("4F9D1954{id:03}")) + "\n";
    for (begun, status) in [(1, 0), (2, 1)] {
        let begun: String = (0..begun).map(begin).collect();
        let log = write(&setup, "some.log", (whole.clone() + &begun).as_bytes(), WRITTEN);
        assert_eq!(replay(&setup, &[&log], &[]).status.code(), Some(status), "{begun}");
        let output = replay(&setup, &[&write(&setup, "begun.log", begun.as_bytes(), WRITTEN)], &[]);
        assert_eq!(output.status.code(), Some(1));
        assert!(shown(&output.stdout).contains("are cleanup's and qmgr's among them"), "{}", shown(&output.stdout));
    }
}

#[test]
fn logs_of_several_daemons_that_hold_the_same_lines_are_one() {
    let setup = setup().setting("QUOTA", "3");
    let syslog = write(&setup, "syslog", message("Nov 21 08:00:00 mx ", "mx-out").as_bytes(), WRITTEN);
    let precise = write(&setup, "mail.log", message("2026-11-21T08:00:00.7+01:00 mx ", "mx-out").as_bytes(), WRITTEN);
    let policyd = "Nov 21 08:00:01 mx policyd[1]: Updating db: bob/bob@example.com/192.0.2.8/3/3\n";
    let [one, other] = ["1", "2"].map(|name| write(&setup, name, policyd.as_bytes(), WRITTEN));
    let report = json(&setup, &[&syslog, &precise, &one, &other]);
    assert_eq!((sums(&report), &report["lines"]["repeated"]), ([2, 2, 0, 0, 0], &4.into()));
}

/// A daemon's log: who sends to how many on each of so many days, from 2026-10-01 on. The last sender is a newsletter.
fn past_days(days: u32, senders: &[(&str, u32)]) -> String {
    let mut log = String::new();
    for day in 0..days {
        for (number, (sender, recipients)) in senders.iter().enumerate() {
            let (month, date) = (10 + day / 31, 1 + day % 31);
            // Each day a little later, so that no 24 hours hold the mail of two.
            let number = 2 * day as usize + number;
            log.push_str(&format!(
                "2026-{month}-{date:02}T09:{number:02}:00+01:00 INFO 4B{day}z{number}: client=mx[192.0.2.7], helo=, sasl_method=, \
                 sasl_username={sender}, from=, to=, recipient_count={recipients}, curr_count=1/1000, status=ACCEPTED\n"
            ));
        }
    }
    log
}

#[test]
fn settings_are_proposed_that_touch_nobody_and_stop_a_stolen_account() {
    let setup = setup().setting("QUOTA", "1000");
    let log = past_days(6, &[("alice@example.com", 3), ("bob@example.com", 20), ("it's; news@example.com", 2000)]);
    let log = write(&setup, "some.log", log.as_bytes(), WRITTEN);
    let report: Value = serde_json::from_str(&text(&setup, &[&log], &["--suggest", "--json"])).unwrap();
    let found = &report["found"];
    assert_eq!((&found["senders"], &found["sender_months"], &found["stolen"]), (&3.into(), &3.into(), &3.into()));
    assert_eq!((&found["as_set"]["touched"], &found["as_set"]["of"]), (&1.into(), &3.into()), "{found}");
    assert_eq!(found["as_set"]["senders"][0]["sender"], "it's; news@example.com");
    assert_eq!(found["as_set"]["passed"]["slow"]["median"], 480, "20 an hour, for a day");
    assert_eq!((&found["proposed"]["touched"], &found["settings"]["QUOTA"]), (&0.into(), &100.into()));
    assert_eq!(found["own_quotas"][0]["quota"], 2000);
    assert_eq!(found["limits"][0]["limit"], "QUOTA=2000");
    assert!(report["hints"].to_string().contains("takes 14 days to learn"), "{report}");

    let told = text(&setup, &[&log], &["--suggest"]);
    assert!(told.contains(r"policyd-rate-guard sender set --quota 2000 -- 'it'\''s; news@example.com'"), "{told}");
    let (_, settings) = told.split_once("\nQUOTA=100\n").unwrap();
    let settings = settings.lines().take(2).filter_map(|line| line.split_once('=')).chain([("QUOTA", "100")]);
    let proposed =
        settings.fold(crate::support::daemon::Setup::sqlite(), |setup, (name, value)| setup.setting(name, value));
    let output = proposed.run("check", &[]);
    assert!(output.status.success(), "{}", shown(&output.stderr));
}

#[test]
fn what_is_usual_is_proposed_once_the_log_is_long_enough_to_learn() {
    let setup = setup();
    let log = past_days(20, &[("alice@example.com", 3), ("news@example.com", 2000)]);
    let log = write(&setup, "some.log", log.as_bytes(), WRITTEN);
    let report: Value = serde_json::from_str(&text(&setup, &[&log], &["--suggest", "--json", "--seed", "7"])).unwrap();
    let found = &report["found"];
    assert_eq!(found["learnt_from"], "2026-10-15T00:00:00Z");
    let limits = found["settings"]["LIMITS"].as_str().unwrap();
    assert!(limits.starts_with("3x usual recipients/1h min 50 HOLD unusual amount of mail; "), "{limits}");
    let proposed = &found["proposed"];
    assert_eq!((&proposed["touched"], &proposed["of"]), (&0.into(), &2.into()), "{found}");
    let median = |wave: &str| proposed["passed"][wave]["median"].as_u64().unwrap();
    assert!(median("fast") <= 60 && median("networks") == 15, "{found}");
    let output = replay(&setup, &[&log], &["--suggest", "--since", "2026-11-01"]);
    assert_eq!((output.status.code(), shown(&output.stdout).contains("No message is of these times")), (Some(1), true));
}

/// A line of the daemon's without its time, and without what `replay` does not know or show.
fn verdict(line: &str) -> String {
    let (_time, line) = line.split_once(' ').unwrap();
    let (before, rest) = line.split_once(", helo=").unwrap();
    let (_, rest) = rest.split_once(", sasl_username=").unwrap();
    format!("{before}, sasl_username={rest}")
}

/// One message: who sends it from where to how many, and whether Postfix asks about each recipient, or twice at DATA.
#[derive(Debug)]
struct Mail {
    sender: usize,
    place: u8,
    recipients: u32,
    at_rcpt: bool,
    twice: bool,
}

impl Mail {
    fn requests(&self) -> u32 {
        if self.at_rcpt { self.recipients } else { 1 + u32::from(self.twice) }
    }
}

/// Of no sender so many that the daemon leaves refusals out of its log.
fn mails() -> Vec<Mail> {
    let mail = (0..16usize, 0..4u8, 1..6u32, prop::bool::weighted(0.2), prop::bool::weighted(0.2))
        .prop_map(|(sender, place, recipients, at_rcpt, twice)| Mail { sender, place, recipients, at_rcpt, twice });
    let mails = prop::collection::vec(mail, 120).new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let mut requests = [0; 16];
    let few = |mail: &Mail| {
        requests[mail.sender] += mail.requests();
        requests[mail.sender] <= 10
    };
    mails.into_iter().filter(few).collect()
}

fn send(client: &mut Client, mail: &Mail) {
    let login = format!("Sender{},\\ {}@example.com", mail.sender, "é".repeat(mail.sender));
    let place = |request: Request| request.client_address(format_args!("10.0.{}.1", mail.place));
    let data = place(Request::data(&login, mail.recipients));
    if mail.at_rcpt {
        // Postfix gives a queue id with the first recipient that it accepts.
        let instance = format!("rcpt.{:?}", std::time::Instant::now());
        let ask = |to: u32, id: &str| {
            place(Request::rcpt(&login, &format!("{to}@example.org"))).queue_id(id).instance(&instance)
        };
        let id = format!("4B{}", instance.chars().filter(char::is_ascii_digit).collect::<String>());
        let first = client.ask(&ask(0, ""));
        if first.starts_with("DUNNO") || first.starts_with("HOLD") || first.starts_with("WARN") {
            for to in 1..mail.recipients {
                client.ask(&ask(to, &id));
            }
        }
    } else {
        for _ in 0..1 + u32::from(mail.twice) {
            client.ask(&data);
        }
    }
}

#[test]
fn verdict_by_verdict_it_is_what_the_daemon_said() {
    let mails = mails();
    for settings in [
        &[("QUOTA", "12"), ("QUOTA_WINDOW", "reset")][..],
        &[("QUOTA", "9"), ("QUOTA_STEPS", LADDER), ("LIMITS", "2 networks/1h WARN another place")],
        &[
            ("QUOTA", "25"),
            ("LIMITS", "5 messages/1h DEFER slow; 4 recipients/message REJECT crowd; 3 networks/1h HOLD far"),
        ],
        &[
            ("QUOTA", "10"),
            ("QUOTA_STEPS", "0.5x NOTIFY; 1x 452 4.7.1 enough {used}"),
            ("LIMITS", "60% recipients/10m HOLD"),
        ],
    ] {
        let setup = settings.iter().fold(setup(), |setup, (name, value)| setup.setting(name, value));
        // At midnight `replay` would reset the counters, and the daemon, whom no timer serves here, would not.
        let setup = setup.environment("TZ", &noon_here());
        let mut daemon = setup.start();
        let mut client = daemon.connect();
        for mail in &mails {
            send(&mut client, mail);
        }
        assert!(daemon.term().success());
        let log = daemon.log();
        let said: Vec<String> = log.lines().filter(|line| line.contains(": client=")).map(verdict).collect();
        assert!(said.len() >= 60 && said.iter().any(|line| line.contains("BLOCKED")), "{settings:?}");
        let path = write(daemon.setup(), "live.log", log.as_bytes(), WRITTEN);
        let replayed = text(daemon.setup(), &[&path], &["--each"]);
        let replayed: Vec<String> = replayed.lines().map(verdict).collect();
        assert_eq!(replayed, said, "{settings:?}");
    }
}
