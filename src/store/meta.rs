//! Facts about the database as a whole, by name: the table `meta`.

use super::connection::Connection;
use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::Store;
use super::sql::Sql;
use crate::limiter::window::CLOCKS_DIFFER;

/// The time at which this program first counted here, in `meta`.
pub const COUNTING_SINCE: &str = "counting_since";

impl Store {
    /// The value stored in `meta` under `name`.
    pub async fn meta(&mut self, name: &str) -> Result<Option<String>, Failure> {
        self.run(async |connection| get(connection, name).await).await
    }

    /// Stores a value in `meta`.
    pub async fn set_meta(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        self.run(async |connection| set(connection, name, value).await).await
    }
}

/// The value of a fact; None if it was never noted. Names are ours.
pub async fn get(connection: &mut Connection, name: &str) -> Result<Option<String>, Failure> {
    let sql = connection.sql(format!("SELECT value FROM meta WHERE name = '{name}'"));
    connection.fetch_optional(sql).await?.map(|row| row.try_get(0)).transpose()
}

/// The time, in seconds since 1970, that a fact is; none if it is none, or one that a clock far ahead of `now` noted.
pub async fn time(connection: &mut Connection, name: &str, now: i64) -> Result<Option<i64>, Failure> {
    let noted = get(connection, name).await?.and_then(|text| text.parse().ok());
    Ok(noted.filter(|&noted: &i64| noted <= now.saturating_add(CLOCKS_DIFFER)))
}

/// Notes a fact.
pub async fn set(connection: &mut Connection, name: &str, value: &str) -> Result<(), Failure> {
    connection.execute(setting(connection.dialect(), name, value)).await?;
    Ok(())
}

/// The statement that notes a fact.
pub fn setting(dialect: &'static Dialect, name: &str, value: &str) -> Sql {
    let mut sql = Sql::new(dialect, "INSERT INTO meta (name, value) VALUES ");
    sql.push_list([name, value]);
    sql.push(dialect.on_conflict("name")).push("value = ").push(dialect.brought("value"));
    sql
}

/// Takes the lock of a fact's row, made if it is missing: of two processes one then reads what the other noted.
pub async fn lock(connection: &mut Connection, name: &str) -> Result<(), Failure> {
    let mut sql = connection.sql("INSERT INTO meta (name, value) VALUES (");
    sql.push_bind(name).push(", '')").push(connection.dialect().on_conflict("name")).push("value = meta.value");
    connection.execute(sql).await?;
    Ok(())
}
