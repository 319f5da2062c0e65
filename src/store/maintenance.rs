//! What keeps the tables small and current: facts in `meta`, the reset of counters, the purge by age. In chunks, so that
//! mail goes on meanwhile.

use sqlx::{ColumnIndex, Connection, Database, Decode, Encode, Executor, QueryBuilder, Row as _, SqlSafeStr, Type};

use super::Failure;
use super::backend::Backend;
use super::dialect::{ConnectionOf, Dialect, failure};
use crate::limiter::window::{CLOCKS_DIFFER, minute_of};

/// Rows changed or deleted by one statement: a few milliseconds' work, for which nobody waits long.
const ROWS: i64 = 1000;

/// The time of the last reset of all counters, in `meta`.
const LAST_RESET: &str = "last_reset";

/// When the process that resets the counters last moved on, in `meta`.
const RESETTING: &str = "resetting";
/// A process that has not moved on for so many seconds has died within its reset.
const RESET_PATIENCE: i64 = 120;

/// The time at which this program first counted here, in `meta`.
const COUNTING_SINCE: &str = "counting_since";

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
    fn table<D: Dialect>(self) -> &'static str {
        match self {
            Aged::Usage => D::USAGE,
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
    fn push_condition<D: Dialect>(self, sql: &mut QueryBuilder<D::Db>)
    where
        for<'q> i64: Encode<'q, D::Db> + Type<D::Db>,
    {
        let (open, close) = D::FROM_EPOCH;
        match self {
            Chunk::Reset => {
                sql.push("(msg_counter <> 0 OR rcpt_counter <> 0 OR (quota_locked = 0 AND quota <> quota_reset))");
            }
            Chunk::Messages { before } => {
                sql.push("created_at < ").push(open).push_bind(before).push(close);
            }
            Chunk::Idle { before } => {
                // What somebody has locked is meant to last.
                sql.push("(sender LIKE '<%' OR sender LIKE '[%') AND quota_locked = 0 AND updated_at < ")
                    .push(open)
                    .push_bind(before)
                    .push(close);
            }
        }
    }
}

