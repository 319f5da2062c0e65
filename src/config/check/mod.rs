//! Names and values become a [`Config`], or every error at once.
//!
//! The sections whose settings depend on each other have files of their own.

mod checker;
mod database;
#[cfg(test)]
pub(super) mod examples;
mod notify;
mod policy;
mod status;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use super::address::OPENED_BY_THE_DAEMON;
use super::finding::{ConfigError, Finding, Origin, Severity};
use super::settings;
use super::sources::{SYSTEM_FILE, Sources, who_else_writes};
use super::typed::{Audit, Config, Journal, Logging, Sockets};
use super::values;
pub use checker::Effective;
use checker::{Checked, Checker};

/// Settings that can be used, and the warnings about them.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Finding>,
    /// Every setting as it is in effect, in the table's order.
    pub effective: Vec<Effective>,
}

/// Reads and checks all settings.
///
/// Blocks on files, and on name resolution when SOCKET has a host name.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut findings = Vec::new();
    let values = sources.read(&mut findings);
    let mut checker = Checker { values: &values, findings, effective: Vec::new() };
    let config = checker.config(sources);
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

impl Checker<'_> {
    /// Reads every setting before it fails, so that every error is reported.
    fn config(&mut self, sources: &Sources) -> Checked<Config> {
        let host = self.host(&sources.host);
        let state_directory = self.state_directory(sources.is_root);
        let database = self.database(&state_directory);
        let journal_size = self.get("JOURNAL_SIZE", values::size);
        let sockets = self.sockets();
        let accounts = self.accounts();
        let answers = self.answers();
        let text_blocked = answers.as_ref().map_or_else(|_| String::new(), |answers| answers.text_blocked.clone());
        let quota = self.quota(&text_blocked);
        let held = self.get("HELD", values::held);
        let lists = self.lists();
        let audit = self.audit();
        let logging = self.logging();
        let notify = self.notify();
        let status = self.status();
        self.warn_of_readable_secrets();
        self.warn_of_quotes();
        Ok(Config {
            file: self.values.file.clone(),
            host: host?,
            journal: journal_size
                .map(|size| (size > 0).then(|| Journal { directory: state_directory.clone(), size }))?,
            state_directory,
            database: database?,
            sockets: sockets?,
            accounts: accounts?,
            quota: quota?,
            held: held?,
            lists: lists?,
            answers: answers?,
            audit: audit?,
            logging: logging?,
            notify: notify?,
            status: status?,
        })
    }

    fn host(&mut self, system: &str) -> Checked<String> {
        Ok(match self.optional("HOST_NAME", values::text)? {
            Some(name) => name,
            None => {
                self.in_effect("HOST_NAME", system.to_owned());
                system.to_owned()
            }
        })
    }

    fn state_directory(&self, is_root: bool) -> PathBuf {
        // systemd separates several by colons; ours is the first.
        let given = self.values.environment.get("STATE_DIRECTORY").and_then(|list| list.split(':').next());
        match given.filter(|folder| !folder.is_empty()) {
            Some(folder) => folder.into(),
            // The system's settings mean the system's state, whichever user reads them.
            None if is_root || self.values.file.as_deref() == Some(Path::new(SYSTEM_FILE)) => {
                "/var/lib/policyd-rate-guard".into()
            }
            None => ".".into(),
        }
    }

    fn sockets(&mut self) -> Checked<Sockets> {
        let listen = self.get("SOCKET", values::listen);
        let mode = self.get("SOCKET_MODE", values::mode);
        let user = self.get("USER", values::account);
        let group = self.optional("GROUP", values::account);
        let explicit = self.given("SOCKET").is_some();
        let (listen, mode) = (listen?, mode?);
        if let Some(address) = listen.iter().find(|address| explicit && address.others_may_take()) {
            self.warn("SOCKET", format!("names {address}, which {OPENED_BY_THE_DAEMON}"));
        }
        if mode & 0o002 != 0 {
            self.warn(
                "SOCKET_MODE",
                "lets every user of this host ask in anybody's name, and so use up others' quotas; 0660 with Postfix's group \
                 (GROUP) is enough",
            );
        }
        Ok(Sockets { listen, explicit, mode, user: user?, group: group? })
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

    /// What such a file says decides what Postfix is told.
    fn warn_if_others_write(&mut self, name: &str, path: &Path) {
        if let Some(others) = path.metadata().ok().and_then(|metadata| who_else_writes(&metadata)) {
            self.warn(name, format!("names a file that can be changed by {others}; chmod go-w it"));
        }
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
    /// A shell takes quotes away, and so does the settings file; `docker --env-file` does not.
    fn warn_of_quotes(&mut self) {
        let quoted = |text: &str| {
            ['"', '\''].iter().any(|quote| text.len() > 1 && text.starts_with(*quote) && text.ends_with(*quote))
        };
        for setting in settings::all() {
            if self.given(setting.name).is_some_and(|given| given.origin == Origin::Environment && quoted(&given.text))
            {
                self.warn(
                    setting.name,
                    "stands in quotes, which are part of its value here: `docker --env-file` takes none away",
                );
            }
        }
    }
}
