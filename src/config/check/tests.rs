//! That each setting ends where it belongs, or is refused.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::examples::{EXAMPLES, beside, errors, good, load_all, warnings};
use super::*;
use crate::config::{Secret, TokenKey};

fn secret(secret: Option<&Secret>) -> Option<&str> {
    secret.map(Secret::reveal)
}

/// The field of the configuration that a setting ends in.
fn field(config: &Config, name: &str) -> String {
    let (db, sockets, account, quota) = (&config.database, &config.sockets, &config.accounts, &config.quota);
    let (lists, answers, audit, logging) = (&config.lists, &config.answers, &config.audit, &config.logging);
    let (notify, status) = (&config.notify, &config.status);
    let webhook = notify.webhook.as_ref();
    let value: &dyn std::fmt::Debug = match name {
        "DB_DRIVER" => &db.driver,
        "HOST_NAME" => &config.host,
        "DB_HOST" => &db.hosts,
        "DB_PORT" => &db.port,
        "DB_SOCKET" => &db.sockets,
        "DB_USER" => &db.user,
        "DB_PASSWORD" | "DB_PASSWORD_FILE" => &secret(db.password.as_ref()),
        "DB_DATABASE" => &db.name,
        "DB_TLS" => &db.tls,
        "DB_TLS_CA" => &db.tls_ca,
        "JOURNAL_SIZE" => &config.journal.as_ref().map(|journal| journal.size),
        "SOCKET" => &sockets.listen,
        "SOCKET_MODE" => &sockets.mode,
        "USER" => &sockets.user,
        "GROUP" => &sockets.group,
        "LIMIT_BY" => &account.limit_by,
        "LOGIN_DOMAIN" => &account.login_domain,
        "SENDER_STRIP_DOMAIN" => &account.strip_domain,
        "QUOTA" => &quota.default,
        "QUOTA_WINDOW" => &quota.window,
        "QUOTA_STEPS" => &quota.steps.to_string(),
        "HELD" => &config.held,
        "LIMITS" => &quota.limits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        "STRIKES" => &quota.strikes.to_string(),
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
        "SENTRY_DSN" => &notify.sentry_dsn.as_ref().map(|dsn| dsn.0.to_string().replace(":@", "@")),
        "SENTRY_ENVIRONMENT" => &notify.sentry_environment,
        "WEBHOOK_ENABLED" => &webhook.is_some(),
        "WEBHOOK_URL" => &webhook.map(|webhook| webhook.url.fill(|_| String::new())),
        "WEBHOOK_SECRET" => &webhook.map(|webhook| match &webhook.token {
            Some(TokenKey::Simple(secret)) => Some(secret.reveal()),
            _ => None,
        }),
        "WEBHOOK_USE_JWT" => &webhook.map(|webhook| matches!(webhook.token, Some(TokenKey::Jwt(_)))),
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
fn unwise_settings_are_warned_about() {
    for (settings, warning) in [
        (vec![("ACTION_ACCEPTED", "OK")], "ACTION_ACCEPTED ends Postfix's restriction list"),
        (vec![("ACTION_ON_ERROR", "DEFER")], "ACTION_ON_ERROR keeps mail back or refuses it"),
        (vec![("DECISION_TIMEOUT", "5s")], "DECISION_TIMEOUT is not below the timeout"),
        (vec![("LOGIN_DOMAIN", "a.b"), ("SENDER_STRIP_DOMAIN", "1")], "LOGIN_DOMAIN has no meaning"),
        (vec![("DB_DRIVER", "mysql"), ("DB_TLS", "off"), ("DB_TLS_CA", "/ca")], "DB_TLS_CA has no meaning"),
        (vec![("WEBHOOK_ENABLED", "1"), ("WEBHOOK_URL", "http://a.example/")], "WEBHOOK_URL is not https"),
        (vec![("WEBHOOK_ENABLED", "1"), ("WEBHOOK_URL", "https://a.example/{user}")], "WEBHOOK_URL has {user}"),
        (
            vec![("SOCKET", "127.0.0.1,10033 127.0.0.1,25 /a/b")],
            "SOCKET names inet:127.0.0.1:10033, which is opened by the daemon",
        ),
        (vec![("SOCKET_MODE", "0666")], "SOCKET_MODE lets every user of this host ask"),
        (vec![("SENTRY_DSN", "http://k@s.example/1")], "SENTRY_DSN is not https"),
        (vec![("DB_POOL_MAXUSAGE", "9")], "DB_POOL_MAXUSAGE is accepted from PolicydRateGuard's settings"),
    ] {
        let told = warnings(&settings);
        assert!(told.len() == 1 && told[0].starts_with(warning), "{told:?}");
    }
    assert!(warnings(&[]).is_empty());
}

#[test]
fn quotes_that_are_part_of_a_value_are_warned_about() {
    for (text, warned) in
        [("\"p w\"", true), ("'pw'", true), ("\"", false), ("\"pw'", false), ("p\"w", false), ("\"pw", false)]
    {
        let told = |settings: &[_], environment: &[_]| load_all(settings, environment, false).unwrap().warnings.len();
        let mysql = ("DB_DRIVER", "mysql");
        assert_eq!(told(&[mysql], &[("DB_PASSWORD", text)]), usize::from(warned), "{text}");
        assert_eq!(told(&[mysql, ("DB_PASSWORD", text)], &[]), 0, "a file's quotes are taken away: {text}");
    }
}

#[test]
fn a_url_that_could_never_be_called_is_refused() {
    let url = |url| load_all(&beside("WEBHOOK_URL", url), &[], false);
    for good in
        ["https://xn--hnsel-gra.example/x", "https://user:p%40ss@a.example:8443/{sender}?t=ü", "http://[::1]/{event}"]
    {
        assert!(url(good).is_ok(), "{good}");
    }
    for (wrong, why) in [
        ("https://hänsel.example/x", "xn--"),
        ("https://us€r:x@a.example/x", "percent-encoded"),
        ("https://a.example:port/", "can be called"),
        ("https://a.example:99999/", "can be called"),
        ("https://user@/", "can be called"),
        ("https://[::1/", "can be called"),
    ] {
        let told = errors(&beside("WEBHOOK_URL", wrong));
        assert!(told.len() == 1 && told[0].contains(why), "{wrong}: {told:?}");
    }
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
fn a_file_that_others_may_change_is_warned_about() {
    let (file, list) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(file.path(), format!("ALLOWLIST={0}\nDENYLIST={0}\n", list.path().display())).unwrap();
    let told = || {
        let loaded = load(&Sources::new(Some(file.path().to_owned()), [("", ""); 0], false)).unwrap();
        loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(file.path(), 0o660);
    // The group is our own.
    assert_eq!(told(), "");
    mode(file.path(), 0o602);
    assert!(told().contains("the settings file can be changed by everybody on this machine"), "{}", told());
    mode(file.path(), 0o600);
    mode(list.path(), 0o666);
    assert_eq!(told().matches("names a file that can be changed by everybody").count(), 2, "{}", told());
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
