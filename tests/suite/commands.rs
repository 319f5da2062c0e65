//! The command line: what each command does, prints and ends with.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::{ACCEPTED, BLOCKED, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::scratch::Account;

const ALICE: &str = "alice@example.com";

/// Exit statuses of sysexits(3).
const USAGE: i32 = 64;
const UNAVAILABLE: i32 = 69;
const CONFIG: i32 = 78;

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a command that went well printed.
fn prints(setup: &Setup, command: &str, arguments: &[&str]) -> String {
    let output = setup.run(command, arguments);
    assert_eq!(output.status.code(), Some(0), "{command} {arguments:?}: {}{}", printed(&output), said(&output));
    printed(&output)
}

/// As [`prints`], with `--json`.
fn prints_json(setup: &Setup, command: &str, arguments: &[&str]) -> Value {
    let text = prints(setup, command, &[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What a command that did not go well said.
fn fails(setup: &Setup, command: &str, arguments: &[&str], status: i32) -> String {
    let output = setup.run(command, arguments);
    assert_eq!(output.status.code(), Some(status), "{command} {arguments:?}: {}{}", printed(&output), said(&output));
    assert!(printed(&output).is_empty(), "{}", printed(&output));
    said(&output)
}

mod query {
    use super::*;

    const ALICES: [&str; 2] = ["--sasl-username", ALICE];

    #[test]
    fn it_prints_the_action_and_says_that_it_counted() {
        let daemon = Setup::sqlite().setting("QUOTA", "3").start();
        let output = daemon.setup().run("query", &[&ALICES[..], &["--recipients", "3"]].concat());
        assert_eq!((output.status.code(), printed(&output).as_str()), (Some(0), "action=DUNNO\n"));
        assert!(said(&output).contains("was counted"), "{}", said(&output));
        assert_eq!(daemon.database().counters(ALICE).unwrap().rcpt_counter, 3);
        assert_eq!(prints(daemon.setup(), "query", &ALICES), format!("action={BLOCKED}\n"), "a refusal is an answer");
        assert_eq!(daemon.database().counters(ALICE).unwrap().rcpt_counter, 4);
    }

    #[test]
    fn a_dry_run_asks_without_being_counted() {
        let daemon = Setup::sqlite().setting("QUOTA", "3").start();
        let dry = [&ALICES[..], &["--dry-run", "--recipients", "4"]].concat();
        let output = daemon.setup().run("query", &dry);
        assert_eq!(printed(&output), format!("action={BLOCKED}\n"));
        assert!(said(&output).contains("Nothing was counted"), "{}", said(&output));
        assert_eq!(daemon.database().rows("ratelimits"), 0);
    }

    #[test]
    fn any_attribute_may_be_given_and_wins() {
        let daemon = Setup::sqlite().start();
        let attributes =
            ["sasl_username=bob=x@example.com", "sender=<>", "queue_id=4F9D1A", "client_name=mx.example.net"];
        let arguments: Vec<&str> = attributes.iter().flat_map(|attribute| ["--attribute", attribute]).collect();
        prints(daemon.setup(), "query", &[&ALICES[..], &arguments].concat());
        let messages = daemon.database().messages("bob=x@example.com");
        assert_eq!(messages.len(), 1);
        assert_eq!((messages[0].msgid.as_str(), messages[0].client_name.as_str()), ("4F9D1A", "mx.example.net"));
        assert_eq!(daemon.database().counters(ALICE), None);
        let said = fails(daemon.setup(), "query", &["--attribute", "no-equals-sign"], USAGE);
        assert!(said.contains("NAME=VALUE"), "{said}");
    }

    #[test]
    fn json_is_for_programs() {
        let daemon = Setup::sqlite().setting("QUOTA", "0").start();
        assert_eq!(prints_json(daemon.setup(), "query", &ALICES), json!({"action": BLOCKED, "counted": true}));
        let dry = [&ALICES[..], &["--dry-run"]].concat();
        assert_eq!(prints_json(daemon.setup(), "query", &dry), json!({"action": BLOCKED, "counted": false}));
    }

    #[test]
    fn every_spelling_of_a_socket_is_taken() {
        let daemon = Setup::sqlite().start();
        let (path, tcp) = (daemon.setup().unix_path().display().to_string(), daemon.setup().tcp_address());
        let written =
            [path.clone(), format!("unix:{path}"), format!("127.0.0.1,{}", tcp.port()), format!("inet:{tcp}")];
        for socket in written {
            let arguments = [&ALICES[..], &["--socket", &socket]].concat();
            assert_eq!(prints(daemon.setup(), "query", &arguments), "action=DUNNO\n", "{socket}");
        }
        let said = fails(daemon.setup(), "query", &["--socket", "nonsense"], USAGE);
        assert!(said.contains("--socket nonsense: write 127.0.0.1,10033"), "{said}");
    }

    #[test]
    fn without_a_daemon_it_says_what_it_tried_and_what_to_do() {
        let setup = Setup::sqlite();
        let said = fails(&setup, "query", &ALICES, UNAVAILABLE);
        let tried = format!("cannot ask the daemon on unix:{}", setup.unix_path().display());
        assert!(said.contains(&tried) && said.contains("is the daemon running?"), "{said}");
        let port = setup.tcp_address().to_string();
        let said = fails(&setup, "query", &["--socket", &port], UNAVAILABLE);
        assert!(said.contains(&format!("inet:{port}")) && said.contains("is the daemon running?"), "{said}");
    }

    #[test]
    fn a_daemon_that_hangs_is_given_up() {
        let daemon = Setup::sqlite().start();
        daemon.stop();
        let begun = Instant::now();
        let said = fails(daemon.setup(), "query", &[&ALICES[..], &["--timeout", "200ms"]].concat(), UNAVAILABLE);
        assert!(said.contains("no answer in time"), "{said}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

mod check {
    use super::*;

    #[test]
    fn good_settings_are_shown_with_where_each_comes_from() {
        let setup = Setup::sqlite().setting("QUOTA", "77").environment("LOG_LEVEL", "DEBUG");
        let shown = prints(&setup, "check", &[]);
        let line = |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("QUOTA ").contains("77") && line("QUOTA ").contains("settings.env:"), "{}", line("QUOTA "));
        assert!(line("LOG_LEVEL").ends_with("environment"), "{}", line("LOG_LEVEL"));
        assert!(line("SOCKET_MODE").ends_with("default"), "{}", line("SOCKET_MODE"));
        assert!(shown.contains("The settings are good"), "{shown}");
        assert!(!setup.database().file().unwrap().exists(), "it opens nothing");
    }

    #[test]
    fn every_error_is_told_with_its_line_and_unknown_names_with_the_nearest_known() {
        let setup = Setup::sqlite().setting("QOUTA", "5").setting("QUOTA", "many").setting("SOCKET_MODE", "rw");
        let output = setup.run("check", &[]);
        assert_eq!(output.status.code(), Some(CONFIG));
        let shown = printed(&output);
        assert!(shown.contains("error: QUOTA=many: ") && shown.contains("error: SOCKET_MODE=rw: "), "{shown}");
        assert!(shown.contains("warning: QOUTA") && shown.contains("QUOTA?"), "{shown}");
        assert!(shown.contains("The settings cannot be used: 2 errors"), "{shown}");

        let output = setup.run("check", &["--json"]);
        assert_eq!(output.status.code(), Some(CONFIG));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["ok"], json!(false));
        let findings = report["findings"].as_array().unwrap();
        let quota = findings.iter().find(|finding| finding["name"] == "QUOTA").unwrap();
        assert_eq!((&quota["severity"], &quota["value"]), (&json!("error"), &json!("many")));
        assert!(quota["line"].is_u64() && quota["file"].as_str().unwrap().ends_with("settings.env"), "{quota}");
    }

    #[test]
    fn a_list_that_the_daemon_would_refuse_is_an_error() {
        let setup = Setup::sqlite();
        let (allow, deny) = (setup.folder().join("allow"), setup.folder().join("deny"));
        fs::write(&allow, "alice@example.com\n*@example.net\n").unwrap();
        let setup = setup
            .setting("QOUTA", "5")
            .setting("ALLOWLIST", &allow.display().to_string())
            .setting("DENYLIST", &deny.display().to_string());
        let output = setup.run("check", &[]);
        assert_eq!(output.status.code(), Some(CONFIG));
        let shown = printed(&output);
        assert!(shown.contains("allow:2: error: ALLOWLIST: "), "{shown}");
        assert!(shown.contains("deny: error: DENYLIST: names a file that cannot be read"), "{shown}");
        assert!(shown.contains("warning: QOUTA") && shown.contains("2 errors, 2 warnings."), "{shown}");

        fs::write(&allow, "alice@example.com\n").unwrap();
        fs::write(&deny, "mallory@example.com hours=Mon-Fri,22:00-06:00\n").unwrap();
        assert!(prints(&setup, "check", &[]).contains("The settings are good, with 2 warnings."));
    }

    /// The daemon reads the lists as USER, at its start and at each reload.
    #[test]
    fn a_list_is_read_as_the_daemons_user() {
        if Account::when_root("nobody").is_none() {
            return;
        }
        let of_root = tempfile::NamedTempFile::new().unwrap();
        let setup = Setup::sqlite().setting("ALLOWLIST", &of_root.path().display().to_string());
        let output = setup.run("check", &["--quiet"]);
        assert_eq!(output.status.code(), Some(CONFIG));
        assert!(printed(&output).contains("ALLOWLIST: names a file that cannot be read"), "{}", printed(&output));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let setup = Setup::sqlite().setting("DB_PASSWORD", "hunter2-hunter2").setting("STATUS_TOKEN", "hunter2-token");
        for arguments in [&[][..], &["--json"]] {
            let shown = prints(&setup, "check", arguments);
            assert!(shown.contains("DB_PASSWORD") && !shown.contains("hunter2"), "{shown}");
        }
    }
}

mod migrate {
    use super::*;

    #[test]
    fn it_makes_the_tables_once_and_lists_them() {
        let setup = Setup::sqlite();
        let steps = prints_json(&setup, "migrate", &["--status"]);
        let steps = steps.as_array().unwrap();
        assert!(steps.len() >= 6 && steps.iter().all(|step| step["applied"] == json!(false)), "{steps:?}");
        assert!(prints(&setup, "migrate", &["--status"]).contains("pending  0001 ratelimits"));
        let done = prints(&setup, "migrate", &[]);
        assert_eq!(done.lines().filter(|line| line.starts_with("done     00")).count(), steps.len(), "{done}");
        assert_eq!(setup.database().rows("ratelimits"), 0);
        assert!(prints(&setup, "migrate", &[]).starts_with("Nothing to do"));
        assert!(!prints(&setup, "migrate", &["--status"]).contains("pending"));
    }

    #[test]
    fn what_root_makes_belongs_to_the_daemons_user() {
        let setup = Setup::sqlite();
        prints(&setup, "migrate", &[]);
        let owner = fs::metadata(setup.database().file().unwrap()).unwrap().uid();
        let expected =
            Account::when_root("nobody").map_or_else(|| nix::unistd::geteuid().as_raw(), |user| user.uid.as_raw());
        assert_eq!(owner, expected);
    }

    #[test]
    fn who_may_not_open_the_database_is_told_who_may() {
        let Some(nobody) = Account::when_root("nobody") else { return };
        let (uid, gid) = (format!("--reuid={}", nobody.uid), format!("--regid={}", nobody.gid));
        let closed = tempfile::tempdir().unwrap();
        // As the packages' state directory is: where a missing file could be seen, --status would list what is pending.
        fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let file = closed.path().join("guard.db");
        let setup = Setup::sqlite().on_file(&file).setting("USER", "daemon");
        let setup = setup.through(["setpriv", &uid, &gid, "--clear-groups"]);
        for (command, arguments) in [("top", &[][..]), ("cleanup", &[]), ("migrate", &["--status"])] {
            let said = fails(&setup, command, arguments, UNAVAILABLE);
            assert!(said.contains(file.to_str().unwrap()), "{command}: {said}");
            assert!(
                said.trim_end().ends_with("; if it is a matter of permission, run this as root or daemon"),
                "{command}: {said}"
            );
        }
        let said = fails(&setup.setting("USER", &nobody.name), "top", &[], UNAVAILABLE);
        assert!(!said.contains("run this as root"), "USER cannot be told to be USER: {said}");
    }

    #[test]
    fn a_database_that_cannot_be_opened_is_named() {
        let setup = Setup::sqlite();
        let nowhere = setup.folder().join("missing/guard.db");
        let setup = setup.setting("DB_DATABASE", &nowhere.display().to_string());
        for (command, arguments) in [("migrate", &[][..]), ("migrate", &["--status"]), ("cleanup", &[])] {
            let said = fails(&setup, command, arguments, UNAVAILABLE);
            assert!(said.contains(&nowhere.display().to_string()), "{command}: {said}");
        }
    }
}

mod cleanup {
    use super::*;

    /// Three senders over their quota: one raised for the day, one locked, one without a login and long gone.
    fn daemon() -> Daemon {
        let daemon = Setup::sqlite().setting("MESSAGE_RETENTION", "30").start();
        let row = |sender: &str, quota: u32, locked: u8, updated: &str| {
            format!(
                "INSERT INTO ratelimits (sender, quota, quota_reset, quota_locked, msg_counter, rcpt_counter, msg_total,
                    rcpt_total, updated_at) VALUES ('{sender}', {quota}, 10, {locked}, 5, 50, 500, 5000, {updated});"
            )
        };
        let message = |sender: &str, age: &str| {
            format!(
                "INSERT INTO messages (sender, rcpt_count, blocked, created_at)
                    VALUES ('{sender}', 1, 0, datetime('now', '-{age}'));"
            )
        };
        daemon.database().execute(
            &[
                row("raised@example.com", 40, 0, "'2020-02-02 02:02:02'"),
                row("locked@example.com", 40, 1, "'2020-02-02 02:02:02'"),
                row("<gone@example.com>", 10, 0, "datetime('now', '-8 days')"),
                row("[192.0.2.1]", 10, 0, "datetime('now', '-8 days')"),
                row("<here@example.com>", 10, 0, "datetime('now', '-6 days')"),
                message("old", "31 days"),
                message("young", "29 days"),
            ]
            .concat(),
        );
        daemon
    }

    #[test]
    fn counters_go_to_0_and_quotas_back_unless_locked_while_mail_goes_on() {
        let daemon = daemon();
        let mut client = daemon.connect();
        assert_eq!(client.ask(&Request::data("raised@example.com", 1)), BLOCKED);
        let touched = daemon.database().select(&["sender", "updated_at"], "FROM ratelimits ORDER BY sender");
        assert_eq!(
            prints(daemon.setup(), "cleanup", &[]),
            "5 senders reset; 1 messages deleted; 2 idle rows deleted; 0 rows of history deleted\n"
        );
        for (sender, quota) in [("raised@example.com", 10), ("locked@example.com", 40)] {
            let row = daemon.database().counters(sender).unwrap();
            assert_eq!((row.msg_counter, row.rcpt_counter, row.quota), (0, 0, quota), "{sender}");
            assert!(row.msg_total >= 500 && row.rcpt_total >= 5000, "totals stay: {row:?}");
        }
        let after = daemon.database().select(&["sender", "updated_at"], "FROM ratelimits ORDER BY sender");
        assert!(after.iter().all(|row| touched.contains(row)), "updated_at stays: {touched:?}, {after:?}");
        assert_eq!(client.ask(&Request::data("raised@example.com", 10)), ACCEPTED);
        assert_eq!(client.ask(&Request::data("raised@example.com", 1)), BLOCKED);
    }

    #[test]
    fn messages_are_deleted_by_age_and_rows_of_who_has_no_login_when_idle() {
        let daemon = daemon();
        let report = prints_json(daemon.setup(), "cleanup", &[]);
        assert_eq!(
            report,
            json!({"senders_reset": 5, "messages_deleted": 1, "idle_rows_deleted": 2, "history_deleted": 0})
        );
        assert_eq!(daemon.database().select(&["sender"], "FROM messages"), [["young"]]);
        let left = daemon.database().select(&["sender"], "FROM ratelimits ORDER BY sender");
        assert_eq!(left, [["<here@example.com>"], ["locked@example.com"], ["raised@example.com"]]);
    }

    #[test]
    fn messages_are_kept_for_ever_when_retention_is_0() {
        let mut daemon = daemon();
        daemon.change_setting("MESSAGE_RETENTION", "0");
        prints(daemon.setup(), "cleanup", &[]);
        assert_eq!(daemon.database().rows("messages"), 2);
    }

    #[test]
    fn of_several_timers_one_resets() {
        let daemon = daemon();
        let reset = |arguments: &[&str]| prints_json(daemon.setup(), "cleanup", arguments)["senders_reset"].clone();
        assert_eq!(reset(&["--unless-within", "20h"]), json!(5));
        daemon.connect().ask(&Request::data(ALICE, 1));
        assert_eq!(reset(&["--unless-within", "20h"]), json!(null));
        assert_eq!(daemon.database().counters(ALICE).unwrap().rcpt_counter, 1);
        daemon.database().execute("UPDATE meta SET value = value - 21 * 3600 WHERE name = 'last_reset'");
        assert_eq!(reset(&["--unless-within", "20h"]), json!(1));
        daemon.connect().ask(&Request::data(ALICE, 1));
        assert_eq!(reset(&[]), json!(1), "without it, each time");
    }

    #[test]
    fn the_packaged_timer_resets_again_the_next_day() {
        let daemon = daemon();
        let unit = include_str!("../../etc/systemd/policyd-rate-guard-cleanup.service");
        let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let packaged: Vec<&str> = command.split(' ').skip(2).collect();
        let reset = || prints_json(daemon.setup(), "cleanup", &packaged)["senders_reset"].clone();
        assert_eq!(reset(), json!(5), "never before");
        daemon.connect().ask(&Request::data(ALICE, 1));
        let yesterday = jiff::Zoned::now().start_of_day().unwrap().timestamp().as_second() - 1;
        daemon.database().execute(&format!("UPDATE meta SET value = {yesterday} WHERE name = 'last_reset'"));
        assert_eq!(reset(), json!(1), "however short a time ago that was");
    }

    #[test]
    fn a_duration_without_a_unit_is_a_mistake() {
        let said = fails(&Setup::sqlite(), "cleanup", &["--unless-within", "20"], USAGE);
        assert!(said.contains("20h") && said.contains("today"), "{said}");
    }
}

mod the_command_line {
    use super::*;

    #[test]
    fn completions_are_printed_for_bash_zsh_and_fish() {
        for (shell, mark) in [("bash", "complete -F"), ("zsh", "#compdef policyd-rate-guard"), ("fish", "complete -c")]
        {
            let script = prints(&Setup::sqlite(), "completions", &[shell]);
            assert!(script.contains(mark), "{shell}: {script}");
            for command in ["serve", "cleanup", "migrate", "check", "query", "completions"] {
                assert!(script.contains(command), "{shell} does not know {command}");
            }
        }
        fails(&Setup::sqlite(), "completions", &["csh"], USAGE);
    }

    #[test]
    fn what_is_no_command_ends_with_64_and_help_and_version_with_0() {
        let run = |arguments: &[&str]| {
            Command::new(env!("CARGO_BIN_EXE_policyd-rate-guard")).args(arguments).output().unwrap()
        };
        for wrong in [&[][..], &["dance"], &["serve", "--loudly"], &["query", "--recipients", "-1"]] {
            assert_eq!(run(wrong).status.code(), Some(USAGE), "{wrong:?}: {}", said(&run(wrong)));
            assert!(said(&run(wrong)).contains("Usage:"), "{}", said(&run(wrong)));
        }
        let version = run(&["--version"]);
        assert_eq!(version.status.code(), Some(0));
        assert_eq!(printed(&version), concat!("policyd-rate-guard ", env!("CARGO_PKG_VERSION"), "\n"));
        let help = run(&["--help"]);
        assert!(help.status.success() && printed(&help).contains("Answer policy requests"), "{}", printed(&help));
    }

    #[test]
    fn a_settings_file_that_is_not_there_is_an_error_for_every_command() {
        for command in ["serve", "cleanup", "migrate", "check", "query"] {
            let output = Command::new(env!("CARGO_BIN_EXE_policyd-rate-guard"))
                .args(["--config", "/nonexistent/settings.env", command])
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(CONFIG), "{command}");
            assert!((printed(&output) + &said(&output)).contains("/nonexistent/settings.env"), "{command}");
        }
    }
}
