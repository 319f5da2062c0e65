//! A database that PolicydRateGuard (the Python program) made and filled becomes ours by starting the daemon, and the old
//! program's statements still work on it.

use std::thread;
use std::time::Duration;

use crate::support::client::{ACCEPTED, BLOCKED, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::database::{Database, quoted};
use crate::support::server::Server;

const IN_DOUBT: &str = "let through without being counted";

/// Releases of PolicydRateGuard whose tables differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    /// Another name for the unique key, and no index on messages.created_at.
    V0_5_0,
    V0_7_3,
}

/// Its tables as its migrations make them, in the database's own character set and collation.
fn old_tables(database: &Database, release: Release, collation: &str) {
    let name = database.select(&["DATABASE()"], "").remove(0).remove(0);
    let charset = collation.split('_').next().unwrap();
    let (unique, created_at) = match release {
        Release::V0_5_0 => ("idx_sender", ""),
        Release::V0_7_3 => ("ratelimits_sender_unique", ", KEY messages_created_at_index (created_at)"),
    };
    database.execute(&format!("ALTER DATABASE {name} CHARACTER SET {charset} COLLATE {collation}"));
    database.execute(&format!(
        "CREATE TABLE ratelimits (
            id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
            sender VARCHAR(255) NOT NULL,
            quota INT UNSIGNED NOT NULL DEFAULT 1000,
            quota_reset INT UNSIGNED NOT NULL DEFAULT 1000,
            quota_locked TINYINT(1) NOT NULL DEFAULT 0,
            msg_counter INT UNSIGNED NOT NULL DEFAULT 0,
            rcpt_counter INT UNSIGNED NOT NULL DEFAULT 0,
            msg_total INT UNSIGNED NOT NULL DEFAULT 0,
            rcpt_total INT UNSIGNED NOT NULL DEFAULT 0,
            created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
            updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
            UNIQUE KEY {unique} (sender)
        ) ENGINE = InnoDB;
        CREATE TABLE messages (
            id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
            ratelimit_id BIGINT UNSIGNED NULL,
            msgid VARCHAR(255) NULL,
            sender VARCHAR(255) NOT NULL,
            rcpt_count INT NOT NULL,
            blocked TINYINT(1) NOT NULL,
            from_addr VARCHAR(255) NULL,
            to_addr TEXT NULL,
            cc_addr TEXT NULL,
            bcc_addr TEXT NULL,
            subject VARCHAR(255) NOT NULL DEFAULT '',
            client_address VARCHAR(45) NULL,
            client_name VARCHAR(255) NULL,
            created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP{created_at},
            CONSTRAINT messages_ratelimit_id_foreign FOREIGN KEY (ratelimit_id) REFERENCES ratelimits (id)
                ON DELETE SET NULL ON UPDATE CASCADE
        ) ENGINE = InnoDB;
        CREATE TABLE _yoyo_migration (migration_hash VARCHAR(64) PRIMARY KEY, migration_id VARCHAR(255),
            applied_at_utc TIMESTAMP);
        CREATE TABLE _yoyo_log (id VARCHAR(36) PRIMARY KEY, migration_id VARCHAR(255), operation VARCHAR(10));
        CREATE TABLE _yoyo_version (version INT NOT NULL PRIMARY KEY, installed_at_utc TIMESTAMP);
        CREATE TABLE yoyo_lock (locked INT DEFAULT 1 PRIMARY KEY, ctime TIMESTAMP, pid INT NOT NULL);
        INSERT INTO _yoyo_migration VALUES ('abc', '20220914_01_init', '2023-01-01 00:00:00');
        INSERT INTO _yoyo_version VALUES (2, '2023-01-01 00:00:00')"
    ));
}

/// Senders and messages of some weeks.
fn old_rows(database: &Database) {
    database.execute(
        "INSERT INTO ratelimits VALUES
            (3, 'alice@example.com', 2000, 1000, 0, 7, 19, 700, 1900, '2023-02-03 04:05:06', '2024-05-06 07:08:09'),
            (5, 'bob@example.com', 20, 20, 1, 18, 20, 118, 220, '2023-02-03 04:05:07', '2024-05-06 07:08:10'),
            (9, 'carol@example.com', 1000, 1000, 0, 4294967290, 4294967290, 4294967295, 4294967290,
                '2023-02-03 04:05:08', '2024-05-06 07:08:11');
         INSERT INTO messages (id, ratelimit_id, msgid, sender, rcpt_count, blocked, from_addr, to_addr, client_address,
            client_name, created_at) VALUES
            (11, 3, '4bOLD1', 'alice@example.com', 12, 0, 'alice@example.com', NULL, '192.0.2.1', 'a.example', '2024-05-06'),
            (12, 5, '4bOLD2', 'bob@example.com', 1, 1, 'bob@example.com', 'x@example.org', '2001:db8::1', NULL, '2024-05-07'),
            (13, NULL, '4bOLD3', 'gone@example.com', 1, 0, '', '', NULL, 'b.example', '2024-05-08')",
    );
}

