//! History of a database that PolicydRateGuard counted in: `usage` is filled from the last hours of `messages`, once, so
//! that sliding windows do not begin at zero.

use sqlx::{ColumnIndex, Connection, Database, Decode, Encode, Executor, QueryBuilder, Row as _, SqlSafeStr, Type};

use super::Failure;
use super::backend::Backend;
use super::dialect::{ConnectionOf, Dialect};
use super::maintenance::{meta, set_meta};

/// In `meta`, once `usage` is complete. Its value is the number of minutes that were filled in.
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
    Now(i64),
    /// It would take long: `migrate` does it.
    Later,
}

impl<D: Dialect> Backend<D>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    /// Fills `usage` with what was let through since a time (seconds since 1970), unless that was done before. What takes
    /// long is only done `slowly`.
    pub async fn fill_usage(&mut self, since: i64, slowly: bool) -> Result<Filled, Failure> {
        self.run(async |connection| {
            if meta::<D>(connection, FILLED).await?.is_some() {
                return Ok(Filled::Already);
            }
            if !slowly && takes_long::<D>(connection, since).await? {
                return Ok(Filled::Later);
            }
            let mut transaction = connection.begin_with(D::BEGIN.into_sql_str()).await?;
            // The write takes the row's lock: of two daemons that start, one finds what the other did.
            let mut sql = QueryBuilder::<D::Db>::new("INSERT INTO meta (name, value) VALUES (");
            sql.push_bind(FILLED.to_owned()).push(", '')").push(D::on_conflict("name")).push("value = meta.value");
            transaction.execute(sql.build()).await?;
            if meta::<D>(&mut transaction, FILLED).await?.is_some_and(|value| !value.is_empty()) {
                transaction.rollback().await?;
                return Ok(Filled::Already);
            }
            let any = format!("SELECT minute FROM {} LIMIT 1", D::USAGE);
            let any = transaction.fetch_optional(QueryBuilder::<D::Db>::new(any).build()).await?.is_some();
            let minutes = if any { 0 } else { fill::<D>(&mut transaction, since).await? };
            set_meta::<D>(&mut transaction, FILLED, &minutes.to_string()).await?;
            transaction.commit().await?;
            Ok(if minutes > 0 { Filled::Now(minutes) } else { Filled::Already })
        })
        .await
    }
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

/// Sums up the messages that were let through, and says over how many minutes of senders.
async fn fill<D: Dialect>(connection: &mut ConnectionOf<D>, since: i64) -> Result<i64, sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    let (open, close) = D::FROM_EPOCH;
    let (integer, created) = (D::INTEGER, D::epoch("created_at"));
    let mut sql = QueryBuilder::<D::Db>::new(format!(
        "INSERT INTO {} (ratelimit_id, minute, messages, recipients) \
         SELECT ratelimit_id, CAST(({created} - {created} % 60) / 60 AS {integer}), COUNT(*), SUM(rcpt_count) \
         FROM messages WHERE blocked = 0 AND ratelimit_id IS NOT NULL AND rcpt_count >= 0 AND created_at >= ",
        D::USAGE
    ));
    sql.push(open).push_bind(since).push(close).push(" GROUP BY 1, 2");
    connection.execute(sql.build()).await?;
    let count = format!("SELECT COUNT(*) FROM {}", D::USAGE);
    connection.fetch_one(QueryBuilder::<D::Db>::new(count).build()).await?.try_get(0)
}
