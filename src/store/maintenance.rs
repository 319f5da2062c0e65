//! What keeps the tables small and current: counters to 0, the purge by age. In chunks, so that mail goes on meanwhile.

use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::Store;
use super::sql::Sql;
use crate::limiter::window::minute_of;

/// Rows changed or deleted by one statement: a few milliseconds' work, for which nobody waits long.
const ROWS: i64 = 1000;

/// A kind of work that is done in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// Counters to 0, and quotas that are not locked to their quota_reset.
    Reset,
    /// Messages from before a time (seconds since 1970) are deleted.
    Messages { before: i64 },
    /// Rows of senders without a login that were last used before a time are deleted, unless their quota is locked.
    Idle { before: i64 },
}

/// What is kept by its age alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aged {
    /// History, per minute.
    Usage,
    /// Networks, by when a sender was last seen there.
    Networks,
}

impl Aged {
    fn table(self, dialect: &Dialect) -> &'static str {
        match self {
            Aged::Usage => dialect.usage,
            Aged::Networks => "networks",
        }
    }

    fn column(self) -> &'static str {
        match self {
            Aged::Usage => "minute",
            Aged::Networks => "last_seen",
        }
    }

    /// A time, in seconds since 1970, in the column's unit.
    fn units(self, time: i64) -> i64 {
        match self {
            Aged::Usage => minute_of(time),
            Aged::Networks => time,
        }
    }
}

/// What one chunk did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worked {
    pub rows: u64,
    /// Where the next chunk goes on.
    pub last: i64,
}

impl Chunk {
    fn table(self) -> &'static str {
        match self {
            Chunk::Reset | Chunk::Idle { .. } => "ratelimits",
            Chunk::Messages { .. } => "messages",
        }
    }

    fn verb(self) -> &'static str {
        match self {
            // A row's counters and quota in one statement, so that nobody sees one without the other. updated_at stays:
            // MySQL would touch it by itself.
            Chunk::Reset => {
                "UPDATE ratelimits SET msg_counter = 0, rcpt_counter = 0, \
                 quota = CASE WHEN quota_locked = 0 THEN quota_reset ELSE quota END, updated_at = updated_at"
            }
            Chunk::Messages { .. } => "DELETE FROM messages",
            Chunk::Idle { .. } => "DELETE FROM ratelimits",
        }
    }

    /// Which rows it is about.
    fn push_condition(self, sql: &mut Sql) {
        match self {
            Chunk::Reset => {
                sql.push("(msg_counter <> 0 OR rcpt_counter <> 0 OR (quota_locked = 0 AND quota <> quota_reset))");
            }
            Chunk::Messages { before } => {
                sql.push("created_at < ").push_time(before);
            }
            Chunk::Idle { before } => {
                // What somebody has locked is meant to last.
                sql.push("(sender LIKE '<%' OR sender LIKE '[%') AND quota_locked = 0 AND updated_at < ")
                    .push_time(before);
            }
        }
    }
}

impl Store {
    /// Does the next `ROWS` rows of a work, beyond the row `after`; none when nothing is left.
    pub async fn chunk(&mut self, chunk: Chunk, after: i64) -> Result<Option<Worked>, Failure> {
        self.run(async |connection| {
            let mut sql = connection.sql(format!(
                "SELECT CAST(id AS {}) FROM {} WHERE id > ",
                connection.dialect().integer,
                chunk.table()
            ));
            sql.push_bind(after).push(" AND ");
            chunk.push_condition(&mut sql);
            sql.push(" ORDER BY id LIMIT ").push(ROWS);
            let rows = connection.fetch_all(sql).await?;
            let Some(last) = rows.last() else { return Ok(None) };
            let last: i64 = last.try_get(0)?;
            let mut sql = connection.sql(chunk.verb());
            sql.push(" WHERE id > ").push_bind(after).push(" AND id <= ").push_bind(last).push(" AND ");
            chunk.push_condition(&mut sql);
            connection.execute(sql).await?;
            Ok(Some(Worked { rows: rows.len() as u64, last }))
        })
        .await
    }

    /// Deletes the oldest of what is from before a time (seconds since 1970): `ROWS`, and what is of the same age as the
    /// youngest of these. None when nothing is left.
    pub async fn expire(&mut self, aged: Aged, before: i64) -> Result<Option<Worked>, Failure> {
        self.run(async |connection| {
            let (table, column, before) = (aged.table(connection.dialect()), aged.column(), aged.units(before));
            let mut sql = connection.sql(format!("SELECT {column} FROM {table} WHERE {column} < "));
            sql.push_bind(before).push(format_args!(" ORDER BY {column} LIMIT 1 OFFSET {}", ROWS - 1));
            let full = connection.fetch_optional(sql).await?;
            let last = full.map(|row| row.try_get::<i64>(0)).transpose()?.unwrap_or(before.saturating_sub(1));
            let mut sql = connection.sql(format!("DELETE FROM {table} WHERE {column} <= "));
            sql.push_bind(last);
            let deleted = connection.execute(sql).await?;
            Ok((deleted > 0).then_some(Worked { rows: deleted, last }))
        })
        .await
    }
}