/// All that the old program knows of its tables.
fn all_rows(database: &Database) -> Vec<Vec<String>> {
    let times = ["created_at", "updated_at"];
    let mut rows = Vec::new();
    for (table, columns) in [
        ("ratelimits", "id sender quota quota_reset quota_locked msg_counter rcpt_counter msg_total rcpt_total"),
        (
            "messages",
            "id ratelimit_id msgid sender rcpt_count blocked from_addr to_addr cc_addr bcc_addr subject client_address \
             client_name",
        ),
    ] {
        let times = if table == "messages" { &times[..1] } else { &times[..] };
        let columns: Vec<&str> = columns.split_whitespace().chain(times.iter().copied()).collect();
        rows.extend(database.select(&columns, &format!("FROM {table} ORDER BY id")));
    }
    rows
}

/// The first columns of the indexes of a table.
fn is_indexed(database: &Database, table: &str, column: &str) -> bool {
    database.number(&format!(
        "SELECT COUNT(*) FROM information_schema.statistics WHERE table_schema = DATABASE() \
         AND table_name = '{table}' AND column_name = '{column}' AND seq_in_index = 1"
    )) > 0
}

/// The daemon on an adopted database, with the old program's settings.
fn adopt<S: Server>(database: &Database) -> Daemon {
    let settings = database.over_tcp(S::shared().address());
    let daemon = Setup::on(&settings).setting("DB_DRIVER", "pymysql").setting("QUOTA", "3").start_without_tables();
    daemon.await_counting();
    daemon
}

fn used(database: &Database, sender: &str) -> (i64, i64, i64, i64) {
    let row = database.counters(sender).unwrap();
    (row.msg_counter, row.rcpt_counter, row.msg_total, row.rcpt_total)
}

