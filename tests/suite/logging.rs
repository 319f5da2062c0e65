//! The log as the process's own: one test, since a process has one logger.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use log::LevelFilter;
use policyd_rate_guard::config;
use policyd_rate_guard::telemetry::decision::DecisionLine;
use policyd_rate_guard::telemetry::log_throttle;
use policyd_rate_guard::telemetry::logging::{LogError, Logging};

use crate::support::own_process;

const TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn the_log_facade_reaches_file_and_log_daemon() {
    let Some(mut command) = own_process::command("logging::the_log_facade_reaches_file_and_log_daemon", &[]) else {
        return log_as_the_daemon_would();
    };
    own_process::succeeds(&mut command);
}

fn log_as_the_daemon_would() {
    let dir = tempfile::tempdir().unwrap();
    let (path, socket) = (dir.path().join("guard.log"), dir.path().join("dev-log"));
    let daemon = UnixDatagram::bind(&socket).unwrap();
    daemon.set_read_timeout(Some(TIMEOUT)).unwrap();
    let config = config::Logging {
        level: LevelFilter::Info,
        file: Some(path.clone()),
        console: false,
        syslog: Some(socket),
        message_prefix: true,
    };
    let logging = Logging::start(&config, false).unwrap();
    assert!(matches!(Logging::start(&config, false), Err(LogError::Started)));

    log::info!(target: "policyd_rate_guard::server", "listening\non 127.0.0.1");
    log::info!(target: "sqlx::query", "not wanted");
    log::debug!(target: "policyd_rate_guard::server", "not wanted either");
    for attempt in 1..=3 {
        log_throttle::warn_limited("the disk is slow", format_args!("commit {attempt} took 1 s"));
    }
    // The 3rd attempt reaches the limit, 10 more refusals are logged, and the rest is only counted.
    for attempt in 1..=20 {
        let refusal = DecisionLine {
            queue_id: "4XyZ12abcd",
            sasl_username: "phished",
            used: attempt,
            quota: 2,
            blocked: attempt > 2,
            limit_reached: attempt == 3,
            ..DecisionLine::default()
        };
        log_throttle::log_decision("phished", refusal);
    }
    log_throttle::report_all();
    logging.reconfigure(&config::Logging { level: LevelFilter::Debug, ..config }).unwrap();
    log::debug!(target: "policyd_rate_guard::server", "wanted now");

    let mut received: Vec<String> = Vec::new();
    while received.last().is_none_or(|text| !text.ends_with("wanted now")) {
        let mut datagram = [0; 9000];
        let length = daemon.recv(&mut datagram).expect("a line should arrive");
        let datagram = std::str::from_utf8(&datagram[..length]).unwrap();
        received.push(datagram.split_once("]: ").unwrap().1.to_owned());
    }
    assert!(logging.flush(TIMEOUT));

    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    let place = lines[0].split_once(" - ").unwrap();
    assert!(place.0.starts_with("INFO ") && place.1 == r"listening\non 127.0.0.1", "{}", lines[0]);
    assert!(lines[1].ends_with(" - commit 1 took 1 s"), "{}", lines[1]);
    let decisions: Vec<&&str> = lines.iter().filter(|line| line.contains(" 4XyZ12abcd: ")).collect();
    assert_eq!(decisions.len(), 2 + 1 + 10);
    assert!(decisions[1].starts_with("INFO 4XyZ12abcd: client="), "{}", decisions[1]);
    assert!(decisions[2].starts_with("WARN ") && decisions[2].ends_with("status=BLOCKED (QUOTA_LIMIT_REACHED)"));
    let told: Vec<&str> = lines[2 + 13..].iter().filter_map(|line| line.split_once(" - ")).map(|line| line.1).collect();
    assert_eq!(
        told,
        [
            "2 more warnings were not logged: the disk is slow",
            "7 more refusals of sender phished were not logged",
            "wanted now",
        ]
    );

    // The log daemon has the same lines, with its own header.
    let texts: Vec<&str> = lines.iter().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(received, texts);
}
