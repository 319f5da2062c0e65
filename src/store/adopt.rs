//! Columns that tables lack which another program, or an older version of this one, has made. What they lack is found by
//! looking, since a table that is there stays as it is, and neither MySQL 8 nor SQLite has ADD COLUMN IF NOT EXISTS.

use std::collections::HashSet;

use super::connection::Connection;
use super::dialect::{Addition, Dialect};
use super::failure::Failure;

/// Columns that come last in their table and have a default: every database adds such a one without rewriting the table, and
/// other programs go on writing rows.
const COLUMNS: [(&str, &str, &str); 7] = [
    ("ratelimits", "window_from", "BIGINT NOT NULL DEFAULT 0"),
    ("messages", "action", "VARCHAR(32) NOT NULL DEFAULT ''"),
    ("messages", "reason", "VARCHAR(255) NOT NULL DEFAULT ''"),
    // The mail server that answered, whose queue has the message. Empty in rows of older versions.
    ("messages", "host", "VARCHAR(255) NOT NULL DEFAULT ''"),
    // What this program did with the message in Postfix's queue after it was answered (see `store::queued`), and when, in
    // seconds since 1970.
    ("messages", "queue_state", "VARCHAR(16) NOT NULL DEFAULT ''"),
    ("messages", "queue_state_at", "BIGINT NOT NULL DEFAULT 0"),
    // When it was told, in seconds since 1970. 0 in rows of older versions.
    ("notices", "told_at", "BIGINT NOT NULL DEFAULT 0"),
];

/// The columns that the tables which are there lack. Only reads.
pub async fn lacking(connection: &mut Connection) -> Result<Vec<Addition>, Failure> {
    let Dialect { columns_found, .. } = connection.dialect();
    let sql = connection.sql(*columns_found);
    let rows = connection.fetch_all(sql).await?;
    let found: HashSet<(String, String)> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, Failure>>()?;
    let lacks = |table: &str, column: &str| {
        found.iter().any(|(there, _)| there == table) && !found.contains(&(table.to_owned(), column.to_owned()))
    };
    let columns = COLUMNS.iter().filter(|(table, column, _)| lacks(table, column));
    let columns = columns.map(|(table, column, definition)| Addition {
        name: format!("column {table}.{column}"),
        sql: format!("ALTER TABLE {table} ADD COLUMN {column} {definition}"),
        slow: false,
    });
    Ok(columns.collect())
}
