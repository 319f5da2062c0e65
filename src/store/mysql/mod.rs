//! MariaDB 10.6 or newer, and MySQL 8, by the same statements.

pub mod adopt;

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use super::charset::Charset;
use super::dialect::{Dialect, STANDARD, STATEMENT_TIMEOUT, Session};
use super::failure::Failure;
use super::sql::STATEMENTS_KEPT;
use crate::config;

/// The least that both servers take. [`super::dialect::LOCK_TIMEOUT`] is shorter; this is the belt.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// A lock's name holds for the whole server and has at the most 64 characters.
const MIGRATION_LOCK: &str = "CONCAT('policyd-rate-guard ', MD5(DATABASE()))";
const MIGRATION_LOCK_WAIT: Duration = Duration::from_secs(60);

pub static MIGRATOR: Migrator = sqlx::migrate!("migrations/mysql");

pub const DIALECT: Dialect = Dialect {
    integer: "SIGNED",
    sender: "sender",
    // The column may be one of bytes.
    lowered: Some("LOWER(CONVERT(sender USING utf8mb4)) COLLATE utf8mb4_bin"),
    usage: "`usage`",
    from_epoch: ("FROM_UNIXTIME(", ")"),
    to_epoch: ("CAST(UNIX_TIMESTAMP(", ") AS SIGNED)"),
    tables_named: "SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ",
    // IGNORE would turn other errors into warnings too, but the one that can happen here is a sender who has gone.
    insert_absent: ("INSERT IGNORE", ""),
    on_conflict: None,
    // VALUES() is deprecated in MySQL, but MariaDB has nothing else.
    brought: ("VALUES(", ")"),
    ..STANDARD
};

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

pub fn options(database: &config::Database) -> MySqlConnectOptions {
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

pub fn place(options: &MySqlConnectOptions) -> String {
    let at = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    format!("MySQL or MariaDB database {} at {at}", options.get_database().unwrap_or_default())
}

/// Connects, sets the session up, and looks at what the tables can hold.
pub async fn connect(options: &MySqlConnectOptions, reading: bool) -> Result<(MySqlConnection, Session), sqlx::Error> {
    let mut connection = options.connect().await.map_err(explain_login)?;
    let wait = LOCK_WAIT.as_secs();
    connection
        .execute(AssertSqlSafe(format!(
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; SET SESSION innodb_lock_wait_timeout = {wait}"
        )))
        .await?;
    if reading {
        only_read(&mut connection).await?;
    }
    let session = session(&mut connection).await?;
    Ok((connection, session))
}

/// Has the server refuse to write in this session, and end what takes long: a reader that gives up leaves its statement
/// behind.
async fn only_read(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    let (seconds, milliseconds) = (STATEMENT_TIMEOUT.as_secs(), STATEMENT_TIMEOUT.as_millis());
    // MariaDB reads the first comment and MySQL the second, each as if it were none: their variables differ.
    let timeout = format!(
        "/*M! SET SESSION max_statement_time = {seconds} */ /*!50708 SET SESSION max_execution_time = {milliseconds} */"
    );
    connection.execute(AssertSqlSafe(format!("SET SESSION TRANSACTION READ ONLY; {timeout}"))).await?;
    Ok(())
}

async fn session(connection: &mut MySqlConnection) -> Result<Session, sqlx::Error> {
    let id = sqlx::query_scalar("SELECT CAST(CONNECTION_ID() AS SIGNED)").fetch_one(&mut *connection).await?;
    let columns: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT CAST(table_name AS CHAR), CAST(character_set_name AS CHAR), CAST(collation_name AS CHAR) \
         FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND character_set_name IS NOT NULL AND (table_name = 'messages' \
         OR table_name = 'ratelimits' AND column_name = 'sender')",
    )
    .fetch_all(connection)
    .await?;
    // Of several the narrowest; a table that is not there yet will hold everything.
    let of = |table: &str| {
        let named = columns.iter().filter(|(name, ..)| name == table).map(|(_, charset, _)| Charset::named(charset));
        named.max().unwrap_or(Charset::Utf8mb4)
    };
    // As the table does that we make.
    let heeds_case = !columns.iter().any(|(table, _, collation)| table == "ratelimits" && collation.contains("_ci"));
    Ok(Session { id: Some(id), keys: of("ratelimits"), texts: of("messages"), heeds_case })
}

/// Interrupts the statement of a session: innodb_lock_wait_timeout counts in seconds, and one is too long for all the others
/// in a batch.
pub async fn interrupt(options: &MySqlConnectOptions, session: i64) -> Result<(), sqlx::Error> {
    let mut connection = options.connect().await?;
    connection.execute(AssertSqlSafe(format!("KILL QUERY {session}"))).await?;
    connection.close().await
}

/// Whether somebody else holds the row of a key, or is making it in a transaction of its own. Asks without waiting.
pub async fn is_held(connection: &mut MySqlConnection, key: &str) -> Result<bool, Failure> {
    // Meets rows that are not committed too. Without a transaction around it the lock is let go at once.
    let found = sqlx::query("SELECT 1 FROM ratelimits WHERE sender = ? FOR UPDATE NOWAIT").bind(key);
    match found.fetch_optional(connection).await.map_err(Failure::from) {
        Ok(_) => Ok(false),
        Err(Failure::Locked(_)) => Ok(true),
        Err(failure) => Err(failure),
    }
}

/// Waits until no other process changes the tables' structure. Not sqlx's own lock: it waits for -1 seconds, which MariaDB
/// takes for an error.
pub async fn lock(connection: &mut MySqlConnection) -> Result<(), Failure> {
    let sql = format!("SELECT GET_LOCK({MIGRATION_LOCK}, {})", MIGRATION_LOCK_WAIT.as_secs());
    let got: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await?;
    match got {
        Some(1) => Ok(()),
        _ => Err(Failure::Away("another process is migrating the tables".to_owned())),
    }
}

/// Lets others change the tables' structure.
pub async fn unlock(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    connection.execute(AssertSqlSafe(format!("DO RELEASE_LOCK({MIGRATION_LOCK})"))).await?;
    Ok(())
}
