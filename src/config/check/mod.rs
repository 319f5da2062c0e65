//! Names and values become a [`Config`], or every error at once.
//!
//! The [`Checker`] looks a setting up, has `values` read it, and notes what is wrong with it; the sections whose settings
//! depend on each other have files of their own.

mod database;
#[cfg(test)]
pub(super) mod examples;
mod notify;
mod policy;
mod status;
#[cfg(test)]
mod tests;

use super::finding::{ConfigError, Finding, Origin, Severity, shown};
use super::settings::{self, Setting};
use super::sources::{Given, Sources, Values};
use super::values::{self, Parsed};
use super::{Audit, Config, Logging, Sockets};

/// Settings that can be used, and what is to be said about them.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Finding>,
    /// Every setting as it is in effect, in the table's order.
    pub effective: Vec<Effective>,
}

/// A setting as it is in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    pub name: &'static str,
    /// As it may be shown; `(set)` for a secret, empty where nothing is set.
    pub value: String,
    pub origin: Origin,
}

/// Reads and checks all settings.
///
/// Blocks on files, and on name resolution when SOCKET has a host name.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut findings = Vec::new();
    let values = sources.read(&mut findings);
    let mut checker = Checker { values: &values, findings, effective: Vec::new() };
    let config = checker.config(sources.is_root);
    let Checker { mut findings, mut effective, .. } = checker;
    findings.sort_by(|a, b| (&a.origin, a.severity).cmp(&(&b.origin, b.severity)));
    effective.sort_by_key(|one| settings::all().position(|setting| setting.name == one.name));
    match config {
        Ok(config) if findings.iter().all(|finding| finding.severity == Severity::Warning) => {
            Ok(Loaded { config, warnings: findings, effective })
        }
        _ => Err(ConfigError { findings }),
    }
}

/// What is wrong stands among the findings; there is nothing left to do but go on to the next setting.
#[derive(Debug, Clone, Copy)]
struct Reported;

type Checked<T> = Result<T, Reported>;

struct Checker<'a> {
    values: &'a Values,
    findings: Vec<Finding>,
    effective: Vec<Effective>,
}

impl Checker<'_> {
    /// Reads every setting before it gives up on any, so that every error is told.
    fn config(&mut self, is_root: bool) -> Checked<Config> {
        let database = self.database(is_root);
        let sockets = self.sockets();
        let accounts = self.accounts();
        let answers = self.answers();
        let text_blocked = answers.as_ref().map_or_else(|_| String::new(), |answers| answers.text_blocked.clone());
        let quota = self.quota(&text_blocked);
        let lists = self.lists();
        let audit = self.audit();
        let logging = self.logging();
        let notify = self.notify();
        let status = self.status();
        self.warn_of_readable_secrets();
        Ok(Config {
            file: self.values.file.clone(),
            database: database?,
            sockets: sockets?,
            accounts: accounts?,
            quota: quota?,
            lists: lists?,
            answers: answers?,
            audit: audit?,
            logging: logging?,
            notify: notify?,
            status: status?,
        })
    }

    fn sockets(&mut self) -> Checked<Sockets> {
        let listen = self.get("SOCKET", values::listen);
        let mode = self.get("SOCKET_MODE", values::mode);
        let user = self.get("USER", values::account);
        let group = self.optional("GROUP", values::account);
        let explicit = self.given("SOCKET").is_some();
        Ok(Sockets { listen: listen?, explicit, mode: mode?, user: user?, group: group? })
    }

    fn audit(&mut self) -> Checked<Audit> {
        let message_log = self.get("MESSAGE_LOG", values::flag);
        let message_retention = self.get("MESSAGE_RETENTION", values::number);
        let usage_retention = self.get("USAGE_RETENTION", values::number);
        Ok(Audit {
            message_log: message_log?,
            message_retention: message_retention?,
            usage_retention: usage_retention?,
        })
    }

    fn logging(&mut self) -> Checked<Logging> {
        let level = self.get("LOG_LEVEL", values::log_level);
        let file = self.optional("LOG_FILE", values::path);
        let console = self.get("LOG_CONSOLE", values::flag);
        let syslog = self.get("SYSLOG", values::syslog);
        let message_prefix = self.get("LOG_MSG_PREFIX", values::flag);
        Ok(Logging { level: level?, file: file?, console: console?, syslog: syslog?, message_prefix: message_prefix? })
    }

    fn warn_of_readable_secrets(&mut self) {
        if !self.values.world_readable {
            return;
        }
        for setting in settings::all().filter(|setting| setting.secret) {
            if self.given(setting.name).is_some_and(|given| matches!(given.origin, Origin::File { .. })) {
                self.warn(setting.name, "stands in a file that everybody on this machine can read; chmod 0640 it");
            }
        }
    }

    /// What was given for a setting. An empty value is as good as none.
    fn given(&self, name: &str) -> Option<&Given> {
        self.values.given.get(name).filter(|given| !given.text.is_empty())
    }

    /// A setting's value, or its default's.
    fn get<T>(&mut self, name: &'static str, parse: fn(&str, &Setting) -> Parsed<T>) -> Checked<T> {
        match self.optional(name, parse)? {
            Some(value) => Ok(value),
            None => {
                let setting = self.row(name)?;
                self.in_effect(name, setting.default.to_owned());
                parse(setting.default, setting).or_else(|message| self.fail(name, message))
            }
        }
    }

    /// The value that was given for a setting, if one was.
    fn optional<T>(&mut self, name: &'static str, parse: fn(&str, &Setting) -> Parsed<T>) -> Checked<Option<T>> {
        let setting = self.row(name)?;
        let Some(given) = self.given(name).cloned() else {
            self.effective.push(Effective { name, value: String::new(), origin: Origin::Default });
            return Ok(None);
        };
        let value = parse(&given.text, setting).or_else(|message| self.fail(name, message))?;
        let shown = if setting.secret { "(set)".to_owned() } else { shown(&given.text) };
        self.effective.push(Effective { name, value: shown, origin: given.origin });
        Ok(Some(value))
    }

    /// Says what a setting comes to that was not given.
    fn in_effect(&mut self, name: &str, value: String) {
        if let Some(effective) = self.effective.iter_mut().find(|effective| effective.name == name) {
            effective.value = value;
        }
    }

    fn row(&mut self, name: &str) -> Checked<&'static Setting> {
        settings::find(name).map_or_else(|| self.fail(name, "is missing in the table of settings: a bug"), Ok)
    }

    fn warn(&mut self, name: &str, message: impl Into<String>) {
        self.tell(Severity::Warning, name, message.into());
    }

    fn fail<T>(&mut self, name: &str, message: impl Into<String>) -> Checked<T> {
        self.tell(Severity::Error, name, message.into());
        Err(Reported)
    }

    fn tell(&mut self, severity: Severity, name: &str, message: String) {
        let given = self.given(name);
        let secret = settings::find(name).is_none_or(|setting| setting.secret);
        let origin = given.map(|given| given.origin.clone());
        let value = given.filter(|_| !secret).map(|given| shown(&given.text));
        self.findings.push(Finding { severity, origin, name: Some(name.to_owned()), value, message });
    }
}
