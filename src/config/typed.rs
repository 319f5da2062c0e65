//! The typed configuration.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sentry::types::Dsn;

use super::address::ListenAddress;
use super::endpoint::Endpoint;
use super::secret::Secret;
use super::url_template::UrlTemplate;
use crate::account::AccountRules;
use crate::policy::limit::Limit;
use crate::policy::quota::Window;
use crate::policy::steps::Steps;
use crate::policy::strikes::Strikes;
use crate::protocol::reply::Action;

/// The settings, checked and typed. Parts of the daemon have clones; a reload makes a new one.
#[derive(Debug, Clone)]
pub struct Config {
    /// The settings file that was read. None if only the environment and defaults apply.
    pub file: Option<PathBuf>,
    /// Which mail server this is: HOST_NAME, or the system's name.
    pub host: String,
    /// Where the daemon keeps what must outlast it: the SQLite file, unless DB_DATABASE names another place.
    pub state_directory: PathBuf,
    pub database: Database,
    /// None: what is answered while the database is away is counted in memory alone.
    pub journal: Option<Journal>,
    pub sockets: Sockets,
    pub accounts: AccountRules,
    pub quota: Quota,
    pub held: Held,
    pub lists: ListFiles,
    pub answers: Answers,
    pub audit: Audit,
    pub logging: Logging,
    pub notify: Notify,
    pub status: Status,
}

/// DB_*: where the counters are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    pub driver: Driver,
    /// DB_HOST, in the order in which they are tried.
    pub hosts: Vec<String>,
    /// DB_PORT. None: the driver's default.
    pub port: Option<u16>,
    /// DB_SOCKET; win over hosts and port.
    pub sockets: Vec<PathBuf>,
    pub user: String,
    pub password: Option<Secret>,
    /// DB_DATABASE: for SQLite the file's path or `:memory:`, else the database's name.
    pub name: String,
    pub tls: Tls,
    pub tls_ca: Option<PathBuf>,
}

impl Database {
    /// The SQLite file of this name, or [`IN_MEMORY`].
    pub fn sqlite(name: String) -> Database {
        Database {
            driver: Driver::Sqlite,
            hosts: Vec::new(),
            port: None,
            sockets: Vec::new(),
            user: String::new(),
            password: None,
            name,
            tls: Tls::Off,
            tls_ca: None,
        }
    }

    /// Where its servers listen, in the order in which they are tried.
    pub fn places(&self) -> Vec<Place> {
        let sockets = self.sockets.iter().cloned().map(Place::Socket);
        let hosts = self.hosts.iter().filter(|_| self.sockets.is_empty()).cloned().map(Place::Host);
        let places: Vec<Place> = sockets.chain(hosts).collect();
        if places.is_empty() { vec![Place::default()] } else { places }
    }

    /// The same on one of its servers.
    pub fn only_at(&self, place: &Place) -> Database {
        let (hosts, sockets) = match place {
            Place::Host(host) => (vec![host.clone()], Vec::new()),
            Place::Socket(socket) => (Vec::new(), vec![socket.clone()]),
        };
        Database { hosts, sockets, ..self.clone() }
    }

    /// Such a database is seen by the connection that opened it, and by no other.
    pub fn is_in_memory(&self) -> bool {
        self.driver == Driver::Sqlite && self.name == IN_MEMORY
    }
}

/// Where a database server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Host(String),
    /// A unix socket (for PostgreSQL the folder that it is in).
    Socket(PathBuf),
}

impl Default for Place {
    fn default() -> Place {
        Place::Host("localhost".to_owned())
    }
}

/// JOURNAL_SIZE: where what is answered while the database is away is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// The state directory.
    pub directory: PathBuf,
    /// The most bytes of its file. Above 0.
    pub size: u64,
}

/// The name that stands for no file.
pub const IN_MEMORY: &str = ":memory:";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    Sqlite,
    Mysql,
    Postgres,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    Off,
    Prefer,
    Require,
    Verify,
}

/// SOCKET, SOCKET_MODE, USER, GROUP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sockets {
    /// Host names are looked up when they are read.
    pub listen: Vec<ListenAddress>,
    /// Whether SOCKET was written by the operator; sockets handed over by systemd replace only the default.
    pub explicit: bool,
    pub mode: u32,
    pub user: String,
    /// None: the user's primary group.
    pub group: Option<String>,
}

/// QUOTA, QUOTA_WINDOW, QUOTA_STEPS, LIMITS, NETWORKS_IGNORE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Recipients, and messages; [`crate::policy::quota::UNLIMITED`] for the word `unlimited`.
    pub default: u32,
    pub window: Window,
    /// QUOTA_STEPS; where that is not set, `1x DEFER_IF_PERMIT` with ACTION_TEXT_BLOCKED.
    pub steps: Steps,
    pub limits: Vec<Limit>,
    pub strikes: Strikes,
    pub networks_ignore: Vec<ipnet::IpNet>,
}

/// HELD: what becomes of mail that the quota held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It waits for a person.
    Keep,
    /// It goes on as the quota has room.
    Release,
}

/// ALLOWLIST, DENYLIST, DENYLIST_ACTION.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFiles {
    pub allow: Option<PathBuf>,
    pub deny: Option<PathBuf>,
    pub deny_action: Action,
}

/// ACTION_*, DECISION_TIMEOUT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    pub accepted: Action,
    pub on_error: Action,
    /// ACTION_TEXT_BLOCKED, as written (placeholders not filled in).
    pub text_blocked: String,
    pub decision_timeout: Duration,
}

/// MESSAGE_LOG, MESSAGE_RETENTION, USAGE_RETENTION.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    pub message_log: bool,
    /// Days; 0: messages are never deleted.
    pub message_retention: u32,
    /// Days of per-minute history.
    pub usage_retention: u32,
}

/// LOG_*, SYSLOG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    pub level: log::LevelFilter,
    pub file: Option<PathBuf>,
    pub console: bool,
    /// The log socket; /dev/log for `True`.
    pub syslog: Option<PathBuf>,
    pub message_prefix: bool,
}

/// SENTRY_*, WEBHOOK_*, NOTIFY_*.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    pub sentry_dsn: Option<SentryDsn>,
    pub sentry_environment: String,
    /// Only when WEBHOOK_ENABLED.
    pub webhook: Option<Webhook>,
    pub mail_to: Option<String>,
    /// None: `mail_to`.
    pub mail_from: Option<String>,
    pub mail_sender: bool,
    pub mail_server: Endpoint,
}

/// SENTRY_DSN, which holds a key and never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct SentryDsn(pub Dsn);

impl fmt::Debug for SentryDsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub url: UrlTemplate,
    pub token: Option<TokenKey>,
    pub ca_file: Option<PathBuf>,
    /// For one call, from connecting to the answer.
    pub timeout: Duration,
}

/// WEBHOOK_SECRET, WEBHOOK_USE_JWT: what the token of a call is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKey {
    /// For the hash of this and the account.
    Simple(Secret),
    /// For a JSON web token: the bytes that the base64 of the setting stands for. Not empty.
    Jwt(Secret<Vec<u8>>),
}

/// METRICS_LISTEN, STATUS_TOKEN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub listen: Option<Endpoint>,
    /// What a browser must show to see names.
    pub token: Option<Secret>,
}
