//! Adoption: tables that PolicydRateGuard made become ours, with all they hold. The indexes that they lack.

use std::collections::{HashMap, HashSet};

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::LOWERED;
use crate::store::dialect::Addition;

/// The indexes that the tables which are there lack, and the column that is made for one. Only reads.
pub async fn lacking(connection: &mut MySqlConnection) -> Result<Vec<Addition>, sqlx::Error> {
    // Each asks for named tables of one schema: a join of the two would have the server look at all schemas.
    let of_ours = "WHERE table_schema = DATABASE() AND table_name IN ('messages', 'ratelimits')";
    let columns = format!(
        "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR), COALESCE(CAST(collation_name AS CHAR), '') \
         FROM information_schema.columns {of_ours}"
    );
    let mut collations: HashMap<(String, String), String> = HashMap::new();
    for row in connection.fetch_all(AssertSqlSafe(columns)).await? {
        collations.insert((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
    }
    // Of an index the first column.
    let indexes = format!(
        "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR) FROM information_schema.statistics {of_ours} \
         AND seq_in_index = 1"
    );
    let mut indexed: HashSet<(String, String)> = HashSet::new();
    for row in connection.fetch_all(AssertSqlSafe(indexes)).await? {
        indexed.insert((row.try_get(0)?, row.try_get(1)?));
    }
    let key = |table: &str, column: &str| (table.to_owned(), column.to_owned());
    let (created_at, lowered) = (key("messages", "created_at"), key("ratelimits", LOWERED));
    let mut lacking = Vec::new();
    if collations.contains_key(&created_at) && !indexed.contains(&created_at) {
        lacking.push(Addition {
            name: "index messages_created_at_index on messages (created_at)".to_owned(),
            sql: "CREATE INDEX messages_created_at_index ON messages (created_at)".to_owned(),
            slow: true,
        });
    }
    // To the tables that PolicydRateGuard made, a row typed with capitals is the sender's. To ours it is another one's, and is
    // looked for with each new sender.
    if collations.get(&key("ratelimits", "sender")).is_none_or(|collation| collation.contains("_ci")) {
        return Ok(lacking);
    }
    if !collations.contains_key(&lowered) {
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
    if !indexed.contains(&lowered) {
        lacking.push(Addition {
            name: format!("index ratelimits_{LOWERED}_index on ratelimits ({LOWERED})"),
            // An old row format takes no more characters.
            sql: format!("CREATE INDEX ratelimits_{LOWERED}_index ON ratelimits ({LOWERED}(191))"),
            slow: false,
        });
    }
    Ok(lacking)
}
