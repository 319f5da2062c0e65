//! METRICS_LISTEN: what it says, to whom, and that it agrees with the database, its documentation and the alert rules.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{Client, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::http::{self, get};
use crate::support::port::Port;
use crate::support::process::run;
use crate::support::stream::Address;
use crate::support::wait;
use policyd_rate_guard::http::MAX_CONNECTIONS;

const RULES: &str = "etc/prometheus/policyd-rate-guard.rules.yml";
const RULE_TESTS: &str = "etc/prometheus/policyd-rate-guard.test.yml";
const DASHBOARD: &str = "etc/grafana/policyd-rate-guard.json";
const MANUAL: &str = "docs/metrics.md";

fn start(setup: Setup) -> (Daemon, SocketAddr) {
    start_by(Setup::start, setup)
}

fn start_by(start: fn(Setup) -> Daemon, setup: Setup) -> (Daemon, SocketAddr) {
    let daemon = start(setup.with_metrics());
    let address = daemon.setup().metrics_address();
    (daemon, address)
}

fn scrape(address: SocketAddr) -> String {
    get(address, "/metrics").body
}

/// The sum of all samples of this name whose labels hold all of these.
fn sum(scrape: &str, name: &str, labels: &[&str]) -> u64 {
    let samples = scrape.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let wanted = samples.filter(|line| labels.iter().all(|label| line.contains(label)));
    wanted.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

/// The names of all families in a scrape, as their samples have them.
fn families(scrape: &str) -> BTreeSet<String> {
    let types = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn the_figures_agree_with_the_database_after_a_load() {
    let (daemon, address) = start(Setup::sqlite().setting("QUOTA", "20"));
    let policy = daemon.unix_address();
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let policy: Address = policy.clone();
            thread::spawn(move || {
                let mut client = Client::connect(&policy);
                for _ in 0..30 {
                    client.ask(&Request::data(&format!("sender{}@example.com", number % 4), 1));
                }
                client.ask(&Request::data("", 1));
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let scraped = scrape(address);
    let decisions = |labels: &[&str]| sum(&scraped, "policyd_rate_guard_decisions_total", labels);
    let messages =
        |blocked| daemon.database().number(&format!("SELECT COUNT(*) FROM messages WHERE blocked = {blocked}"));
    assert_eq!(decisions(&[r#"outcome="accepted""#, r#"action="pass""#]), 80);
    assert_eq!(messages(0), 80);
    assert_eq!(decisions(&[r#"outcome="blocked""#, r#"action="defer""#]), 160);
    assert_eq!(messages(1), 160);
    assert_eq!(decisions(&[r#"outcome="not_counted""#]), 8);
    assert_eq!(decisions(&[]), 248);
    assert_eq!(sum(&scraped, "policyd_rate_guard_decision_seconds_count", &[]), 248);
    assert_eq!(sum(&scraped, "policyd_rate_guard_batch_requests_sum", &[]), 240, "each counted request in one batch");
    let batches = sum(&scraped, "policyd_rate_guard_batch_requests_count", &[]);
    assert_eq!(batches, sum(&scraped, "policyd_rate_guard_transaction_seconds_count", &[]));
    assert!((1..=240).contains(&batches), "{batches}");
    for (name, expected) in [
        ("database_up", 1),
        ("queue_depth", 0),
        ("fail_open_total", 0),
        ("judged_from_memory_total", 0),
        ("journal_up", 1),
        ("journal_requests", 0),
        ("log_lines_lost_total", 0),
        ("build_info", 1),
    ] {
        assert_eq!(sum(&scraped, &format!("policyd_rate_guard_{name}"), &[]), expected, "{name}");
    }
    assert!(!scraped.contains("sender0") && !scraped.contains('@'), "no sender is named\n{scraped}");
}

#[test]
fn what_systemctl_status_shows_is_the_same_figures() {
    let (mut daemon, address) = start(Setup::sqlite());
    let mut client = daemon.connect();
    client.ask(&Request::data("alice@example.com", 1));
    client.send_raw(b"nonsense\n\n");
    client.reply();
    assert_eq!(sum(&scrape(address), "policyd_rate_guard_connections", &[]), 1);
    assert_eq!(sum(&scrape(address), "policyd_rate_guard_fail_open_total", &[r#"reason="nonsense""#]), 1);
    drop(client);
    wait::until(Duration::from_secs(10), "the connection is closed", || {
        (sum(&scrape(address), "policyd_rate_guard_connections", &[]) == 0).then_some(())
    });
    daemon.term();
    daemon.await_log("0 connections; 1 accepted, 0 blocked, 0 not counted; let through in doubt: nonsense 1");
}

#[test]
fn without_a_database_the_daemon_says_so_and_is_healthy() {
    let setup = Setup::sqlite().setting("DB_DATABASE", "/nonexistent/folder/file.db");
    let (mut daemon, address) = start_by(Setup::start_without_tables, setup);
    assert_eq!(daemon.connect().ask(&Request::data("alice@example.com", 1)), "DUNNO");
    let scraped = scrape(address);
    assert_eq!(sum(&scraped, "policyd_rate_guard_database_up", &[]), 0);
    assert_eq!(sum(&scraped, "policyd_rate_guard_judged_from_memory_total", &[]), 1);
    assert_eq!(sum(&scraped, "policyd_rate_guard_decisions_total", &[r#"outcome="accepted""#]), 1);
    let health = get(address, "/healthz");
    assert_eq!(
        (health.status(), health.body.as_str()),
        (200, "ok; the database is away, and senders are counted in memory\n")
    );
    assert!(daemon.term().success());
}

#[test]
fn a_load_balancer_is_sent_elsewhere_while_the_daemon_stops() {
    let (mut daemon, address) = start(Setup::sqlite().setting("DECISION_TIMEOUT", "20s"));
    let mut client = daemon.connect();
    // A request that has begun keeps the daemon from ending.
    client.send_raw(b"request=smtpd_access_policy\n");
    assert_eq!(get(address, "/healthz").status(), 200);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    let health = wait::until(Duration::from_secs(10), "it says that it stops", || {
        Some(get(address, "/healthz")).filter(|health| health.status() == 503)
    });
    assert_eq!(health.body, "stopping\n");
    client.send_raw(b"protocol_state=CONNECT\n\n");
    assert_eq!(client.reply(), "DUNNO");
    assert!(daemon.wait().success());
}

#[test]
fn only_what_there_is_is_answered() {
    let (_daemon, address) = start(Setup::sqlite());
    let health = get(address, "/healthz");
    assert_eq!((health.status(), health.body.as_str()), (200, "ok\n"));
    assert_eq!(http::ask(address, "HEAD", "/metrics", "").status(), 200);
    for path in ["/nothing", "/metrics/../../etc/passwd", "/api/", "/api/metrics"] {
        assert_eq!(http::ask_as("localhost", address, "GET", path, "").status(), 404, "{path}");
    }
    let refused = http::ask(address, "POST", "/metrics", "Content-Length: 0\r\n");
    assert_eq!((refused.status(), refused.header("allow")), (405, Some("GET, HEAD")));
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";
    let open_metrics = http::ask(address, "GET", "/metrics", accept);
    assert_eq!(open_metrics.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(open_metrics.body.ends_with("# EOF\n"));
    assert_eq!(get(address, "/metrics").header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
}

#[test]
fn who_asks_too_much_is_cut_off_and_mail_goes_on() {
    let (daemon, address) = start(Setup::sqlite());
    let mut greedy = TcpStream::connect(address).unwrap();
    greedy.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let endless = format!("GET /metrics HTTP/1.1\r\nHost: test\r\nX: {}", "x".repeat(100_000));
    // The daemon may be done with it before all is sent.
    let _ = greedy.write_all(endless.as_bytes());
    let mut answer = Vec::new();
    let _ = greedy.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    // More idle connections than are served: mail is no worse for it, and neither is the next scrape once they are gone.
    let idle: Vec<TcpStream> = (0..MAX_CONNECTIONS + 10).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(daemon.connect().ask(&Request::data("alice@example.com", 1)), "DUNNO");
    drop(idle);
    assert_eq!(sum(&scrape(address), "policyd_rate_guard_decisions_total", &[]), 1);
}

#[test]
fn viewers_who_stay_keep_no_health_check_waiting() {
    let (_daemon, address) = start(Setup::sqlite());
    let began = Instant::now();
    let staying: Vec<TcpStream> = (0..80)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0, "an answer");
            stream
        })
        .collect();
    assert_eq!(get(address, "/healthz").status(), 200);
    // Whoever is silent for five seconds makes room in any case.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    drop(staying);
}

#[test]
fn a_crowd_that_says_nothing_keeps_no_health_check_waiting() {
    let (_daemon, address) = start(Setup::sqlite());
    let silent: Vec<TcpStream> = (0..3 * MAX_CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
    let began = Instant::now();
    assert_eq!(get(address, "/healthz").status(), 200);
    // Whoever is silent for five seconds is let go in any case.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    drop(silent);
}

#[test]
fn an_address_that_is_taken_is_named_and_tried_again_while_mail_goes_on() {
    let setup = Setup::sqlite().with_metrics();
    let address = setup.metrics_address();
    let taken = std::net::TcpListener::bind(address).unwrap();
    let mut daemon = setup.start();
    assert_eq!(daemon.connect().ask(&Request::data("alice@example.com", 1)), "DUNNO");
    daemon.await_log(&format!("METRICS_LISTEN: cannot listen on {address}: Address already in use"));
    drop(taken);
    daemon.await_log(&format!("the page is on http://{address}/"));
    assert_eq!(get(address, "/healthz").status(), 200);
    assert_eq!(daemon.log().matches("cannot listen").count(), 1, "told once");
}

#[test]
fn a_name_is_listened_on_at_each_of_its_addresses() {
    let held = Port::free();
    let port = held.number();
    let mut daemon = Setup::sqlite().setting("METRICS_LISTEN", &format!("localhost:{port}")).start();
    let addresses: Vec<SocketAddr> = ("localhost", port).to_socket_addrs().unwrap().collect();
    for address in addresses {
        daemon.await_log(&format!("the page is on http://{address}/"));
        assert_eq!(http::ask_as("localhost", address, "GET", "/", "").status(), 200);
    }
}

#[test]
fn names_that_have_no_address_stop_neither_the_daemon_nor_a_command() {
    let setup = Setup::sqlite()
        .setting("METRICS_LISTEN", "nowhere.invalid:9464")
        .setting("STATUS_TOKEN", "a token that nobody guesses")
        .setting("NOTIFY_MAIL_TO", "postmaster@example.com")
        .setting("NOTIFY_MAIL_SERVER", "nowhere.invalid:25")
        .setting("QUOTA", "1");
    let mut daemon = setup.start();
    assert!(daemon.setup().run("sender", &["list"]).status.success());
    let mut client = daemon.connect();
    (0..2).for_each(|_| drop(client.ask(&Request::data("alice@example.com", 1))));
    daemon.await_log("METRICS_LISTEN: nowhere.invalid:9464 has no address");
    daemon.await_log("mail: telling about alice@example.com failed: the mail server: ");
    daemon.hup();
    daemon.await_log("the settings were read again");
}

#[test]
fn promtool_takes_the_metrics_and_the_rules() {
    let (daemon, address) = start(Setup::sqlite().setting("QUOTA", "1"));
    let mut client = daemon.connect();
    (0..3).for_each(|_| drop(client.ask(&Request::data("alice@example.com", 1))));
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool; run tests/dependencies");
    promtool.stdin.take().unwrap().write_all(scrape(address).as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.is_empty(), "{told}");
    run(Command::new("promtool").args(["check", "rules", RULES]));
    run(Command::new("promtool").args(["test", "rules", RULE_TESTS]));
}

#[test]
fn manual_rules_and_dashboard_name_what_there_is() {
    let (_daemon, address) = start(Setup::sqlite());
    let there = families(&scrape(address));
    let named = |path: &str| -> BTreeSet<String> {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let part_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = text.split(|c: char| !part_of_a_name(c)).filter(|word| word.starts_with("policyd_rate_guard_"));
        let family = |word: &str| {
            let series = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
            series.unwrap_or(word).to_owned()
        };
        words.map(family).collect()
    };
    assert_eq!(named(MANUAL), there, "{MANUAL} has each metric and no other");
    for path in [RULES, RULE_TESTS, DASHBOARD] {
        let unknown: Vec<String> = named(path).difference(&there).cloned().collect();
        assert!(unknown.is_empty() && !named(path).is_empty(), "{path}: {unknown:?}");
    }
    let dashboard = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(DASHBOARD)).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() >= 8));
}
