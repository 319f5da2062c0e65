//! `check`: says what is wrong with the settings and with the lists that they name, or shows each setting in effect and where it
//! comes from.

use std::io::{self, Write};
use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::database;
use crate::cli::Check;
use crate::clock;
use crate::commit::learning::{self, Learning};
use crate::config::{self, Config, ConfigError, Effective, Finding, Loaded, Origin, Severity, Sources};
use crate::limiter::{moment, usual};
use crate::policy::limit::Limit;
use crate::policy::lists::Lists;
use crate::store::Store;
use crate::system::privileges;

/// For the one question to the database. The settings are good or not without it.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Which limits only warn so far, or why the database could not be asked.
type Asked = Result<Vec<Learning>, String>;

/// Prints the findings and, if the settings are good, all settings in effect; with `quiet` the findings only. Returns whether
/// the settings are good.
///
/// Blocks as [`config::load`] does; fails if `out` does. Before it reads a list, root becomes USER.
pub fn run(sources: &Sources, options: &Check, out: &mut impl Write) -> io::Result<bool> {
    let read = read(sources);
    let learns = |config: &Config| config.quota.limits.iter().any(Limit::learns);
    let config = read.as_ref().ok().map(|loaded| &loaded.config).filter(|config| !options.quiet && learns(config));
    let asked = config.map(only_warn);
    report(read, asked.as_ref(), options, out)
}

/// Asks the database which limits only warn, because too little is known of senders.
fn only_warn(config: &Config) -> Asked {
    privileges::become_user(&config.sockets).map_err(|error| error.to_string())?;
    let runtime = database::runtime().map_err(|failed| failed.message)?;
    let policy = config.terms(Lists::default(), TimeZone::system()).policy;
    let mut store = Store::reading(&config.database);
    let asked = async { tokio::time::timeout(TIMEOUT, learning::of(&mut store, &policy, clock::now())).await };
    let asked = runtime.block_on(asked);
    let place = store.place();
    store.abandon();
    match asked {
        Ok(Ok(learning)) => Ok(learning),
        Ok(Err(failure)) => Err(format!("{place}: {failure}")),
        Err(_) => Err(format!("{place}: no answer within {} s", TIMEOUT.as_secs())),
    }
}

/// Reads all that `serve` and a reload read: they accept what passes here.
fn read(sources: &Sources) -> Result<Loaded, ConfigError> {
    let loaded = config::load(sources)?;
    let Err(found) = lists_are_good(&loaded.config) else { return Ok(loaded) };
    Err(ConfigError { findings: [loaded.warnings, found.findings].concat() })
}

fn lists_are_good(config: &config::Config) -> Result<(), ConfigError> {
    if config.lists.allow.is_none() && config.lists.deny.is_none() {
        return Ok(());
    }
    // As the daemon, which reads them as USER.
    privileges::become_user(&config.sockets).map_err(|error| ConfigError {
        findings: vec![Finding {
            severity: Severity::Error,
            origin: None,
            name: None,
            value: None,
            message: error.to_string(),
        }],
    })?;
    config::load_lists(config).map(drop)
}

/// `asked` is None if no limit learns.
fn report(
    read: Result<Loaded, ConfigError>,
    asked: Option<&Asked>,
    options: &Check,
    out: &mut impl Write,
) -> io::Result<bool> {
    let (findings, effective, ok) = match read {
        Ok(loaded) => (loaded.warnings, loaded.effective, true),
        Err(error) => (error.findings, Vec::new(), false),
    };
    if options.output.json {
        serde_json::to_writer_pretty(&mut *out, &json(&findings, &effective, asked, ok))?;
        writeln!(out)?;
    } else {
        for finding in &findings {
            writeln!(out, "{finding}")?;
        }
        if !options.quiet {
            print_table(&effective, out)?;
            if ok {
                writeln!(
                    out,
                    "Local time, as in `hours=` of lists and for the reset at midnight: {}",
                    time_zone(&TimeZone::system())
                )?;
            }
            for line in asked.map(told).unwrap_or_default() {
                writeln!(out, "{line}")?;
            }
            writeln!(out, "{}", summary(&findings, ok))?;
        }
    }
    Ok(ok)
}

/// What there is to tell of limits that learn, in lines.
fn told(asked: &Asked) -> Vec<String> {
    match asked {
        Ok(learning) if learning.is_empty() => {
            vec!["LIMITS by what is usual and on new networks act: the database knows enough".to_owned()]
        }
        Ok(learning) => learning.iter().map(|one| format!("LIMITS: {}", one.told(&TimeZone::system()))).collect(),
        Err(why) => vec![format!(
            "LIMITS by what is usual or on new networks only warn until the database knows {} days. Whether it does is not known: {why}",
            usual::LEARNING
        )],
    }
}

fn print_table(effective: &[Effective], out: &mut impl Write) -> io::Result<()> {
    let width = |of: fn(&Effective) -> &str| effective.iter().map(|one| of(one).chars().count()).max().unwrap_or(0);
    let (name_width, value_width) = (width(|one| one.name), width(|one| &one.value));
    for Effective { name, value, origin } in effective {
        writeln!(out, "{name:name_width$}  {value:value_width$}  {origin}")?;
    }
    Ok(())
}

