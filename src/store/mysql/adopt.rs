//! Adoption: tables that PolicydRateGuard made become ours, with all they hold. The indexes that they lack.

use std::collections::{HashMap, HashSet};

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::LOWERED;
use crate::store::dialect::Addition;

/// The indexes that the tables which are there lack, and the column that is made for one. Only reads.
pub async fn lacking(connection: &mut MySqlConnection) -> Result<Vec<Addition>, sqlx::Error> {
    // Of an index the first column; each table has one on its primary key.
    let sql = "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR) FROM information_schema.statistics \
               WHERE table_schema = DATABASE() AND table_name IN ('messages', 'ratelimits') AND seq_in_index = 1";
    let rows = connection.fetch_all(sql).await?;
    let found: HashSet<(String, String)> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?;
    let lacks = |table: &str, column: &str| {
        found.iter().any(|(there, _)| there == table) && !found.contains(&(table.to_owned(), column.to_owned()))
    };
    let mut lacking = Vec::new();
    if lacks("messages", "created_at") {
        lacking.push(index("messages_created_at_index", "messages", "created_at", "created_at", true));
    }
    if lacks("ratelimits", LOWERED) {
        lacking.extend(lowered(connection).await?);
    }
    Ok(lacking)
}

/// The index by which a row typed with capitals is found, and its column. Nothing for the tables that PolicydRateGuard made: to
/// them such a row is the sender's. To ours it is another one's, and is looked for with each new sender.
async fn lowered(connection: &mut MySqlConnection) -> Result<Vec<Addition>, sqlx::Error> {
    let sql = format!(
        "SELECT CAST(column_name AS CHAR), CAST(collation_name AS CHAR) FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND table_name = 'ratelimits' AND column_name IN ('sender', '{LOWERED}') \
         AND collation_name IS NOT NULL"
    );
    let rows = connection.fetch_all(AssertSqlSafe(sql)).await?;
    let collations: HashMap<String, String> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?;
    let mut lacking = Vec::new();
    if collations.get("sender").is_some_and(|collation| collation.contains("_ci")) {
        return Ok(lacking);
    }
    if !collations.contains_key(LOWERED) {
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
    // An old row format takes no more characters.
    let part = format!("{LOWERED}(191)");
    lacking.push(index(&format!("ratelimits_{LOWERED}_index"), "ratelimits", LOWERED, &part, false));
    Ok(lacking)
}

/// An index on a part of a column.
fn index(name: &str, table: &str, column: &str, part: &str, slow: bool) -> Addition {
    Addition {
        name: format!("index {name} on {table} ({column})"),
        sql: format!("CREATE INDEX {name} ON {table} ({part})"),
        slow,
    }
}
