//! THE table: every setting there is, one row each.
//!
//! What reads a setting (`check`), the packaged settings file, the README's table and the manual page all come from
//! these rows or are held against them by a test.

use std::time::Duration;

use super::setting::{Kind, Section, Setting};
use crate::policy::syntax;

const MINUTE: Duration = Duration::from_secs(60);

/// What most rows have in common.
const ROW: Setting = Setting {
    name: "",
    kind: Kind::Text(255),
    default: "",
    example: "",
    packaged: None,
    secret: false,
    reload: true,
    environment: true,
    help: "",
};

/// A row of the pool settings, which the Python program has and this one has no use for.
const POOL: Setting = Setting {
    kind: Kind::Number(0, 1_000_000),
    reload: false,
    help: "Accepted from PolicydRateGuard's settings; without a meaning here.",
    ..ROW
};

/// Every setting, in the order of the settings file.
pub const SECTIONS: &[Section] = &[
    Section {
        title: "Database",
        settings: &[
            Setting {
                name: "DB_DRIVER",
                kind: Kind::Driver,
                default: "sqlite",
                packaged: Some("sqlite"),
                reload: false,
                help: "Where the counters are kept. When it is not set but one of DB_HOST, DB_PORT, DB_USER, DB_PASSWORD is, \
                       it is mysql, as in PolicydRateGuard.",
                ..ROW
            },
            Setting {
                name: "DB_HOST",
                kind: Kind::Text(4096),
                default: "localhost",
                reload: false,
                help: "The database server, without its port. Several, separated by commas, are tried in this order until one \
                       takes writes; a name of several addresses is as many servers. Without a meaning for SQLite.",
                ..ROW
            },
            Setting {
                name: "DB_PORT",
                kind: Kind::Number(1, 65_535),
                example: "3306",
                reload: false,
                help: "The database server's port; when not set, 3306 for mysql and 5432 for postgres.",
                ..ROW
            },
            Setting {
                name: "DB_SOCKET",
                kind: Kind::AbsolutePath,
                example: "/run/mysqld/mysqld.sock",
                reload: false,
                help: "The database server's unix socket (for postgres, the folder that it is in), or several, separated by \
                       commas. Wins over DB_HOST and DB_PORT.",
                ..ROW
            },
            Setting {
                name: "DB_USER",
                default: "policyd-rate-guard",
                reload: false,
                help: "The database user.",
                ..ROW
            },
            Setting {
                name: "DB_PASSWORD",
                kind: Kind::Secret,
                example: "a secret",
                secret: true,
                reload: false,
                help: "The database user's password. Keep this file unreadable for others when it stands here.",
                ..ROW
            },
            Setting {
                name: "DB_PASSWORD_FILE",
                kind: Kind::Path,
                example: "/etc/policyd-rate-guard/password",
                reload: false,
                help: "A file with the password on its only line, instead of DB_PASSWORD.",
                ..ROW
            },
            Setting {
                name: "DB_DATABASE",
                kind: Kind::Text(4096),
                example: "policyd-rate-guard",
                reload: false,
                help: "The database's name; when not set, policyd-rate-guard. For SQLite the path of its file, or :memory:; \
                       when not set, policyd-rate-guard.db in systemd's state directory, in /var/lib/policyd-rate-guard \
                       for root and with the packaged settings file, else in the current folder.",
                ..ROW
            },
            Setting {
                name: "DB_TLS",
                kind: Kind::Tls,
                default: "prefer",
                reload: false,
                help: "TLS to the database server: off, prefer (if the server has it), require (encrypted, the server's \
                       name unchecked) or verify (certificate and name checked).",
                ..ROW
            },
            Setting {
                name: "DB_TLS_CA",
                kind: Kind::Path,
                example: "/etc/ssl/certs/database-ca.pem",
                reload: false,
                help: "Certificate authority that has to have signed the server's certificate; when not set, those of the \
                       system.",
                ..ROW
            },
            Setting {
                name: "JOURNAL_SIZE",
                kind: Kind::Size(1 << 20, 4 << 30),
                default: "64M",
                reload: false,
                help: "How much is written down, in the state directory, of what is answered while the database is away, to be \
                       charged when it is back. 0 counts it in memory alone.",
                ..ROW
            },
            Setting { name: "DB_POOL_MINCACHED", default: "0", ..POOL },
            Setting { name: "DB_POOL_MAXCACHED", default: "10", ..POOL },
            Setting { name: "DB_POOL_MAXSHARED", default: "10", ..POOL },
            Setting { name: "DB_POOL_MAXUSAGE", default: "10000", ..POOL },
        ],
    },
    Section {
        title: "Sockets and privileges",
        settings: &[
            Setting {
                name: "SOCKET",
                kind: Kind::Listen,
                default: "127.0.0.1,10033",
                reload: false,
                help: "Where Postfix asks. Sockets handed over by systemd replace the default only: what is written here \
                       is listened on as well. `::` takes IPv4 too, unless an IPv4 address with the same port is named. \
                       Better give a TCP port to the socket unit, which keeps it while the daemon restarts.",
                ..ROW
            },
            Setting {
                name: "SOCKET_MODE",
                kind: Kind::Mode,
                default: "0660",
                reload: false,
                help: "The permissions of a unix socket that the program makes. Whoever may connect may use up others' quotas.",
                ..ROW
            },
            Setting {
                name: "USER",
                kind: Kind::Account,
                default: "postfix",
                reload: false,
                environment: false,
                help: "When started as root, the program goes on as this user. Read from this file only, since login \
                       shells set an environment variable of this name.",
                ..ROW
            },
            Setting {
                name: "GROUP",
                kind: Kind::Account,
                example: "postfix",
                reload: false,
                environment: false,
                help: "The group to go on with, never root's; when not set, the user's own. Read from this file only.",
                ..ROW
            },
        ],
    },
    Section {
        title: "Who is counted",
        settings: &[
            Setting {
                name: "LIMIT_BY",
                kind: Kind::Attributes,
                default: "sasl_username",
                help: "A message is charged to the first of these attributes that is not empty. Only the login cannot be \
                       chosen by the client.",
                ..ROW
            },
            Setting {
                name: "LOGIN_DOMAIN",
                kind: Kind::Domain,
                example: "example.com",
                help: "The domain of a login that is written without one, so that alice and alice@example.com share a \
                       quota.",
                ..ROW
            },
            Setting {
                name: "SENDER_STRIP_DOMAIN",
                kind: Kind::Flag,
                default: "False",
                help: "Cuts the login at the @, as policyd does. Logins of different domains then share a quota.",
                ..ROW
            },
        ],
    },
    Section {
        title: "Quotas",
        settings: &[
            Setting {
                name: "QUOTA",
                kind: Kind::Quota,
                default: "1000",
                help: "Recipients, and messages, for a sender without a quota of its own. 0 means may not send.",
                ..ROW
            },
            Setting {
                name: "QUOTA_WINDOW",
                kind: Kind::Window(MINUTE, Duration::from_secs(31 * 86_400)),
                default: "reset",
                packaged: Some("24h"),
                help: "The time that a quota is for: reset counts since the last cleanup, as PolicydRateGuard does; a \
                       duration is a sliding window, which needs no reset; the daily cleanup then only deletes old rows.",
                ..ROW
            },
            Setting {
                name: "QUOTA_STEPS",
                kind: Kind::Text(4096),
                example: "0.8x NOTIFY; 1x HOLD quota exceeded; 2x REJECT max quota exceeded",
                help: "What happens above which multiple of the quota. When not set, DEFER_IF_PERMIT with \
                       ACTION_TEXT_BLOCKED above the quota.",
                ..ROW
            },
            Setting {
                name: "HELD",
                kind: Kind::Held,
                default: "keep",
                help: "What becomes of mail that the quota held: keep leaves it to you (`held release`, `held delete`); release \
                       lets policyd-rate-guard-held.timer, once that is enabled, release it as the quota has room again, the oldest \
                       first. It is counted again then.",
                ..ROW
            },
            Setting {
                name: "LIMITS",
                kind: Kind::Text(4096),
                example: "30 recipients/5m; 200 messages/1h DEFER slow down; 8 networks/1h WARN many networks",
                packaged: Some(
                    "3x usual recipients/1h min 100 DEFER_IF_PERMIT This is much more mail than usual from your account. \
                     Try again after {free_at}, or ask your postmaster; \
                     3x usual recipients/24h min 200 DEFER_IF_PERMIT This is much more mail than usual from your account. \
                     Try again after {free_at}, or ask your postmaster",
                ),
                help: "Further limits, separated by semicolons: a number (or a percentage of the sender's quota) of \
                       recipients, messages, networks or bytes in a time, or of recipients/message; or so many times \
                       what is usual for the sender (3x usual recipients/1h min 50); then the action and its text.",
                ..ROW
            },
            Setting {
                name: "STRIKES",
                kind: Kind::Text(1024),
                example: "3 in 24h BLOCK 1h; 6 in 7d BLOCK",
                help: "Who comes over the quota or a limit so often is blocked for so long, or until somebody ends it. One \
                       strike per sender, limit and window; limits that only warn or notify make none.",
                ..ROW
            },
            Setting {
                name: "NETWORKS_IGNORE",
                kind: Kind::Networks,
                example: "192.0.2.0/24 2001:db8::/32",
                help: "Networks that are not counted as a place that a sender sends from, such as a webmail's.",
                ..ROW
            },
        ],
    },
    Section {
        title: "Lists",
        settings: &[
            Setting {
                name: "ALLOWLIST",
                kind: Kind::Path,
                example: "/etc/policyd-rate-guard/allowlist",
                help: "A file of logins, client addresses and networks that are not counted.",
                ..ROW
            },
            Setting {
                name: "DENYLIST",
                kind: Kind::Path,
                example: "/etc/policyd-rate-guard/denylist",
                help: "A file of logins, senders, client addresses and networks that get DENYLIST_ACTION.",
                ..ROW
            },
            Setting {
                name: "DENYLIST_ACTION",
                kind: Kind::Action,
                default: "HOLD denied sender",
                help: "The answer to what is on the deny list.",
                ..ROW
            },
        ],
    },
    Section {
        title: "Answers",
        settings: &[
            Setting {
                name: "ACTION_TEXT_BLOCKED",
                kind: Kind::Text(400),
                default: "Rate limit reached, retry later.",
                help: "What a sender over quota is told. {sender}, {used}, {quota}, {unit}, {window} and {free_at} are \
                       filled in.",
                ..ROW
            },
            Setting {
                name: "ACTION_ACCEPTED",
                kind: Kind::DeliveringAction,
                default: "DUNNO",
                help: "The answer to mail within the quota. OK, which PolicydRateGuard sends, ends Postfix's restriction \
                       list.",
                ..ROW
            },
            Setting {
                name: "ACTION_ON_ERROR",
                kind: Kind::Action,
                default: "DUNNO",
                help: "The answer when the program is in trouble, such as a database that is away.",
                ..ROW
            },
            Setting {
                name: "DECISION_TIMEOUT",
                kind: Kind::Duration(Duration::from_millis(50), MINUTE),
                default: "2s",
                help: "Every request is answered by then. Keep it below the timeout in Postfix's main.cf.",
                ..ROW
            },
        ],
    },
    Section {
        title: "Records",
        settings: &[
            Setting {
                name: "HOST_NAME",
                example: "mx1.example.com",
                help: "The name of this mail server in the table messages, by which `held` knows whose queue a message is in. \
                       When not set, the system's name. Several servers on one database have different names.",
                ..ROW
            },
            Setting {
                name: "MESSAGE_LOG",
                kind: Kind::Flag,
                default: "True",
                help: "Whether each message gets a row in the table messages.",
                ..ROW
            },
            Setting {
                name: "MESSAGE_RETENTION",
                kind: Kind::Number(0, 36_500),
                default: "0",
                packaged: Some("30"),
                help: "Days that those rows are kept; 0 keeps them for ever.",
                ..ROW
            },
            Setting {
                name: "USAGE_RETENTION",
                kind: Kind::Number(1, 3_650),
                default: "7",
                help: "Days that the history per minute is kept; what a window looks at is kept in any case, and three days. \
                       What is usual for a sender, and the networks it was seen in, are kept for 36 days.",
                ..ROW
            },
        ],
    },
    Section {
        title: "Logging (standard error when none of LOG_FILE, LOG_CONSOLE and SYSLOG is set)",
        settings: &[
            Setting {
                name: "LOG_LEVEL",
                kind: Kind::LogLevel,
                default: "INFO",
                help: "The least important lines to log.",
                ..ROW
            },
            Setting {
                name: "LOG_FILE",
                kind: Kind::Path,
                example: "/var/log/policyd-rate-guard/policyd-rate-guard.log",
                reload: false,
                help: "A log file; reopened on SIGUSR1.",
                ..ROW
            },
            Setting {
                name: "LOG_CONSOLE",
                kind: Kind::Flag,
                default: "False",
                help: "Whether to log to standard error.",
                ..ROW
            },
            Setting {
                name: "SYSLOG",
                kind: Kind::Syslog,
                default: "False",
                packaged: Some("True"),
                help: "Whether to log to syslog, facility mail. True means /dev/log; a path names another socket.",
                ..ROW
            },
            Setting {
                name: "LOG_MSG_PREFIX",
                kind: Kind::Flag,
                default: "True",
                help: "Whether a line begins with the part of the program that it comes from.",
                ..ROW
            },
        ],
    },
    Section {
        title: "Notifications",
        settings: &[
            Setting {
                name: "SENTRY_DSN",
                kind: Kind::Url,
                example: "https://key@sentry.example.com/1",
                secret: true,
                reload: false,
                help: "Where errors of the program are reported, without the addresses of senders and recipients.",
                ..ROW
            },
            Setting {
                name: "SENTRY_ENVIRONMENT",
                default: "dev",
                reload: false,
                help: "The environment that a report names.",
                ..ROW
            },
            Setting {
                name: "WEBHOOK_ENABLED",
                kind: Kind::Flag,
                default: "False",
                help: "Whether WEBHOOK_URL is called when a sender reaches its quota: once per sender and window, with a JSON payload.",
                ..ROW
            },
            Setting {
                name: "WEBHOOK_URL",
                kind: Kind::Url,
                example: "https://example.com/api/policyd/{sender}?token={token}",
                // For many receivers a word in the path is the password.
                secret: true,
                help: "The URL. Any key of the payload in braces is filled in, and {token}; without {token} the token is \
                       sent as a Bearer header. A user and password before the host, percent-encoded, are sent where no token is.",
                ..ROW
            },
            Setting {
                name: "WEBHOOK_SECRET",
                kind: Kind::Secret,
                example: "c2VjcmV0IGtleSBvZiBtaW5l",
                secret: true,
                help: "The secret that the token is made with; in base64 for WEBHOOK_USE_JWT.",
                ..ROW
            },
            Setting {
                name: "WEBHOOK_USE_JWT",
                kind: Kind::Flag,
                default: "False",
                help: "Whether the token is a JSON web token (HS256); else it is the SHA-256 of secret and sender.",
                ..ROW
            },
            Setting {
                name: "WEBHOOK_CA_FILE",
                kind: Kind::Path,
                example: "/etc/ssl/certs/webhook-ca.pem",
                help: "A certificate authority to trust for the webhook, beside those of the system.",
                ..ROW
            },
            Setting {
                name: "WEBHOOK_TIMEOUT",
                kind: Kind::Duration(Duration::from_millis(50), MINUTE),
                default: "10s",
                help: "How long one call of the webhook may take. What fails for now is tried again for some minutes.",
                ..ROW
            },
            Setting {
                name: "NOTIFY_MAIL_TO",
                kind: Kind::MailAddress,
                example: "postmaster@example.com",
                help: "Who gets a mail when a sender reaches its quota.",
                ..ROW
            },
            Setting {
                name: "NOTIFY_MAIL_FROM",
                kind: Kind::MailAddress,
                example: "postmaster@example.com",
                help: "The From address of these mails; when not set, NOTIFY_MAIL_TO.",
                ..ROW
            },
            Setting {
                name: "NOTIFY_MAIL_SERVER",
                kind: Kind::Endpoint,
                default: "127.0.0.1:25",
                help: "The mail server for these mails, which takes them from here without TLS or a login.",
                ..ROW
            },
            Setting {
                name: "NOTIFY_SENDER",
                kind: Kind::Flag,
                default: "False",
                help: "Whether the blocked sender gets a mail too, if its login is an address.",
                ..ROW
            },
        ],
    },
    Section {
        title: "Status",
        settings: &[
            Setting {
                name: "METRICS_LISTEN",
                kind: Kind::Endpoint,
                example: "127.0.0.1:9464",
                reload: false,
                help: "Where Prometheus reads /metrics, a load balancer /healthz, and a browser the page. What cannot be opened \
                       is tried again, and mail goes on.",
                ..ROW
            },
            Setting {
                name: "STATUS_TOKEN",
                kind: Kind::Secret,
                example: "32 characters from: openssl rand -hex 16",
                secret: true,
                help: "What a browser must show to see senders' names on the page: 16 characters of ASCII or more. Unset, the page \
                       shows no names.",
                ..ROW
            },
        ],
    },
];

/// Every setting, in the order of the table.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

/// The row of this name.
pub fn find(name: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.name == name)
}

/// The known name that is most like this one, if any is like it at all.
pub fn nearest(name: &str) -> Option<&'static str> {
    syntax::nearest(name, all().map(|setting| setting.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_row_is_whole() {
        let mut names = HashSet::new();
        for setting in all() {
            assert!(names.insert(setting.name), "{} stands twice", setting.name);
            assert!(setting.help.ends_with('.'), "{}: {}", setting.name, setting.help);
            assert!(!setting.default.is_empty() ^ !setting.example.is_empty(), "{}", setting.name);
        }
    }

    #[test]
    fn the_nearest_name_is_found() {
        assert_eq!(nearest("QOUTA"), Some("QUOTA"));
        assert_eq!(nearest("db_pasword"), Some("DB_PASSWORD"));
        assert_eq!(nearest("ACTION_TEXT_BLOCK"), Some("ACTION_TEXT_BLOCKED"));
        assert_eq!(nearest("PATH"), None);
        assert_eq!(nearest(""), None);
    }
}
