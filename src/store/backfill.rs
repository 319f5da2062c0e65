//! History of a database that PolicydRateGuard counted in: `usage` is filled from the last hours of `messages`, once, so
//! that sliding windows do not begin at zero.

use sqlx::{ColumnIndex, Connection, Database, Decode, Encode, Executor, QueryBuilder, SqlSafeStr, Type};

use super::Failure;
use super::backend::Backend;
use super::dialect::{ConnectionOf, Dialect};
use super::meta;

/// In `meta`: how far this has come, see [`Progress`].
const FILLED: &str = "usage_filled";
/// A table with fewer messages is read whole, index or not.
const FEW: i64 = 20_000;
/// The most messages that are summed up while somebody waits for it.
const MANY: i64 = 500_000;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// It was done before, or there was nothing to do.
    Already,
    /// So many minutes of senders were filled in.
    Now(u64),
    /// It would take long: `migrate` does it.
    Later,
}

/// How far this has come. Kept in `meta` as `until 1800000000` and `done`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// `usage` lacks what was let through before this time (seconds since 1970), when the first of our daemons started.
    Until(i64),
    Done,
}

impl<D: Dialect> Backend<D>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    /// Fills `usage` with what was let through since a time (seconds since 1970), unless that was done before. What takes
    /// long is only done `slowly`, which is for after a daemon's first start and beside daemons that count.
    pub async fn fill_usage(&mut self, since: i64, now: i64, slowly: bool) -> Result<Filled, Failure> {
        self.run(async |connection| {
            let progress = match read_progress::<D>(connection).await? {
                Some(progress) => progress,
                // PolicydRateGuard may go on for hours after `migrate`; the first start of a daemon ends its time.
                None if slowly => return Ok(Filled::Already),
                None => begin::<D>(connection, now).await?,
            };
            if progress == Progress::Done {
                return Ok(Filled::Already);
            }
            if !slowly && takes_long::<D>(connection, since).await? {
                return Ok(Filled::Later);
            }
            let mut transaction = connection.begin_with(D::BEGIN.into_sql_str()).await?;
            meta::lock::<D>(&mut transaction, FILLED).await?;
            let Some(Progress::Until(until)) = read_progress::<D>(&mut transaction).await? else {
                transaction.rollback().await?;
                return Ok(Filled::Already);
            };
            let minutes = fill::<D>(&mut transaction, since, until).await?;
            meta::set::<D>(&mut transaction, FILLED, "done").await?;
            transaction.commit().await?;
            Ok(if minutes > 0 { Filled::Now(minutes) } else { Filled::Already })
        })
        .await
    }

    /// Whether a daemon has begun to count and could not fill in what was let through before.
    pub async fn lacks_usage(&mut self) -> Result<bool, Failure> {
        self.run(async |connection| Ok(matches!(read_progress::<D>(connection).await?, Some(Progress::Until(_))))).await
    }
}

async fn read_progress<D: Dialect>(connection: &mut ConnectionOf<D>) -> Result<Option<Progress>, sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    let value = meta::get::<D>(connection, FILLED).await?.filter(|value| !value.is_empty());
    Ok(value.map(|value| match value.strip_prefix("until ").and_then(|until| until.parse().ok()) {
        Some(until) => Progress::Until(until),
        None => Progress::Done,
    }))
}

/// Notes that our daemons count from now on.
async fn begin<D: Dialect>(connection: &mut ConnectionOf<D>, now: i64) -> Result<Progress, sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    let mut transaction = connection.begin_with(D::BEGIN.into_sql_str()).await?;
    meta::lock::<D>(&mut transaction, FILLED).await?;
    let progress = match read_progress::<D>(&mut transaction).await? {
        Some(progress) => progress,
        None => {
            let any = format!("SELECT minute FROM {} LIMIT 1", D::USAGE);
            let any = transaction.fetch_optional(QueryBuilder::<D::Db>::new(any).build()).await?.is_some();
            let (progress, value) =
                if any { (Progress::Done, "done".to_owned()) } else { (Progress::Until(now), format!("until {now}")) };
            meta::set::<D>(&mut transaction, FILLED, &value).await?;
            progress
        }
    };
    transaction.commit().await?;
    Ok(progress)
}

async fn takes_long<D: Dialect>(connection: &mut ConnectionOf<D>, since: i64) -> Result<bool, sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Type<D::Db>,
{
    let (open, close) = D::FROM_EPOCH;
    let mut sql = QueryBuilder::<D::Db>::new("SELECT id FROM messages");
    if D::finds_messages_by_time(connection).await? {
        sql.push(" WHERE created_at >= ").push(open).push_bind(since).push(close);
        sql.push(" ORDER BY created_at LIMIT 1 OFFSET ").push(MANY);
    } else {
        sql.push(" ORDER BY id LIMIT 1 OFFSET ").push(FEW);
    }
    Ok(connection.fetch_optional(sql.build()).await?.is_some())
}

/// Adds up the messages that were let through, and says over how many minutes of senders.
async fn fill<D: Dialect>(connection: &mut ConnectionOf<D>, since: i64, until: i64) -> Result<u64, sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Type<D::Db>,
{
    let (open, close) = D::FROM_EPOCH;
    let (table, integer, created) = (D::USAGE, D::INTEGER, D::epoch("created_at"));
    let mut sql = QueryBuilder::<D::Db>::new(format!(
        "INSERT INTO {table} (ratelimit_id, minute, messages, recipients) \
         SELECT ratelimit_id, CAST(({created} - {created} % 60) / 60 AS {integer}), COUNT(*), SUM(rcpt_count) \
         FROM messages WHERE blocked = 0 AND ratelimit_id IS NOT NULL AND rcpt_count >= 0 AND created_at >= "
    ));
    sql.push(open).push_bind(since).push(close).push(" AND created_at < ").push(open).push_bind(until).push(close);
    sql.push(" GROUP BY 1, 2").push(D::on_conflict("ratelimit_id, minute"));
    let mut columns = sql.separated(", ");
    for column in ["messages", "recipients"] {
        columns.push(format_args!("{column} = {table}.{column} + {}", D::brought(column)));
    }
    Ok(D::rows_affected(&connection.execute(sql.build()).await?))
}
