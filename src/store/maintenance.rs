//! What keeps the tables small and current: facts in `meta`, the reset of counters, the purge by age. In chunks, so that
//! mail goes on meanwhile.

use sqlx::{ColumnIndex, Database, Decode, Encode, Executor, QueryBuilder, Row as _, Type};

use super::Failure;
use super::backend::Backend;
use super::dialect::{ConnectionOf, Dialect, failure};

/// Rows changed or deleted by one statement: a few milliseconds' work, for which nobody waits long.
const CHUNK: i64 = 1000;

impl<D: Dialect> Backend<D>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    /// The value stored in `meta` under `name`.
    pub async fn meta(&mut self, name: &str) -> Result<Option<String>, Failure> {
        let mut sql = QueryBuilder::<D::Db>::new("SELECT value FROM meta WHERE name = ");
        sql.push_bind(name.to_owned());
        let row = self.run(async |connection| connection.fetch_optional(sql.build()).await).await?;
        row.map(|row| row.try_get(0)).transpose().map_err(|error| failure::<D>(&error))
    }

    /// Stores a value in `meta`.
    pub async fn set_meta(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let mut sql = QueryBuilder::<D::Db>::new("INSERT INTO meta (name, value) VALUES (");
        sql.push_bind(name.to_owned()).push(", ").push_bind(value.to_owned()).push(")");
        sql.push(D::on_conflict("name")).push("value = ").push(D::brought("value"));
        self.run(async |connection| connection.execute(sql.build()).await).await?;
        Ok(())
    }
}

impl<D: Dialect> Backend<D> {
    /// Runs one statement on the connection, and keeps the connection if it is still good.
    async fn run<T>(
        &mut self,
        statement: impl AsyncFnOnce(&mut ConnectionOf<D>) -> Result<T, sqlx::Error>,
    ) -> Result<T, Failure> {
        let mut connection = self.take_connection().await?;
        let result = statement(&mut connection).await.map_err(|error| failure::<D>(&error));
        self.put_back(connection, &result);
        result
    }
}
