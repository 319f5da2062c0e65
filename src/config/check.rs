//! Names and values become a [`Config`], or every error at once.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::finding::{ConfigError, Finding, Origin, Severity, shown};
use super::settings::{self, Available, Setting};
use super::sources::{Given, SYSTEM_FILE, Sources, Values, is_world_readable, read_bounded};
use super::values::{self, Parsed};
use super::{
    Answers, Audit, Config, Database, Driver, Endpoint, Lists, Logging, Notify, Quota, Secret, Sockets, Status,
    Subject, Tls, Webhook,
};
use crate::limiter::limit;
use crate::limiter::steps::Steps;
use crate::limiter::syntax::Mistake;
use crate::limiter::text;
use crate::notify::{crash, template, token, webhook};
use crate::protocol::reply::{Action, Severity as Strictness};

/// The timeout in the Postfix snippet of the manual: an answer that comes later is one that Postfix does not wait for.
const POSTFIX_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest password file, in bytes.
const MAX_PASSWORD_FILE: usize = 4096;

const DATABASE_FILE: &str = "policyd-rate-guard.db";

/// A STATUS_TOKEN that nobody guesses has so many characters.
const LONG_ENOUGH: usize = 16;

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
            // With the system's settings, whoever reads them means the system's database.
            None if is_root || self.values.file.as_deref() == Some(Path::new(SYSTEM_FILE)) => {
                format!("/var/lib/policyd-rate-guard/{DATABASE_FILE}")
            }
            None => format!("./{DATABASE_FILE}"),
        }
    }

    fn password(&mut self) -> Checked<Option<Secret>> {
        let password = self.optional("DB_PASSWORD", values::secret);
        let Some(path) = self.optional("DB_PASSWORD_FILE", values::path)? else { return password };
        if self.given("DB_PASSWORD").is_some() {
            return self.fail("DB_PASSWORD_FILE", "and DB_PASSWORD are both set; keep one of them");
        }
        self.password_from(&path).map(Some)
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

    /// `text_blocked` is the text of actions that have none of their own.
    fn quota(&mut self, text_blocked: &str) -> Checked<Quota> {
        let default = self.get("QUOTA", values::quota);
        let window = self.get("QUOTA_WINDOW", values::window);
        let steps = self.get("QUOTA_STEPS", values::text);
        let steps = steps.and_then(|written| self.rules("QUOTA_STEPS", Steps::parse(&written, text_blocked)));
        let limits = self.get("LIMITS", values::text);
        let limits = limits.and_then(|written| self.rules("LIMITS", limit::parse(&written, text_blocked)));
        let networks_ignore = self.get("NETWORKS_IGNORE", values::networks);
        Ok(Quota {
            default: default?,
            window: window?,
            steps: steps?,
            limits: limits?,
            networks_ignore: networks_ignore?,
        })
    }

    /// What was read of a setting with a syntax of its own, or every mistake in it.
    fn rules<T, P: std::fmt::Display>(&mut self, name: &'static str, read: Result<T, Vec<Mistake<P>>>) -> Checked<T> {
        read.map_err(|mistakes| {
            for mistake in mistakes {
                let _: Checked<T> = self.fail(name, mistake.to_string());
            }
            Told
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
        if let Ok(written) = &text_blocked {
            for mistake in text::check(written) {
                let _: Checked<()> = self.fail("ACTION_TEXT_BLOCKED", mistake.to_string());
            }
        }
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
        let mail_from = self.optional("NOTIFY_MAIL_FROM", values::mail_address);
        let mail_server = self.get("NOTIFY_MAIL_SERVER", values::endpoint);
        let mail_sender = self.get("NOTIFY_SENDER", values::flag);
        let (sentry_dsn, mail_to, mail_from, mail_sender) = (sentry_dsn?, mail_to?, mail_from?, mail_sender?);
        if sentry_dsn.as_ref().is_some_and(|dsn| !crash::is_dsn(dsn.reveal())) {
            return self.fail("SENTRY_DSN", "must be a DSN such as https://key@sentry.example.com/1");
        }
        if mail_sender && mail_to.is_none() && mail_from.is_none() {
            return self.fail("NOTIFY_SENDER", "needs NOTIFY_MAIL_FROM or NOTIFY_MAIL_TO, which the mail is from");
        }
        Ok(Notify {
            sentry_dsn,
            sentry_environment: sentry_environment?,
            webhook: webhook?,
            mail_to,
            mail_from,
            mail_sender,
            mail_server: mail_server?,
        })
    }

    fn webhook(&mut self) -> Checked<Option<Webhook>> {
        let enabled = self.get("WEBHOOK_ENABLED", values::flag);
        let url = self.optional("WEBHOOK_URL", values::secret_url);
        let secret = self.optional("WEBHOOK_SECRET", values::secret);
        let jwt = self.get("WEBHOOK_USE_JWT", values::flag);
        let ca_file = self.optional("WEBHOOK_CA_FILE", values::path);
        let timeout = self.get("WEBHOOK_TIMEOUT", values::duration);
        let (enabled, url, secret, jwt, ca_file) = (enabled?, url?, secret?, jwt?, ca_file?);
        if !enabled {
            return Ok(None);
        }
        let Some(url) = url else {
            return self.fail("WEBHOOK_ENABLED", "needs WEBHOOK_URL, which is not set");
        };
        let written = url.reveal();
        if written.starts_with("http:") {
            self.warn("WEBHOOK_URL", "is not https, so senders and the token can be read on the way");
        }
        if template::names_host(written) {
            return self.fail("WEBHOOK_URL", "has a placeholder in the host's name, which a sender must not choose");
        }
        let known = |name: &&str| *name == webhook::TOKEN || webhook::Payload::KEYS.contains(name);
        if let Some(unknown) = template::names(written).find(|name| !known(name)) {
            self.warn("WEBHOOK_URL", format!("has {{{unknown}}}, which is no key of the payload and stays as it is"));
        }
        if secret.is_none() && (jwt || template::names(written).any(|name| name == webhook::TOKEN)) {
            return self.fail("WEBHOOK_SECRET", "is not set, and the token is made with it");
        }
        if jwt && secret.as_ref().is_some_and(|secret| !token::is_key(secret.reveal())) {
            return self.fail("WEBHOOK_SECRET", token::NotBase64.to_string());
        }
        Ok(Some(Webhook { url, secret, jwt, ca_file, timeout: timeout? }))
    }

    fn status(&mut self) -> Checked<Status> {
        let listen = self.optional("METRICS_LISTEN", values::endpoint);
        let token = self.optional("STATUS_TOKEN", values::secret);
        let (listen, token) = (listen?, token?);
        if let Some(token) = &token {
            let token = token.reveal();
            let is_sendable = token.bytes().all(|byte| matches!(byte, b' '..=b'~')) && token.trim() == token;
            if !is_sendable {
                return self.fail(
                    "STATUS_TOKEN",
                    "may have only letters without accents, digits, signs, and blanks between them: a browser sends it in a header",
                );
            }
            if settings::find("STATUS_TOKEN").is_some_and(|setting| setting.example == token) {
                self.warn("STATUS_TOKEN", "is the example that everybody knows");
            } else if token.len() < LONG_ENOUGH {
                self.warn(
                    "STATUS_TOKEN",
                    format!(
                        "is short enough to be guessed; take {LONG_ENOUGH} characters or more, as `openssl rand -hex 16` makes them"
                    ),
                );
            }
            match &listen {
                None => self.warn("STATUS_TOKEN", "has no effect without METRICS_LISTEN"),
                // What a name stands for is known, and told, when it is listened on: nobody waits for name servers here.
                Some(Endpoint::Address(address)) if !address.ip().is_loopback() => {
                    self.warn("METRICS_LISTEN", crate::config::IN_THE_OPEN);
                }
                Some(_) => {}
            }
        }
        Ok(Status { listen, token })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ListenAddress, UNLIMITED, Window, in_effect, restart_needed};
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    /// A settings file with these values, in a build where everything is available.
    fn load_all(settings: &[(&str, &str)], environment: &[(&str, &str)], is_root: bool) -> Result<Loaded, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (name, value) in settings {
            writeln!(&file, "{name}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'")).unwrap();
        }
        let sources = Sources::new(Some(file.path().to_owned()), environment.iter().copied(), is_root);
        load_with(&sources, |_| Available::Yes)
    }

    fn good(settings: &[(&str, &str)]) -> Loaded {
        load_all(settings, &[], false).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The messages, each with its setting's name.
    fn errors(settings: &[(&str, &str)]) -> Vec<String> {
        let findings = load_all(settings, &[], false).expect_err("the settings are wrong").findings;
        let errors = findings.into_iter().filter(|finding| finding.severity == Severity::Error);
        errors.map(|finding| format!("{} {}", finding.name.unwrap_or_default(), finding.message)).collect()
    }

    fn warnings(settings: &[(&str, &str)]) -> Vec<String> {
        let warnings = good(settings).warnings.into_iter();
        warnings.map(|finding| format!("{} {}", finding.name.unwrap_or_default(), finding.message)).collect()
    }

    fn secret(secret: Option<&Secret>) -> Option<&str> {
        secret.map(Secret::reveal)
    }

    /// The field of the configuration that a setting ends in.
    fn field(config: &Config, name: &str) -> String {
        let (db, sockets, subject, quota) = (&config.database, &config.sockets, &config.subject, &config.quota);
        let (lists, answers, audit, logging) = (&config.lists, &config.answers, &config.audit, &config.logging);
        let (notify, status) = (&config.notify, &config.status);
        let webhook = notify.webhook.as_ref();
        let value: &dyn std::fmt::Debug = match name {
            "DB_DRIVER" => &db.driver,
            "DB_HOST" => &db.host,
            "DB_PORT" => &db.port,
            "DB_SOCKET" => &db.socket,
            "DB_USER" => &db.user,
            "DB_PASSWORD" | "DB_PASSWORD_FILE" => &secret(db.password.as_ref()),
            "DB_DATABASE" => &db.name,
            "DB_TLS" => &db.tls,
            "DB_TLS_CA" => &db.tls_ca,
            "SOCKET" => &sockets.listen,
            "SOCKET_MODE" => &sockets.mode,
            "USER" => &sockets.user,
            "GROUP" => &sockets.group,
            "LIMIT_BY" => &subject.limit_by,
            "LOGIN_DOMAIN" => &subject.login_domain,
            "SENDER_STRIP_DOMAIN" => &subject.strip_domain,
            "QUOTA" => &quota.default,
            "QUOTA_WINDOW" => &quota.window,
            "QUOTA_STEPS" => &quota.steps.to_string(),
            "LIMITS" => &quota.limits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            "NETWORKS_IGNORE" => &quota.networks_ignore,
            "ALLOWLIST" => &lists.allow,
            "DENYLIST" => &lists.deny,
            "DENYLIST_ACTION" => &lists.deny_action.to_string(),
            "ACTION_TEXT_BLOCKED" => &answers.text_blocked,
            "ACTION_ACCEPTED" => &answers.accepted.to_string(),
            "ACTION_ON_ERROR" => &answers.on_error.to_string(),
            "DECISION_TIMEOUT" => &answers.decision_timeout,
            "MESSAGE_LOG" => &audit.message_log,
            "MESSAGE_RETENTION" => &audit.message_retention,
            "USAGE_RETENTION" => &audit.usage_retention,
            "LOG_LEVEL" => &logging.level,
            "LOG_FILE" => &logging.file,
            "LOG_CONSOLE" => &logging.console,
            "SYSLOG" => &logging.syslog,
            "LOG_MSG_PREFIX" => &logging.message_prefix,
            "SENTRY_DSN" => &secret(notify.sentry_dsn.as_ref()),
            "SENTRY_ENVIRONMENT" => &notify.sentry_environment,
            "WEBHOOK_ENABLED" => &webhook.is_some(),
            "WEBHOOK_URL" => &webhook.map(|webhook| webhook.url.reveal()),
            "WEBHOOK_SECRET" => &webhook.map(|webhook| secret(webhook.secret.as_ref())),
            "WEBHOOK_USE_JWT" => &webhook.map(|webhook| webhook.jwt),
            "WEBHOOK_CA_FILE" => &webhook.map(|webhook| &webhook.ca_file),
            "WEBHOOK_TIMEOUT" => &webhook.map(|webhook| webhook.timeout),
            "NOTIFY_MAIL_TO" => &notify.mail_to,
            "NOTIFY_MAIL_FROM" => &notify.mail_from,
            "NOTIFY_MAIL_SERVER" => &notify.mail_server,
            "NOTIFY_SENDER" => &notify.mail_sender,
            "METRICS_LISTEN" => &status.listen,
            "STATUS_TOKEN" => &secret(status.token.as_ref()),
            pool if pool.starts_with("DB_POOL_") => &"nowhere",
            other => panic!("{other} ends in no field"),
        };
        format!("{value:?}")
    }

    /// Each setting: its field by default, a value, its field then, and a value that is refused.
    const EXAMPLES: &[(&str, &str, &str, &str, &str)] = &[
        ("DB_DRIVER", "Mysql", "PostgreSQL", "Postgres", "oracle"),
        ("DB_HOST", r#""localhost""#, "db.example.com", r#""db.example.com""#, "a\u{1}b"),
        ("DB_PORT", "None", "3307", "Some(3307)", "65536"),
        ("DB_SOCKET", "None", "/run/db.sock", r#"Some("/run/db.sock")"#, "db.sock"),
        ("DB_USER", r#""policyd-rate-guard""#, "guard", r#""guard""#, "a\u{1}b"),
        ("DB_PASSWORD", "None", "p$ss 'x\"\\ #", r#"Some("p$ss 'x\"\\ #")"#, "a\0b"),
        ("DB_PASSWORD_FILE", "None", "", "None", "/nowhere/password"),
        ("DB_DATABASE", r#""policyd-rate-guard""#, "mail", r#""mail""#, "a\u{1}b"),
        ("DB_TLS", "Prefer", "Verify", "Verify", "maybe"),
        ("DB_TLS_CA", "None", "/ca.pem", r#"Some("/ca.pem")"#, "a\u{1}b"),
        ("DB_POOL_MINCACHED", r#""nowhere""#, "5", r#""nowhere""#, "many"),
        ("DB_POOL_MAXCACHED", r#""nowhere""#, "5", r#""nowhere""#, "-1"),
        ("DB_POOL_MAXSHARED", r#""nowhere""#, "5", r#""nowhere""#, "1.5"),
        ("DB_POOL_MAXUSAGE", r#""nowhere""#, "5", r#""nowhere""#, "+5"),
        ("SOCKET", "[Tcp(127.0.0.1:10033)]", "[::1],25 unix:/a/b", r#"[Tcp([::1]:25), Unix("/a/b")]"#, "10033"),
        ("SOCKET_MODE", "432", "0600", "384", "0680"),
        ("USER", r#""postfix""#, "mail", r#""mail""#, "-mail"),
        ("GROUP", "None", "mail", r#"Some("mail")"#, "m ail"),
        ("LIMIT_BY", "[SaslUsername]", "sasl_username, sender", "[SaslUsername, Sender]", "sender sender"),
        ("LOGIN_DOMAIN", "None", "@Example.com", r#"Some("example.com")"#, "a@b"),
        ("SENDER_STRIP_DOMAIN", "false", "Y", "true", "maybe"),
        ("QUOTA", "1000", "0", "0", "4294967295"),
        ("QUOTA_WINDOW", "Reset", "24h", "Sliding(86400s)", "24"),
        (
            "QUOTA_STEPS",
            r#""1x DEFER_IF_PERMIT Rate limit reached, retry later.""#,
            "1x HOLD full",
            r#""1x HOLD full""#,
            "a\u{1}b",
        ),
        ("LIMITS", r#""""#, "5 messages/1h WARN many", r#""5 messages/1h WARN many""#, "a\u{1}b"),
        ("NETWORKS_IGNORE", "[]", "192.0.2.1/24,2001:db8::1", "[192.0.2.0/24, 2001:db8::1/128]", "example.com"),
        ("ALLOWLIST", "None", "/allow", r#"Some("/allow")"#, "a\u{1}b"),
        ("DENYLIST", "None", "/deny", r#"Some("/deny")"#, "a\u{1}b"),
        ("DENYLIST_ACTION", r#""HOLD denied sender""#, "reject no", r#""REJECT no""#, "BAN"),
        ("ACTION_TEXT_BLOCKED", r#""Rate limit reached, retry later.""#, "{used}", r#""{used}""#, "a\nb"),
        ("ACTION_ACCEPTED", r#""DUNNO""#, "warn late", r#""WARN late""#, "HOLD"),
        ("ACTION_ON_ERROR", r#""DUNNO""#, "450 later", r#""450 later""#, "450"),
        ("DECISION_TIMEOUT", "2s", "500ms", "500ms", "2"),
        ("MESSAGE_LOG", "true", "off", "false", "2"),
        ("MESSAGE_RETENTION", "0", "90", "90", "-1"),
        ("USAGE_RETENTION", "7", "31", "31", "0"),
        ("LOG_LEVEL", "Info", "WARNING", "Warn", "LOUD"),
        ("LOG_FILE", "None", "/log", r#"Some("/log")"#, "a\u{1}b"),
        ("LOG_CONSOLE", "false", "on", "true", "stderr"),
        ("SYSLOG", "None", "True", r#"Some("/dev/log")"#, "log"),
        ("LOG_MSG_PREFIX", "true", "F", "false", ""),
        ("SENTRY_DSN", "None", "https://k@s.example/1", r#"Some("https://k@s.example/1")"#, "s.example"),
        ("SENTRY_ENVIRONMENT", r#""dev""#, "prod", r#""prod""#, "a\u{1}b"),
        ("WEBHOOK_ENABLED", "true", "False", "false", "maybe"),
        ("WEBHOOK_URL", r#"Some("https://a.example/")"#, "http://[::1]/", r#"Some("http://[::1]/")"#, "https:///x"),
        ("WEBHOOK_SECRET", "Some(None)", "c2VjcmV0", r#"Some(Some("c2VjcmV0"))"#, "a\0b"),
        ("WEBHOOK_USE_JWT", "Some(false)", "no", "Some(false)", "maybe"),
        ("WEBHOOK_CA_FILE", "Some(None)", "/ca", r#"Some(Some("/ca"))"#, "a\u{1}b"),
        ("WEBHOOK_TIMEOUT", "Some(10s)", "500ms", "Some(500ms)", "2"),
        ("NOTIFY_MAIL_TO", "None", "a@b.example", r#"Some("a@b.example")"#, "root"),
        ("NOTIFY_MAIL_FROM", r#"Some("z@b.example")"#, "a@b.example", r#"Some("a@b.example")"#, "root"),
        ("NOTIFY_MAIL_SERVER", "Address(127.0.0.1:25)", "mx.example:587", r#"Name("mx.example", 587)"#, "587"),
        ("NOTIFY_SENDER", "false", "1", "true", "maybe"),
        ("METRICS_LISTEN", "None", "[::1]:9464", "Some(Address([::1]:9464))", "9464"),
        ("STATUS_TOKEN", "None", "word", r#"Some("word")"#, "a\0b"),
    ];

    /// What the examples are set beside: a database server, a webhook in use, and whom mail is from.
    fn beside<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut settings = vec![
            ("DB_DRIVER", "mysql"),
            ("WEBHOOK_ENABLED", "True"),
            ("WEBHOOK_URL", "https://a.example/"),
            ("NOTIFY_MAIL_FROM", "z@b.example"),
        ];
        settings.retain(|(other, _)| *other != name);
        settings.extend((!value.is_empty()).then_some((name, value)));
        settings
    }

    #[test]
    fn every_setting_is_read_into_its_field_or_refused_with_what_is_allowed() {
        let before = good(&beside("", "")).config;
        let listed: Vec<_> = EXAMPLES.iter().map(|(name, ..)| *name).collect();
        assert_eq!(listed, settings::all().map(|setting| setting.name).collect::<Vec<_>>());
        for (name, default, value, then, wrong) in EXAMPLES {
            assert_eq!(field(&before, name), *default, "{name}");
            assert_eq!(field(&good(&beside(name, value)).config, name), *then, "{name}");
            let allowed = settings::find(name).unwrap().kind.allowed();
            if wrong.is_empty() {
                continue;
            }
            let told = errors(&beside(name, wrong));
            let expected = match *name {
                "DB_PASSWORD_FILE" => format!("{name} cannot be read: No such file or directory"),
                "DENYLIST_ACTION" | "ACTION_ON_ERROR" => format!("{name} is not an action: "),
                _ => format!("{name} must be {allowed}"),
            };
            assert!(told.len() == 1 && told[0].starts_with(&expected), "{name}={wrong}: {told:?}");
        }
    }

    #[test]
    fn a_reload_names_what_takes_a_restart() {
        let before = good(&beside("", "")).config;
        for (name, default, value, then, _) in EXAMPLES {
            let changed = good(&beside(name, value)).config;
            let restart = restart_needed(&before, &changed);
            let expected = !settings::find(name).unwrap().reload && default != then;
            assert_eq!(restart, if expected { vec![*name] } else { vec![] }, "{name}");
            assert!(restart_needed(&before, &in_effect(&before, changed)).is_empty(), "{name} waits for the restart");
        }
    }

    #[test]
    fn another_name_is_another_address_and_another_order_of_sockets_is_not() {
        let restart = |old: &[_], new: &[_]| restart_needed(&good(old).config, &good(new).config);
        let page = ("METRICS_LISTEN", "localhost:9464");
        assert_eq!(restart(&[page], &[("METRICS_LISTEN", "127.0.0.1:9464")]), ["METRICS_LISTEN"]);
        assert!(restart(&[page], &[page]).is_empty());
        assert!(restart(&[("SOCKET", "::1,1 127.0.0.1,1")], &[("SOCKET", "127.0.0.1,1 ::1,1")]).is_empty());
    }

    #[test]
    fn every_setting_is_shown_as_it_is_in_effect() {
        let loaded = good(&[]);
        let shown: Vec<_> = loaded.effective.iter().map(|one| one.name).collect();
        assert_eq!(shown, settings::all().map(|setting| setting.name).collect::<Vec<_>>());
        for Effective { name, value, origin } in loaded.effective {
            let setting = settings::find(name).unwrap();
            let derived = if name == "DB_DATABASE" { "./policyd-rate-guard.db" } else { setting.default };
            assert_eq!((value.as_str(), origin), (derived, Origin::Default), "{name}");
        }
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let wrong: Vec<_> =
            EXAMPLES.iter().filter(|row| !row.4.is_empty()).map(|(name, _, _, _, wrong)| (*name, *wrong)).collect();
        let findings = load_all(&wrong, &[("LOG_MSG_PREFIX", "maybe")], false).unwrap_err().findings;
        let told: HashSet<_> = findings.iter().filter_map(|finding| finding.name.as_deref()).collect();
        assert_eq!(told, EXAMPLES.iter().map(|(name, ..)| *name).collect());
        for finding in findings {
            let secret = settings::find(finding.name.as_deref().unwrap()).unwrap().secret;
            assert_eq!(finding.value.is_none(), secret, "{finding}");
            assert!(finding.origin.is_some(), "{finding}");
        }
    }

    #[test]
    fn the_environment_wins_but_for_what_login_shells_set() {
        let file = [("QUOTA", "1"), ("LOG_LEVEL", "DEBUG"), ("USER", "mail")];
        let environment = [("QUOTA", "2"), ("LOG_LEVEL", ""), ("USER", "root"), ("GROUP", "wheel")];
        let config = load_all(&file, &environment, false).unwrap().config;
        assert_eq!(config.quota.default, 2);
        assert_eq!(config.logging.level, log::LevelFilter::Info, "an empty variable wins too, and means the default");
        assert_eq!((config.sockets.user.as_str(), config.sockets.group), ("mail", None));
    }

    #[test]
    fn the_driver_is_mysql_where_policyd_rate_guard_would_use_it() {
        for name in ["DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD"] {
            let database = good(&[(name, "3306")]).config.database;
            assert_eq!((database.driver, database.name.as_str()), (Driver::Mysql, "policyd-rate-guard"), "{name}");
        }
        for settings in [vec![], vec![("DB_HOST", "")], vec![("DB_DATABASE", ":memory:")]] {
            assert_eq!(good(&settings).config.database.driver, Driver::Sqlite, "{settings:?}");
        }
        assert_eq!(good(&[("DB_DRIVER", "sqlite3"), ("DB_HOST", "db")]).config.database.driver, Driver::Sqlite);
        assert_eq!(
            warnings(&[("DB_DRIVER", "sqlite"), ("DB_HOST", "db")]),
            ["DB_HOST has no meaning with DB_DRIVER=sqlite"]
        );
    }

    #[test]
    fn the_sqlite_file_is_where_the_program_may_write() {
        let name = |environment: &[_], is_root| load_all(&[], environment, is_root).unwrap().config.database.name;
        assert_eq!(name(&[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")], false), "/var/lib/a/policyd-rate-guard.db");
        assert_eq!(name(&[("STATE_DIRECTORY", "/var/lib/a")], true), "/var/lib/a/policyd-rate-guard.db");
        assert_eq!(name(&[("STATE_DIRECTORY", "")], true), "/var/lib/policyd-rate-guard/policyd-rate-guard.db");
        assert_eq!(name(&[], false), "./policyd-rate-guard.db");
    }

    #[test]
    fn a_password_file_has_the_password_on_its_only_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        for (content, password) in [("a b\n", "a b"), ("a\r\n", "a"), ("a", "a"), (" a \n", " a ")] {
            std::fs::write(path, content).unwrap();
            let database = good(&[("DB_DRIVER", "mysql"), ("DB_PASSWORD_FILE", path)]).config.database;
            assert_eq!(database.password.unwrap().reveal(), password);
        }
        for content in ["", "\n", "a\nb\n", "a\0b", &"a".repeat(1025), &"a".repeat(100_000)] {
            std::fs::write(path, content).unwrap();
            let expected = "DB_PASSWORD_FILE must have the password, at most 1024 bytes, on its only line";
            assert_eq!(errors(&[("DB_PASSWORD_FILE", path)]), [expected], "{} bytes", content.len());
        }
        std::fs::write(path, "secret\n").unwrap();
        let both = errors(&[("DB_PASSWORD_FILE", path), ("DB_PASSWORD", "x")]);
        assert_eq!(both, ["DB_PASSWORD_FILE and DB_PASSWORD are both set; keep one of them"]);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let told = warnings(&[("DB_DRIVER", "mysql"), ("DB_PASSWORD_FILE", path)]);
        assert_eq!(told, ["DB_PASSWORD_FILE can be read by everybody on this machine; chmod 0640 it"]);
    }

    #[test]
    fn sockets_are_written_as_policyd_rate_guard_or_postfix_write_them() {
        let tcp = |address: &str| ListenAddress::Tcp(address.parse().unwrap());
        let unix = |path: &str| ListenAddress::Unix(path.into());
        for (written, addresses) in [
            ("0.0.0.0,10033", vec![tcp("0.0.0.0:10033")]),
            ("127.0.0.1, 10033", vec![tcp("127.0.0.1:10033")]),
            ("::1,10033", vec![tcp("[::1]:10033")]),
            ("inet:[::1]:10033", vec![tcp("[::1]:10033")]),
            ("/a/b unix:/c  inet:127.0.0.1:1 /a/b", vec![unix("/a/b"), unix("/c"), tcp("127.0.0.1:1")]),
        ] {
            let sockets = good(&[("SOCKET", written)]).config.sockets;
            assert_eq!((sockets.listen, sockets.explicit), (addresses, true), "{written}");
        }
        let by_name = good(&[("SOCKET", "inet:localhost:10033")]).config.sockets.listen;
        assert!(by_name.iter().all(|one| matches!(one, ListenAddress::Tcp(address) if address.ip().is_loopback())));
        assert!(!good(&[]).config.sockets.explicit);
        for wrong in ["unix:relative", "unix:", "/a/", &format!("/{}", "a".repeat(107)), "127.0.0.1:10033", "1.2.3,5"] {
            assert_eq!(errors(&[("SOCKET", wrong)]).len(), 1, "{wrong}");
        }
    }

    #[test]
    fn the_quota_is_a_number_or_a_word() {
        assert_eq!(good(&[("QUOTA", "Unlimited")]).config.quota.default, UNLIMITED);
        assert_eq!(good(&[("QUOTA", "4294967294")]).config.quota.default, UNLIMITED - 1);
        let negative = "QUOTA is negative: write unlimited for no limit, or 0 for nothing at all";
        assert_eq!(errors(&[("QUOTA", "-1")]), [negative]);
        for wrong in ["1e3", "+5", "1 000", "0x10", "-", "--1"] {
            assert_eq!(errors(&[("QUOTA", wrong)]).len(), 1, "{wrong}");
        }
    }

    #[test]
    fn what_is_set_without_what_it_needs_is_an_error() {
        assert_eq!(errors(&[("WEBHOOK_ENABLED", "1")]), ["WEBHOOK_ENABLED needs WEBHOOK_URL, which is not set"]);
        let url = ("WEBHOOK_URL", "https://a.example/?t={token}");
        let no_secret = ["WEBHOOK_SECRET is not set, and the token is made with it"];
        assert_eq!(errors(&[("WEBHOOK_ENABLED", "1"), url]), no_secret);
        assert!(good(&[url]).config.notify.webhook.is_none());
        let jwt = [("WEBHOOK_ENABLED", "1"), url, ("WEBHOOK_USE_JWT", "1"), ("WEBHOOK_SECRET", "not base64!")];
        assert_eq!(errors(&jwt), ["WEBHOOK_SECRET must be base64, since WEBHOOK_USE_JWT is on"]);
        let host = [("WEBHOOK_ENABLED", "1"), ("WEBHOOK_URL", "https://a{sender}/")];
        assert_eq!(errors(&host), ["WEBHOOK_URL has a placeholder in the host's name, which a sender must not choose"]);
        assert_eq!(errors(&[("NOTIFY_SENDER", "1")]).len(), 1);
        good(&[("NOTIFY_SENDER", "1"), ("NOTIFY_MAIL_TO", "a@b.example")]);
        assert!(errors(&[("SENTRY_DSN", "https://s.example/1")])[0].starts_with("SENTRY_DSN must be a DSN"));
        // A window's history is kept in any case.
        good(&[("QUOTA_WINDOW", "30d"), ("USAGE_RETENTION", "1")]);
    }

    #[test]
    fn unwise_settings_are_warned_about() {
        for (settings, warning) in [
            (vec![("ACTION_ACCEPTED", "OK")], "ACTION_ACCEPTED ends Postfix's restriction list"),
            (vec![("ACTION_ON_ERROR", "DEFER")], "ACTION_ON_ERROR keeps mail back or refuses it"),
            (vec![("DECISION_TIMEOUT", "5s")], "DECISION_TIMEOUT is not below the timeout"),
            (vec![("LOGIN_DOMAIN", "a.b"), ("SENDER_STRIP_DOMAIN", "1")], "LOGIN_DOMAIN has no meaning"),
            (vec![("DB_DRIVER", "mysql"), ("DB_TLS", "off"), ("DB_TLS_CA", "/ca")], "DB_TLS_CA has no meaning"),
            (vec![("WEBHOOK_ENABLED", "1"), ("WEBHOOK_URL", "http://a.example/")], "WEBHOOK_URL is not https"),
            (vec![("WEBHOOK_ENABLED", "1"), ("WEBHOOK_URL", "https://a.example/{user}")], "WEBHOOK_URL has {user}"),
            (vec![("DB_POOL_MAXUSAGE", "9")], "DB_POOL_MAXUSAGE is accepted from PolicydRateGuard's settings"),
        ] {
            let told = warnings(&settings);
            assert!(told.len() == 1 && told[0].starts_with(warning), "{told:?}");
        }
        assert!(warnings(&[]).is_empty());
    }

    #[test]
    fn a_secret_in_a_file_that_everybody_reads_is_warned_about() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "DB_PASSWORD=x\n").unwrap();
        let sources = Sources::new(Some(file.path().to_owned()), [("STATUS_TOKEN", "y")], false);
        assert!(load(&sources).unwrap().warnings.iter().all(|one| one.name.as_deref() != Some("DB_PASSWORD")));
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let told = load(&sources).unwrap().warnings;
        assert!(told.iter().any(|one| one.name.as_deref() == Some("DB_PASSWORD")), "{told:?}");
    }

    #[test]
    fn what_this_build_has_not_is_warned_about_and_has_no_effect() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "QUOTA_WINDOW=24h\nLIMITS=x\nWEBHOOK_ENABLED=True\n").unwrap();
        let sources = Sources::new(Some(file.path().to_owned()), [("", ""); 0], false);
        let loaded = load_with(&sources, |setting| match setting.name {
            "QUOTA_WINDOW" => Available::Only("reset"),
            _ => Available::No,
        })
        .unwrap();
        let told: Vec<_> = loaded.warnings.iter().map(|one| one.message.as_str()).collect();
        let no_effect = "is not available in this build, and has no effect";
        assert_eq!(told, ["is not available in this build, which goes on with reset", no_effect, no_effect]);
        assert_eq!((loaded.config.quota.window, loaded.config.quota.limits), (Window::Reset, Vec::new()));
        std::fs::write(file.path(), "QUOTA_WINDOW=Reset\n").unwrap();
        assert!(load_with(&sources, |_| Available::Only("reset")).unwrap().warnings.is_empty());
    }

    #[test]
    fn the_first_file_that_exists_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("b"), "QUOTA=2\n").unwrap();
        std::fs::write(path("c"), "QUOTA=3\n").unwrap();
        let mut sources = Sources::new(None, [("", ""); 0], false);
        assert_eq!(
            sources.search,
            ["/etc/policyd-rate-guard/policyd-rate-guard.env", "./.env"].map(std::path::PathBuf::from)
        );
        assert_eq!(Sources::new(None, [("", ""); 0], true).search.len(), 1, "root reads no file of the current folder");
        sources.search = vec![path("a"), path("b"), path("c")];
        let config = load(&sources).unwrap().config;
        assert_eq!((config.quota.default, config.file), (2, Some(path("b"))));
        sources.search = vec![path("a")];
        assert_eq!(load(&sources).unwrap().config.file, None);
        sources.search = vec![folder.path().to_owned(), path("b")];
        assert!(load(&sources).unwrap_err().to_string().contains("the settings file cannot be read: Is a directory"));
        std::fs::write(path("b"), b"QUOTA=2\nGROUP=\xff\n").unwrap();
        sources.search = vec![path("b")];
        assert!(load(&sources).unwrap_err().to_string().contains("b:2: error: the settings file is not UTF-8 here"));
        sources.explicit = Some(path("a"));
        let missing = load(&sources).unwrap_err().to_string();
        assert!(missing.ends_with("No such file or directory (os error 2); name an existing file with --config"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn no_file_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let _ = load(&Sources::new(Some(file.path().to_owned()), [("", ""); 0], false));
        }

        // No letters before a comma or colon: a host name would be asked for in the network.
        #[test]
        fn no_value_makes_it_panic(row in 0..EXAMPLES.len(), value in "[^a-zA-Z]{0,30}|[0-9.:,/@ -]{0,30}|[a-z ]{0,12}") {
            if let Err(error) = load_all(&beside(EXAMPLES[row].0, &value), &[], false) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
