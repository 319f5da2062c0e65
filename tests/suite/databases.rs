//! docs/databases.md: its SQL, as it stands there, gives the daemon and its commands all the rights they need.

use std::fs;

use crate::support::client::{ACCEPTED, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::database::{Credentials, Database};
use crate::support::postgres::Postgres;
use crate::support::server::Server;

/// Whom the manual makes.
const MADE: Credentials<'_> =
    Credentials { user: "policyd-rate-guard", password: "a secret", database: "policyd-rate-guard" };

/// The statements of the manual's first block of SQL that holds this.
fn manual(holds: &str) -> Vec<String> {
    let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/databases.md")).unwrap();
    let mut blocks = manual.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let block = blocks.find(|block| block.contains(holds)).unwrap_or_else(|| panic!("no block has {holds}"));
    block.replace("192.0.2.%", "%").split_terminator(";\n").map(str::to_owned).collect()
}

/// Everything that asks the database, beside the daemon.
fn every_command_works(daemon: &Daemon) {
    for (command, arguments) in [
        ("cleanup", &["--json"][..]),
        ("top", &[]),
        ("sender", &["list"]),
        ("sender", &["set", "alice@example.com", "--quota", "5"]),
        ("sender", &["show", "alice@example.com"]),
        ("sender", &["reset", "alice@example.com"]),
        ("sender", &["delete", "alice@example.com", "--messages", "--yes"]),
        ("migrate", &["--status"]),
        ("migrate", &[]),
    ] {
        let output = daemon.setup().run(command, arguments);
        assert!(output.status.success(), "{command} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let output = daemon.setup().run("doctor", &["--postconf", "/nonexistent"]);
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(!report.contains("database:") && !report.contains("not-"), "{report}");
}

fn counts(daemon: &Daemon, database: &Database) {
    let mut client = daemon.connect();
    assert_eq!(client.ask(&Request::data("alice@example.com", 3)), ACCEPTED);
    assert_eq!(database.counters("alice@example.com").unwrap().rcpt_counter, 3);
}

fn the_manuals_rights_are_enough<S: Server>() {
    let server = S::start();
    manual("CREATE USER").iter().for_each(|statement| server.administer(statement));
    let database = Database::mysql(&server.socket_setting(), MADE).over_tcp(server.address());
    let mut daemon = Setup::on(&database).start();
    counts(&daemon, &database);
    // As tables of PolicydRateGuard are.
    server.administer(
        "ALTER TABLE `policyd-rate-guard`.messages DROP COLUMN reason, DROP INDEX messages_created_at_index",
    );
    let output = daemon.setup().run("migrate", &[]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("done").count(), 2, "{output:?}");

    manual("REVOKE").iter().for_each(|statement| server.administer(statement));
    every_command_works(&daemon);
    assert!(daemon.term().success());
    daemon.start_again();
    daemon.await_counting();
    counts(&daemon, &database);

    // A lock that somebody holds is given up by a second connection.
    let holder = database.session();
    holder.execute("BEGIN; SELECT * FROM ratelimits WHERE sender = 'alice@example.com' FOR UPDATE");
    assert_eq!(daemon.connect().ask(&Request::data("alice@example.com", 1)), ACCEPTED);
    daemon.await_log("(locked)");
    assert!(!daemon.log().contains("denied"), "{}", daemon.log());
}

#[test]
fn postgres_the_manuals_rights_are_enough() {
    let server = Postgres::start();
    manual("CREATE ROLE").iter().for_each(|statement| server.administer(statement));
    let port = server.address().port();
    let database = Database::postgres(server.folder(), port, MADE).over_tcp(server.address());
    let daemon = Setup::on(&database).start();
    counts(&daemon, &database);
    every_command_works(&daemon);
    counts(&daemon, &database);
}

crate::on_mariadb_and_mysql! { the_manuals_rights_are_enough }
