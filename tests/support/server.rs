//! What the tests do with a database server, whichever it is.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::database::{Database, quoted};
use super::mariadb::{Flavour, Mysqld};
use super::postgres::Postgres;

pub trait Server: Sized + 'static {
    /// Options by which it serves few connections.
    const FEW_CONNECTIONS: &'static [&'static str];
    /// Options by which it finds a deadlock at once.
    const QUICK_DEADLOCKS: &'static [&'static str];
    /// What has it look at how the tables are filled, for its plans.
    const GATHER_STATISTICS: &'static str;
    /// Counts the sessions on the current database. Not from MySQL's information_schema, which also converts the text of what
    /// each of them runs, and fails if that is not one.
    const COUNT_SESSIONS: &'static str;
    /// Whether the daemon sends COMMIT in a packet of its own.
    const COMMITS_APART: bool;
    /// Has a session see what others commit meanwhile.
    const READ_COMMITTED: &'static str;
    /// Counts the sessions that others have in this database.
    const SESSIONS: &'static str;
    /// To be added: of these, those that wait for somebody's lock.
    const AND_WAIT: &'static str;
    /// Counts the rows of this database's `ratelimits` that were read, by sessions that have ended.
    const ROWS_READ: &'static str;
    /// Ends what [`Server::lock_tables`] began.
    const UNLOCK_TABLES: &'static str;

    /// After BEGIN: lets nobody write into these tables, as a dump or the building of an index does.
    fn lock_tables(tables: &[&str]) -> String;
    /// Each kind of such locks, also those by which nobody reads.
    fn table_locks(tables: &[&str]) -> Vec<String>;

    /// The server that all tests of a binary share.
    fn shared() -> &'static Self;
    /// A server of one's own, to be killed.
    fn start() -> Self;
    /// The same, with more command line options.
    fn start_with(arguments: &[&str]) -> Self;
    /// A server that takes connections over TCP with TLS only.
    fn start_with_tls(certificate: &Path, key: &Path) -> Self;
    fn start_without_tls() -> Self;
    fn start_again(&self);
    fn kill9(&self);
    fn database(&self) -> Database;
    fn administer(&self, sql: &str);
    fn address(&self) -> SocketAddr;
    /// What DB_SOCKET is to say.
    fn socket_setting(&self) -> PathBuf;
    /// Makes a user with the rights of the daemon's, or gives him another password.
    fn let_in(&self, user: &str, password: &str);
    /// Takes no writes from the daemon's user any more.
    fn refuse_writes(&self);
    /// Takes writes again.
    fn take_writes(&self);
    /// Has it ask to try again whenever this sender's row is to be written, as if by a deadlock that never ends.
    fn contend(&self, database: &Database, sender: &str);
    /// How many deadlocks it has resolved.
    fn deadlocks(&self, database: &Database) -> i64;
}

/// What the servers' own types have by the same names.
macro_rules! alike {
    ($socket:ident) => {
        fn shared() -> &'static Self {
            Self::shared()
        }

        fn start() -> Self {
            Self::start()
        }

        fn start_with(arguments: &[&str]) -> Self {
            Self::start_with(arguments)
        }

        fn start_again(&self) {
            Self::start_again(self);
        }

        fn kill9(&self) {
            Self::kill9(self);
        }

        fn database(&self) -> Database {
            Self::database(self)
        }

        fn administer(&self, sql: &str) {
            Self::administer(self, sql);
        }

        fn address(&self) -> SocketAddr {
            Self::address(self)
        }

        fn socket_setting(&self) -> PathBuf {
            self.$socket().to_owned()
        }
    };
}

impl<F: Flavour> Server for Mysqld<F> {
    alike!(socket);

    const FEW_CONNECTIONS: &'static [&'static str] = &["--max-connections=10"];
    const SESSIONS: &'static str =
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()";
    const AND_WAIT: &'static str = " AND state LIKE 'Waiting for%'";
    const QUICK_DEADLOCKS: &'static [&'static str] = &[];
    const GATHER_STATISTICS: &'static str = "ANALYZE TABLE messages, ratelimits";
    const COMMITS_APART: bool = F::COMMITS_APART;
    const READ_COMMITTED: &'static str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
    const COUNT_SESSIONS: &'static str = F::COUNT_SESSIONS;
    const ROWS_READ: &'static str = F::ROWS_READ;
    const UNLOCK_TABLES: &'static str = "UNLOCK TABLES";

    fn lock_tables(tables: &[&str]) -> String {
        let tables: Vec<String> = tables.iter().map(|table| format!("{table} READ")).collect();
        format!("LOCK TABLES {}", tables.join(", "))
    }

    fn table_locks(tables: &[&str]) -> Vec<String> {
        let read = Self::lock_tables(tables);
        let write = read.replace(" READ", " WRITE");
        vec![read, write, "FLUSH TABLES WITH READ LOCK".to_owned()]
    }

    fn let_in(&self, user: &str, password: &str) {
        self.administer(&format!(
            "CREATE USER IF NOT EXISTS {user}; ALTER USER {user} IDENTIFIED BY '{password}'; \
             GRANT ALL PRIVILEGES ON *.* TO {user}"
        ));
    }

    fn refuse_writes(&self) {
        // Does not bind who may do everything, as the tests' user otherwise may. Rights of sessions stay as they were.
        self.administer(&format!("REVOKE {} ON *.* FROM policyd; SET GLOBAL read_only = 1", F::WRITES_ALWAYS));
        self.end_sessions();
    }

    fn take_writes(&self) {
        self.administer("SET GLOBAL read_only = 0");
    }

    fn start_with_tls(certificate: &Path, key: &Path) -> Self {
        Self::start_with(&[
            &format!("--ssl-cert={}", certificate.display()),
            &format!("--ssl-key={}", key.display()),
            "--require-secure-transport",
        ])
    }

    fn start_without_tls() -> Self {
        Self::start_with(&[F::WITHOUT_TLS])
    }

    fn contend(&self, database: &Database, sender: &str) {
        database.execute(&format!(
            "CREATE TRIGGER contend BEFORE INSERT ON ratelimits FOR EACH ROW IF NEW.sender = {} THEN \
             SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'Deadlock found'; END IF",
            quoted(sender)
        ));
    }

    fn deadlocks(&self, database: &Database) -> i64 {
        database
            .number("SELECT CAST(count AS SIGNED) FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'")
    }
}

