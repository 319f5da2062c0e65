//! `import policyd`: settings, lists and the last 24 hours, shown first, and safe to repeat.

use std::fs;
use std::path::PathBuf;

use crate::support::client::{ACCEPTED, Request};
use crate::support::daemon::Setup;

const POLICYD: &str = "port=9093\nbind=127.0.0.1\ndefaultquota=15\ndbuser=policyd_daemon\ndbpass=it's a=secret\n\
                       dbhost=127.0.0.1\ndbport=3306\ndbname=policyd\npolicy_table=events\nwhitelist=boss\nblacklist=mallory\n";

/// policyd's file beside our settings file, and the arguments that name both.
fn arguments(setup: &Setup, policyd: &str) -> (PathBuf, Vec<String>) {
    let (theirs, ours) = (setup.folder().join("policyd.cfg"), setup.folder().join("settings.env"));
    fs::write(&theirs, policyd).unwrap();
    let words = ["policyd", "--config", theirs.to_str().unwrap(), "--into", ours.to_str().unwrap()];
    (ours.clone(), words.map(str::to_owned).to_vec())
}

fn import(setup: &Setup, arguments: &[String], more: &[&str]) -> (bool, String) {
    let all: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let output = setup.run("import", &all);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn settings_and_lists_are_shown_then_written_then_left_alone() {
    let setup = Setup::sqlite();
    let (ours, arguments) = arguments(&setup, POLICYD);
    let (done, shown) = import(&setup, &arguments, &[]);
    assert!(done, "{shown}");
    for line in [
        "QUOTA=15",
        "QUOTA_WINDOW=24h",
        "ListenStream=127.0.0.1:9093",
        "boss hours=Mon-Sat,07:00-19:59",
        "mallory",
        "--apply",
    ] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
    assert!(shown.contains("has DB_DATABASE: the database that it names is kept"), "{shown}");
    assert!(!fs::read_to_string(&ours).unwrap().contains("QUOTA_WINDOW"), "nothing was changed");
    assert!(!setup.folder().join("allowlist").exists());

    let (done, applied) = import(&setup, &arguments, &["--apply"]);
    assert!(done, "{applied}");
    assert!(applied.contains("systemctl reload policyd-rate-guard.service"), "{applied}");
    assert!(!shown.contains("systemctl"), "{shown}");
    let written = fs::read_to_string(&ours).unwrap();
    assert!(written.contains("QUOTA_STEPS='1x HOLD quota exceeded; 2x REJECT max quota exceeded'\n"), "{written}");
    assert!(written.contains("SENDER_STRIP_DOMAIN=True\n") && written.contains("LOG_CONSOLE='True'\n"), "{written}");
    assert_eq!(fs::read_to_string(setup.folder().join("denylist")).unwrap(), "mallory\n");
    assert!(setup.folder().join("settings.env.before-import").exists());

    // What the daemon reads, in a file that `run` does not write anew.
    let taken = setup.folder().join("taken.env");
    fs::copy(&ours, &taken).unwrap();
    let again: Vec<String> = arguments.iter().map(|word| word.replace("settings.env", "taken.env")).collect();
    let (done, second) = import(&setup, &again, &["--apply"]);
    assert!(done && second.matches("nothing to do").count() == 3 && !second.contains("systemctl"), "{second}");
    assert_eq!(fs::read_to_string(&taken).unwrap(), written, "the second time nothing changes");

    fs::write(setup.folder().join("policyd.cfg"), POLICYD.replace("quota=15", "quota=16")).unwrap();
    let (done, quota) = import(&setup, &again, &["--apply"]);
    assert!(done && quota.contains("systemctl reload policyd-rate-guard.service"), "{quota}");
}

#[test]
fn a_new_settings_file_gets_policyds_database_and_no_secret_is_shown() {
    let setup = Setup::sqlite();
    let (ours, arguments) = arguments(&setup, POLICYD);
    let new: Vec<String> = arguments.iter().map(|word| word.replace("settings.env", "new.env")).collect();
    let (done, applied) = import(&setup, &new, &["--apply"]);
    assert!(done, "{applied}");
    assert!(applied.contains("DB_PASSWORD=(secret)") && !applied.contains("it's"), "{applied}");
    let written = fs::read_to_string(ours.with_file_name("new.env")).unwrap();
    assert!(written.contains("DB_DRIVER=mysql\n") && written.contains("DB_PASSWORD='it\\'s a=secret'\n"), "{written}");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(ours.with_file_name("new.env")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn what_cannot_be_taken_over_is_said_and_changes_nothing() {
    let setup = Setup::sqlite();
    let (ours, arguments) = arguments(&setup, "defaultquota=a lot\nport=1\n");
    let (done, said) = import(&setup, &arguments, &["--apply"]);
    assert!(!done && said.contains("defaultquota=a lot is not a whole number"), "{said}");
    fs::write(setup.folder().join("policyd.cfg"), "port=not a port\n").unwrap();
    let (done, said) = import(&setup, &arguments, &["--apply"]);
    assert!(!done && said.contains("port=not a port is not a port"), "{said}");
    assert!(!fs::read_to_string(&ours).unwrap().contains("not a port"));
    fs::remove_file(setup.folder().join("policyd.cfg")).unwrap();
    let (done, said) = import(&setup, &arguments, &[]);
    assert!(!done && said.contains("cannot read policyd's settings"), "{said}");
}

#[test]
fn our_own_file_is_not_taken_for_policyds() {
    let setup = Setup::sqlite();
    // The same as `policyd-rate-guard --config settings.env import policyd`.
    let (done, said) = import(&setup, &["policyd".to_owned()], &["--apply"]);
    assert!(
        !done && said.contains("it is our settings file; here --config names policyd's, and --into ours"),
        "{said}"
    );
}

mod events {
    use super::*;
    use crate::support::postgres::Postgres;
    use crate::support::server::Server;

    /// policyd's own table, in a database that its user may use, and its settings.
    fn policyd(server: &impl Server, name: &str) -> String {
        server.administer(&format!(
            "CREATE DATABASE {name}; CREATE USER {name}@'%' IDENTIFIED BY 'secret'; \
             GRANT ALL PRIVILEGES ON {name}.* TO {name}@'%'; \
             CREATE TABLE {name}.events (ts DATETIME(3) NOT NULL \
             DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), sasl_username char(8) NOT NULL DEFAULT '', sender char(80) NOT NULL DEFAULT '', \
             client_address char(80) NOT NULL DEFAULT '', recipient_count int(6) DEFAULT NULL, \
             PRIMARY KEY (ts, sasl_username, sender, client_address)) ENGINE=InnoDB DEFAULT CHARSET=latin1"
        ));
        let address = server.address();
        format!(
            "defaultquota=15\ndbuser={name}\ndbpass=secret\ndbhost={}\ndbport={}\ndbname={name}\n",
            address.ip(),
            address.port()
        )
    }

    /// Events of a login, one each second from `hours` hours ago on.
    fn events(server: &impl Server, name: &str, login: &str, hours: u32, count: u32, recipients: u32) {
        let rows: Vec<String> = (1..=count)
            .map(|second| {
                format!(
                    "(NOW(3) - INTERVAL {hours} HOUR + INTERVAL {second} SECOND, '{login}', 'a@example.com', '192.0.2.1', \
                     {recipients})"
                )
            })
            .collect();
        server.administer(&format!("INSERT INTO {name}.events VALUES {}", rows.join(", ")));
    }

    fn a_switched_server_does_not_start_at_zero<S: Server>() {
        let server = S::shared();
        for (name, setup) in [
            ("to_sqlite", Setup::sqlite()),
            ("to_mysql", Setup::on(&server.database())),
            ("to_postgres", Setup::on(&Postgres::shared().database())),
        ] {
            let config = policyd(server, name);
            events(server, name, "alice", 2, 3, 4);
            events(server, name, "alice", 30, 3, 4);
            (0..120).for_each(|number| events(server, name, &format!("user{number}"), 1, 1, 1));
            let setup = setup
                .setting("QUOTA", "15")
                .setting("QUOTA_WINDOW", "24h")
                .setting("QUOTA_STEPS", "1x HOLD quota exceeded")
                .setting("SENDER_STRIP_DOMAIN", "True");
            let daemon = setup.start();
            let mut client = daemon.connect();
            assert_eq!(client.ask(&Request::data("alice@example.com", 1)), ACCEPTED);
            let (_, arguments) = arguments(daemon.setup(), &config);
            let (done, shown) = import(daemon.setup(), &arguments, &["--events"]);
            assert!(done && shown.contains("132 recipients in 123 messages of 121 logins to be taken over"), "{shown}");
            assert_eq!(daemon.database().counters("user7"), None);
            let (done, applied) = import(daemon.setup(), &arguments, &["--events", "--apply"]);
            assert!(done && applied.contains("132 recipients in 123 messages of 121 logins taken over"), "{applied}");
            // 12 of policyd's and one of ours: the running daemon has noticed.
            assert_eq!(client.ask(&Request::data("alice@example.com", 3)), "HOLD quota exceeded", "{name}");
            let alice = daemon.database().counters("alice").unwrap();
            assert_eq!((alice.msg_total, alice.rcpt_total), (5, 16));
            assert_eq!(daemon.database().counters("user119").unwrap().rcpt_total, 1);

            let (done, again) = import(daemon.setup(), &arguments, &["--events", "--apply"]);
            assert!(done && again.contains("0 recipients in 0 messages of 0 logins taken over"), "{again}");
            assert_eq!(daemon.database().counters("alice").unwrap().rcpt_total, 16, "only once");
        }
    }

    fn an_interrupted_import_goes_on_where_it_was<S: Server>() {
        let server = S::shared();
        let config = policyd(server, "interrupted");
        (0..200).for_each(|number| events(server, "interrupted", &format!("u{number:03}"), 1, 1, 2));
        let setup = Setup::sqlite().setting("QUOTA_WINDOW", "24h").setting("SENDER_STRIP_DOMAIN", "True");
        assert!(setup.run("migrate", &[]).status.success());
        let (_, arguments) = arguments(&setup, &config);
        // The row of one of the last is refused, as if the import had died there.
        setup.database().execute(
            "CREATE TRIGGER no_more BEFORE INSERT ON ratelimits WHEN new.sender = 'u120' BEGIN SELECT RAISE(ABORT, 'no'); END",
        );
        let (done, said) = import(&setup, &arguments, &["--events", "--apply"]);
        assert!(!done, "{said}");
        assert_eq!(setup.database().rows("ratelimits"), 100);
        setup.database().execute("DROP TRIGGER no_more");
        events(server, "interrupted", "u000", 0, 1, 1);
        let (done, said) = import(&setup, &arguments, &["--events", "--apply"]);
        assert!(done && said.contains("200 recipients in 100 messages of 100 logins taken over"), "{said}");
        let total = setup.database().select(&["COUNT(*)", "SUM(rcpt_total)"], "FROM ratelimits");
        assert_eq!(total, [["200", "400"]], "each once");
    }

    crate::on_mariadb_and_mysql! { a_switched_server_does_not_start_at_zero an_interrupted_import_goes_on_where_it_was }
}

#[test]
fn policyd_rate_limits_settings_and_quotas_are_taken_over_and_what_is_not_is_status_1() {
    let setup = Setup::sqlite();
    let (theirs, ours) = (setup.folder().join("policyd-rate-limit.yaml"), setup.folder().join("settings.env"));
    let file = "limits: [[2, 60], [3, 86400]]\nfail_action: \"defer_if_permit too much\"\n\
                limits_by_id:\n  Shop@example.com: [[2, 60], [5000, 86400]]\n  boss@example.com: []\n";
    fs::write(&theirs, file).unwrap();
    let words = ["policyd-rate-limit", "--config", theirs.to_str().unwrap(), "--into", ours.to_str().unwrap()];
    let arguments = words.map(str::to_owned).to_vec();
    let (done, shown) = import(&setup, &arguments, &[]);
    // In a file that `run` does not write anew.
    let taken = setup.folder().join("taken.env");
    fs::copy(&ours, &taken).unwrap();
    let (ours, arguments) =
        (taken, arguments.iter().map(|word| word.replace("settings.env", "taken.env")).collect::<Vec<_>>());
    assert!(done && shown.contains("QUOTA=3") && shown.contains("Quota of shop@example.com: 5000"), "{shown}");
    assert!(!fs::read_to_string(&ours).unwrap().contains("QUOTA_WINDOW"), "nothing was changed");
    let (done, applied) = import(&setup, &arguments, &["--apply"]);
    assert!(done && applied.contains("systemctl re"), "{applied}");
    let written = fs::read_to_string(&ours).unwrap();
    assert!(written.contains("LIMITS='2 recipients/1m DEFER_IF_PERMIT too much'\n"), "{written}");
    let listed = String::from_utf8(setup.run("sender", &["list", "--json"]).stdout).unwrap();
    for sender in ["shop@example.com", "boss@example.com"] {
        assert!(listed.contains(sender), "{listed}");
    }
    let (done, second) = import(&setup, &arguments, &["--apply"]);
    assert!(done && second.contains("nothing to do") && !second.contains("systemctl"), "{second}");

    fs::write(&theirs, file.to_owned() + "sql_limits_by_id: SELECT 1\n").unwrap();
    let (done, lost) = import(&setup, &arguments, &[]);
    assert!(!done && lost.contains("Cannot be taken over: sql_limits_by_id"), "{lost}");
}
