//! What past mail teaches: `replay --learn`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use policyd_rate_guard::config::{self, Sources};
use policyd_rate_guard::store::Store;
use serde_json::Value;
use tokio::runtime::Builder;

use crate::support::client::{ACCEPTED, Request};
use crate::support::daemon::Setup;

const DAY: i64 = 24 * 3600;
const LIMITS: &str = "2x usual recipients/1h min 10 HOLD unusual; 3 recipients/1h from new networks REJECT far";
const DAYS: &str = "FROM days, ratelimits WHERE ratelimits.id = ratelimit_id ORDER BY sender, day";

fn setup(setup: Setup) -> Setup {
    setup.environment("TZ", "UTC").setting("QUOTA", "unlimited").setting("LIMITS", LIMITS)
}

/// A day of this many days ago, about noon: each day a little later, so that no 24 hours hold the mail of two.
fn at(days_ago: i64) -> i64 {
    let now = Timestamp::now().as_second();
    (now.div_euclid(DAY) - days_ago) * DAY + DAY / 2 - days_ago * 120
}

fn stamp(at: i64, format: &str) -> String {
    Timestamp::from_second(at).unwrap().to_zoned(TimeZone::UTC).strftime(format).to_string()
}

/// Ours and PolicydRateGuard's: a decision.
fn decision(days_ago: i64, login: &str, address: &str, recipients: u32, status: &str) -> String {
    let at = stamp(at(days_ago), "%Y-%m-%dT%H:%M:%S");
    format!(
        "{at}+00:00 mx policyd-rate-guard[1]: 4{days_ago}z{login}: client=x[{address}], helo=x, sasl_method=PLAIN, sasl_username={login}, \
         from={login}, to=, recipient_count={recipients}, curr_count=1/1000, status={status}\n"
    )
}

/// The log of each kind of daemon: on each day from `first` to `last` days ago one sender of each sends to 20.
fn logs(first: i64, last: i64) -> [String; 4] {
    let [mut ours, mut old, mut policyd, mut postfix] = [const { String::new() }; 4];
    for day in (last..=first).rev() {
        ours += &decision(day, "ours@example.com", "192.0.2.7", 20, "ACCEPTED");
        ours += &decision(day, "ours@example.com", "10.9.9.9", 900, "BLOCKED (QUOTA_LIMIT_REACHED), action=HOLD");
        let at = at(day);
        let written = stamp(at, "%Y-%m-%d %H:%M:%S,000");
        writeln!(
            old,
            "{written} INFO 5{day}zA: client=x[192.0.2.7], helo=x, sasl_method=PLAIN, sasl_username=prg@example.com, from=prg@example.com, \
             to=None, recipient_count=20, curr_count=1/1000, status=ACCEPTED"
        )
        .unwrap();
        let written = stamp(at, "%Y-%m-%dT%H:%M:%S+00:00");
        writeln!(policyd, "{written} mx policyd[1]: Updating db: pgo/pgo@example.com/192.0.2.7/20/20").unwrap();
        writeln!(policyd, "{written} mx policyd[1]: Holding blacklisted user: pgo/pgo@example.com/192.0.2.7/900")
            .unwrap();
        let id = format!("4F9D1954{day:03}");
        for line in [
            "submission/smtpd[1]: ID: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=postfix@example.com",
            "cleanup[2]: ID: message-id=<1@example.com>",
            "qmgr[3]: ID: from=<postfix@example.com>, size=1234, nrcpt=20 (queue active)",
            // Held, and never released.
            "submission/smtpd[1]: HELD: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=postfix@example.com",
            "submission/smtpd[1]: HELD: hold: DATA from x[192.0.2.7]: triggers HOLD; from=<postfix@example.com> to=<b@example.net> proto=ESMTP",
            "cleanup[2]: HELD: message-id=<2@example.com>",
        ] {
            let line = line.replace("ID:", &format!("{id}:")).replace("HELD:", &format!("{id}F:"));
            writeln!(postfix, "{written} mx postfix/{line}").unwrap();
        }
    }
    [ours, old, policyd, postfix]
}

fn write(setup: &Setup, name: &str, text: &str) -> PathBuf {
    let path = setup.folder().join(name);
    fs::write(&path, text).unwrap();
    path
}