impl Server for Postgres {
    alike!(folder);

    const FEW_CONNECTIONS: &'static [&'static str] = &["-c", "max_connections=10", "-c", "max_wal_senders=0"];
    const SESSIONS: &'static str =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    const AND_WAIT: &'static str = " AND wait_event_type = 'Lock'";
    const QUICK_DEADLOCKS: &'static [&'static str] = &["-c", "deadlock_timeout=5ms"];
    const GATHER_STATISTICS: &'static str = "ANALYZE messages, ratelimits";
    const COMMITS_APART: bool = false;
    const READ_COMMITTED: &'static str = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED";
    const COUNT_SESSIONS: &'static str = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()";
    const ROWS_READ: &'static str = "SELECT CAST(seq_tup_read + COALESCE(idx_tup_fetch, 0) AS BIGINT) \
                                     FROM pg_stat_user_tables WHERE relname = 'ratelimits'";
    const UNLOCK_TABLES: &'static str = "COMMIT";

    fn lock_tables(tables: &[&str]) -> String {
        format!("LOCK TABLE {} IN SHARE MODE", tables.join(", "))
    }

    fn table_locks(tables: &[&str]) -> Vec<String> {
        let share = Self::lock_tables(tables);
        let exclusive = share.replace("SHARE", "ACCESS EXCLUSIVE");
        vec![share, exclusive]
    }

    fn let_in(&self, user: &str, password: &str) {
        self.administer(&format!(
            "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{user}') THEN
                CREATE ROLE {user} LOGIN IN ROLE policyd; ALTER ROLE {user} SET role = policyd; END IF; END $$;
             ALTER ROLE {user} PASSWORD '{password}'"
        ));
    }

    fn refuse_writes(&self) {
        self.administer("ALTER ROLE policyd SET default_transaction_read_only = on");
        self.administer("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'policyd'");
    }

    fn take_writes(&self) {
        // A session keeps what it began with.
        self.administer("ALTER ROLE policyd SET default_transaction_read_only = off");
    }

    fn start_with_tls(certificate: &Path, key: &Path) -> Postgres {
        let rules = certificate.with_file_name("pg_hba.conf");
        fs::write(&rules, "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n").expect("the rules");
        Postgres::start_with(&[
            "-c",
            "ssl=on",
            "-c",
            &format!("ssl_cert_file={}", certificate.display()),
            "-c",
            &format!("ssl_key_file={}", key.display()),
            "-c",
            &format!("hba_file={}", rules.display()),
        ])
    }

    fn start_without_tls() -> Postgres {
        Postgres::start()
    }

    fn contend(&self, database: &Database, sender: &str) {
        database.execute(&format!(
            "CREATE FUNCTION contend() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.sender = {} THEN \
             RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; END IF; RETURN NEW; END $$;
             CREATE TRIGGER contend BEFORE INSERT ON ratelimits FOR EACH ROW EXECUTE FUNCTION contend()",
            quoted(sender)
        ));
    }

    fn deadlocks(&self, database: &Database) -> i64 {
        database.number("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    }
}

/// A test for each server out of each function that is generic over [`Server`], in modules named like the servers.
#[macro_export]
macro_rules! on_each_server {
    ($($test:ident)*) => {
        mod mariadb {
            $(#[test] fn $test() { super::$test::<$crate::support::mariadb::MariaDb>(); })*
        }
        mod mysql {
            $(#[test] fn $test() { super::$test::<$crate::support::mariadb::MySql>(); })*
        }
        mod postgres {
            $(#[test] fn $test() { super::$test::<$crate::support::postgres::Postgres>(); })*
        }
    };
}

/// Tests that are given a set-up of the daemon, from the module `run` of the caller: each on SQLite and on each server.
#[macro_export]
macro_rules! on_each_database {
    ($($test:ident)*) => {
        $(#[test] fn $test() { run::$test($crate::support::daemon::Setup::sqlite()); })*
        mod servers {
            use super::run;
            use $crate::support::daemon::Setup;
            use $crate::support::server::Server;

            $(fn $test<S: Server>() { run::$test(Setup::on(&S::shared().database())); })*
            $crate::on_each_server! { $($test)* }
        }
    };
}

/// The same for the two servers whose statements and tables are alike.
#[macro_export]
macro_rules! on_mariadb_and_mysql {
    ($($test:ident)*) => {
        mod mariadb {
            $(#[test] fn $test() { super::$test::<$crate::support::mariadb::MariaDb>(); })*
        }
        mod mysql {
            $(#[test] fn $test() { super::$test::<$crate::support::mariadb::MySql>(); })*
        }
    };
}
