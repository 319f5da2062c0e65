//! The ways to a database server: TLS as DB_TLS says, a password from a file, unix socket and TCP.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::client::Request;
use crate::support::daemon::{Daemon, Setup};
use crate::support::database::Database;
use crate::support::mariadb::{MariaDb, MySql};
use crate::support::postgres::Postgres;
use crate::support::process::run;
use crate::support::scratch::Scratch;
use crate::support::server::Server;
use crate::support::wait;

const AWAY: &str = "Mail goes on; until the database is back";

/// A certificate authority, and a server's certificate that it has signed.
struct Certificates {
    scratch: Scratch,
}

impl Certificates {
    /// For a server that is reached under `name`, as a certificate writes it: `IP:127.0.0.1`, `DNS:db.example`.
    fn new(name: &str) -> Certificates {
        let scratch = Scratch::unprivileged();
        let openssl = |words: &str| {
            run(Command::new("openssl").args(words.split(' ')).current_dir(scratch.path()));
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=test"));
        openssl(&format!(
            "req {key} -keyout server.key -out server.csr -subj /CN=server -addext subjectAltName={name}"
        ));
        openssl("x509 -req -in server.csr -CA ca.crt -CAkey ca.key -out server.crt -days 2 -copy_extensions copy");
        scratch.hand_over();
        Certificates { scratch }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.scratch.join(file)
    }
}

/// Whether a daemon with these settings reaches the database; what it says if not.
fn counts(database: &Database, settings: &[(&str, &str)]) -> Result<(), String> {
    let setup = settings.iter().fold(Setup::on(database), |setup, (name, value)| setup.setting(name, value));
    let daemon = setup.start_without_tables();
    wait::until(Duration::from_secs(20), "the daemon says whether it counts", || {
        let log = daemon.log();
        let away = log.lines().find(|line| line.contains("Mail goes on"));
        // A slow start or a connection that breaks is no answer: it tries again by itself.
        let passes = ["no answer within", "bytes at EOF"];
        let away = away.filter(|line| !passes.iter().any(|passing| line.contains(passing)));
        match away {
            Some(line) => Some(Err(line.to_owned())),
            None => (log.contains("counting in") || log.contains("is back after")).then_some(Ok(())),
        }
    })?;
    let sender = format!("sender{}@example.com", daemon.id());
    daemon.connect().ask(&Request::data(&sender, 1));
    assert_eq!(database.counters(&sender).unwrap().rcpt_counter, 1);
    Ok(())
}

fn a_server_that_asks_for_tls<S: Server>() {
    let certificates = Certificates::new("IP:127.0.0.1");
    let server = S::start_with_tls(&certificates.path("server.crt"), &certificates.path("server.key"));
    let ca = certificates.path("ca.crt").display().to_string();
    let tcp = server.database().over_tcp(server.address());
    // MySQL, which asks for the password itself once after its start, has seen it by now.
    drop(tcp.session());
    assert!(counts(&tcp, &[("DB_TLS", "off")]).is_err());
    for tls in ["prefer", "require"] {
        assert_eq!(counts(&tcp, &[("DB_TLS", tls)]), Ok(()));
    }
    assert_eq!(counts(&tcp, &[("DB_TLS", "verify"), ("DB_TLS_CA", &ca)]), Ok(()));
    let unknown = counts(&tcp, &[("DB_TLS", "verify")]).unwrap_err();
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
    // A unix socket ends on this machine.
    let unix = tcp.over_unix(&server.socket_setting());
    for tls in ["off", "prefer", "require", "verify"] {
        assert_eq!(counts(&unix, &[("DB_TLS", tls)]), Ok(()), "{tls}");
    }
}

fn a_server_with_another_name_in_its_certificate<S: Server>() {
    let certificates = Certificates::new("DNS:db.example");
    let server = S::start_with_tls(&certificates.path("server.crt"), &certificates.path("server.key"));
    let ca = certificates.path("ca.crt").display().to_string();
    let tcp = server.database().over_tcp(server.address());
    let refused = counts(&tcp, &[("DB_TLS", "verify"), ("DB_TLS_CA", &ca)]).unwrap_err();
    assert!(refused.contains("NotValidForName") || refused.contains("not valid for name"), "{refused}");
    assert_eq!(counts(&tcp, &[("DB_TLS", "require")]), Ok(()));
}

fn a_server_without_tls<S: Server>() {
    let server = S::start_without_tls();
    let tcp = server.database().over_tcp(server.address());
    for tls in ["off", "prefer"] {
        assert_eq!(counts(&tcp, &[("DB_TLS", tls)]), Ok(()));
    }
    for tls in ["require", "verify"] {
        let refused = counts(&tcp, &[("DB_TLS", tls)]).unwrap_err();
        assert!(refused.contains("server does not support TLS"), "{refused}");
    }
}

fn a_password_from_a_file<S: Server>() {
    let server = S::shared();
    let tcp = server.database().over_tcp(server.address());
    let setup = Setup::on(&tcp);
    let file = setup.folder().join("password");
    let password = tcp.settings().into_iter().find(|(name, _)| name == "DB_PASSWORD").unwrap().1;
    fs::write(&file, password + "\n").unwrap();
    let setup = setup.setting("DB_PASSWORD", "").setting("DB_PASSWORD_FILE", &file.display().to_string());
    let daemon = setup.start();
    daemon.connect().ask(&Request::data("alice@example.com", 2));
    assert_eq!(tcp.counters("alice@example.com").unwrap().rcpt_counter, 2);
}

/// Whose sessions do not commit, refuse statements without a key, and write statements to the binary log.
fn a_server_with_other_defaults_counts_and_is_cleaned_up<S: Server>() {
    let server = S::start_with(&["--autocommit=0", "--log-bin", "--binlog-format=STATEMENT"]);
    server.administer("SET GLOBAL sql_safe_updates = 1");
    let database = server.database();
    let setup = Setup::on(&database).setting("MESSAGE_RETENTION", "1");
    let daemon = setup.start();
    daemon.connect().ask(&Request::data("alice@example.com", 2));
    database.execute("UPDATE messages SET created_at = '2001-01-01' WHERE id > 0; COMMIT");
    assert_eq!(database.counters("alice@example.com").unwrap().rcpt_counter, 2);
    let cleaned = daemon.setup().run("cleanup", &[]);
    assert!(cleaned.status.success(), "{cleaned:?}");
    assert_eq!(database.counters("alice@example.com").unwrap().rcpt_counter, 0);
    assert_eq!(database.rows("messages"), 0);
}

fn a_server_that_cannot_be_used_as_it_is_set_up_is_told_how<S: Server>() {
    let server = S::start_with(&["--log-bin", "--binlog-format=STATEMENT"]);
    let database = server.database();
    server.administer(
        "REVOKE ALL PRIVILEGES ON *.* FROM 'policyd'@'%'; GRANT ALL PRIVILEGES ON `policyd\\_%`.* TO 'policyd'@'%'",
    );
    let refused = counts(&database, &[]).unwrap_err();
    assert!(refused.contains("binlog_format=ROW (or MIXED)"), "{refused}");
    server.administer("SET GLOBAL binlog_format = 'MIXED'");
    assert_eq!(counts(&database, &[]), Ok(()));
    server.administer("SET GLOBAL max_allowed_packet = 65536");
    let refused = counts(&database, &[]).unwrap_err();
    assert!(refused.contains("max_allowed_packet is 65536 bytes: set at least 1048576"), "{refused}");
}

crate::on_each_server! {
    a_server_that_asks_for_tls
    a_server_with_another_name_in_its_certificate
    a_password_from_a_file
}

mod set_up {
    use super::{
        a_server_that_cannot_be_used_as_it_is_set_up_is_told_how, a_server_with_other_defaults_counts_and_is_cleaned_up,
    };

