//! The settings as they are shipped and as they are found: the packaged file, the tables, PolicydRateGuard's `.env`.
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use policyd_rate_guard::config::{self, Driver, Loaded, Origin, Sources, documents, settings};
use policyd_rate_guard::policy::quota::Window;

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

/// To write the file anew after a change of the table: `UPDATE=1 cargo test --test suite settings`.
#[test]
fn the_packaged_file_is_the_table() {
    let generated = documents::settings_file();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(packaged_file(), &generated).unwrap();
    }
    let packaged = fs::read_to_string(packaged_file()).unwrap();
    assert!(packaged == generated, "run: UPDATE=1 cargo test --test suite settings");
    // A value is as long as it must be.
    for line in packaged.lines().filter(|line| line.starts_with('#')) {
        assert!(line.chars().count() <= 120, "too long to read: {line}");
    }
}

#[test]
fn the_packaged_file_makes_the_packages_choices() {
    // What the file has, which a test beside this one may be writing anew.
    let packaged = settings_file(&documents::settings_file());
    let loaded = config::load(&Sources::new(Some(packaged.path().to_owned()), NO_ENVIRONMENT, true)).unwrap();
    assert_eq!(loaded.config.database.driver, Driver::Sqlite);
    assert_eq!(loaded.config.database.name, "/var/lib/policyd-rate-guard/policyd-rate-guard.db");
    assert_eq!(loaded.config.logging.syslog.as_deref(), Some(Path::new("/dev/log")));
    assert_eq!(loaded.config.audit.message_retention, 30);
    assert_eq!(loaded.config.quota.window, Window::Sliding(Duration::from_secs(24 * 3600)));
    let set: Vec<_> = loaded.effective.iter().filter(|one| one.origin != Origin::Default).map(|one| one.name).collect();
    assert_eq!(set, ["DB_DRIVER", "QUOTA_WINDOW", "LIMITS", "MESSAGE_RETENTION", "SYSLOG"]);
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
