//! Names and values become a [`Config`], or every error at once.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::finding::{ConfigError, Finding, Origin, Severity, shown};
use super::settings::{self, Available, Setting};
use super::sources::{Given, Sources, Values, is_world_readable, read_bounded};
use super::values::{self, Parsed};
use super::{
    Answers, Audit, Config, Database, Driver, Lists, Logging, Notify, Quota, Secret, Sockets, Status, Subject, Tls,
    Webhook, Window,
};
use crate::protocol::reply::{Action, Severity as Strictness};

/// The timeout in the Postfix snippet of the manual: an answer that comes later is one that Postfix does not wait for.
const POSTFIX_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest password file, in bytes.
const MAX_PASSWORD_FILE: usize = 4096;

const DATABASE_FILE: &str = "policyd-rate-guard.db";

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
/// Blocks on files, and on name resolution when SOCKET or METRICS_LISTEN has a host name.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    load_with(sources, |setting| setting.available)
}

/// [`load`] for a build with these settings available.
fn load_with(sources: &Sources, available: fn(&Setting) -> Available) -> Result<Loaded, ConfigError> {
    let mut findings = Vec::new();
    let values = sources.read(&mut findings);
    let mut checker = Checker { values: &values, available, findings, effective: Vec::new() };
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
struct Told;

type Checked<T> = Result<T, Told>;

struct Checker<'a> {
    values: &'a Values,
    available: fn(&Setting) -> Available,
    findings: Vec<Finding>,
    effective: Vec<Effective>,
}

