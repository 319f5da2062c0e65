//! The statements of a transaction on their way to the database.
//!
//! A database in this process takes several in one call: a call is a change of threads there, which costs more than most
//! statements. To a server each goes by itself.

use super::connection::{Connection, Row};
use super::dialect::Dialect;
use super::failure::Failure;
use super::lock_timeout::LockTimeout;
use super::sql::Sql;
use super::sqlite;

pub struct Script<'a> {
    connection: &'a mut Connection,
    /// None for what may wait as long as the server lets it.
    lock_timeout: Option<LockTimeout<'a>>,
    waiting: Sql,
}

impl<'a> Script<'a> {
    pub fn new(connection: &'a mut Connection, lock_timeout: Option<LockTimeout<'a>>) -> Script<'a> {
        let waiting = connection.sql("");
        Script { connection, lock_timeout, waiting }
    }

    /// How this database writes its statements.
    pub fn dialect(&self) -> &'static Dialect {
        self.connection.dialect()
    }

    /// Begins a statement for this database.
    pub fn sql(&self, text: impl Into<String>) -> Sql {
        self.connection.sql(text)
    }

    /// Begins a transaction that is going to write.
    pub async fn begin(&mut self) -> Result<(), Failure> {
        self.command(self.dialect().begin).await
    }

    /// Commits, with all that waits before it.
    pub async fn commit(&mut self) -> Result<(), Failure> {
        self.command("COMMIT").await?;
        self.send().await
    }

    /// Rolls back after a failure, and returns the failure that this all comes to. What waits is forgotten.
    pub async fn roll_back(&mut self, failure: Failure) -> Failure {
        self.waiting = self.sql("");
        match self.connection.command("ROLLBACK").await {
            Ok(()) => failure,
            // SQLite has rolled back by itself where an error left it nothing else; to be told so again is an error.
            Err(_) if self.dialect().in_process => failure,
            // The connection is gone; what the database said before that still stands.
            Err(error) if matches!(failure, Failure::Away(_)) => {
                log::debug!("rolling back: {error}");
                failure
            }
            Err(error) => Failure::Away(format!("{failure}, and then {error}")),
        }
    }

    /// The connection, for statements of other kinds. What waits is sent before.
    pub async fn connection(&mut self) -> Result<&mut Connection, Failure> {
        self.send().await?;
        Ok(self.connection)
    }

    /// A statement whose rows nobody wants. It may wait for the next one.
    pub async fn run(&mut self, sql: Sql) -> Result<(), Failure> {
        self.waiting.append(sql);
        if self.dialect().in_process { Ok(()) } else { self.send().await }
    }

    /// A statement, and its rows.
    pub async fn rows(&mut self, sql: Sql) -> Result<Vec<Row>, Failure> {
        self.waiting.append(sql);
        let sql = self.take();
        self.connection.fetch_all(sql).await
    }

    /// Sends what waits.
    pub async fn send(&mut self) -> Result<(), Failure> {
        let sql = self.take();
        if sql.is_empty() {
            return Ok(());
        }
        match &self.lock_timeout {
            Some(lock_timeout) => lock_timeout.execute(self.connection, sql).await,
            None => self.connection.execute(sql).await.map(drop),
        }
    }

    /// A SELECT of one text and some whole numbers, `rest` writing all that follows the columns.
    pub async fn read(
        &mut self,
        text: &str,
        numbers: &[&str],
        rest: impl FnOnce(&mut Sql),
    ) -> Result<Vec<(String, Vec<i64>)>, Failure> {
        let Dialect { integer, in_process, .. } = self.dialect();
        let columns: Vec<String> = numbers.iter().map(|number| format!("CAST({number} AS {integer})")).collect();
        let columns = columns.join(", ");
        let columns = if *in_process { sqlite::packed(text, &columns) } else { format!("{text}, {columns}") };
        let mut sql = self.sql(format!("SELECT {columns} "));
        rest(&mut sql);
        let rows = self.rows(sql).await?;
        if *in_process {
            return rows.first().map_or(Ok(Vec::new()), |row| sqlite::unpacked(&row.try_get::<String>(0)?));
        }
        rows.iter()
            .map(|row| {
                let read = (1..=numbers.len()).map(|column| row.try_get(column)).collect::<Result<_, _>>()?;
                Ok((row.try_get(0)?, read))
            })
            .collect()
    }

    /// A statement without values. Servers take these in another way than those with values.
    async fn command(&mut self, words: &'static str) -> Result<(), Failure> {
        if self.dialect().in_process {
            self.waiting.append(self.connection.sql(words));
            return Ok(());
        }
        self.connection.command(words).await
    }

    fn take(&mut self) -> Sql {
        std::mem::replace(&mut self.waiting, self.connection.sql(""))
    }
}
