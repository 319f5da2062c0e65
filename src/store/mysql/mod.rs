//! MariaDB 10.6 or newer, and MySQL 8, by the same statements.

mod adopt;

use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlSslMode};
use sqlx::{ConnectOptions, Connection, Executor, error::DatabaseError};

use super::charset::Charset;
use super::dialect::{Addition, Dialect, STATEMENT_TIMEOUT, Session, failure};
use super::{Failure, STATEMENTS_KEPT};
use crate::config;

/// The least that both servers take. [`super::dialect::LOCK_TIMEOUT`] is shorter; this is the belt.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// A lock's name holds for the whole server and has at the most 64 characters.
const MIGRATION_LOCK: &str = "CONCAT('policyd-rate-guard ', MD5(DATABASE()))";
const MIGRATION_LOCK_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Mysql;

/// MySQL 8 logs in by `caching_sha2_password`, which sends the password itself when it is not in the server's cache: only
/// over TLS. The driver's word on that is for programmers.
fn explain_login(error: sqlx::Error) -> sqlx::Error {
    if error.to_string().contains("RSA auth backend") {
        let advice = "the server asks for the password itself (caching_sha2_password), which is sent over TLS only. Turn TLS \
                      on in the server and set DB_TLS=require, or give the user another way to log in";
        return sqlx::Error::Configuration(advice.into());
    }
    error
}

impl Dialect for Mysql {
    type Db = sqlx::MySql;
    type Options = MySqlConnectOptions;

    const BEGIN: &'static str = "BEGIN";
    const INTEGER: &'static str = "SIGNED";
    const LEAST: &'static str = "LEAST";
    const GREATEST: &'static str = "GREATEST";
    const SENDER: &'static str = "sender";
    const USAGE: &'static str = "`usage`";
    const TABLES_NAMED: &'static str =
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ";
    const FROM_EPOCH: (&'static str, &'static str) = ("FROM_UNIXTIME(", ")");
    // IGNORE would turn other errors into warnings too, but the one that can happen here is a sender who has gone.
    const INSERT_ABSENT: (&'static str, &'static str) = ("INSERT IGNORE", "");

    fn on_conflict(_key: &str) -> String {
        " ON DUPLICATE KEY UPDATE ".to_owned()
    }

    // VALUES() is deprecated in MySQL, but MariaDB has nothing else.
    fn brought(column: &str) -> String {
        format!("VALUES({column})")
    }

    fn epoch(column: &str) -> String {
        format!("CAST(UNIX_TIMESTAMP({column}) AS SIGNED)")
    }

    fn rows_affected(result: &sqlx::mysql::MySqlQueryResult) -> u64 {
        result.rows_affected()
    }

    fn options(database: &config::Database) -> MySqlConnectOptions {
        let mut options = MySqlConnectOptions::new()
            .statement_cache_capacity(STATEMENTS_KEPT)
            .username(&database.user)
            .database(&database.name)
            .ssl_mode(match database.tls {
                config::Tls::Off => MySqlSslMode::Disabled,
                // A unix socket ends on this machine: whose certificate it is does not matter. Some ways to log in ask
                // for TLS all the same.
                _ if database.socket.is_some() => MySqlSslMode::Preferred,
                config::Tls::Prefer => MySqlSslMode::Preferred,
                config::Tls::Require => MySqlSslMode::Required,
                config::Tls::Verify => MySqlSslMode::VerifyIdentity,
            });
        if let Some(ca) = &database.tls_ca {
            options = options.ssl_ca(ca);
        }
        if let Some(password) = &database.password {
            options = options.password(password.reveal());
        }
        match &database.socket {
            Some(socket) => options.socket(socket),
            None => options
                .host(if database.host.is_empty() { "localhost" } else { &database.host })
                .port(database.port.unwrap_or(3306)),
        }
    }

    fn place(options: &MySqlConnectOptions) -> String {
        let at = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        format!("MySQL or MariaDB database {} at {at}", options.get_database().unwrap_or_default())
    }

    async fn connect(options: &MySqlConnectOptions) -> Result<MySqlConnection, sqlx::Error> {
        let mut connection = options.connect().await.map_err(explain_login)?;
        let wait = LOCK_WAIT.as_secs();
        connection
            .execute(sqlx::AssertSqlSafe(format!(
                "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; SET SESSION innodb_lock_wait_timeout = {wait}"
            )))
            .await?;
        Ok(connection)
    }

