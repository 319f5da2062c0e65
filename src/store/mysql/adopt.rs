//! Adoption: tables that PolicydRateGuard made become ours, with all they hold. The indexes that they lack.

use std::collections::HashMap;

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::LOWERED;
use crate::store::dialect::Addition;

/// The indexes that the tables which are there lack, and the column that is made for one. Only reads.
pub async fn lacking(connection: &mut MySqlConnection) -> Result<Vec<Addition>, sqlx::Error> {
    // Whether an index begins with the column, and its collation.
    let sql = format!(
        "SELECT CAST(c.table_name AS CHAR), CAST(c.column_name AS CHAR), COALESCE(CAST(c.collation_name AS CHAR), ''), \
         CAST(COUNT(s.index_name) AS SIGNED) FROM information_schema.columns c \
         LEFT JOIN information_schema.statistics s ON s.table_schema = c.table_schema AND s.table_name = c.table_name \
         AND s.column_name = c.column_name AND s.seq_in_index = 1 WHERE c.table_schema = DATABASE() \
         AND (c.table_name = 'messages' AND c.column_name = 'created_at' \
         OR c.table_name = 'ratelimits' AND c.column_name IN ('sender', '{LOWERED}')) GROUP BY 1, 2, 3"
    );
    let mut found: HashMap<(String, String), (String, bool)> = HashMap::new();
    for row in connection.fetch_all(AssertSqlSafe(sql)).await? {
        found.insert((row.try_get(0)?, row.try_get(1)?), (row.try_get(2)?, row.try_get::<i64, _>(3)? > 0));
    }
    let of = |table: &str, column: &str| found.get(&(table.to_owned(), column.to_owned()));
    let mut lacking = Vec::new();
    if let Some((_, false)) = of("messages", "created_at") {
        lacking.push(Addition {
            name: "index messages_created_at_index on messages (created_at)".to_owned(),
            sql: "CREATE INDEX messages_created_at_index ON messages (created_at)".to_owned(),
            slow: true,
        });
    }
    // To the tables that PolicydRateGuard made, a row typed with capitals is the sender's. To ours it is another one's, and is
    // looked for with each new sender.
    let (sender, lowered) = (of("ratelimits", "sender"), of("ratelimits", LOWERED));
    if sender.is_none_or(|(collation, _)| collation.contains("_ci")) {
        return Ok(lacking);
    }
    if lowered.is_none() {
        lacking.push(Addition {
            name: format!("column ratelimits.{LOWERED}"),
            // Virtual, so that the table is not written anew.
            sql: format!(
                "ALTER TABLE ratelimits ADD COLUMN {LOWERED} VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin \
                 GENERATED ALWAYS AS (LOWER(CONVERT(sender USING utf8mb4))) VIRTUAL"
            ),
            slow: false,
        });
    }
    if !lowered.is_some_and(|&(_, has_index)| has_index) {
        lacking.push(Addition {
            name: format!("index ratelimits_{LOWERED}_index on ratelimits ({LOWERED})"),
            // An old row format takes no more characters.
            sql: format!("CREATE INDEX ratelimits_{LOWERED}_index ON ratelimits ({LOWERED}(191))"),
            slow: false,
        });
    }
    Ok(lacking)
}
