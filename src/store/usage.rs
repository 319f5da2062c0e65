//! What was let through per minute (`usage`), and where senders were seen (`networks`).

use sqlx::{ColumnIndex, Database, Decode, Encode, Executor, QueryBuilder, Type};

use super::dialect::{ConnectionOf, Dialect};
use super::in_statements;
use super::script::Script;

/// Which histories are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    pub rows: Vec<i64>,
    /// From this time on, in seconds since 1970; the begin of a minute.
    pub time: i64,
    /// Whether networks are wanted too.
    pub networks: bool,
}

/// What was read of `usage` and `networks`.
#[derive(Debug, Default)]
pub struct HistoryRows {
    /// The rows that were asked about; one without usage has none.
    pub rows: Vec<i64>,
    pub usage: Vec<UsageRow>,
    pub seen: Vec<SeenRow>,
}

/// What a sender had let through in a minute (counted from 1970).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageRow {
    pub ratelimit_id: i64,
    pub minute: i64,
    pub messages: i64,
    pub recipients: i64,
    pub bytes: i64,
}

/// A network that a sender was seen from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRow {
    pub ratelimit_id: i64,
    pub network: String,
    pub last_seen: i64,
}

/// The most networks read of one sender: whoever has more is over any sensible limit.
const MAX_NETWORKS: i64 = 10_000;

/// Reads the histories that a judgement needs.
pub async fn read<D: Dialect>(script: &mut Script<'_, D>, since: Since) -> Result<HistoryRows, sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    let mut read = HistoryRows::default();
    for slice in in_statements(&since.rows) {
        let rest = |sql: &mut QueryBuilder<D::Db>| {
            sql.push(format_args!("FROM {} WHERE minute >= ", D::USAGE)).push_bind(since.time.div_euclid(60));
            push_rows(sql, slice);
        };
        let numbers = ["ratelimit_id", "minute", "messages", "recipients", "bytes"];
        let rows = script.read("''", &numbers, rest).await?;
        read.usage.extend(rows.iter().filter_map(|(_, numbers)| match *numbers.as_slice() {
            [ratelimit_id, minute, messages, recipients, bytes] => {
                Some(UsageRow { ratelimit_id, minute, messages, recipients, bytes })
            }
            _ => None,
        }));
        if since.networks {
            let rest = |sql: &mut QueryBuilder<D::Db>| {
                sql.push(
                    "FROM (SELECT ratelimit_id, network, last_seen, ROW_NUMBER() OVER (PARTITION BY ratelimit_id \
                     ORDER BY last_seen DESC) AS place FROM networks WHERE last_seen >= ",
                );
                sql.push_bind(since.time);
                push_rows(sql, slice);
                sql.push(") AS latest WHERE place <= ").push(MAX_NETWORKS);
            };
            let rows = script.read("network", &["ratelimit_id", "last_seen"], rest).await?;
            read.seen.extend(rows.into_iter().filter_map(|(network, numbers)| match *numbers.as_slice() {
                [ratelimit_id, last_seen] => Some(SeenRow { ratelimit_id, network, last_seen }),
                _ => None,
            }));
        }
    }
    read.rows = since.rows;
    Ok(read)
}

/// Adds to the minutes of each row.
pub async fn add<D: Dialect>(script: &mut Script<'_, D>, rows: &[UsageRow]) -> Result<(), sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Type<D::Db>,
{
    for slice in in_statements(rows) {
        let table = D::USAGE;
        let write = |sql: &mut QueryBuilder<D::Db>| {
            sql.push(format_args!("INSERT INTO {table} (ratelimit_id, minute, messages, recipients, bytes) "));
            sql.push_values(slice, |mut values, row| {
                for number in [row.ratelimit_id, row.minute, row.messages, row.recipients, row.bytes] {
                    values.push_bind(number);
                }
            });
            sql.push(D::on_conflict("ratelimit_id, minute"));
            let mut columns = sql.separated(", ");
            for column in ["messages", "recipients", "bytes"] {
                columns.push(format_args!("{column} = {table}.{column} + {}", D::brought(column)));
            }
        };
        script.run(write).await?;
    }
    Ok(())
}

/// Notes where senders were seen. Nothing is ever seen earlier than it was before.
pub async fn see<D: Dialect>(script: &mut Script<'_, D>, rows: &[SeenRow]) -> Result<(), sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Encode<'q, D::Db> + Type<D::Db>,
{
    for slice in in_statements(rows) {
        let write = |sql: &mut QueryBuilder<D::Db>| {
            sql.push("INSERT INTO networks (ratelimit_id, network, last_seen) ");
            sql.push_values(slice, |mut values, row| {
                values.push_bind(row.ratelimit_id).push_bind(row.network.clone()).push_bind(row.last_seen);
            });
            let brought = D::brought("last_seen");
            sql.push(D::on_conflict("ratelimit_id, network"));
            sql.push(format_args!("last_seen = {}(networks.last_seen, {brought})", D::GREATEST));
        };
        script.run(write).await?;
    }
    Ok(())
}

fn push_rows<DB: Database>(sql: &mut QueryBuilder<DB>, rows: &[i64])
where
    for<'q> i64: Encode<'q, DB> + Type<DB>,
{
    sql.push(" AND ratelimit_id IN (");
    let mut list = sql.separated(", ");
    for row in rows {
        list.push_bind(*row);
    }
    sql.push(")");
}