fn a_database_is_adopted_with_all_it_holds_and_stays_the_old_programs<S: Server>() {
    for (release, collation) in [
        (Release::V0_5_0, "latin1_swedish_ci"),
        (Release::V0_5_0, "utf8mb4_unicode_ci"),
        (Release::V0_7_3, "utf8mb4_general_ci"),
        (Release::V0_7_3, "utf8mb3_general_ci"),
    ] {
        let database = S::shared().database();
        old_tables(&database, release, collation);
        old_rows(&database);
        let before = all_rows(&database);
        let daemon = adopt::<S>(&database);
        assert_eq!(all_rows(&database), before, "{release:?} {collation}");
        for table in ["_yoyo_migration", "_yoyo_version"] {
            assert_eq!(database.rows(table), 1);
        }

        // What it knew goes on: counters, locked quotas, new senders.
        let mut client = daemon.connect();
        assert_eq!(client.ask(&Request::data("Alice@Example.com", 2)), ACCEPTED);
        assert_eq!(used(&database, "alice@example.com"), (8, 21, 701, 1902));
        assert_eq!(client.ask(&Request::data("bob@example.com", 1)), BLOCKED);
        assert_eq!(client.ask(&Request::data("new@example.com", 3)), ACCEPTED);
        assert_eq!(client.ask(&Request::data("new@example.com", 1)), BLOCKED);
        let message = database.messages("bob@example.com").remove(1);
        assert!(message.blocked && message.action == "DEFER_IF_PERMIT", "{message:?}");

        // What the old program and a control panel write counts for the next message.
        the_old_program_counts(&database, "alice@example.com", 5);
        assert_eq!(used(&database, "alice@example.com"), (9, 26, 702, 1907));
        assert_eq!(client.ask(&Request::data("alice@example.com", 1)), ACCEPTED);
        assert_eq!(used(&database, "alice@example.com"), (10, 27, 703, 1908));
        the_old_program_counts(&database, "python@example.com", 1);
        assert_eq!(client.ask(&Request::data("python@example.com", 1)), ACCEPTED);
        assert_eq!(used(&database, "python@example.com"), (2, 2, 2, 2));
        database.execute("UPDATE ratelimits SET quota = 27 WHERE sender = 'alice@example.com'");
        assert_eq!(client.ask(&Request::data("alice@example.com", 1)), BLOCKED);
        database.execute("UPDATE ratelimits SET quota = 5000 WHERE sender = 'alice@example.com'");
        assert_eq!(client.ask(&Request::data("alice@example.com", 1)), ACCEPTED);

        // A cleanup does what the old one did.
        let output = daemon.setup().run("cleanup", &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let alice = database.counters("alice@example.com").unwrap();
        assert_eq!((alice.quota, alice.rcpt_counter, alice.rcpt_total), (1000, 0, 1910));
        let bob = database.counters("bob@example.com").unwrap();
        assert_eq!((bob.quota, bob.msg_counter, bob.quota_locked), (20, 0, true));

        // The index that 0.5.0 lacks is `migrate`'s.
        assert_eq!(is_indexed(&database, "messages", "created_at"), release == Release::V0_7_3);
        assert!(daemon.setup().run("migrate", &[]).status.success());
        assert!(is_indexed(&database, "messages", "created_at"));
        assert!(!daemon.log().contains(IN_DOUBT), "{}", daemon.log());
    }
}

/// A message as the old program counts it: it reads, adds, and writes absolute values.
fn the_old_program_counts(database: &Database, sender: &str, recipients: i64) {
    let session = database.session();
    let columns = ["id", "quota", "msg_counter", "rcpt_counter", "msg_total", "rcpt_total"];
    let find = || session.select(&columns, &format!("FROM ratelimits WHERE sender = {}", quoted(sender)));
    let mut found = find();
    if found.is_empty() {
        session.execute(&format!(
            "INSERT INTO ratelimits (sender, quota, quota_reset) VALUES ({}, 1000, 1000)",
            quoted(sender)
        ));
        found = find();
    }
    let row: Vec<i64> = found[0].iter().map(|text| text.parse().unwrap()).collect();
    let (id, messages, counted) = (row[0], row[2] + 1, row[3] + recipients);
    session.execute(&format!(
        "UPDATE ratelimits SET msg_counter = {messages}, rcpt_counter = {counted}, msg_total = {}, rcpt_total = {}, \
         updated_at = '2026-01-01 00:00:00' WHERE id = {id}",
        row[4] + 1,
        row[5] + recipients
    ));
    session.execute(&format!(
        "INSERT INTO messages (ratelimit_id, msgid, sender, rcpt_count, blocked, from_addr, to_addr, client_address, \
         client_name) VALUES ({id}, '4bPYTHON', {sender}, {recipients}, 0, {sender}, 'x@example.org', '192.0.2.1', 'c')",
        sender = quoted(sender)
    ));
}

fn spellings_that_a_collation_folds_share_a_row<S: Server>() {
    let database = S::shared().database();
    old_tables(&database, Release::V0_7_3, "utf8mb4_general_ci");
    let daemon = adopt::<S>(&database);
    database.execute("INSERT INTO ratelimits (sender, quota, quota_reset) VALUES ('Jurgen', 100, 100)");
    let spellings = ["jürgen", "jurgen", "jurgen  ", "JÜRGEN", "jurgén"];
    let accepted: usize = thread::scope(|scope| {
        let ask = |spelling: &'static str| {
            let mut client = daemon.connect();
            move || (0..40).filter(|_| client.ask(&Request::data(spelling, 1)) == ACCEPTED).count()
        };
        let asking: Vec<_> = spellings.map(|spelling| scope.spawn(ask(spelling))).into_iter().collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).sum()
    });
    assert_eq!(accepted, 100, "one quota for all of them");
    assert_eq!(database.rows("ratelimits"), 1);
    assert_eq!(used(&database, "jurgen"), (200, 200, 200, 200));
    assert!(!daemon.log().contains(IN_DOUBT), "{}", daemon.log());
}

fn a_character_that_a_table_cannot_hold_spoils_nothing<S: Server>() {
    for collation in ["latin1_swedish_ci", "utf8mb3_general_ci", "utf8mb4_general_ci"] {
        let database = S::shared().database();
        old_tables(&database, Release::V0_7_3, collation);
        let daemon = adopt::<S>(&database);
        let ask = |login: &'static str| {
            let mut client = daemon.connect();
            move || -> Vec<String> {
                let odd = |request: Request| request.sender("жена+🦀@example.com").client_name("ключ.🦀.example");
                (0..5).map(|_| client.ask(&odd(Request::data(login, 1)))).collect()
            }
        };
        let mut logins = vec!["пётр@example.com", "иван@example.com", "🦀@example.com", "plain@example.com"];
        // This collation takes all that is beyond U+FFFF for one character.
        if collation != "utf8mb4_general_ci" {
            logins.push("🦞@example.com");
        }
        thread::scope(|scope| {
            let asking: Vec<_> = logins.iter().map(|login| scope.spawn(ask(login))).collect();
            for asked in asking {
                assert_eq!(asked.join().unwrap(), [ACCEPTED, ACCEPTED, ACCEPTED, BLOCKED, BLOCKED], "{collation}");
            }
        });
        assert_eq!(database.rows("ratelimits"), logins.len() as i64);
        assert_eq!(database.rows("messages"), 5 * logins.len() as i64);
        let log = daemon.log();
        assert!(!log.contains(IN_DOUBT) && !log.contains("refuses"), "{log}");
    }
}

