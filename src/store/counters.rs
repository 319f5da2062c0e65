//! The counters of `ratelimits`: adding to them and reading them back, many senders in a statement.

use std::collections::HashMap;

use sqlx::{ColumnIndex, Connection, Database, Decode, Encode, Executor, QueryBuilder, Row as _, SqlSafeStr, Type};

use super::dialect::{ConnectionOf, Dialect};
use super::patience::Patience;
use super::{COUNTER_MAX, Row, Sum, in_statement_sizes};

/// Adds every counting sum, and makes the rows that are missing. Takes the locks of all rows in the order of `sums`.
pub async fn add<D: Dialect>(
    connection: &mut ConnectionOf<D>,
    sums: &[Sum],
    new_quota: u32,
    now: i64,
    patience: &Patience<'_, D>,
) -> Result<(), sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Encode<'q, D::Db> + Type<D::Db>,
{
    let counting: Vec<&Sum> = sums.iter().filter(|sum| sum.count).collect();
    let (open, close) = D::FROM_EPOCH;
    for slice in in_statement_sizes(&counting) {
        let mut sql = QueryBuilder::<D::Db>::new(
            "INSERT INTO ratelimits (sender, quota, quota_reset, msg_counter, rcpt_counter, msg_total, rcpt_total, \
             created_at, updated_at) ",
        );
        sql.push_values(slice, |mut row, sum| {
            row.push_bind(sum.sender.clone());
            row.push(new_quota).push(new_quota);
            for number in [sum.messages, sum.recipients, sum.messages, sum.recipients] {
                row.push_bind(i64::from(number));
            }
            for _ in ["created_at", "updated_at"] {
                row.push(open).push_bind_unseparated(now).push_unseparated(close);
            }
        });
        sql.push(D::on_conflict(D::SENDER));
        for column in ["msg_counter", "rcpt_counter", "msg_total", "rcpt_total"] {
            let brought = D::brought(column);
            sql.push(format_args!("{column} = {}(ratelimits.{column} + {brought}, {COUNTER_MAX}), ", D::LEAST));
        }
        sql.push(format_args!("updated_at = {}", D::brought("updated_at")));
        patience.wait_for(connection.execute(sql.build())).await?;
    }
    Ok(())
}

/// Reads the rows of all `sums`, in their order.
pub async fn read<D: Dialect>(connection: &mut ConnectionOf<D>, sums: &[Sum]) -> Result<Vec<Option<Row>>, sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Decode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    let senders: Vec<&str> = sums.iter().map(|sum| sum.sender.as_str()).collect();
    let mut found: HashMap<String, Row> = HashMap::with_capacity(sums.len());
    for slice in in_statement_sizes(&senders) {
        for (sender, row) in select::<D>(connection, slice).await? {
            found.insert(sender, row);
        }
    }
    let mut rows = Vec::with_capacity(sums.len());
    for sum in sums {
        let row = match found.get(&sum.sender) {
            Some(row) => Some(*row),
            // The database may take another spelling for the same: then it finds a row for the key all the same.
            None => select::<D>(connection, &[&sum.sender]).await?.pop().map(|(_, row)| row),
        };
        rows.push(row);
    }
    Ok(rows)
}

/// The rows that the database finds for these keys, each with its own spelling.
async fn select<D: Dialect>(
    connection: &mut ConnectionOf<D>,
    senders: &[&str],
) -> Result<Vec<(String, Row)>, sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Decode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    let integer = D::INTEGER;
    let mut sql = QueryBuilder::<D::Db>::new(format!(
        "SELECT {}, CAST(id AS {integer}), CAST(quota AS {integer}), CAST(msg_counter AS {integer}), \
         CAST(rcpt_counter AS {integer}), CAST(msg_total AS {integer}), CAST(rcpt_total AS {integer}), window_from \
         FROM ratelimits WHERE {} IN ",
        D::SENDER,
        D::SENDER,
    ));
    push_list(&mut sql, senders);
    let rows = connection.fetch_all(sql.build()).await?;
    rows.iter()
        .map(|row| {
            // A panel may have written what does not fit: the nearest value that does is meant.
            let counter = |column: usize| -> Result<u32, sqlx::Error> {
                Ok(u32::try_from(row.try_get::<i64, _>(column)?.clamp(0, COUNTER_MAX)).unwrap_or(u32::MAX))
            };
            let standing = Row {
                id: row.try_get(1)?,
                quota: counter(2)?,
                messages: counter(3)?,
                recipients: counter(4)?,
                total_messages: counter(5)?,
                total_recipients: counter(6)?,
                window_from: row.try_get(7)?,
            };
            Ok((row.try_get(0)?, standing))
        })
        .collect()
}

/// The senders whose rows exist and cannot be locked now. Each comes with its key.
pub async fn locked<D: Dialect>(
    connection: &mut ConnectionOf<D>,
    senders: &[(&str, String)],
) -> Result<Vec<String>, sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Decode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    let mut transaction = connection.begin_with(D::BEGIN.into_sql_str()).await?;
    let mut held = Vec::new();
    for (sender, key) in senders {
        let there = !select::<D>(&mut transaction, &[key]).await?.is_empty();
        let mut sql = QueryBuilder::<D::Db>::new("SELECT 1 FROM ratelimits WHERE ");
        sql.push(D::SENDER).push(" = ").push_bind(key.clone()).push(D::SKIP_LOCKED);
        if there && transaction.fetch_optional(sql.build()).await?.is_none() {
            held.push((*sender).to_owned());
        }
    }
    transaction.rollback().await?;
    Ok(held)
}

fn push_list<DB: Database>(sql: &mut QueryBuilder<DB>, values: &[&str])
where
    for<'q> String: Encode<'q, DB> + Type<DB>,
{
    sql.push("(");
    let mut list = sql.separated(", ");
    for value in values {
        list.push_bind((*value).to_owned());
    }
    sql.push(")");
}
