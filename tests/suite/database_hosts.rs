//! Several servers in DB_HOST: the next one is used when one goes, and nothing is counted twice or lost on the way.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::client::{ACCEPTED, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::database::Database;
use crate::support::proxy::Proxy;
use crate::support::server::Server;
use crate::support::stream::Address;
use crate::support::wait;

const ALICE: &str = "alice@example.com";
const AWAY: &str = "Mail goes on; until the database is back";
/// What a loaded machine may add.
const SLACK: Duration = Duration::from_secs(10);

/// One database behind two addresses.
struct Hosts {
    first: Proxy,
    second: Proxy,
    database: Database,
    /// What DB_HOST is to say.
    list: String,
}

impl Hosts {
    fn of<S: Server>(server: &S) -> Hosts {
        let target = Address::Tcp(server.address());
        let first = Proxy::tcp(target.clone());
        let second = SocketAddr::from(([127, 0, 0, 2], first.tcp_address().port()));
        let database = server.database().over_tcp(first.tcp_address());
        let list = format!("{},{}", first.tcp_address().ip(), second.ip());
        Hosts { second: Proxy::tcp_on(second, target), first, database, list }
    }

    fn daemon(&self) -> Daemon {
        let setup = Setup::on(&self.database).setting("DB_HOST", &self.list).setting("DB_TLS", "off");
        let daemon = setup.setting("QUOTA", "unlimited").setting("DECISION_TIMEOUT", "10s").start();
        // One that is slow to start may answer before it counts.
        wait::until(SLACK, "the daemon counts", || {
            daemon.connect().ask(&Request::data("probe@example.net", 1));
            self.database.counters("probe@example.net")
        });
        daemon
    }

    fn counted(&self) -> i64 {
        self.database.counters(ALICE).map_or(0, |row| row.rcpt_counter)
    }
}

/// How often the daemon has said that it lost the database.
fn outages(daemon: &Daemon) -> usize {
    daemon.log().matches(AWAY).count()
}

/// Asked once, and counted once.
fn counts(daemon: &Daemon, hosts: &Hosts) {
    let before = hosts.counted();
    assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), ACCEPTED);
    assert_eq!(hosts.counted(), before + 1, "{}", daemon.log());
}

fn the_next_one_is_used_when_one_goes<S: Server>() {
    let hosts = Hosts::of(S::shared());
    let daemon = hosts.daemon();
    let before = outages(&daemon);
    counts(&daemon, &hosts);
    hosts.first.refuse();
    counts(&daemon, &hosts);
    daemon.await_log_times("127.0.0.2", 1, SLACK);
    hosts.first.resume();
    hosts.second.refuse();
    counts(&daemon, &hosts);
    assert_eq!(outages(&daemon), before, "{}", daemon.log());
}

fn the_next_one_is_used_when_one_is_silent<S: Server>() {
    let hosts = Hosts::of(S::shared());
    let daemon = hosts.daemon();
    let before = outages(&daemon);
    counts(&daemon, &hosts);
    hosts.first.freeze();
    counts(&daemon, &hosts);
    counts(&daemon, &hosts);
    assert_eq!(outages(&daemon), before, "{}", daemon.log());
}

fn one_that_is_silent_at_the_start_is_passed_over<S: Server>() {
    let hosts = Hosts::of(S::shared());
    hosts.first.freeze();
    let daemon = hosts.daemon();
    counts(&daemon, &hosts);
}

fn another_one_says_what_became_of_a_commit<S: Server>() {
    for is_committed in [true, false] {
        let hosts = Hosts::of(S::shared());
        let daemon = hosts.daemon();
        let mut client = daemon.connect();
        counts(&daemon, &hosts);
        let before = (hosts.counted(), hosts.database.rows("messages"), outages(&daemon));
        if is_committed {
            hosts.first.refuse_after(b"COMMIT")
        } else {
            hosts.first.refuse_from(b"COMMIT")
        }
        assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
        let after = (hosts.counted(), hosts.database.rows("messages"), outages(&daemon));
        assert_eq!(after, (before.0 + 1, before.1 + 1, before.2), "{}", daemon.log());
        assert!(!daemon.log().contains("commit_unknown"), "{}", daemon.log());
    }
}

fn one_that_takes_no_writes_is_not_used<S: Server>() {
    let server = S::start();
    let hosts = Hosts::of(&server);
    let daemon = hosts.daemon();
    counts(&daemon, &hosts);
    server.refuse_writes();
    daemon.connect().ask(&Request::data(ALICE, 1));
    daemon.await_log_times("none of 2 servers can be used: ", 1, SLACK);
    assert!(daemon.log().contains("takes no writes"), "{}", daemon.log());
    server.take_writes();
    daemon.await_log_times(" is back after ", 1, SLACK);
    counts(&daemon, &hosts);
}

crate::on_each_server! {
    the_next_one_is_used_when_one_goes
    the_next_one_is_used_when_one_is_silent
    one_that_is_silent_at_the_start_is_passed_over
    another_one_says_what_became_of_a_commit
    one_that_takes_no_writes_is_not_used
}
