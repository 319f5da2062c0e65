//! What a database has otherwise that an older version of this program has made.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Executor, Row};

use crate::store::dialect::Addition;

/// More messages than these take longer than a moment.
const MANY: i64 = 200_000;

/// The index by sender is of refused messages alone.
const CREATE: &str = "CREATE INDEX messages_blocked_index ON messages (ratelimit_id) WHERE blocked = 1";

/// Without the index of all messages by sender, their foreign key would have all of them looked through for each sender that is
/// deleted; so a message keeps the number of a sender that was deleted, which never becomes another's. To take a constraint out of the
/// schema's text is what SQLite's manual says (ALTER TABLE, "Making Other Kinds Of Table Schema Changes"): the rows stay as they
/// are. In one transaction, which takes the write lock at once; what fails within it leaves [`roll_back`] something to do.
const DROP: &str = "BEGIN IMMEDIATE; \
    PRAGMA writable_schema = ON; \
    UPDATE sqlite_schema SET sql = replace(sql, 'REFERENCES ratelimits (id) ON DELETE SET NULL ON UPDATE CASCADE', '') \
    WHERE type = 'table' AND name = 'messages'; \
    PRAGMA writable_schema = RESET; \
    DROP INDEX IF EXISTS messages_ratelimit_id_index; \
    COMMIT";

/// Ends the transaction of an addition that failed half-way, with the schema as it was and none that may be written.
pub async fn roll_back(connection: &mut SqliteConnection) {
    // SQLite has rolled back by itself where an error left it nothing else; to be told so again is an error.
    for words in ["ROLLBACK", "PRAGMA writable_schema = RESET"] {
        if let Err(error) = connection.execute(words).await {
            log::debug!("{words}: {error}");
        }
    }
}

/// The index that the table of messages lacks, and the one that it has too many.
pub async fn lacking_indexes(connection: &mut SqliteConnection) -> Result<Vec<Addition>, sqlx::Error> {
    let sql = "SELECT name FROM sqlite_schema WHERE tbl_name = 'messages'";
    let rows = connection.fetch_all(sql).await?;
    let found: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let has = |name: &str| found.iter().any(|found| found == name);
    let (lacks, too_many) = (!has("messages_blocked_index"), has("messages_ratelimit_id_index"));
    if !has("messages") || !(lacks || too_many) {
        return Ok(Vec::new());
    }
    let row = connection.fetch_one("SELECT COALESCE(MAX(id) - MIN(id), 0) FROM messages").await?;
    let slow = row.try_get::<i64, _>(0)? > MANY;
    let addition = |name: &str, sql: &str| Addition { name: name.to_owned(), sql: sql.to_owned(), slow };
    let create = lacks.then(|| addition("index messages_blocked_index on messages (ratelimit_id)", CREATE));
    let drop = too_many.then(|| addition("table messages without messages_ratelimit_id_index", DROP));
    Ok(create.into_iter().chain(drop).collect())
}
