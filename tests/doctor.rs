//! `doctor` and the database: it looks and changes nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use support::daemon::Setup;

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
