//! The settings as an operator meets them: the packaged file, and the report of `check`.
#![allow(clippy::unwrap_used)] // also in what the tests share

use std::fs;
use std::path::{Path, PathBuf};

use policyd_rate_guard::commands;
use policyd_rate_guard::config::{self, Driver, Loaded, Origin, Sources, Window, documents, settings};

const NO_ENVIRONMENT: [(&str, &str); 0] = [];

fn packaged_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/policyd-rate-guard/policyd-rate-guard.env")
}

/// A settings file of its own, not readable for others.
fn settings_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

fn load(text: &str) -> Result<Loaded, config::ConfigError> {
    config::load(&Sources::new(Some(settings_file(text).path().to_owned()), NO_ENVIRONMENT, false))
}

/// To write the file anew after a change of the table: `UPDATE=1 cargo test --test settings`.
#[test]
fn the_packaged_file_is_the_table() {
    let generated = documents::settings_file();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(packaged_file(), &generated).unwrap();
    }
    let packaged = fs::read_to_string(packaged_file()).unwrap();
    assert!(packaged == generated, "run: UPDATE=1 cargo test --test settings");
    for line in packaged.lines() {
        assert!(line.chars().count() <= 120, "too long to read: {line}");
    }
}

#[test]
fn the_packaged_file_makes_the_packages_choices() {
    let loaded = config::load(&Sources::new(Some(packaged_file()), NO_ENVIRONMENT, true)).unwrap();
    assert_eq!(loaded.config.database.driver, Driver::Sqlite);
    assert_eq!(loaded.config.database.name, "/var/lib/policyd-rate-guard/policyd-rate-guard.db");
    assert_eq!(loaded.config.logging.syslog.as_deref(), Some(Path::new("/dev/log")));
    assert_eq!(loaded.config.audit.message_retention, 30);
    let set: Vec<_> = loaded.effective.iter().filter(|one| one.origin != Origin::Default).map(|one| one.name).collect();
    let unavailable = loaded.warnings.iter().filter_map(|warning| warning.name.as_deref());
    let mut expected = vec!["DB_DRIVER", "QUOTA_WINDOW", "MESSAGE_RETENTION", "SYSLOG"];
    expected.retain(|name| !unavailable.clone().any(|unavailable| unavailable == *name));
    assert_eq!(set, expected);
}

#[test]
fn every_line_of_the_packaged_file_can_be_uncommented() {
    let everything: String = documents::settings_file()
        .lines()
        .filter(|line| !line.starts_with("# ") && !line.starts_with("#DB_PASSWORD_FILE"))
        .map(|line| format!("{}\n", line.strip_prefix('#').unwrap_or(line)))
        .collect();
    let loaded = load(&everything).unwrap_or_else(|error| panic!("{error}"));
    for setting in settings::all().filter(|setting| setting.name != "DB_PASSWORD_FILE") {
        assert!(everything.contains(&format!("\n{}=", setting.name)), "{} is missing", setting.name);
    }
    assert_eq!(loaded.config.answers.text_blocked, "Rate limit reached, retry later.");
}

#[test]
fn the_markdown_table_has_a_row_for_each_setting() {
    let table = documents::markdown_table();
    for setting in settings::all() {
        let row = table.lines().find(|line| line.starts_with(&format!("| `{}` |", setting.name))).unwrap();
        assert_eq!(row.replace("\\|", "").matches('|').count(), 4, "{row}");
        assert!(row.contains(setting.help), "{row}");
    }
}

#[test]
fn a_file_of_policyd_rate_guard_is_taken_as_it_is() {
    let loaded = load(
        "## Database configuration\n# DB_DRIVER=pymysql\nDB_HOST=db\nDB_PORT=3306\nDB_USER=policyd-rate-guard\n\
         DB_PASSWORD='p$ss #1'\nDB_DATABASE=policyd-rate-guard\nDB_POOL_MAXCACHED=10\n\
         SOCKET=\"0.0.0.0,10033\" # Use this for IPv4 TCP socket\nLOG_LEVEL=DEBUG\nLOG_CONSOLE=True # True or False\n\
         MESSAGE_RETENTION=90 # How many days\nWEBHOOK_ENABLED=True\n\
         WEBHOOK_URL=\"https://example.com/api/policyd/{sender}?token={token}\"\nWEBHOOK_SECRET=\"c2VjcmV0\"\n",
    )
    .unwrap();
    let config = &loaded.config;
    assert_eq!(config.database.driver, Driver::Mysql);
    assert_eq!(config.database.password.as_ref().unwrap().reveal(), "p$ss #1");
    assert_eq!(config.quota.window, Window::Reset);
    assert_eq!(config.audit.message_retention, 90);
    assert!(loaded.warnings.iter().any(|warning| warning.to_string().contains("DB_POOL_MAXCACHED=10: is accepted")));
}

#[test]
fn check_prints_every_error_with_its_place() {
    let file = settings_file("QUOTA=-5\nDB_PASSWORD='secret\nword'\nDB_PORT=0\nQOUTA=7\nUSER=x y\n");
    let environment = [("LOG_LEVEL", "LOUD"), ("QUOTAS", "not ours")];
    let sources = Sources::new(Some(file.path().to_owned()), environment, false);
    let mut printed = Vec::new();
    assert!(!commands::check::run(&sources, false, &mut printed).unwrap());
    let printed = String::from_utf8(printed).unwrap().replace(&file.path().display().to_string(), "FILE");
    assert_eq!(
        printed,
        "FILE:1: error: QUOTA=-5: is negative: write unlimited for no limit, or 0 for nothing at all\n\
         FILE:4: error: DB_PORT=0: must be a whole number from 1 to 65535\n\
         FILE:5: warning: QOUTA: is not a setting, so it has no effect; did you mean QUOTA?\n\
         FILE:6: error: USER=x y: must be a user's or group's name or number\n\
         environment: error: LOG_LEVEL=LOUD: must be DEBUG, INFO, WARNING, ERROR or CRITICAL (or off, error, warn, info, \
         debug, trace)\n\
         The settings cannot be used: 4 errors, 1 warning.\n"
    );
}

#[test]
fn check_prints_what_is_in_effect_and_no_secret() {
    let file = settings_file("DB_PASSWORD=hunter2\nQUOTA=500\nLIMITS='3 messages/1h'\n");
    let sources = Sources::new(Some(file.path().to_owned()), [("SYSLOG", "yes")], false);
    let mut table = Vec::new();
    assert!(commands::check::run(&sources, false, &mut table).unwrap());
    let table = String::from_utf8(table).unwrap();
    let row = |name: &str| {
        let row = table.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_default();
        row.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let place = format!("{}:2", file.path().display());
    assert_eq!(row("QUOTA"), ["QUOTA", "500", &place]);
    assert_eq!(row("SYSLOG"), ["SYSLOG", "yes", "environment"]);
    assert_eq!(row("DB_DRIVER"), ["DB_DRIVER", "mysql", "default"]);
    assert_eq!(row("DB_PASSWORD")[1], "(set)");
    for setting in settings::all() {
        assert_eq!(row(setting.name).first().map(String::as_str), Some(setting.name));
    }

    let mut json = Vec::new();
    assert!(commands::check::run(&sources, true, &mut json).unwrap());
    let json = String::from_utf8(json).unwrap();
    assert!(!table.contains("hunter2") && !json.contains("hunter2"));
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["settings"].as_array().unwrap().len(), settings::all().count());
    assert!(report["findings"].as_array().unwrap().iter().all(|finding| finding["severity"] == "warning"));
}
