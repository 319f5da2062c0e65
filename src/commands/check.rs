//! `check`: says what is wrong with the settings, or what they come to and where each comes from.

use std::io::{self, Write};

use serde::Serialize;

use crate::config::{self, Effective, Finding, Origin, Severity, Sources};

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    findings: Vec<FindingRow<'a>>,
    /// Empty unless `ok`.
    settings: Vec<SettingRow<'a>>,
}

#[derive(Serialize)]
struct FindingRow<'a> {
    severity: &'static str,
    #[serde(flatten)]
    place: Place,
    name: Option<&'a str>,
    value: Option<&'a str>,
    message: &'a str,
}

#[derive(Serialize)]
struct SettingRow<'a> {
    name: &'a str,
    value: &'a str,
    #[serde(flatten)]
    place: Place,
}

/// Where something was written.
#[derive(Serialize)]
struct Place {
    source: Option<&'static str>,
    file: Option<String>,
    line: Option<usize>,
}

/// Prints the findings and, when the settings are good, all of them as they are in effect. Returns whether they are good.
///
/// Blocks as [`config::load`] does; fails when `out` does.
pub fn run(sources: &Sources, json: bool, out: &mut impl Write) -> io::Result<bool> {
    let (findings, effective, ok) = match config::load(sources) {
        Ok(loaded) => (loaded.warnings, loaded.effective, true),
        Err(error) => (error.findings, Vec::new(), false),
    };
    if json {
        let report = Report {
            ok,
            findings: findings.iter().map(finding_row).collect(),
            settings: effective.iter().map(setting_row).collect(),
        };
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        for finding in &findings {
            writeln!(out, "{finding}")?;
        }
        print_table(&effective, out)?;
        writeln!(out, "{}", summary(&findings, ok))?;
    }
    Ok(ok)
}

fn print_table(effective: &[Effective], out: &mut impl Write) -> io::Result<()> {
    let width = |of: fn(&Effective) -> &str| effective.iter().map(|one| of(one).chars().count()).max().unwrap_or(0);
    let (name_width, value_width) = (width(|one| one.name), width(|one| &one.value));
    for Effective { name, value, origin } in effective {
        writeln!(out, "{name:name_width$}  {value:value_width$}  {origin}")?;
    }
    Ok(())
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

fn finding_row(finding: &Finding) -> FindingRow<'_> {
    FindingRow {
        severity: match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        place: place(finding.origin.as_ref()),
        name: finding.name.as_deref(),
        value: finding.value.as_deref(),
        message: &finding.message,
    }
}

fn setting_row(effective: &Effective) -> SettingRow<'_> {
    SettingRow { name: effective.name, value: &effective.value, place: place(Some(&effective.origin)) }
}

fn place(origin: Option<&Origin>) -> Place {
    match origin {
        None => Place { source: None, file: None, line: None },
        Some(Origin::Default) => Place { source: Some("default"), file: None, line: None },
        Some(Origin::Environment) => Place { source: Some("environment"), file: None, line: None },
        Some(Origin::File { path, line }) => {
            Place { source: Some("file"), file: Some(path.display().to_string()), line: (*line > 0).then_some(*line) }
        }
    }
}
