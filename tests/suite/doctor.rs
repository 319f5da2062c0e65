//! `doctor` and the database: it looks and changes nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::daemon::Setup;
use policyd_rate_guard::telemetry::counters::DATABASE_AWAY;

/// What is found of a set-up whose daemon does not run, with no Postfix.
fn found(setup: &Setup) -> String {
    let output = setup.run("doctor", &["--postconf", "/nonexistent"]);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn no_database_is_made() {
    let setup = Setup::sqlite();
    let file = setup.folder().join("database.db");
    let setup = setup.setting("DB_DATABASE", file.to_str().unwrap());
    let report = found(&setup);
    assert!(report.contains("PROBLEM not-migrated"), "{report}");
    assert!(!file.exists());
}

#[test]
fn a_cleanup_that_does_not_run_is_named_in_both_modes() {
    for (window, finding) in [("24h", "advice  not-cleaned"), ("reset", "PROBLEM not-reset")] {
        let setup = Setup::sqlite().setting("QUOTA_WINDOW", window);
        assert!(setup.run("migrate", &[]).status.success());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let reset = |hours: u64| {
            let at = now - hours * 3600;
            setup.database().execute("DELETE FROM meta WHERE name = 'last_reset'");
            setup.database().execute(&format!("INSERT INTO meta (name, value) VALUES ('last_reset', '{at}')"));
        };
        reset(25);
        assert!(!found(&setup).contains(finding));
        reset(27);
        let report = found(&setup);
        assert!(report.contains(finding) && report.contains("27 hours"), "{report}");
    }
}

/// It may not be the daemon's own view: its unit has a sandbox, and who only reads is not stopped by a full disk.
#[test]
fn a_database_that_only_the_daemon_cannot_use_is_told_by_its_metrics() {
    let daemon = Setup::sqlite().with_metrics().start();
    assert!(!found(daemon.setup()).contains("not-counting"));

    let good = Setup::sqlite();
    assert!(good.run("migrate", &[]).status.success());
    let nowhere = good.folder().join("missing/guard.db");
    let daemon = Setup::sqlite().on_file(&nowhere).with_metrics().start_without_tables();
    let listen = daemon.setup().metrics_address().to_string();
    let report = found(&good.setting("METRICS_LISTEN", &listen));
    assert!(report.contains("PROBLEM not-counting"), "{report}");
    assert!(report.contains("ReadWritePaths=") && report.contains("disk"), "{report}");
    // What doctor cannot reach either is one finding.
    let report = found(daemon.setup());
    assert!(report.contains("PROBLEM database") && !report.contains("not-counting"), "{report}");
}

#[test]
fn a_daemon_that_counts_in_another_file_is_found() {
    let with_systemctl = |setup: Setup| {
        let bin = setup.folder().join("bin");
        fs::create_dir(&bin).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        (setup.environment("PATH", &path), bin.join("systemctl"))
    };
    let (setup, its_systemctl) = with_systemctl(Setup::sqlite());
    let daemon = setup.start();
    daemon.await_counting();
    let (other, others_systemctl) = with_systemctl(Setup::sqlite());
    assert!(other.run("migrate", &[]).status.success());
    let script = format!("#!/bin/sh\ncase \"$*\" in *MainPID*) echo {};; esac\n", daemon.id());
    for (setup, systemctl, is_other) in [(daemon.setup(), its_systemctl, false), (&other, others_systemctl, true)] {
        fs::write(&systemctl, &script).unwrap();
        fs::set_permissions(&systemctl, Permissions::from_mode(0o755)).unwrap();
        let report = found(setup);
        assert_eq!(report.contains("PROBLEM other-file"), is_other, "{report}");
    }
}

#[test]
fn without_metrics_the_daemon_is_asked_by_what_it_told_systemd() {
    let setup = Setup::sqlite();
    assert!(setup.run("migrate", &[]).status.success());
    let bin = setup.folder().join("bin");
    fs::create_dir(&bin).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let setup = setup.environment("PATH", &path);
    for (status, away) in
        [(format!("5 connections; {DATABASE_AWAY}; 3 judged from memory"), true), ("5 connections".into(), false)]
    {
        let asked = "show --value -p ActiveState -p StatusText policyd-rate-guard.service";
        let script = format!("#!/bin/sh\ncase \"$*\" in '{asked}') printf 'active\\n%s\\n' '{status}';; esac\n");
        fs::write(bin.join("systemctl"), script).unwrap();
        fs::set_permissions(bin.join("systemctl"), Permissions::from_mode(0o755)).unwrap();
        let report = found(&setup);
        assert_eq!(report.contains("PROBLEM not-counting"), away, "{report}");
    }
}

/// A postconf that prints these main.cf, by the directory of an instance; empty for the first.
fn postconf(setup: &Setup, instances: &[(&str, &str)]) -> String {
    let cases = instances.iter().map(|(directory, main)| {
        let pattern = if directory.is_empty() { "-x".to_owned() } else { format!("-c*{directory}*-x") };
        format!("'{}') printf '%s\\n' '{main}';;\n", pattern.replace('*', " "))
    });
    let cases: String = cases.collect();
    let path = setup.folder().join("postconf");
    let script = format!("#!/bin/sh\ncase \"$*\" in\n{cases}*-Mx) echo 'smtp inet n - n - - smtpd';;\nesac\n");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_check_is_found_by_name_by_link_and_in_another_instance() {
    let setup = Setup::sqlite();
    let link = setup.folder().join("link");
    std::os::unix::fs::symlink(setup.folder(), &link).unwrap();
    let socket = setup.folder().join("here");
    fs::write(&socket, "").unwrap();
    let port = 10099;
    let setup = setup.setting("SOCKET", &format!("inet:localhost:{port} unix:{}", socket.display()));
    let asked = |check: &str| format!("smtpd_data_restrictions = check_policy_service {check}");
    let (by_name, by_link) =
        (asked(&format!("inet:LOCALHOST:{port}")), asked(&format!("unix:{}/here", link.display())));
    let other = "multi_instance_directories = /etc/postfix-out";
    for (instances, is_asked) in [
        (vec![("", by_name.as_str())], true),
        (vec![("", by_link.as_str())], true),
        (vec![("", other), ("/etc/postfix-out", by_name.as_str())], true),
        (vec![("", other), ("/etc/postfix-out", "")], false),
        (vec![("", asked("inet:localhost:1").as_str())], false),
    ] {
        let output = setup.run("doctor", &["--postconf", &postconf(&setup, &instances)]);
        let report = String::from_utf8(output.stdout).unwrap();
        assert_eq!(report.contains("PROBLEM not-asked"), !is_asked, "{instances:?}: {report}");
    }
}