fn learn(setup: &Setup, files: &[PathBuf], options: &[&str]) -> Output {
    let files = files.iter().map(|path: &PathBuf| Path::to_str(path).unwrap());
    setup.run("replay", &["--learn"].into_iter().chain(options.iter().copied()).chain(files).collect::<Vec<_>>())
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn rows(setup: &Setup) -> Vec<Vec<Vec<String>>> {
    let database = setup.database();
    let days = [
        "sender",
        "day",
        "days.messages",
        "days.recipients",
        "hour_messages",
        "hour_recipients",
        "day_messages",
        "day_recipients",
    ];
    vec![
        database.select(&days, DAYS),
        database.select(
            &["sender", "network", "last_seen"],
            "FROM networks, ratelimits WHERE ratelimits.id = ratelimit_id ORDER BY sender, network",
        ),
        database.select(&["sender", "msg_counter", "rcpt_total", "updated_at"], "FROM ratelimits ORDER BY sender"),
        database.select(&["network"], "FROM arrivals"),
        database.select(&["value"], "FROM meta WHERE name = 'networks_since'"),
    ]
}

mod run {
    use super::*;

    pub fn past_logs_of_each_kind_teach_what_is_usual_and_limits_act(given: Setup) {
        let setup = setup(given);
        let logs = logs(20, 2);
        let files: Vec<PathBuf> =
            logs.iter().enumerate().map(|(number, log)| write(&setup, &number.to_string(), log)).collect();
        assert!(setup.run("migrate", &[]).status.success());
        let daemon = setup.start();
        let ask = |login: &str, recipients: u32, from: &str| {
            daemon.connect().ask(&Request::data(login, recipients).client_address(from))
        };
        // A sender that is known, from a network that is new.
        assert_eq!(ask("ours@example.com", 1, "10.9.9.9"), ACCEPTED);
        assert_eq!(ask("eve@example.com", 11, "192.0.2.7"), "WARN unusual", "nothing is known yet");
        let before = rows(daemon.setup());
        let output = learn(daemon.setup(), &files, &["--json"]);
        assert!(output.status.success(), "{}", shown(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&report["learnt"]["senders"], &report["learnt"]["days"]),
            (&4.into(), &(4 * 19).into()),
            "{report}"
        );
        assert_eq!((&report["messages"], &report["stopped"]), (&(4 * 19).into(), &(3 * 19).into()), "{report}");
        assert_eq!(report["only_warn"], Value::Array(Vec::new()), "{report}");
        let learnt = rows(daemon.setup());
        let has_sent = |sender: &str| shown(&daemon.setup().run("sender", &["show", sender])).contains("last sent");
        assert_eq!(["ours@example.com", "postfix@example.com"].map(has_sent), [true, false], "to be learnt is no mail");
        let of_day = |sender: &str, day: i64| {
            [sender, &(at(day) / DAY).to_string(), "1", "20", "1", "20", "1", "20"].map(str::to_owned).to_vec()
        };
        for sender in ["ours@example.com", "pgo", "postfix@example.com", "prg@example.com"] {
            assert!(learnt[0].contains(&of_day(sender, 20)) && learnt[0].contains(&of_day(sender, 2)), "{learnt:?}");
            assert!(
                learnt[1].iter().any(|row| row[..2] == [sender.to_owned(), "192.0.2.0/24".to_owned()]),
                "{learnt:?}"
            );
        }
        assert_eq!(learnt[0].len(), 4 * 19);
        for row in &before[2] {
            assert!(learnt[2].contains(row), "nothing is counted: {row:?} {learnt:?}");
        }
        let output = learn(daemon.setup(), &files, &[]);
        assert!(
            output.status.success() && shown(&output).contains("All limits that learn act now."),
            "{}",
            shown(&output)
        );
        assert_eq!(rows(daemon.setup()), learnt, "the same logs twice");
        // A day of which more is known stays, also one of which less is.
        daemon.database().execute("UPDATE days SET hour_recipients = 25, day_recipients = 1");
        assert!(learn(daemon.setup(), &files, &[]).status.success());
        let peaks = daemon.database().select(&["hour_recipients", "day_recipients"], DAYS);
        assert!(peaks.iter().all(|peaks| *peaks == ["25", "20"]), "{peaks:?}");

        let mut daemon = daemon;
        daemon.term();
        daemon.start_again();
        let mut client = daemon.connect();
        let mut ask = |login: &str, recipients: u32, from: &str| {
            client.ask(&Request::data(login, recipients).client_address(from))
        };
        assert_eq!(ask("postfix@example.com", 50, "192.0.2.9"), ACCEPTED, "twice what is usual");
        assert_eq!(ask("postfix@example.com", 1, "192.0.2.9"), "HOLD unusual");
        assert_eq!(ask("prg@example.com", 4, "10.1.1.1"), "REJECT far");
        assert_eq!(ask("prg@example.com", 4, "192.0.2.1"), ACCEPTED, "where it was seen");
        assert_eq!(ask("eve@example.com", 1, "192.0.2.7"), "HOLD unusual");
    }

    pub fn the_messages_of_an_adopted_database_teach_it_once(given: Setup) {
        let setup = setup(given);
        let database = setup.database();
        assert!(setup.run("migrate", &[]).status.success());
        let driver = |name: &str| database.settings().contains(&("DB_DRIVER".to_owned(), name.to_owned()));
        let time = |at: i64| match () {
            () if driver("mysql") => format!("FROM_UNIXTIME({at})"),
            () if driver("postgres") => format!("to_timestamp({at})"),
            () => format!("datetime({at}, 'unixepoch')"),
        };
        let message = |id: i64, at: i64, recipients: u32, blocked: u8, address: &str| {
            let (sender, at) = ("alice@example.com", time(at));
            database.execute(&format!(
                "INSERT INTO messages (ratelimit_id, sender, rcpt_count, blocked, client_address, created_at) \
                 VALUES ({id}, '{sender}', {recipients}, {blocked}, '{address}', {at})"
            ));
        };
        database.execute("INSERT INTO ratelimits (id, sender) VALUES (3, 'alice@example.com')");
        for day in 2..=16 {
            message(3, at(day), 12, 0, "192.0.2.7");
            message(3, at(day) + 60, 8, 0, "192.0.2.8");
            message(3, at(day) + 90, 900, 1, "10.9.9.9");
        }
        // Of an account that was stolen, and nobody else's on that day.
        database.execute("INSERT INTO ratelimits (id, sender) VALUES (4, 'mallory@example.net')");
        database.execute(&format!(
            "INSERT INTO blocks (account, since, reason) VALUES ('@example.net', {}, 'compromised')",
            at(25) + DAY
        ));
        message(4, at(25), 700, 0, "10.7.7.7");
        // Before a gap, of a sender that was deleted, and of today.
        message(3, at(34), 1, 0, "192.0.2.7");
        if !driver("mysql") {
            message(99, at(3), 5, 0, "192.0.2.7");
        }
        message(3, Timestamp::now().as_second() - 60, 5, 0, "10.1.1.1");
        database.execute("DELETE FROM meta WHERE name = 'messages_learnt_until'");
        // It rests between steps, which take long on a busy machine.
        let migrated = setup.run_within(Duration::from_secs(120), "migrate", &[]);
        assert!(shown(&migrated).contains("learnt from the messages: 16 days of senders."), "{}", shown(&migrated));
        let learnt = rows(&setup);
        let day = (at(16) / DAY).to_string();
        let first = ["alice@example.com", &day, "2", "20", "2", "20", "2", "20"];
        assert_eq!((learnt[0].len(), &learnt[0][1]), (16, &first.map(str::to_owned).to_vec()));
        let since = at(16).div_euclid(DAY) * DAY;
        assert_eq!(learnt[4], [[since.to_string()]], "what came before the gap does not tell where senders were since");
        assert_eq!(learnt[1], [["alice@example.com", "192.0.2.0/24", &(at(2) + 60).to_string()]]);
        message(3, at(2) + 120, 100, 0, "192.0.2.7");
        assert!(setup.run("migrate", &[]).status.success());
        assert_eq!(rows(&setup), learnt, "once");
        let daemon = setup.start();
        let mut client = daemon.connect();
        let mut ask = |recipients: u32, from: &str| {
            client.ask(&Request::data("alice@example.com", recipients).client_address(from))
        };
        assert_eq!(
            // The five of a minute ago count, too.
            [ask(35, "192.0.2.9"), ask(4, "10.1.1.1"), ask(1, "192.0.2.9")],
            [ACCEPTED, "REJECT far", "HOLD unusual"]
        );
    }

    pub fn what_the_old_program_counted_after_migrate_is_learnt_too(given: Setup) {
        assert!(given.run("migrate", &[]).status.success());
        let settings = given.database().settings();
        let settings = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let config = config::load(&Sources::new(None, settings, false)).unwrap().config;
        let now = at(0);
        let today = now / DAY;
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let mut store = Store::new(&config.database);
            let mut days = Vec::new();
            for (learnt, counting) in [
                (None, None),
                (Some(today - 5), Some(today - 3)),
                (Some(today - 5), None),
                (Some(today - 1), Some(today - 9)),
            ] {
                if let Some(day) = learnt {
                    store.set_messages_learnt(day).await.unwrap();
                } else {
                    store.set_meta("messages_learnt_until", "").await.unwrap();
                }
                store
                    .set_meta("counting_since", &counting.map_or(String::new(), |day| (day * DAY).to_string()))
                    .await
                    .unwrap();
                let range = store.days_of_messages(today - 35..today, now).await.unwrap();
                days.push((today - range.start, today - range.end));
            }
            store.close().await;
            assert_eq!(days, [(35, 0), (5, 2), (5, 0), (1, 8)]);
        });
    }

    pub fn a_network_that_is_new_to_the_daemon_is_not_where_the_logs_know_it(given: Setup) {
        let setup = setup(given);
        let file = write(&setup, "log", &logs(20, 2)[0]);
        let mut daemon = setup.start();
        let mut client = daemon.connect();
        for from in ["192.0.2.7", "10.1.1.1"] {
            assert_eq!(client.ask(&Request::data("ours@example.com", 1).client_address(from)), ACCEPTED);
        }
        let arrivals = |daemon: &crate::support::daemon::Daemon| {
            daemon.database().select(&["network"], "FROM arrivals ORDER BY network")
        };
        assert_eq!(arrivals(&daemon), [["10.1.1.0/24"], ["192.0.2.0/24"]]);
        assert!(learn(daemon.setup(), &[file], &[]).status.success());
        assert_eq!(arrivals(&daemon), [["10.1.1.0/24"]]);
        daemon.term();
        daemon.start_again();
        let mut client = daemon.connect();
        let mut ask = |from: &str| client.ask(&Request::data("ours@example.com", 4).client_address(from));
        assert_eq!([ask("192.0.2.1"), ask("10.1.1.2")], [ACCEPTED, "REJECT far"]);
    }
}

