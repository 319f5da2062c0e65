//! Adoption: tables that PolicydRateGuard made become ours, with all they hold. The indexes that it did not always make.

use std::collections::HashSet;

use sqlx::mysql::MySqlConnection;
use sqlx::{Executor, Row};

use crate::store::dialect::Addition;

/// Table, columns, name.
const INDEXES: [(&str, &str, &str); 1] = [("messages", "created_at", "messages_created_at_index")];

/// The indexes that the tables which are there lack. Only reads.
pub async fn lacking(connection: &mut MySqlConnection) -> Result<Vec<Addition>, sqlx::Error> {
    // Of an index the first column; each table has one on its primary key.
    let sql = "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR) FROM information_schema.statistics \
               WHERE table_schema = DATABASE() AND table_name = 'messages' AND seq_in_index = 1";
    let rows = connection.fetch_all(sql).await?;
    let found: HashSet<(String, String)> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?;
    let lacks = |table: &str, column: &str| {
        found.iter().any(|(there, _)| there == table) && !found.contains(&(table.to_owned(), column.to_owned()))
    };
    let indexes = INDEXES.iter().filter(|(table, column, _)| lacks(table, column));
    let indexes = indexes.map(|(table, column, name)| Addition {
        name: format!("index {name} on {table} ({column})"),
        sql: format!("CREATE INDEX {name} ON {table} ({column})"),
        slow: true,
    });
    Ok(indexes.collect())
}
