//! The `events` of policyd (thc2cat/go-policyd), as far as they are taken over. Only reads; the tables are not ours.

use std::collections::BTreeMap;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::config::Secret;

/// Where policyd counted.
#[derive(Debug, Clone)]
pub struct Place {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Secret,
    pub database: String,
    /// Letters, digits and `_` alone.
    pub table: String,
}

/// What was counted of each login, by the minute (counted from 1970): messages and recipients.
pub type Events = BTreeMap<String, BTreeMap<i64, (i64, i64)>>;

/// Sums what was counted since a time (seconds since 1970) and before another. None means now, by the clock of policyd's own
/// database. That time is returned too: a next call that begins there counts nothing twice and leaves nothing out.
///
/// # Errors
/// In words: what cannot be reached or read.
pub async fn read(place: &Place, since: i64, until: Option<i64>) -> Result<(Events, i64), String> {
    let shown = format!("policyd's database {} at {}:{}", place.database, place.host, place.port);
    let read = async {
        let mut connection = options(place).connect().await?;
        let read = events(&mut connection, &place.table, since, until).await?;
        connection.close().await?;
        Ok(read)
    };
    read.await.map_err(|error: sqlx::Error| {
        let words = match &error {
            sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
                Some(error) => error.message().to_owned(),
                None => error.to_string(),
            },
            other => other.to_string(),
        };
        format!("{shown}: {words}")
    })
}

fn options(place: &Place) -> MySqlConnectOptions {
    // `ts` is in the server's own time zone: the session is to stay in it.
    MySqlConnectOptions::new()
        .host(&place.host)
        .port(place.port)
        .username(&place.user)
        .password(place.password.reveal())
        .database(&place.database)
        .ssl_mode(MySqlSslMode::Preferred)
        .timezone(None)
}

async fn events(
    connection: &mut MySqlConnection,
    table: &str,
    since: i64,
    until: Option<i64>,
) -> Result<(Events, i64), sqlx::Error> {
    let now = sqlx::query_scalar("SELECT CAST(UNIX_TIMESTAMP() AS SIGNED)");
    let until: i64 = match until {
        Some(until) => until,
        None => now.fetch_one(&mut *connection).await?,
    };
    let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT sasl_username, CAST(FLOOR(UNIX_TIMESTAMP(ts) / 60) AS SIGNED), COUNT(*), \
         CAST(COALESCE(SUM(GREATEST(recipient_count, 0)), 0) AS SIGNED) FROM `{table}` \
         WHERE ts >= FROM_UNIXTIME(?) AND ts < FROM_UNIXTIME(?) GROUP BY 1, 2"
    )))
    .bind(since)
    .bind(until)
    .fetch_all(connection)
    .await?;
    let mut events = Events::new();
    for (login, minute, messages, recipients) in rows {
        events.entry(login).or_default().insert(minute, (messages, recipients));
    }
    Ok((events, until))
}
