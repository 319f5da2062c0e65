//! Adoption: tables that PolicydRateGuard made become ours, with all they hold. What they lack is found by looking, since
//! MySQL 8 has no ADD COLUMN IF NOT EXISTS.

use std::collections::HashSet;

use sqlx::mysql::MySqlConnection;
use sqlx::{Executor, Row};

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
    // Of an index the first column.
    let sql = "SELECT 'column', CAST(table_name AS CHAR), CAST(column_name AS CHAR) FROM information_schema.columns \
               WHERE table_schema = DATABASE() AND table_name IN ('ratelimits', 'messages') \
               UNION ALL SELECT 'index', CAST(table_name AS CHAR), CAST(column_name AS CHAR) \
               FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = 'messages' \
               AND seq_in_index = 1";
    let rows = connection.fetch_all(sql).await?;
    let found: HashSet<(String, String, String)> = (rows.iter())
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
        .collect::<Result<_, sqlx::Error>>()?;
    let lacks = |kind: &str, table: &str, column: &str| {
        found.iter().any(|(_, there, _)| there == table)
            && !found.contains(&(kind.to_owned(), table.to_owned(), column.to_owned()))
    };
    let columns = COLUMNS.iter().filter(|(table, column, _)| lacks("column", table, column));
    let columns = columns.map(|(table, column, definition)| Addition {
        name: format!("column {table}.{column}"),
        sql: format!("ALTER TABLE {table} ADD COLUMN {column} {definition}"),
        slow: false,
    });
    let indexes = INDEXES.iter().filter(|(table, column, _)| lacks("index", table, column));
    let indexes = indexes.map(|(table, column, name)| Addition {
        name: format!("index {name} on {table} ({column})"),
        sql: format!("CREATE INDEX {name} ON {table} ({column})"),
        slow: true,
    });
    Ok(columns.chain(indexes).collect())
}
