//! Facts about the database as a whole, by name: the table `meta`.

use sqlx::{ColumnIndex, Database, Decode, Encode, Executor, QueryBuilder, Row as _, Type};

use super::Failure;
use super::backend::Backend;
use super::dialect::{ConnectionOf, Dialect};
use crate::limiter::window::CLOCKS_DIFFER;

/// The time at which this program first counted here, in `meta`.
pub const COUNTING_SINCE: &str = "counting_since";

impl<D: Dialect> Backend<D>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    /// The value stored in `meta` under `name`.
    pub async fn meta(&mut self, name: &str) -> Result<Option<String>, Failure> {
        self.run(async |connection| get::<D>(connection, name).await).await
    }

    /// Stores a value in `meta`.
    pub async fn set_meta(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        self.run(async |connection| set::<D>(connection, name, value).await).await
    }

    /// Proves that the database takes writes, and notes when counting began here.
    pub async fn heartbeat(&mut self, now: i64) -> Result<(), Failure> {
        self.run(async |connection| {
            set::<D>(connection, "heartbeat", &now.to_string()).await?;
            if time::<D>(connection, COUNTING_SINCE, now).await?.is_none() {
                set::<D>(connection, COUNTING_SINCE, &now.to_string()).await?;
            }
            Ok(())
        })
        .await
    }
}

/// The value of a fact; none if it was never noted.
pub async fn get<D: Dialect>(connection: &mut ConnectionOf<D>, name: &str) -> Result<Option<String>, sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    let mut sql = QueryBuilder::<D::Db>::new("SELECT value FROM meta WHERE name = ");
    sql.push_bind(name.to_owned());
    connection.fetch_optional(sql.build()).await?.map(|row| row.try_get(0)).transpose()
}

/// The time, in seconds since 1970, that a fact is; none if it is none, or one that a clock far ahead of `now` noted.
pub async fn time<D: Dialect>(
    connection: &mut ConnectionOf<D>,
    name: &str,
    now: i64,
) -> Result<Option<i64>, sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    let noted = get::<D>(connection, name).await?.and_then(|text| text.parse().ok());
    Ok(noted.filter(|&noted: &i64| noted <= now.saturating_add(CLOCKS_DIFFER)))
}

/// Notes a fact.
pub async fn set<D: Dialect>(connection: &mut ConnectionOf<D>, name: &str, value: &str) -> Result<(), sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> String: Encode<'q, D::Db> + Type<D::Db>,
{
    let mut sql = QueryBuilder::<D::Db>::new("");
    push_set::<D>(&mut sql, name, value);
    connection.execute(sql.build()).await?;
    Ok(())
}

/// The statement that notes a fact.
pub fn push_set<D: Dialect>(sql: &mut QueryBuilder<D::Db>, name: &str, value: &str)
where
    for<'q> String: Encode<'q, D::Db> + Type<D::Db>,
{
    sql.push("INSERT INTO meta (name, value) VALUES (").push_bind(name.to_owned());
    sql.push(", ").push_bind(value.to_owned()).push(")");
    sql.push(D::on_conflict("name")).push("value = ").push(D::brought("value"));
}

/// Takes the lock of a fact's row, made if it is missing: of two processes one then reads what the other noted.
pub async fn lock<D: Dialect>(connection: &mut ConnectionOf<D>, name: &str) -> Result<(), sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> String: Encode<'q, D::Db> + Type<D::Db>,
{
    let mut sql = QueryBuilder::<D::Db>::new("INSERT INTO meta (name, value) VALUES (");
    sql.push_bind(name.to_owned()).push(", '')").push(D::on_conflict("name")).push("value = meta.value");
    connection.execute(sql.build()).await?;
    Ok(())
}
