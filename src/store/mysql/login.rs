//! How a session of MySQL or MariaDB is let in.
//!
//! MySQL's usual way to log in, `caching_sha2_password`, asks for the password itself whenever the server does not remember it: after
//! each start of the server, and after FLUSH PRIVILEGES. The driver sends that over TLS only.

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlSslMode};
use sqlx::{ConnectOptions, Row};

const PLUGIN: &str = "caching_sha2_password";
const ADVICE: &str = "MySQL asks for the password itself after each start of the server (caching_sha2_password), which is sent over \
                      TLS only. Turn TLS on in the server, or give the user another way to log in";
/// Of the server: user or password are wrong.
const ACCESS_DENIED: u16 = 1045;

/// Logs in; over TLS also where the settings have it off, if the password itself is asked for.
pub async fn log_in(options: &MySqlConnectOptions) -> Result<MySqlConnection, sqlx::Error> {
    let refused = match options.connect().await {
        Err(error) if may_be_for_lack_of_tls(&error, options) => error,
        done => return done,
    };
    match over_tls(options).await {
        Err(sqlx::Error::Tls(why)) => {
            let said =
                refused.as_database_error().map(|error| format!("{}. If the password is right: ", error.message()));
            let said = said.unwrap_or_default();
            Err(sqlx::Error::Configuration(format!("{said}{ADVICE}. Over TLS: {why}").into()))
        }
        done => done,
    }
}

/// Whether the server may refuse the user's next login although it took this one: it does not keep what it remembers, and
/// has no TLS.
pub async fn depends_on_memory(connection: &mut MySqlConnection, options: &MySqlConnectOptions) -> bool {
    let user = sqlx::raw_sql("SHOW CREATE USER CURRENT_USER()").fetch_one(connection).await;
    // What stands between may not know the statement.
    let made = user.and_then(|row| row.try_get::<String, _>(0)).unwrap_or_default();
    made.contains(PLUGIN) && matches!(over_tls(options).await, Err(sqlx::Error::Tls(_)))
}

async fn over_tls(options: &MySqlConnectOptions) -> Result<MySqlConnection, sqlx::Error> {
    options.clone().ssl_mode(MySqlSslMode::Required).connect().await
}

/// Whether the password itself may have been asked for. Over a unix socket the driver does not refuse to send it, but asks for
/// a key to encrypt it with, and the server takes the question for a password.
fn may_be_for_lack_of_tls(error: &sqlx::Error, options: &MySqlConnectOptions) -> bool {
    let number =
        |error: &dyn sqlx::error::DatabaseError| Some(error.try_downcast_ref::<MySqlDatabaseError>()?.number());
    let denied = error.as_database_error().and_then(number) == Some(ACCESS_DENIED);
    error.to_string().contains("RSA auth backend") || denied && options.get_socket().is_some()
}
