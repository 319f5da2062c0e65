//! The ways to a database server: TLS as DB_TLS says, a password from a file, unix socket and TCP.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::client::Request;
use crate::support::daemon::Setup;
use crate::support::database::Database;
use crate::support::mariadb::{MariaDb, MySql};
use crate::support::postgres::Postgres;
use crate::support::process::run;
use crate::support::scratch::Scratch;
use crate::support::server::Server;
use crate::support::wait;

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

/// A server that does what MySQL 8 does with a password that it has not seen since its start.
fn asks_for_the_password_itself() -> std::net::SocketAddr {
    let packet = |number: u8, payload: &[u8]| [&[payload.len() as u8, 0, 0, number], payload].concat();
    let greeting = [
        b"\x0a8.0.36\0".as_slice(),
        &[1, 0, 0, 0],
        b"saltsalt\0",
        // Protocol 4.1, secure connection, login plugins; no TLS.
        &[0x08, 0x82, 45, 2, 0, 0x08, 0, 21],
        &[0; 10],
        b"saltsaltsalt\0caching_sha2_password\0",
    ]
    .concat();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 1024];
            let full_login = packet(2, &[1, 4]);
            let key = packet(4, b"\x01-----BEGIN PUBLIC KEY-----");
            for said in [packet(0, &greeting), full_login, key] {
                if stream.write_all(&said).is_err() || stream.read(&mut buffer).is_err() {
                    break;
                }
            }
        }
    });
    address
}

#[test]
fn mariadb_driver_explains_a_login_that_needs_tls() {
    let database = MariaDb::shared().database().over_tcp(asks_for_the_password_itself());
    let refused = counts(&database, &[]).unwrap_err();
    assert!(refused.contains("caching_sha2_password") && refused.contains("Turn TLS on"), "{refused}");
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

#[test]
fn mysql_without_tls_is_told_what_to_do() {
    let server = <MySql as Server>::start_without_tls();
    let refused = counts(&server.database().over_tcp(server.address()), &[]).unwrap_err();
    assert!(refused.contains("Turn TLS on in the server"), "{refused}");
}

#[test]
fn mariadb_without_tls() {
    a_server_without_tls::<MariaDb>();
}

#[test]
fn postgres_without_tls() {
    a_server_without_tls::<Postgres>();
}