    crate::on_mariadb_and_mysql! {
        a_server_with_other_defaults_counts_and_is_cleaned_up
        a_server_that_cannot_be_used_as_it_is_set_up_is_told_how
    }
}

/// `caching_sha2_password` asks for the password itself when the server does not remember it.
#[test]
fn mysql_that_has_forgotten_the_password_is_logged_into_again() {
    let server = MySql::start();
    let over_tcp = server.database().over_tcp(server.address());
    let over_unix = over_tcp.over_unix(&server.socket());
    for (tls, database) in [("off", &over_tcp), ("prefer", &over_tcp), ("off", &over_unix)] {
        // Only this daemon logs in, who else does has the server remember.
        let daemon = Setup::on(database).setting("DB_TLS", tls).start();
        let mut client = daemon.connect();
        client.ask(&Request::data("alice@example.com", 1));
        server.administer("FLUSH PRIVILEGES");
        server.end_sessions();
        client.ask(&Request::data("alice@example.com", 1));
        assert!(!daemon.log().contains(AWAY), "{}", daemon.log());
        server.kill9();
        client.ask(&Request::data("alice@example.com", 1));
        daemon.await_log_times(AWAY, 1, Duration::from_secs(20));
        server.start_again();
        daemon.await_log_times(" is back after ", 1, Duration::from_secs(20));
        drop(daemon);
        assert_eq!(database.counters("alice@example.com").unwrap().rcpt_counter, 3);
        database.execute("DELETE FROM ratelimits");
    }
}

/// A password that the server remembers is enough for it, until it forgets it.
#[test]
fn mysql_without_tls_is_named_before_it_forgets_the_password() {
    let server = MySql::start();
    let over_tcp = server.database().over_tcp(server.address());
    let over_unix = over_tcp.over_unix(&server.socket());
    let finds = |daemon: &Daemon, finding: &str| {
        let output = daemon.setup().run("doctor", &["--postconf", "/nonexistent"]);
        String::from_utf8(output.stdout).unwrap().contains(finding)
    };
    let limit = Duration::from_secs(20);
    for database in [over_tcp, over_unix] {
        let daemon = Setup::on(&database).start();
        daemon.await_counting();
        assert!(!finds(&daemon, "PROBLEM login: ") && !finds(&daemon, "PROBLEM database: "));
        drop(daemon);

        server.administer("SET GLOBAL tls_version = ''; ALTER INSTANCE RELOAD TLS NO ROLLBACK ON ERROR");
        let daemon = Setup::on(&database).start_without_tables();
        daemon.await_counting();
        assert!(finds(&daemon, "PROBLEM login: ") && !finds(&daemon, "PROBLEM database: "));

        server.administer("FLUSH PRIVILEGES");
        server.end_sessions();
        daemon.connect().ask(&Request::data("alice@example.com", 1));
        daemon.await_log_times(AWAY, 1, limit);
        assert!(daemon.log().contains("Turn TLS on in the server"), "{}", daemon.log());
        assert!(finds(&daemon, "PROBLEM database: ") && finds(&daemon, "Turn TLS on in the server"));

        server.administer("SET GLOBAL tls_version = DEFAULT; ALTER INSTANCE RELOAD TLS");
        daemon.await_log_times(" is back after ", 1, limit);
        assert!(!finds(&daemon, "PROBLEM login: ") && !finds(&daemon, "PROBLEM database: "));
    }
}

#[test]
fn mariadb_without_tls() {
    a_server_without_tls::<MariaDb>();
}

#[test]
fn postgres_without_tls() {
    a_server_without_tls::<Postgres>();
}