crate::on_each_database! {
    past_logs_of_each_kind_teach_what_is_usual_and_limits_act
    the_messages_of_an_adopted_database_teach_it_once
    what_the_old_program_counted_after_migrate_is_learnt_too
    a_network_that_is_new_to_the_daemon_is_not_where_the_logs_know_it
}

#[test]
fn check_says_until_when_limits_only_warn() {
    let setup = setup(Setup::sqlite());
    let database = setup.database();
    let check = || {
        let output = setup.run("check", &[]);
        assert!(output.status.success(), "{}", shown(&output));
        Vec::from_iter(shown(&output).lines().filter(|line| line.starts_with("LIMITS")).skip(1).map(str::to_owned))
    };
    // The settings are good without a database, and none is made.
    let [why] = &*check() else { panic!("one line") };
    assert!(why.contains("only warn until the database knows 14 days. Whether it does is not known: "), "{why}");
    assert!(!database.file().unwrap().exists());
    assert!(setup.run("migrate", &[]).status.success());
    let [usual, networks] = LIMITS.split(" HOLD unusual; ").collect::<Vec<_>>()[..] else { panic!("two limits") };
    let networks = networks.strip_suffix(" REJECT far").unwrap();
    let none =
        |limit: &str| format!("LIMITS: `{limit}` only warns until the database knows 14 days; it knows none yet");
    assert_eq!(check(), [none(usual), none(networks)]);
    let day = at(5).div_euclid(DAY);
    database.execute("INSERT INTO ratelimits (id, sender) VALUES (1, 'alice@example.com')");
    database.execute(&format!(
        "INSERT INTO days (ratelimit_id, day, messages, recipients, hour_messages, hour_recipients, day_messages, day_recipients) \
         VALUES (1, {day}, 1, 1, 1, 1, 1, 1)"
    ));
    database.execute(&format!("INSERT INTO meta (name, value) VALUES ('networks_since', '{}')", at(20)));
    let until = stamp((day + 14) * DAY, "%Y-%m-%d %H:%M");
    let told = check();
    assert!(told.len() == 1 && told[0].contains(&format!("`{usual}` only warns until {until}")), "{told:?}");
    let json = setup.run("check", &["--json"]);
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["only_warn"][0]["limit"], usual);
    assert_eq!(report["only_warn"][0]["acts_from"], stamp((day + 14) * DAY, "%Y-%m-%dT%H:%M:%SZ"));
    database.execute(&format!("UPDATE days SET day = {}", day - 10));
    assert_eq!(check(), ["LIMITS by what is usual and on new networks act: the database knows enough"]);
}

