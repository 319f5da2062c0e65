//! What SIGHUP cannot change while the program runs.

use std::collections::HashSet;

use super::address::ListenAddress;
use super::typed::{Config, Sockets};

/// Returns the names of settings that differ and need a restart, in the table's order.
pub fn restart_needed(old: &Config, new: &Config) -> Vec<&'static str> {
    let (old_db, new_db) = (&old.database, &new.database);
    let (old_sockets, new_sockets) = (&old.sockets, &new.sockets);
    let (old_notify, new_notify) = (&old.notify, &new.notify);
    let settings = [
        ("DB_DRIVER", old_db.driver != new_db.driver),
        ("DB_HOST", old_db.hosts != new_db.hosts),
        ("DB_PORT", old_db.port != new_db.port),
        ("DB_SOCKET", old_db.sockets != new_db.sockets),
        ("DB_USER", old_db.user != new_db.user),
        // Which of DB_PASSWORD and DB_PASSWORD_FILE it came from does not matter.
        ("DB_PASSWORD", old_db.password != new_db.password),
        ("DB_DATABASE", old_db.name != new_db.name),
        ("DB_TLS", old_db.tls != new_db.tls),
        ("DB_TLS_CA", old_db.tls_ca != new_db.tls_ca),
        (
            "JOURNAL_SIZE",
            old.journal.as_ref().map(|journal| journal.size) != new.journal.as_ref().map(|journal| journal.size),
        ),
        ("SOCKET", (addresses(old_sockets), old_sockets.explicit) != (addresses(new_sockets), new_sockets.explicit)),
        ("SOCKET_MODE", old_sockets.mode != new_sockets.mode),
        ("USER", old_sockets.user != new_sockets.user),
        ("GROUP", old_sockets.group != new_sockets.group),
        ("LOG_FILE", old.logging.file != new.logging.file),
        ("SENTRY_DSN", old_notify.sentry_dsn != new_notify.sentry_dsn),
        ("SENTRY_ENVIRONMENT", old_notify.sentry_environment != new_notify.sentry_environment),
        ("METRICS_LISTEN", old.status.listen != new.status.listen),
    ];
    settings.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

/// Without their order: a name's addresses come in another one each time.
fn addresses(sockets: &Sockets) -> HashSet<&ListenAddress> {
    sockets.listen.iter().collect()
}

/// Returns the settings after a reload: the new ones, except those that stay as they were until a restart.
pub fn in_effect(old: &Config, mut new: Config) -> Config {
    new.database = old.database.clone();
    new.journal.clone_from(&old.journal);
    new.sockets = old.sockets.clone();
    new.logging.file.clone_from(&old.logging.file);
    new.notify.sentry_dsn.clone_from(&old.notify.sentry_dsn);
    new.notify.sentry_environment.clone_from(&old.notify.sentry_environment);
    new.status.listen.clone_from(&old.status.listen);
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::examples::{EXAMPLES, beside, good};
    use crate::config::settings;

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
}
