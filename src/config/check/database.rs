//! DB_*: which database, and how to get into it.

use std::path::Path;

use super::checker::{Checked, Checker};
use crate::config::secret::Secret;
use crate::config::typed::{Database, Driver, Tls};
use crate::config::{password, values};

const DATABASE_FILE: &str = "policyd-rate-guard.db";

impl Checker<'_> {
    /// `state` is the state directory.
    pub fn database(&mut self, state: &Path) -> Checked<Database> {
        for name in ["DB_POOL_MINCACHED", "DB_POOL_MAXCACHED", "DB_POOL_MAXSHARED", "DB_POOL_MAXUSAGE"] {
            if self.get(name, values::number::<u64>).is_ok() && self.given(name).is_some() {
                self.warn(name, "is accepted from PolicydRateGuard's settings, and has no meaning here");
            }
        }
        let driver = self.driver();
        let name = self.optional("DB_DATABASE", values::text);
        // A driver that is wrong is one of a server's.
        let server = if driver.is_ok_and(|driver| driver == Driver::Sqlite) { self.no_server() } else { self.server() };
        let (driver, name) = (driver?, name?);
        let name = name.unwrap_or_else(|| {
            let name = self.default_database(driver, state);
            self.in_effect("DB_DATABASE", name.clone());
            name
        });
        Ok(Database { driver, name, ..server? })
    }

    /// How to get into the database of a server.
    fn server(&mut self) -> Checked<Database> {
        let hosts = self.get("DB_HOST", values::hosts);
        let port = self.optional("DB_PORT", values::number);
        let sockets = self.optional("DB_SOCKET", values::paths);
        let user = self.get("DB_USER", values::text);
        let password = self.password();
        let tls = self.get("DB_TLS", values::tls);
        let tls_ca = self.optional("DB_TLS_CA", values::path);
        let (tls, tls_ca) = (tls?, tls_ca?);
        if tls_ca.is_some() && matches!(tls, Tls::Off) {
            self.warn("DB_TLS_CA", "has no meaning with DB_TLS=off");
        }
        let (hosts, port, sockets, user, password) = (hosts?, port?, sockets?.unwrap_or_default(), user?, password?);
        Ok(Database { hosts, port, sockets, user, password, tls, tls_ca, ..Database::sqlite(String::new()) })
    }

    /// A file needs no server, so mistakes in the server's settings do not prevent the start.
    fn no_server(&mut self) -> Checked<Database> {
        for name in
            ["DB_HOST", "DB_PORT", "DB_SOCKET", "DB_USER", "DB_PASSWORD", "DB_PASSWORD_FILE", "DB_TLS", "DB_TLS_CA"]
        {
            self.get(name, values::unread)?;
            if self.given(name).is_some() {
                self.warn(name, "has no meaning with DB_DRIVER=sqlite");
            }
        }
        Ok(Database::sqlite(String::new()))
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

    fn default_database(&self, driver: Driver, state: &Path) -> String {
        match driver {
            Driver::Sqlite => state.join(DATABASE_FILE).display().to_string(),
            Driver::Mysql | Driver::Postgres => "policyd-rate-guard".to_owned(),
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
    use crate::config::typed::Place;

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
    fn what_is_said_of_a_server_does_not_keep_a_file_from_being_used() {
        // Kubernetes and Docker's links set such a variable for a service named db.
        let environment = [("DB_PORT", "tcp://10.0.0.3:3306"), ("DB_TLS", "maybe"), ("DB_PASSWORD_FILE", "/nowhere")];
        let loaded = load_all(&[("DB_DRIVER", "sqlite")], &environment, false).unwrap();
        assert_eq!(loaded.config.database, Database::sqlite("./policyd-rate-guard.db".to_owned()));
        let named: Vec<_> = loaded.warnings.iter().filter_map(|warning| warning.name.as_deref()).collect();
        assert_eq!(named, ["DB_PORT", "DB_PASSWORD_FILE", "DB_TLS"]);
        assert!(load_all(&[("DB_DRIVER", "mysql")], &environment, false).is_err());
    }

    #[test]
    fn several_servers_are_tried_in_the_order_in_which_they_are_written() {
        let places = |settings: &[(&str, &str)]| good(settings).config.database.places();
        let host = |name: &str| Place::Host(name.to_owned());
        let socket = |path: &str| Place::Socket(path.into());
        let hosts = ("DB_HOST", "c.example.com, 192.0.2.1,[2001:db8::1] ");
        assert_eq!(places(&[hosts]), [host("c.example.com"), host("192.0.2.1"), host("2001:db8::1")]);
        assert_eq!(
            places(&[hosts, ("DB_SOCKET", "/run/b.sock,/run/a b.sock")]),
            [socket("/run/b.sock"), socket("/run/a b.sock")]
        );
        assert_eq!(places(&[("DB_DRIVER", "mysql")]), [host("localhost")]);
        for (setting, message) in [
            (("DB_HOST", ","), "must name at least one server"),
            (("DB_HOST", "a,b:3307"), "has a port in it; write DB_HOST=b and DB_PORT=3307"),
            (("DB_SOCKET", "/run/a.sock,b.sock"), "must be a path that begins with /"),
        ] {
            let driver = ("DB_DRIVER", "mysql");
            assert_eq!(errors(&[driver, setting]), [format!("{} {message}", setting.0)]);
        }
    }

    #[test]
    fn a_host_is_a_host_alone() {
        let host = |written| good(&[("DB_HOST", written)]).config.database.hosts.join("|");
        for written in ["db.example.com", "192.0.2.1", "2001:db8::1", "fe80::1%eth0", "/run/postgresql"] {
            assert_eq!(host(written), written);
        }
        assert_eq!(host("[2001:db8::1]"), "2001:db8::1");
        for (written, message) in [
            ("127.0.0.1:3306", "has a port in it; write DB_HOST=127.0.0.1 and DB_PORT=3306"),
            ("db:5432", "has a port in it; write DB_HOST=db and DB_PORT=5432"),
            ("[::1]:3306", "has a port in it; write DB_HOST=::1 and DB_PORT=3306"),
            ("mysql://db/x", "must be a server's name or address"),
            ("tcp://10.0.0.3:3306", "must be a server's name or address"),
        ] {
            assert_eq!(errors(&[("DB_HOST", written)]), [format!("DB_HOST {message}")]);
        }
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
            assert_eq!(
                errors(&[("DB_DRIVER", "mysql"), ("DB_PASSWORD_FILE", path)]),
                [expected],
                "{} bytes",
                content.len()
            );
        }
        std::fs::write(path, "secret\n").unwrap();
        let both = errors(&[("DB_PASSWORD_FILE", path), ("DB_PASSWORD", "x")]);
        assert_eq!(both, ["DB_PASSWORD_FILE and DB_PASSWORD are both set; keep one of them"]);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let told = warnings(&[("DB_DRIVER", "mysql"), ("DB_PASSWORD_FILE", path)]);
        assert_eq!(told, ["DB_PASSWORD_FILE can be read by everybody on this machine; chmod 0640 it"]);
    }
}