#[test]
fn half_a_log_teaches_nothing() {
    let setup = setup(Setup::sqlite());
    assert!(setup.run("migrate", &[]).status.success());
    let good = logs(20, 2)[0].clone();
    let odd = "Okt 21 08:00:00 mx postfix/qmgr[3]: 4F9D195432D: from=<a@b>, size=1, nrcpt=1 (queue active)\n";
    let old = logs(33, 25)[0].clone() + &logs(16, 2)[0];
    for (log, why) in [
        (good.clone() + odd, "its month is not English"),
        (String::new(), "There is not one line."),
        (old, "neither these logs nor the database know any mail"),
        (logs(20, 12)[0].clone(), "neither these logs nor the database know any mail"),
    ] {
        let output = learn(&setup, &[write(&setup, "log", &log)], &[]);
        assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
        assert!(shown(&output).contains("Nothing was learnt.") && shown(&output).contains(why), "{}", shown(&output));
        assert_eq!((setup.database().rows("days"), setup.database().rows("ratelimits")), (0, 0));
    }
    // One after the other, the latest first.
    for (first, last) in [(10, 2), (20, 10)] {
        let output = learn(&setup, &[write(&setup, "log", &logs(first, last)[0])], &[]);
        assert!(output.status.success(), "{}", shown(&output));
        assert_eq!(shown(&output).contains("only warns until"), first == 10, "{}", shown(&output));
    }
    assert_eq!(setup.database().rows("days"), 19);
}

