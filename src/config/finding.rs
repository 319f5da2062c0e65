//! Errors and warnings about the settings, each with its place, so that all can be reported at once.

use std::fmt;
use std::path::PathBuf;

/// An error or a warning about the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// Where it was written. None if it is about no particular setting or line.
    pub origin: Option<Origin>,
    /// The setting's name. None for a line that cannot be read.
    pub name: Option<String>,
    /// The value, shortened and on one line; never a secret's.
    pub value: Option<String>,
    /// What is wrong, and what would be right.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The program does not start, or keeps its old settings, until this is corrected.
    Error,
    Warning,
}

/// Where a setting's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Default,
    /// A line of a settings file, counted from 1; line 0 is the file as a whole.
    File {
        path: PathBuf,
        line: usize,
    },
    Environment,
}

/// The settings cannot be used. Its display has a line for each finding, warnings too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    pub findings: Vec<Finding>,
}

/// The most characters of a value that are shown.
const SHOWN: usize = 100;

/// Returns a value as it may be shown: on one line, without control characters, shortened.
pub fn shown(value: &str) -> String {
    let mut shown: String = value.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if value.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown.replace("\\\"", "\"").replace("\\'", "'")
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        write!(f, "{}: ", self.severity)?;
        match (&self.name, &self.value) {
            (Some(name), Some(value)) => write!(f, "{name}={value}: ")?,
            (Some(name), None) => write!(f, "{name}: ")?,
            (None, _) => {}
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line: 0 } => write!(f, "{}", path.display()),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment => f.write_str("environment"),
        }
    }
}
