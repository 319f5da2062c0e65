//! Settings for tests: how to have them read, and one example of each.

use std::io::Write;

use super::{Loaded, load};
use crate::config::env_file;
use crate::config::finding::{ConfigError, Severity};
use crate::config::sources::Sources;

/// A settings file with these values.
pub fn load_all(settings: &[(&str, &str)], environment: &[(&str, &str)], is_root: bool) -> Result<Loaded, ConfigError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (name, value) in settings {
        writeln!(&file, "{}", env_file::assignment(name, value)).unwrap();
    }
    let sources = Sources::new(Some(file.path().to_owned()), environment.iter().copied(), is_root);
    load(&sources)
}

pub fn good(settings: &[(&str, &str)]) -> Loaded {
    load_all(settings, &[], false).unwrap_or_else(|error| panic!("{error}"))
}

/// The messages, each with its setting's name.
pub fn errors(settings: &[(&str, &str)]) -> Vec<String> {
    let findings = load_all(settings, &[], false).expect_err("the settings are wrong").findings;
    let errors = findings.into_iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| format!("{} {}", finding.name.unwrap_or_default(), finding.message)).collect()
}

pub fn warnings(settings: &[(&str, &str)]) -> Vec<String> {
    let warnings = good(settings).warnings.into_iter();
    warnings.map(|finding| format!("{} {}", finding.name.unwrap_or_default(), finding.message)).collect()
}

/// Each setting: its field by default, a value, its field then, and a value that is refused.
pub const EXAMPLES: &[(&str, &str, &str, &str, &str)] = &[
    ("DB_DRIVER", "Mysql", "PostgreSQL", "Postgres", "oracle"),
    ("DB_HOST", r#"["localhost"]"#, "a.example.com,b.example.com", r#"["a.example.com", "b.example.com"]"#, "a\u{1}b"),
    ("DB_PORT", "None", "3307", "Some(3307)", "65536"),
    ("DB_SOCKET", "[]", "/run/db.sock", r#"["/run/db.sock"]"#, "db.sock"),
    ("DB_USER", r#""policyd-rate-guard""#, "guard", r#""guard""#, "a\u{1}b"),
    ("DB_PASSWORD", "None", "p$ss 'x\"\\ #", r#"Some("p$ss 'x\"\\ #")"#, "a\0b"),
    ("DB_PASSWORD_FILE", "None", "", "None", "/nowhere/password"),
    ("DB_DATABASE", r#""policyd-rate-guard""#, "mail", r#""mail""#, "a\u{1}b"),
    ("DB_TLS", "Prefer", "Verify", "Verify", "maybe"),
    ("DB_TLS_CA", "None", "/ca.pem", r#"Some("/ca.pem")"#, "a\u{1}b"),
    ("JOURNAL_SIZE", "Some(67108864)", "1G", "Some(1073741824)", "1000"),
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
    ("HELD", "Keep", "Release", "Release", "maybe"),
    ("LIMITS", r#""""#, "5 messages/1h WARN many", r#""5 messages/1h WARN many""#, "a\u{1}b"),
    ("STRIKES", r#""""#, "3 in 24h block 1h", r#""3 in 24h BLOCK 1h""#, "a\u{1}b"),
    (
        "NETWORKS_IGNORE",
        "[]",
        "192.0.2.1/24,2001:db8::1 ::ffff:127.0.0.0/104 ::ffff:10.0.0.1",
        "[192.0.2.0/24, 2001:db8::1/128, 127.0.0.0/8, 10.0.0.1/32]",
        "example.com",
    ),
    ("ALLOWLIST", "None", "/allow", r#"Some("/allow")"#, "a\u{1}b"),
    ("DENYLIST", "None", "/deny", r#"Some("/deny")"#, "a\u{1}b"),
    ("DENYLIST_ACTION", r#""HOLD denied sender""#, "reject no", r#""REJECT no""#, "BAN"),
    ("ACTION_TEXT_BLOCKED", r#""Rate limit reached, retry later.""#, "{used}", r#""{used}""#, "a\nb"),
    ("ACTION_ACCEPTED", r#""DUNNO""#, "warn late", r#""WARN late""#, "HOLD"),
    ("ACTION_ON_ERROR", r#""DUNNO""#, "450 later", r#""450 later""#, "450"),
    ("DECISION_TIMEOUT", "2s", "500ms", "500ms", "2"),
    ("HOST_NAME", r#""""#, "mx1", r#""mx1""#, "a\u{1}b"),
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

/// The settings that each example is tried with: a database server, a webhook in use, and a sender of mails.
pub fn beside<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
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