impl<D: Dialect> Backend<D>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    /// The value stored in `meta` under `name`.
    pub async fn meta(&mut self, name: &str) -> Result<Option<String>, Failure> {
        self.run(async |connection| meta::<D>(connection, name).await).await
    }

    /// Stores a value in `meta`.
    pub async fn set_meta(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        self.run(async |connection| set_meta::<D>(connection, name, value).await).await
    }

    /// Claims the reset for this process; false if somebody is at it, or reset at `unless` or later. A time that was noted
    /// by a clock far ahead is none.
    pub async fn claim_reset(&mut self, now: i64, unless: Option<i64>) -> Result<bool, Failure> {
        self.run(async |connection| {
            let mut transaction = connection.begin_with(D::BEGIN.into_sql_str()).await?;
            // The write takes the row's lock: of two hosts one reads what the other wrote.
            let mut sql = QueryBuilder::<D::Db>::new("INSERT INTO meta (name, value) VALUES (");
            sql.push_bind(RESETTING.to_owned()).push(", '0')").push(D::on_conflict("name")).push("value = meta.value");
            transaction.execute(sql.build()).await?;
            let mut times = [RESETTING, LAST_RESET].map(|name| (name, 0));
            for (name, time) in &mut times {
                let noted = meta::<D>(&mut transaction, name).await?.and_then(|text| text.parse().ok());
                *time = noted.filter(|&noted| noted <= now.saturating_add(CLOCKS_DIFFER)).unwrap_or(0);
            }
            let [(_, moved), (_, reset)] = times;
            if unless.is_some_and(|unless| reset >= unless || moved > now.saturating_sub(RESET_PATIENCE)) {
                transaction.rollback().await?;
                return Ok(false);
            }
            set_meta::<D>(&mut transaction, RESETTING, &now.to_string()).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Tells that the process which claimed the reset is at it.
    pub async fn keep_reset(&mut self, now: i64) -> Result<(), Failure> {
        self.set_meta(RESETTING, &now.to_string()).await
    }

    /// Ends the reset: all counters were reset as of this time; or none, and it is left to whoever tries next.
    pub async fn end_reset(&mut self, as_of: Option<i64>) -> Result<(), Failure> {
        if let Some(time) = as_of {
            self.set_meta(LAST_RESET, &time.to_string()).await?;
        }
        self.set_meta(RESETTING, "0").await
    }

    /// Proves that the database takes writes, and notes when counting began here.
    pub async fn heartbeat(&mut self, now: i64) -> Result<(), Failure> {
        self.run(async |connection| {
            set_meta::<D>(connection, "heartbeat", &now.to_string()).await?;
            if meta::<D>(connection, COUNTING_SINCE).await?.is_none() {
                set_meta::<D>(connection, COUNTING_SINCE, &now.to_string()).await?;
            }
            Ok(())
        })
        .await
    }

    /// When the counters were last reset, or counting began here, in seconds since 1970.
    pub async fn last_reset(&mut self) -> Result<Option<i64>, Failure> {
        self.run(async |connection| {
            let reset = meta::<D>(connection, LAST_RESET).await?;
            let began = meta::<D>(connection, COUNTING_SINCE).await?;
            Ok([reset, began].into_iter().flatten().filter_map(|text| text.parse().ok()).max())
        })
        .await
    }

    /// Does the next [`ROWS`] rows of a work, beyond the row `after`; none when nothing is left.
    pub async fn chunk(&mut self, chunk: Chunk, after: i64) -> Result<Option<Worked>, Failure> {
        self.run(async |connection| {
            let mut sql = QueryBuilder::<D::Db>::new(format!(
                "SELECT CAST(id AS {}) FROM {} WHERE id > ",
                D::INTEGER,
                chunk.table()
            ));
            sql.push_bind(after).push(" AND ");
            chunk.push_condition::<D>(&mut sql);
            sql.push(" ORDER BY id LIMIT ").push(ROWS);
            let rows = connection.fetch_all(sql.build()).await?;
            let Some(last) = rows.last() else { return Ok(None) };
            let last: i64 = last.try_get(0)?;
            let mut sql = QueryBuilder::<D::Db>::new(chunk.verb());
            sql.push(" WHERE id > ").push_bind(after).push(" AND id <= ").push_bind(last).push(" AND ");
            chunk.push_condition::<D>(&mut sql);
            connection.execute(sql.build()).await?;
            Ok(Some(Worked { rows: rows.len() as u64, last }))
        })
        .await
    }

    /// Deletes the oldest of what is from before a time (seconds since 1970): [`ROWS`], and what is of the same age as the
    /// youngest of these. None when nothing is left.
    pub async fn expire(&mut self, aged: Aged, before: i64) -> Result<Option<Worked>, Failure> {
        self.run(async |connection| {
            let (table, column, before) = (aged.table::<D>(), aged.column(), aged.units(before));
            let mut sql = QueryBuilder::<D::Db>::new(format!("SELECT {column} FROM {table} WHERE {column} < "));
            sql.push_bind(before).push(format_args!(" ORDER BY {column} LIMIT 1 OFFSET {}", ROWS - 1));
            let full = connection.fetch_optional(sql.build()).await?;
            let last = full.map(|row| row.try_get::<i64, _>(0)).transpose()?.unwrap_or(before.saturating_sub(1));
            let mut sql = QueryBuilder::<D::Db>::new(format!("DELETE FROM {table} WHERE {column} <= "));
            sql.push_bind(last);
            let deleted = D::rows_affected(&connection.execute(sql.build()).await?);
            Ok((deleted > 0).then_some(Worked { rows: deleted, last }))
        })
        .await
    }
}

impl<D: Dialect> Backend<D> {
    /// Does something on the connection, and keeps the connection if it is still good.
    pub(super) async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut ConnectionOf<D>) -> Result<T, sqlx::Error>,
    ) -> Result<T, Failure> {
        let mut connection = self.take_connection().await?;
        let result = work(&mut connection).await.map_err(|error| failure::<D>(&error));
        self.put_back(connection, &result);
        result
    }
}

pub(super) async fn meta<D: Dialect>(
    connection: &mut ConnectionOf<D>,
    name: &str,
) -> Result<Option<String>, sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    let mut sql = QueryBuilder::<D::Db>::new("SELECT value FROM meta WHERE name = ");
    sql.push_bind(name.to_owned());
    connection.fetch_optional(sql.build()).await?.map(|row| row.try_get(0)).transpose()
}

pub(super) async fn set_meta<D: Dialect>(
    connection: &mut ConnectionOf<D>,
    name: &str,
    value: &str,
) -> Result<(), sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> String: Encode<'q, D::Db> + Type<D::Db>,
{
    let mut sql = QueryBuilder::<D::Db>::new("INSERT INTO meta (name, value) VALUES (");
    sql.push_bind(name.to_owned()).push(", ").push_bind(value.to_owned()).push(")");
    sql.push(D::on_conflict("name")).push("value = ").push(D::brought("value"));
    connection.execute(sql.build()).await?;
    Ok(())
}