#[test]
fn the_day_of_a_block_as_compromised_and_the_one_before_are_not_learnt() {
    let setup = setup(Setup::sqlite());
    assert!(setup.run("migrate", &[]).status.success());
    for (account, day, reason) in [
        ("Ours@example.com", 5, "compromised"),
        ("ours@example.com", 8, "manual"),
        ("@example.com", 12, "compromised"),
        ("@example.org", 15, "compromised"),
    ] {
        let since = at(day) + 3600;
        let block = format!("INSERT INTO blocks (account, since, reason) VALUES ('{account}', {since}, '{reason}')");
        setup.database().execute(&block);
    }
    let output = learn(&setup, &[write(&setup, "log", &logs(20, 2)[0])], &[]);
    assert!(output.status.success(), "{}", shown(&output));
    assert!(shown(&output).contains("or the day before, and so not usual: 4."), "{}", shown(&output));
    let days = setup.database().select(&["day"], DAYS);
    let learnt = (2..=20).rev().filter(|day| ![5, 6, 12, 13].contains(day));
    assert_eq!(days, Vec::from_iter(learnt.map(|day| vec![(at(day) / DAY).to_string()])));
}

#[test]
fn what_cannot_be_learnt_from_is_said() {
    let setup = setup(Setup::sqlite());
    for option in ["--each", "--suggest", "--quotas"] {
        let output = learn(&setup, &[PathBuf::from("/dev/null")], &[option]);
        assert_eq!(output.status.code(), Some(64), "{}", shown(&output));
    }
    let output = learn(&setup, &[PathBuf::from("/nonexistent/mail.log")], &[]);
    assert!(!output.status.success() && shown(&output).contains("cannot open /nonexistent/mail.log"));
}