    async fn only_read(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        let (seconds, milliseconds) = (STATEMENT_TIMEOUT.as_secs(), STATEMENT_TIMEOUT.as_millis());
        // MariaDB reads the first comment and MySQL the second, each as if it were none: their variables differ.
        let timeout = format!(
            "/*M! SET SESSION max_statement_time = {seconds} */ /*!50708 SET SESSION max_execution_time = {milliseconds} */"
        );
        connection.execute(sqlx::AssertSqlSafe(format!("SET SESSION TRANSACTION READ ONLY; {timeout}"))).await?;
        Ok(())
    }

    async fn session(connection: &mut MySqlConnection) -> Result<Session, sqlx::Error> {
        let id = sqlx::query_scalar("SELECT CAST(CONNECTION_ID() AS SIGNED)").fetch_one(&mut *connection).await?;
        let charsets: Vec<(String, String)> = sqlx::query_as(
            "SELECT CAST(table_name AS CHAR), CAST(character_set_name AS CHAR) FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND character_set_name IS NOT NULL AND (table_name = 'messages' \
             OR table_name = 'ratelimits' AND column_name = 'sender')",
        )
        .fetch_all(connection)
        .await?;
        // Of several the narrowest; a table that is not there yet will hold everything.
        let of = |table: &str| {
            let named = charsets.iter().filter(|(name, _)| name == table).map(|(_, charset)| Charset::named(charset));
            named.max().unwrap_or(Charset::Utf8mb4)
        };
        Ok(Session { id: Some(id), keys: of("ratelimits"), texts: of("messages") })
    }

    /// innodb_lock_wait_timeout counts in seconds; one is too long for all the others in a batch.
    async fn interrupt(options: &MySqlConnectOptions, session: i64) -> Result<(), sqlx::Error> {
        let mut connection = options.connect().await?;
        connection.execute(sqlx::AssertSqlSafe(format!("KILL QUERY {session}"))).await?;
        connection.close().await
    }

    async fn is_held(connection: &mut MySqlConnection, key: &str) -> Result<bool, sqlx::Error> {
        // Meets rows that are not committed too. Without a transaction around it the lock is let go at once.
        let found = sqlx::query("SELECT 1 FROM ratelimits WHERE sender = ? FOR UPDATE NOWAIT").bind(key);
        match found.fetch_optional(connection).await {
            Ok(_) => Ok(false),
            Err(error) if matches!(failure::<Mysql>(&error), Failure::Locked(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn lacking(connection: &mut MySqlConnection) -> Result<Vec<Addition>, sqlx::Error> {
        adopt::lacking(connection).await
    }

    // Not sqlx's own lock: it waits for -1 seconds, which MariaDB takes for an error.
    async fn lock(connection: &mut MySqlConnection) -> Result<(), MigrateError> {
        let sql = format!("SELECT GET_LOCK({MIGRATION_LOCK}, {})", MIGRATION_LOCK_WAIT.as_secs());
        let got: Option<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(connection).await?;
        match got {
            Some(1) => Ok(()),
            _ => {
                Err(MigrateError::Execute(sqlx::Error::Protocol("another process is migrating the tables".to_owned())))
            }
        }
    }

    async fn unlock(connection: &mut MySqlConnection) -> Result<(), MigrateError> {
        connection.execute(sqlx::AssertSqlSafe(format!("DO RELEASE_LOCK({MIGRATION_LOCK})"))).await?;
        Ok(())
    }

    async fn finds_messages_by_time(connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
        adopt::is_indexed(connection, "messages", "created_at").await
    }

    fn classify(error: &dyn DatabaseError) -> Option<Failure> {
        let words = error.message().to_owned();
        let number = error.try_downcast_ref::<MySqlDatabaseError>()?.number();
        Some(match number {
            // Deadlock (with Galera: a certification failure, on COMMIT too), a row changed under a snapshot.
            1213 | 1180 | 1020 => Failure::Transient(words),
            // Lock wait time-out, NOWAIT, a statement interrupted by us.
            1205 | 1317 | 3572 => Failure::Locked(words),
            // Too long, not of the column's character set, out of range, wrong value, constraint, packet too large.
            1048 | 1153 | 1264 | 1265 | 1267 | 1270 | 1271 | 1292 | 1300 | 1366 | 1406 | 1452 | 1062 | 3988 => {
                Failure::Refused(words)
            }
            _ => Failure::Away(words),
        })
    }

    fn migrator() -> &'static sqlx::migrate::Migrator {
        static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("migrations/mysql");
        &MIGRATOR
    }
}
