//! DB_*: which database, and how to get into it.

use std::path::Path;

use super::checker::{Checked, Checker};
use crate::config::secret::Secret;
use crate::config::sources::SYSTEM_FILE;
use crate::config::typed::{Database, Driver, Tls};
use crate::config::{password, values};

const DATABASE_FILE: &str = "policyd-rate-guard.db";

impl Checker<'_> {
    pub fn database(&mut self, is_root: bool) -> Checked<Database> {
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
        match password::read(&path) {
            Err(message) => self.fail("DB_PASSWORD_FILE", message),
            Ok(password) => {
                if password.is_world_readable {
                    self.warn("DB_PASSWORD_FILE", "can be read by everybody on this machine; chmod 0640 it");
                }
                Ok(Some(password.secret))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::examples::{errors, good, load_all, warnings};
    use super::*;

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
}
