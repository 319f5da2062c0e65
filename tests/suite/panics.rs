//! A panic becomes a line in the log and a report to Sentry, and neither tells who sent the mail that it happened with.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use crate::support::http::{Message, Receiver};
use crate::support::own_process;
use policyd_rate_guard::config::{self, Sources};
use policyd_rate_guard::notify::error_reports::Reporter;
use policyd_rate_guard::telemetry::logging::{self, Logging};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(20);

/// The event of an envelope, which has a line of JSON for each of its parts.
fn event(envelope: &Message) -> Value {
    let parts = envelope.body.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    parts.into_iter().find(|part| part.get("message").is_some()).unwrap_or_else(|| panic!("no event in {envelope:?}"))
}

/// In a process of its own, whose panic hook and log are the daemon's from then on.
#[test]
fn a_panic_is_logged_and_reported_without_names() {
    let Some(mut command) = own_process::command("panics::a_panic_is_logged_and_reported_without_names", &[]) else {
        return panic_as_the_daemon_would();
    };
    own_process::succeeds(&mut command);
}

fn panic_as_the_daemon_would() {
    let sentry = Receiver::start();
    let folder = tempfile::tempdir().unwrap();
    let (settings, log) = (folder.path().join("settings.env"), folder.path().join("log"));
    let dsn = format!("http://public-key@{}/42", sentry.address());
    fs::write(&settings, format!("LOG_FILE={}\nLOG_CONSOLE=True\nSENTRY_DSN={dsn}\n", log.display())).unwrap();
    let config = config::load(&Sources::new(Some(settings), [("", ""); 0], false)).unwrap().config;

    // As `serve` starts them.
    let logging = Logging::start(&config.logging, false).unwrap();
    logging::log_panics();
    let reporter = Arc::new(Reporter::start(&config.notify).unwrap());
    reporter.watch(&logging);

    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    // Once more is the same error, and no second report.
    for _ in 0..2 {
        let panicked = runtime.block_on(runtime.spawn(async { panic!("alice@example.com has no row") }));
        assert!(panicked.is_err(), "the task has ended, the process goes on");
    }
    // What Rust quotes is the client's text. Nothing but the standard library's own message will do.
    let login = "müller".to_owned();
    assert!(std::thread::spawn(move || login.split_at(2).0.len()).join().is_err());

    let reports = sentry.await_requests(2);
    let messages: Vec<String> =
        reports.iter().map(|report| event(report)["message"].as_str().unwrap().into()).collect();
    assert!(messages[0].contains("this is a bug") && messages[0].contains("[address] has no row"), "{messages:?}");
    assert!(messages[0].contains("tests/suite/panics.rs:"), "where it happened: {messages:?}");
    assert!(messages[1].contains("bytes 1..3") || messages[1].contains("char boundary"), "{messages:?}");
    reporter.flush(TIMEOUT);
    let reports = sentry.received();
    assert_eq!(reports.len(), 2, "the same error once: {reports:?}");
    for report in &reports {
        let event = event(report);
        for personal in ["alice", "example.com", "ller"] {
            assert!(!report.body.contains(personal), "{personal}: {}", report.body);
        }
        assert!(event.get("server_name").is_none() && event.get("user").is_none(), "{event}");
    }

    assert!(logging.flush(TIMEOUT));
    let log = fs::read_to_string(&log).unwrap();
    let told = log.lines().filter(|line| line.contains("this is a bug, please report it")).count();
    assert_eq!(told, 3, "each one is in the log\n{log}");
    assert!(log.contains("alice@example.com has no row") && log.contains("müller"), "whole: {log}");
}