/// A zone's name and its offset from UTC now.
fn time_zone(zone: &TimeZone) -> String {
    let offset = zone.to_offset(clock::timestamp());
    match zone.iana_name() {
        _ if zone.is_unknown() => "UTC, since the host's zone or TZ is not known".to_owned(),
        Some(name) => format!("{name} ({offset} now)"),
        None => format!("UTC{offset} now"),
    }
}

fn summary(findings: &[Finding], ok: bool) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let plural = |count: usize, of: &str| format!("{count} {of}{}", if count == 1 { "" } else { "s" });
    let warnings = plural(count(Severity::Warning), "warning");
    if ok {
        return format!("The settings are good, with {warnings}.");
    }
    format!("The settings cannot be used: {}, {warnings}.", plural(count(Severity::Error), "error"))
}

/// What `--json` prints: for each finding and each setting also where it was written.
fn json(findings: &[Finding], effective: &[Effective], asked: Option<&Asked>, ok: bool) -> Value {
    let finding = |finding: &Finding| {
        let (source, file, line) = place(finding.origin.as_ref());
        let Finding { name, value, message, .. } = finding;
        json!({
            "severity": finding.severity.to_string(),
            "source": source, "file": file, "line": line,
            "name": name, "value": value, "message": message,
        })
    };
    let setting = |Effective { name, value, origin }: &Effective| {
        let (source, file, line) = place(Some(origin));
        json!({ "name": name, "value": value, "source": source, "file": file, "line": line })
    };
    let learning = |one: &Learning| json!({ "limit": one.limit, "acts_from": one.acts_from.map(moment::utc) });
    json!({
        "ok": ok,
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
        "settings": effective.iter().map(setting).collect::<Vec<_>>(),
        "time_zone": time_zone(&TimeZone::system()),
        // Null if no limit learns, or the database could not be asked.
        "only_warn": asked.and_then(|asked| asked.as_ref().ok()).map(|all| all.iter().map(learning).collect::<Vec<_>>()),
    })
}

fn place(origin: Option<&Origin>) -> (Option<&'static str>, Option<String>, Option<usize>) {
    match origin {
        None => (None, None, None),
        Some(Origin::Default) => (Some("default"), None, None),
        Some(Origin::Environment) => (Some("environment"), None, None),
        Some(Origin::File { path, line }) => {
            (Some("file"), Some(path.display().to_string()), (*line > 0).then_some(*line))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;

    /// A settings file of its own, not readable for others.
    fn settings_file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn options(quiet: bool, json: bool) -> Check {
        Check { quiet, output: crate::cli::Output { json } }
    }

    #[test]
    fn check_prints_every_error_with_its_place() {
        let file = settings_file("QUOTA=-5\nDB_PASSWORD='secret\nword'\nDB_PORT=0\nQOUTA=7\nUSER=x y\n");
        let environment = [("LOG_LEVEL", "LOUD"), ("QUOTAS", "not ours")];
        let sources = Sources::new(Some(file.path().to_owned()), environment, false);
        let mut printed = Vec::new();
        assert!(!run(&sources, &options(false, false), &mut printed).unwrap());
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
    fn the_zone_of_local_times_is_named() {
        let zurich = time_zone(&TimeZone::get("Europe/Zurich").unwrap());
        assert!(["Europe/Zurich (+01 now)", "Europe/Zurich (+02 now)"].contains(&zurich.as_str()), "{zurich}");
        assert_eq!(time_zone(&TimeZone::fixed(jiff::tz::offset(-3))), "UTC-03 now");
        assert!(time_zone(&TimeZone::unknown()).contains("not known"));
    }

    #[test]
    fn a_quiet_check_prints_only_what_is_wrong() {
        let quiet = |text| {
            let file = settings_file(text);
            let sources = Sources::new(Some(file.path().to_owned()), [("PATH", "/bin")], false);
            let mut printed = Vec::new();
            let good = run(&sources, &options(true, false), &mut printed).unwrap();
            (good, String::from_utf8(printed).unwrap().lines().count())
        };
        assert_eq!(quiet("QUOTA=5\n"), (true, 0));
        assert_eq!(quiet("QOUTA=5\n"), (true, 1));
        assert_eq!(quiet("QUOTA=many\n"), (false, 1));
    }

    #[test]
    fn check_prints_what_is_in_effect_and_no_secret() {
        let file = settings_file("DB_PASSWORD=hunter2\nQUOTA=500\nLIMITS='3 messages/1h'\n");
        let sources = Sources::new(Some(file.path().to_owned()), [("SYSLOG", "yes")], false);
        let mut table = Vec::new();
        assert!(run(&sources, &options(false, false), &mut table).unwrap());
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
        assert!(run(&sources, &options(false, true), &mut json).unwrap());
        let json = String::from_utf8(json).unwrap();
        assert!(!table.contains("hunter2") && !json.contains("hunter2"));
        let report: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(report["ok"], true);
        assert_eq!(report["settings"].as_array().unwrap().len(), settings::all().count());
        assert!(report["findings"].as_array().unwrap().iter().all(|finding| finding["severity"] == "warning"));
    }
}
