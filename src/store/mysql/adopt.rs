//! Adoption: tables that PolicydRateGuard made become ours, with all they hold. What they lack is found by looking, since
//! MySQL 8 has no ADD COLUMN IF NOT EXISTS.

use std::collections::HashSet;

use sqlx::mysql::MySqlConnection;

use crate::store::dialect::Addition;

/// Columns that are ours, and come last in their table: both servers add such a one without rewriting the table.
const COLUMNS: [(&str, &str, &str); 3] = [
    ("ratelimits", "window_from", "BIGINT NOT NULL DEFAULT 0"),
    ("messages", "action", "VARCHAR(32) NOT NULL DEFAULT ''"),
    ("messages", "reason", "VARCHAR(255) NOT NULL DEFAULT ''"),
];

/// Indexes that PolicydRateGuard did not always make: table, columns, name.
const INDEXES: [(&str, &str, &str); 1] = [("messages", "created_at", "messages_created_at_index")];

/// What the tables that are there lack.
pub async fn lacking(connection: &mut MySqlConnection) -> Result<Vec<Addition>, sqlx::Error> {
    let columns: HashSet<(String, String)> = sqlx::query_as(
        "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR) FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND table_name IN ('ratelimits', 'messages')",
    )
    .fetch_all(&mut *connection)
    .await?
    .into_iter()
    .collect();
    let tables: HashSet<&str> = columns.iter().map(|(table, _)| table.as_str()).collect();
    let mut lacking = Vec::new();
    for (table, column, definition) in COLUMNS {
        if tables.contains(table) && !columns.contains(&(table.to_owned(), column.to_owned())) {
            lacking.push(Addition {
                name: format!("column {table}.{column}"),
                sql: format!("ALTER TABLE {table} ADD COLUMN {column} {definition}"),
                slow: false,
            });
        }
    }
    for (table, column, name) in INDEXES {
        if tables.contains(table) && !is_indexed(connection, table, column).await? {
            lacking.push(Addition {
                name: format!("index {name} on {table} ({column})"),
                sql: format!("CREATE INDEX {name} ON {table} ({column})"),
                slow: true,
            });
        }
    }
    Ok(lacking)
}

/// Whether a column is the first of an index.
pub async fn is_indexed(connection: &mut MySqlConnection, table: &str, column: &str) -> Result<bool, sqlx::Error> {
    let found: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.statistics \
         WHERE table_schema = DATABASE() AND table_name = ? AND column_name = ? AND seq_in_index = 1",
    )
    .bind(table)
    .bind(column)
    .fetch_one(connection)
    .await?;
    Ok(found > 0)
}