fn a_counter_near_its_end_stays_blocked<S: Server>() {
    let database = S::shared().database();
    old_tables(&database, Release::V0_7_3, "utf8mb4_general_ci");
    old_rows(&database);
    let daemon = adopt::<S>(&database);
    let mut client = daemon.connect();
    for _ in 0..5 {
        assert_eq!(client.ask(&Request::data("carol@example.com", 3)), BLOCKED);
    }
    let end = i64::from(u32::MAX);
    assert_eq!(used(&database, "carol@example.com"), (end, end, end, end));
    assert_eq!(client.ask(&Request::data("alice@example.com", 1)), ACCEPTED);
    assert!(!daemon.log().contains(IN_DOUBT), "{}", daemon.log());
}

fn a_large_table_is_adopted_without_building_an_index<S: Server>() {
    let database = S::shared().database();
    old_tables(&database, Release::V0_5_0, "utf8mb4_general_ci");
    old_rows(&database);
    database.session().execute_with_numbers(
        1_000_000,
        "INSERT INTO messages (ratelimit_id, msgid, sender, rcpt_count, blocked, from_addr, created_at)
         SELECT 3, n, 'alice@example.com', 1, 0, 'alice@example.com', '2024-01-01' FROM numbers",
    );
    let daemon = adopt::<S>(&database);
    assert!(daemon.log().contains("`policyd-rate-guard migrate` makes one"), "{}", daemon.log());
    assert!(!is_indexed(&database, "messages", "created_at"));
    let mut client = daemon.connect();
    assert_eq!(client.ask(&Request::data("alice@example.com", 1)), ACCEPTED);
    assert_eq!(used(&database, "alice@example.com"), (8, 20, 701, 1901));

    // `migrate` says what it is to do, that it is about to, and that it has.
    let run = |command: &str, arguments: &[&str]| {
        let output = daemon.setup().run_within(Duration::from_secs(300), command, arguments);
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let index = "index messages_created_at_index on messages (created_at)";
    assert!(run("migrate", &["--status"]).0.ends_with(&format!("pending  {index}\n")));
    let listed: serde_json::Value = serde_json::from_str(&run("migrate", &["--status", "--json"]).0).unwrap();
    let pending = serde_json::json!({"version": null, "name": index, "applied": false, "slow": true});
    assert_eq!(listed.as_array().unwrap().last(), Some(&pending));
    let report = run("doctor", &["--postconf", "/nonexistent"]).0;
    assert!(report.contains("advice  no-index") && !report.contains("not-migrated"), "{report}");
    let (done, told) = run("migrate", &[]);
    assert_eq!(done, format!("done     {index}\n"));
    assert!(told.starts_with(&format!("Making {index}")) && told.contains("minutes"), "{told}");
    assert!(is_indexed(&database, "messages", "created_at"));
    assert_eq!(database.rows("messages"), 1_000_004);
    assert_eq!(run("migrate", &[]).0, "Nothing to do: the database is up to date.\n");
}

fn migrate_makes_what_counting_needs_before_what_takes_minutes<S: Server>() {
    let database = S::shared().database();
    old_tables(&database, Release::V0_5_0, "utf8mb4_general_ci");
    let done = Setup::on(&database).run("migrate", &["--json"]);
    let done: Vec<serde_json::Value> = serde_json::from_slice(&done.stdout).unwrap();
    let slow: Vec<bool> = done.iter().map(|step| step["slow"].as_bool().unwrap()).collect();
    assert!(slow.ends_with(&[false, true]) && slow.is_sorted(), "{done:?}");
}

fn what_an_old_table_lacks_is_listed_and_mended<S: Server>() {
    let database = S::shared().database();
    old_tables(&database, Release::V0_7_3, "utf8mb4_general_ci");
    let setup = Setup::on(&database);
    let run = |arguments: &[&str]| String::from_utf8(setup.run("migrate", arguments).stdout).unwrap();
    let columns = ["ratelimits.window_from", "messages.action", "messages.reason"];
    let listed = run(&["--status"]);
    assert!(columns.iter().all(|column| listed.contains(&format!("pending  column {column}\n"))), "{listed}");
    let done = run(&[]);
    assert!(columns.iter().all(|column| done.contains(&format!("done     column {column}\n"))), "{done}");
    database.execute("ALTER TABLE messages DROP COLUMN reason");
    assert_eq!(run(&[]), "done     column messages.reason\n");
}

crate::on_mariadb_and_mysql! {
    a_database_is_adopted_with_all_it_holds_and_stays_the_old_programs
    spellings_that_a_collation_folds_share_a_row
    a_character_that_a_table_cannot_hold_spoils_nothing
    a_counter_near_its_end_stays_blocked
    a_large_table_is_adopted_without_building_an_index
    migrate_makes_what_counting_needs_before_what_takes_minutes
    what_an_old_table_lacks_is_listed_and_mended
}
