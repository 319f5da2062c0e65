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

/// The tables of iRedAPD and of cluebringer as their own files make them, on the servers that they run on.
mod tables {
    use super::*;
    use crate::support::database::Database;
    use crate::support::server::Server;

    /// Its settings file, in the folder of a setup.
    fn config(setup: &Setup, name: &str, text: &str) -> Vec<String> {
        let file = setup.folder().join(name);
        fs::write(&file, text).unwrap();
        // In a file that `run` does not write anew.
        let ours = setup.folder().join("taken.env");
        fs::copy(setup.folder().join("settings.env"), &ours).unwrap();
        ["--config", file.to_str().unwrap(), "--into", ours.to_str().unwrap()].map(str::to_owned).to_vec()
    }

    fn value(database: &Database, name: &str) -> String {
        database.settings().into_iter().find(|(known, _)| known == name).unwrap().1
    }

    /// Where policies and tests agree on the time: the counts of a period that goes on.
    fn now() -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        i64::try_from(since.as_secs()).unwrap()
    }

    /// A setup whose settings file is there, on its own tables.
    fn ready() -> Setup {
        let setup = Setup::sqlite().setting("QUOTA_WINDOW", "1h");
        assert!(setup.run("migrate", &[]).status.success());
        setup
    }

    fn imported(setup: &Setup, program: &str, arguments: &[String], more: &[&str]) -> (Option<i32>, String) {
        let all: Vec<&str> =
            [program].into_iter().chain(arguments.iter().map(String::as_str)).chain(more.iter().copied()).collect();
        let output = setup.run("import", &all);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }

    fn iredapd<S: Server>() {
        let server = S::shared();
        let theirs = server.database();
        let driver = value(&theirs, "DB_DRIVER");
        let is_mysql = driver == "mysql";
        let (number, tracked, backend) = if is_mysql {
            ("BIGINT(20) UNSIGNED AUTO_INCREMENT", "MEDIUMINT(8) UNSIGNED", "mysql")
        } else {
            ("SERIAL", "BIGINT", "pgsql")
        };
        theirs.execute(&format!(
            "CREATE TABLE throttle (id {number}, account VARCHAR(255) NOT NULL, kind VARCHAR(10) NOT NULL DEFAULT 'outbound', \
             priority {} NOT NULL DEFAULT 0, period BIGINT NOT NULL DEFAULT 0, msg_size BIGINT NOT NULL DEFAULT -1, \
             max_msgs BIGINT NOT NULL DEFAULT -1, max_quota BIGINT NOT NULL DEFAULT -1, max_rcpts BIGINT NOT NULL DEFAULT -1, \
             PRIMARY KEY (id))",
            if is_mysql { "TINYINT(1) UNSIGNED" } else { "BIGINT" }
        ));
        theirs.execute(&format!(
            "CREATE TABLE throttle_tracking (id {number}, tid BIGINT {} NOT NULL DEFAULT 0, account VARCHAR(255) NOT NULL DEFAULT '', \
             period BIGINT NOT NULL DEFAULT 0, cur_msgs {tracked} NOT NULL DEFAULT 0, cur_quota BIGINT NOT NULL DEFAULT 0, \
             init_time BIGINT NOT NULL DEFAULT 0, last_time BIGINT NOT NULL DEFAULT 0, last_notify_time BIGINT NOT NULL DEFAULT 0, \
             PRIMARY KEY (id))",
            if is_mysql { "UNSIGNED" } else { "" }
        ));
        theirs.execute(
            "INSERT INTO throttle (id, account, kind, priority, period, max_msgs, max_rcpts) VALUES \
             (1, '@.', 'outbound', 0, 3600, 20, 10), (2, '@example.com', 'outbound', 60, 3600, 30, -1), \
             (3, 'alice@example.com', 'outbound', 100, 3600, -1, -1), (4, 'boss@example.com', 'outbound', 100, 3600, 0, -1)",
        );
        let tracking = |now: i64| {
            theirs.execute(&format!(
                "INSERT INTO throttle_tracking (tid, account, period, cur_msgs, init_time, last_time) VALUES \
                 (2, 'alice@example.com', 3600, 28, {0}, {0}), (1, 'old@example.org', 3600, 9, {1}, {1})",
                now - 600,
                now - 9000
            ));
        };
        tracking(now());
        let setup = ready();
        let address = server.address();
        let file = format!(
            "backend = '{backend}'\niredapd_db_server = '{}'\niredapd_db_port = '{}'\niredapd_db_name = '{}'\n\
             iredapd_db_user = '{}'\niredapd_db_password = '{}'\n",
            address.ip(),
            address.port(),
            value(&theirs, "DB_DATABASE"),
            value(&theirs, "DB_USER"),
            value(&theirs, "DB_PASSWORD"),
        );
        let arguments = config(&setup, "settings.py", &file);
        let (status, shown) = imported(&setup, "iredapd", &arguments, &["--counts"]);
        assert_eq!(status, Some(0), "{shown}");
        for text in [
            "QUOTA=20",
            "LIMITS=10 recipients/message REJECT",
            "Quota of @example.com: 30",
            "Quota of boss@example.com: unlimited",
            "Counts of 1 senders, 28 recipients: to be taken over, once",
        ] {
            assert!(shown.contains(text), "{text} is not in\n{shown}");
        }
        assert!(!shown.contains("Quota of alice"), "{shown}");
        assert_eq!(setup.database().rows("ratelimits"), 0, "nothing was changed");

        let (status, applied) = imported(&setup, "iredapd", &arguments, &["--counts", "--apply"]);
        assert!(status == Some(0) && applied.contains("Counts of 1 senders, 28 recipients: taken over"), "{applied}");
        let (status, again) = imported(&setup, "iredapd", &arguments, &["--counts", "--apply"]);
        assert!(status == Some(0) && again.contains("Counts of 0 senders, 0 recipients: taken over"), "{again}");
        assert!(again.contains("nothing to do"), "{again}");
        assert_eq!(setup.database().counters("alice@example.com").unwrap().rcpt_total, 28, "only once");

        // By the settings that it has written: two of alice's 30 are left, and the boss sends what he likes.
        let setup = setup.setting("QUOTA", "20").setting("QUOTA_STEPS", "1x REJECT Throttling quota exceeded");
        let daemon = setup.start();
        let mut client = daemon.connect();
        assert_eq!(client.ask(&Request::data("alice@example.com", 2)), ACCEPTED);
        assert_eq!(client.ask(&Request::data("alice@example.com", 1)), "REJECT Throttling quota exceeded");
        assert_eq!(client.ask(&Request::data("boss@example.com", 9_000)), ACCEPTED);
        assert_eq!(client.ask(&Request::data("new@example.com", 31)), "REJECT Throttling quota exceeded");

        theirs.execute("UPDATE throttle SET kind = 'inbound' WHERE id = 2");
        let (status, lost) = imported(daemon.setup(), "iredapd", &arguments, &[]);
        assert!(
            status == Some(1) && lost.contains("Cannot be taken over: throttle 2 (inbound @example.com)"),
            "{lost}"
        );
        theirs.execute("DROP TABLE throttle_tracking");
        let (status, gone) = imported(daemon.setup(), "iredapd", &arguments, &[]);
        assert!(status == Some(69) && gone.contains("throttle_tracking"), "{status:?} {gone}");
    }

    /// Cluebringer's tables, as far as they concern quotas, by the types that its own script puts in.
    fn cluebringer_tables(theirs: &Database, driver: &str) {
        let (serial, reference, big, suffix) = match driver {
            "mysql" => (
                "SERIAL",
                "BIGINT UNSIGNED",
                "BIGINT UNSIGNED",
                "ENGINE=InnoDB CHARACTER SET latin1 COLLATE latin1_bin",
            ),
            "postgres" => ("SERIAL PRIMARY KEY", "INT8", "INT8", ""),
            _ => ("INTEGER PRIMARY KEY AUTOINCREMENT", "INT8", "UNSIGNED BIG INT", ""),
        };
        let disabled = "Comment VARCHAR(1024), Disabled SMALLINT NOT NULL DEFAULT '0'";
        for table in [
            format!(
                "cb_policies (ID {serial}, Name VARCHAR(255) NOT NULL, Priority SMALLINT NOT NULL, Description TEXT, {disabled})"
            ),
            format!("cb_policy_members (ID {serial}, PolicyID {reference}, Source TEXT, Destination TEXT, {disabled})"),
            format!("cb_policy_groups (ID {serial}, Name VARCHAR(255) NOT NULL, {disabled}, UNIQUE (Name))"),
            format!(
                "cb_policy_group_members (ID {serial}, PolicyGroupID {reference}, Member VARCHAR(255) NOT NULL, {disabled})"
            ),
            format!(
                "cb_quotas (ID {serial}, PolicyID {reference}, Name VARCHAR(255) NOT NULL, Track VARCHAR(255) NOT NULL, Period {big}, \
                 Verdict VARCHAR(255), Data TEXT, LastQuota SMALLINT NOT NULL DEFAULT '0', {disabled})"
            ),
            format!(
                "cb_quotas_limits (ID {serial}, QuotasID {reference}, Type VARCHAR(255), CounterLimit {big}, {disabled})"
            ),
            format!(
                "cb_quotas_tracking (QuotasLimitsID {reference}, TrackKey VARCHAR(512), LastUpdate {big}, Counter NUMERIC(10,4), \
                 UNIQUE (QuotasLimitsID, TrackKey))"
            ),
        ] {
            theirs.execute(&format!("CREATE TABLE {table} {suffix}"));
        }
        for rows in [
            "cb_policies (ID, Name, Priority, Disabled) VALUES (1, 'all', 10, 0), (2, 'few', 20, 0), (3, 'off', 30, 1)",
            "cb_policy_members (PolicyID, Source, Destination) VALUES (1, '$*', NULL), (2, '%few', 'any'), (3, 'any', 'any')",
            "cb_policy_groups (ID, Name) VALUES (1, 'few')",
            "cb_policy_group_members (PolicyGroupID, Member, Disabled) VALUES (1, '$bob@example.com', 0), (1, '$carol@example.com', 1)",
            "cb_quotas (ID, PolicyID, Name, Track, Period, Verdict, Data) VALUES (1, 1, 'all', 'SASLUsername', 3600, 'DEFER', 'Slow down'), \
             (2, 2, 'few', 'SASLUsername', 3600, 'DEFER', 'Slow down'), (3, 3, 'off', 'SASLUsername', 3600, 'DEFER', '')",
            "cb_quotas_limits (ID, QuotasID, Type, CounterLimit) VALUES (1, 1, 'MessageCount', 20), (2, 2, 'MessageCount', 5), \
             (3, 1, 'MessageCumulativeSize', 8000), (4, 3, 'MessageCount', 1)",
        ] {
            theirs.execute(&format!("INSERT INTO {rows}"));
        }
        // An hour ahead nothing has decayed yet, whatever the time that this test takes.
        theirs.execute(&format!(
            "INSERT INTO cb_quotas_tracking VALUES (1, 'SASLUsername:Alice@example.com', {0}, 12.5000), (1, 'SASLUsername:-', {0}, 19), \
             (1, 'SASLUsername:old@example.com', {1}, 9.0000), (3, 'SASLUsername:alice@example.com', {0}, 18)",
            now() + 3600,
            now() - 9000
        ));
    }

    fn from_cluebringer(theirs: &Database, dsn: &str) {
        cluebringer_tables(theirs, &value(theirs, "DB_DRIVER"));
        let setup = ready();
        let login = |name| {
            theirs.settings().into_iter().find(|(known, _)| known == name).map(|(_, value)| value).unwrap_or_default()
        };
        let file = format!(
            "[server]\nuser=x\n[database]\nDSN={dsn}\nUsername={}\nPassword={}\ntable_prefix=cb_\n[Quotas]\nenable=1\n",
            login("DB_USER"),
            login("DB_PASSWORD")
        );
        let arguments = config(&setup, "cluebringer.conf", &file);
        let (status, shown) = imported(&setup, "cluebringer", &arguments, &["--counts"]);
        assert_eq!(status, Some(0), "{shown}");
        for text in [
            "QUOTA=20",
            "QUOTA_STEPS=1x DEFER_IF_PERMIT Slow down",
            "LIMITS=8000k bytes/1h DEFER_IF_PERMIT Slow down",
            "Quota of bob@example.com: 5",
            "Counts of 1 senders, 13 recipients: to be taken over, once",
        ] {
            assert!(shown.contains(text), "{text} is not in\n{shown}");
        }
        assert!(!shown.contains("carol") && !shown.contains("off"), "what is disabled is left out: {shown}");
        let (status, applied) = imported(&setup, "cluebringer", &arguments, &["--counts", "--apply"]);
        assert!(status == Some(0) && applied.contains("Counts of 1 senders, 13 recipients: taken over"), "{applied}");
        let (status, again) = imported(&setup, "cluebringer", &arguments, &["--counts", "--apply"]);
        assert!(
            status == Some(0) && again.contains("0 recipients: taken over") && again.contains("nothing to do"),
            "{again}"
        );
        assert_eq!(setup.database().counters("alice@example.com").unwrap().rcpt_total, 13);

        let setup = setup.setting("QUOTA", "20").setting("QUOTA_STEPS", "1x DEFER_IF_PERMIT Slow down");
        let daemon = setup.start();
        let mut client = daemon.connect();
        assert_eq!(client.ask(&Request::data("alice@example.com", 7)), ACCEPTED);
        assert_eq!(client.ask(&Request::data("alice@example.com", 1)), "DEFER_IF_PERMIT Slow down");
        assert_eq!(client.ask(&Request::data("bob@example.com", 6)), "DEFER_IF_PERMIT Slow down");

        theirs.execute("UPDATE cb_policy_members SET Destination = '!%internal' WHERE PolicyID = 1");
        let (status, lost) = imported(daemon.setup(), "cluebringer", &arguments, &[]);
        assert!(status == Some(1) && lost.contains("Cannot be taken over: policy 1, $* to !%internal"), "{lost}");
    }

    fn cluebringer<S: Server>() {
        let server = S::shared();
        let theirs = server.database();
        let (address, name) = (server.address(), value(&theirs, "DB_DATABASE"));
        let dsn = match value(&theirs, "DB_DRIVER").as_str() {
            "mysql" => format!("DBI:mysql:database={name};host={};port={}", address.ip(), address.port()),
            _ => format!("DBI:Pg:dbname={name};host={};port={}", address.ip(), address.port()),
        };
        from_cluebringer(&theirs, &dsn);
    }

    #[test]
    fn cluebringer_on_sqlite() {
        let setup = Setup::sqlite();
        let file = setup.folder().join("cluebringer.db");
        fs::File::create(&file).unwrap();
        let theirs = Database::sqlite(&file);
        from_cluebringer(&theirs, &format!("DBI:SQLite:dbname={}", file.display()));
        fs::remove_file(&file).unwrap();
        let setup = ready();
        let arguments =
            config(&setup, "cluebringer.conf", &format!("[database]\nDSN=DBI:SQLite:dbname={}\n", file.display()));
        let (status, gone) = imported(&setup, "cluebringer", &arguments, &[]);
        assert!(status == Some(69) && gone.contains("there is no such file") && !file.exists(), "{status:?} {gone}");
    }

    crate::on_each_server! { iredapd cluebringer }
}