impl Checker<'_> {
    /// Reads every setting before it gives up on any, so that every error is told.
    fn config(&mut self, is_root: bool) -> Checked<Config> {
        let database = self.database(is_root);
        let sockets = self.sockets();
        let subject = self.subject();
        let quota = self.quota();
        let lists = self.lists();
        let answers = self.answers();
        let audit = self.audit();
        let logging = self.logging();
        let notify = self.notify();
        let status = self.status();
        self.warn_of_readable_secrets();
        if let (Ok(quota), Ok(audit)) = (&quota, &audit) {
            self.check_retention(quota, audit)?;
        }
        Ok(Config {
            file: self.values.file.clone(),
            database: database?,
            sockets: sockets?,
            subject: subject?,
            quota: quota?,
            lists: lists?,
            answers: answers?,
            audit: audit?,
            logging: logging?,
            notify: notify?,
            status: status?,
        })
    }

    fn database(&mut self, is_root: bool) -> Checked<Database> {
        let driver = self.driver();
        let host = self.get("DB_HOST", values::text);
        let port = self.optional("DB_PORT", values::number);
        let socket = self.optional("DB_SOCKET", values::path);
        let user = self.get("DB_USER", values::text);
        let password = self.password();
        let tls = self.get("DB_TLS", values::tls);
        let tls_ca = self.optional("DB_TLS_CA", values::path);
        for name in ["DB_POOL_MINCACHED", "DB_POOL_MAXCACHED", "DB_POOL_MAXSHARED", "DB_POOL_MAXUSAGE"] {
            if self.get(name, values::number::<u64>).is_ok() && self.given(name).is_some() {
                self.warn(name, "is accepted from PolicydRateGuard's settings, and has no meaning here");
            }
        }
        let name = self.optional("DB_DATABASE", values::text);
        let driver = driver?;
        let name = name?.unwrap_or_else(|| {
            let name = self.default_database(driver, is_root);
            self.in_effect("DB_DATABASE", name.clone());
            name
        });
        if driver == Driver::Sqlite {
            for name in
                ["DB_HOST", "DB_PORT", "DB_SOCKET", "DB_USER", "DB_PASSWORD", "DB_PASSWORD_FILE", "DB_TLS", "DB_TLS_CA"]
            {
                if self.given(name).is_some() {
                    self.warn(name, "has no meaning with DB_DRIVER=sqlite");
                }
            }
        }
        let (tls, tls_ca) = (tls?, tls_ca?);
        if tls_ca.is_some() && matches!(tls, Tls::Off) {
            self.warn("DB_TLS_CA", "has no meaning with DB_TLS=off");
        }
        Ok(Database {
            driver,
            host: host?,
            port: port?,
            socket: socket?,
            user: user?,
            password: password?,
            name,
            tls,
            tls_ca,
        })
    }

    /// DB_DRIVER; PolicydRateGuard's settings need not name it, and mean MySQL.
    fn driver(&mut self) -> Checked<Driver> {
        let driver = self.get("DB_DRIVER", values::driver)?;
        let server = ["DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD"];
        if self.given("DB_DRIVER").is_none() && server.iter().any(|name| self.given(name).is_some()) {
            self.in_effect("DB_DRIVER", "mysql".to_owned());
            return Ok(Driver::Mysql);
        }
        Ok(driver)
    }

    fn default_database(&self, driver: Driver, is_root: bool) -> String {
        if driver != Driver::Sqlite {
            return "policyd-rate-guard".to_owned();
        }
        // systemd separates several state directories by colons; ours is the first.
        let state = self.values.environment.get("STATE_DIRECTORY").and_then(|list| list.split(':').next());
        match state.filter(|folder| !folder.is_empty()) {
            Some(folder) => format!("{folder}/{DATABASE_FILE}"),
            None if is_root => format!("/var/lib/policyd-rate-guard/{DATABASE_FILE}"),
            None => format!("./{DATABASE_FILE}"),
        }
    }

    fn password(&mut self) -> Checked<Option<Secret>> {
        let password = self.optional("DB_PASSWORD", values::secret);
        let file = self.optional("DB_PASSWORD_FILE", values::path)?;
        match (password?, file) {
            (Some(_), Some(_)) => self.fail("DB_PASSWORD_FILE", "and DB_PASSWORD are both set; keep one of them"),
            (None, Some(path)) => self.password_from(&path).map(Some),
            (password, None) => Ok(password),
        }
    }

    /// The only line of a file, without its end.
    fn password_from(&mut self, path: &Path) -> Checked<Secret> {
        let name = "DB_PASSWORD_FILE";
        let read = File::open(path)
            .and_then(|mut file| Ok((is_world_readable(&file), read_bounded(&mut file, MAX_PASSWORD_FILE)?)));
        let (world_readable, bytes) = match read {
            Ok(read) => read,
            Err(error) => return self.fail(name, format!("cannot be read: {error}")),
        };
        if world_readable {
            self.warn(name, "can be read by everybody on this machine; chmod 0640 it");
        }
        let Ok(text) = String::from_utf8(bytes) else { return self.fail(name, "is not UTF-8") };
        let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        if line.is_empty() || line.contains(['\n', '\0']) || line.len() > 1024 {
            return self.fail(name, "must have the password, at most 1024 bytes, on its only line");
        }
        Ok(Secret::new(line.to_owned()))
    }

    fn sockets(&mut self) -> Checked<Sockets> {
        let listen = self.get("SOCKET", values::listen);
        let mode = self.get("SOCKET_MODE", values::mode);
        let user = self.get("USER", values::account);
        let group = self.optional("GROUP", values::account);
        let explicit = self.given("SOCKET").is_some();
        Ok(Sockets { listen: listen?, explicit, mode: mode?, user: user?, group: group? })
    }

    fn subject(&mut self) -> Checked<Subject> {
        let limit_by = self.get("LIMIT_BY", values::attributes);
        let login_domain = self.optional("LOGIN_DOMAIN", values::domain);
        let strip_domain = self.get("SENDER_STRIP_DOMAIN", values::flag);
        let (login_domain, strip_domain) = (login_domain?, strip_domain?);
        if login_domain.is_some() && strip_domain {
            self.warn("LOGIN_DOMAIN", "has no meaning with SENDER_STRIP_DOMAIN=True, which cuts the domain off");
        }
        Ok(Subject { limit_by: limit_by?, login_domain, strip_domain })
    }

    fn quota(&mut self) -> Checked<Quota> {
        let default = self.get("QUOTA", values::quota);
        let window = self.get("QUOTA_WINDOW", values::window);
        let steps = self.get("QUOTA_STEPS", values::text);
        let limits = self.get("LIMITS", values::text);
        let networks_ignore = self.get("NETWORKS_IGNORE", values::networks);
        Ok(Quota {
            default: default?,
            window: window?,
            steps: steps?,
            limits: limits?,
            networks_ignore: networks_ignore?,
        })
    }

    fn lists(&mut self) -> Checked<Lists> {
        let allow = self.optional("ALLOWLIST", values::path);
        let deny = self.optional("DENYLIST", values::path);
        let deny_action = self.get("DENYLIST_ACTION", values::action);
        Ok(Lists { allow: allow?, deny: deny?, deny_action: deny_action? })
    }

    fn answers(&mut self) -> Checked<Answers> {
        let text_blocked = self.get("ACTION_TEXT_BLOCKED", values::text);
        let accepted = self.get("ACTION_ACCEPTED", values::action);
        let on_error = self.get("ACTION_ON_ERROR", values::action);
        let decision_timeout = self.get("DECISION_TIMEOUT", values::duration);
        if accepted.as_ref().is_ok_and(|action: &Action| action.word() == "OK") {
            self.warn(
                "ACTION_ACCEPTED",
                "ends Postfix's restriction list: checks after this one are skipped; prefer DUNNO",
            );
        }
        if on_error.as_ref().is_ok_and(|action| action.severity() >= Strictness::Hold) {
            self.warn("ACTION_ON_ERROR", "keeps mail back or refuses it when this program is in trouble; prefer DUNNO");
        }
        if decision_timeout.is_ok_and(|timeout| timeout >= POSTFIX_TIMEOUT) {
            self.warn(
                "DECISION_TIMEOUT",
                "is not below the timeout that main.cf should have (5s); Postfix would give up first",
            );
        }
        Ok(Answers {
            accepted: accepted?,
            on_error: on_error?,
            text_blocked: text_blocked?,
            decision_timeout: decision_timeout?,
        })
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

    /// A window sees no further back than the history goes.
    fn check_retention(&mut self, quota: &Quota, audit: &Audit) -> Checked<()> {
        let kept = Duration::from_secs(86_400) * audit.usage_retention;
        match quota.window {
            Window::Sliding(window) if window > kept => {
                self.fail("USAGE_RETENTION", "must be at least as many days as QUOTA_WINDOW is long")
            }
            _ => Ok(()),
        }
    }

    fn logging(&mut self) -> Checked<Logging> {
        let level = self.get("LOG_LEVEL", values::log_level);
        let file = self.optional("LOG_FILE", values::path);
        let console = self.get("LOG_CONSOLE", values::flag);
        let syslog = self.get("SYSLOG", values::syslog);
        let message_prefix = self.get("LOG_MSG_PREFIX", values::flag);
        Ok(Logging { level: level?, file: file?, console: console?, syslog: syslog?, message_prefix: message_prefix? })
    }

    fn notify(&mut self) -> Checked<Notify> {
        let sentry_dsn = self.optional("SENTRY_DSN", values::secret_url);
        let sentry_environment = self.get("SENTRY_ENVIRONMENT", values::text);
        let webhook = self.webhook();
        let mail_to = self.optional("NOTIFY_MAIL_TO", values::mail_address);
        let mail_sender = self.get("NOTIFY_SENDER", values::flag);
        Ok(Notify {
            sentry_dsn: sentry_dsn?,
            sentry_environment: sentry_environment?,
            webhook: webhook?,
            mail_to: mail_to?,
            mail_sender: mail_sender?,
        })
    }

    fn webhook(&mut self) -> Checked<Option<Webhook>> {
        let enabled = self.get("WEBHOOK_ENABLED", values::flag);
        let url = self.optional("WEBHOOK_URL", values::url);
        let secret = self.optional("WEBHOOK_SECRET", values::secret);
        let jwt = self.get("WEBHOOK_USE_JWT", values::flag);
        let ca_file = self.optional("WEBHOOK_CA_FILE", values::path);
        let (enabled, url, secret, jwt, ca_file) = (enabled?, url?, secret?, jwt?, ca_file?);
        if !enabled {
            return Ok(None);
        }
        let Some(url) = url else {
            return self.fail("WEBHOOK_ENABLED", "needs WEBHOOK_URL, which is not set");
        };
        if url.starts_with("http:") {
            self.warn("WEBHOOK_URL", "is not https, so senders and the token can be read on the way");
        }
        if secret.is_none() && (jwt || url.contains("{token}")) {
            return self.fail("WEBHOOK_SECRET", "is not set, and the token is made with it");
        }
        Ok(Some(Webhook { url, secret, jwt, ca_file }))
    }

    fn status(&mut self) -> Checked<Status> {
        let listen = self.optional("METRICS_LISTEN", values::socket_address);
        let token = self.optional("STATUS_TOKEN", values::secret);
        Ok(Status { listen: listen?, token: token? })
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

    /// The value that was given for a setting, if one was that has an effect in this build.
    fn optional<T>(&mut self, name: &'static str, parse: fn(&str, &Setting) -> Parsed<T>) -> Checked<Option<T>> {
        let setting = self.row(name)?;
        let mut effective = Effective { name, value: String::new(), origin: Origin::Default };
        let mut value = None;
        if let Some(given) = self.given(name).cloned() {
            let parsed = parse(&given.text, setting).or_else(|message| self.fail(name, message))?;
            match (self.available)(setting) {
                Available::Only(word) if !given.text.eq_ignore_ascii_case(word) => {
                    self.warn(name, format!("is not available in this build, which goes on with {word}"));
                }
                Available::No => self.warn(name, "is not available in this build, and has no effect"),
                Available::Yes | Available::Only(_) => {
                    let shown = if setting.secret { "(set)".to_owned() } else { shown(&given.text) };
                    effective = Effective { name, value: shown, origin: given.origin };
                    value = Some(parsed);
                }
            }
        }
        self.effective.push(effective);
        Ok(value)
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
        Err(Told)
    }

    fn tell(&mut self, severity: Severity, name: &str, message: String) {
        let given = self.given(name);
        let secret = settings::find(name).is_none_or(|setting| setting.secret);
        let origin = given.map(|given| given.origin.clone());
        let value = given.filter(|_| !secret).map(|given| shown(&given.text));
        self.findings.push(Finding { severity, origin, name: Some(name.to_owned()), value, message });
    }
}
