//! The statements of a transaction on their way to the database.
//!
//! A database in this process takes several in one call: a call is a change of threads there, which costs more than most
//! statements. To a server each goes by itself.

use sqlx::{ColumnIndex, Database, Decode, Executor, QueryBuilder, Row as _, Type};

use super::dialect::{ConnectionOf, Dialect};
use super::lock_timeout::LockTimeout;

pub struct Script<'a, D: Dialect> {
    connection: &'a mut ConnectionOf<D>,
    /// None for what may wait as long as the server lets it.
    lock_timeout: Option<LockTimeout<'a, D>>,
    waiting: QueryBuilder<D::Db>,
}

impl<'a, D: Dialect> Script<'a, D>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
{
    pub fn new(connection: &'a mut ConnectionOf<D>, lock_timeout: LockTimeout<'a, D>) -> Script<'a, D> {
        Script { connection, lock_timeout: Some(lock_timeout), waiting: QueryBuilder::new("") }
    }

    /// For statements that are in nobody's way.
    pub fn patient(connection: &'a mut ConnectionOf<D>) -> Script<'a, D> {
        Script { connection, lock_timeout: None, waiting: QueryBuilder::new("") }
    }

    pub async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.command(D::BEGIN).await
    }

    /// Commits, with all that waits before it.
    pub async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.command("COMMIT").await?;
        self.send().await
    }

    /// Rolls back. What waits is forgotten.
    pub async fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        self.waiting.reset();
        match self.connection.execute(sqlx::raw_sql("ROLLBACK")).await {
            // SQLite has rolled back by itself where an error left it nothing else; to be told so again is an error.
            Err(sqlx::Error::Database(_)) if D::IN_PROCESS => Ok(()),
            rolled_back => rolled_back.map(drop),
        }
    }

    /// A statement whose rows nobody wants. It may wait for the next one.
    pub async fn run(&mut self, write: impl FnOnce(&mut QueryBuilder<D::Db>)) -> Result<(), sqlx::Error> {
        self.append(write);
        if D::IN_PROCESS { Ok(()) } else { self.send().await }
    }

    /// A statement, and its rows.
    pub async fn rows(
        &mut self,
        write: impl FnOnce(&mut QueryBuilder<D::Db>),
    ) -> Result<Vec<<D::Db as Database>::Row>, sqlx::Error> {
        self.append(write);
        let mut sql = std::mem::replace(&mut self.waiting, QueryBuilder::new(""));
        self.connection.fetch_all(sql.build()).await
    }

    /// Sends what waits.
    pub async fn send(&mut self) -> Result<(), sqlx::Error> {
        let mut sql = std::mem::replace(&mut self.waiting, QueryBuilder::new(""));
        if sql.sql().as_str().is_empty() {
            return Ok(());
        }
        match &self.lock_timeout {
            Some(lock_timeout) => lock_timeout.execute(self.connection, sql).await,
            None => self.connection.execute(sql.build()).await.map(drop),
        }
    }

    /// A statement without values. Servers take these in another way than those with values.
    async fn command(&mut self, words: &'static str) -> Result<(), sqlx::Error> {
        if D::IN_PROCESS {
            self.append(|sql| {
                sql.push(words);
            });
            return Ok(());
        }
        self.connection.execute(sqlx::raw_sql(words)).await.map(drop)
    }

    fn append(&mut self, write: impl FnOnce(&mut QueryBuilder<D::Db>)) {
        if !self.waiting.sql().as_str().is_empty() {
            self.waiting.push("; ");
        }
        write(&mut self.waiting);
    }
}

impl<D: Dialect> Script<'_, D>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Decode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    /// A SELECT of one text and some whole numbers, `rest` being all that follows the columns.
    ///
    /// From a database in this process the rows come packed in one: each row by itself would be a message between two
    /// threads, and waking one up costs more than reading the row.
    pub async fn read(
        &mut self,
        text: &str,
        numbers: &[&str],
        rest: impl FnOnce(&mut QueryBuilder<D::Db>),
    ) -> Result<Vec<(String, Vec<i64>)>, sqlx::Error> {
        let columns: Vec<String> = numbers.iter().map(|number| format!("CAST({number} AS {})", D::INTEGER)).collect();
        let columns = columns.join(", ");
        if D::IN_PROCESS {
            let write = |sql: &mut QueryBuilder<D::Db>| {
                sql.push(format_args!("SELECT json_group_array(json_array({text}, json_array({columns}))) "));
                rest(sql);
            };
            let packed: Option<String> = self.rows(write).await?.first().map(|row| row.try_get(0)).transpose()?;
            return match packed {
                Some(packed) => serde_json::from_str(&packed).map_err(|error| sqlx::Error::Decode(Box::new(error))),
                None => Ok(Vec::new()),
            };
        }
        let write = |sql: &mut QueryBuilder<D::Db>| {
            sql.push(format_args!("SELECT {text}, {columns} "));
            rest(sql);
        };
        let rows = self.rows(write).await?;
        rows.iter()
            .map(|row| {
                let read = (1..=numbers.len()).map(|column| row.try_get(column)).collect::<Result<_, _>>()?;
                Ok((row.try_get(0)?, read))
            })
            .collect()
    }
}
