//! The statements of a transaction on their way to the database.
//!
//! They wait for each other and go in one packet, as far as nobody needs to know what came of them: to a server each packet
//! is a round trip, and in this process each is a change of threads, which costs more than most statements.

use super::connection::{Broken, Connection, Row};
use super::dialect::Dialect;
use super::failure::Failure;
use super::lock_timeout::LockTimeout;
use super::sql::Sql;
use super::sqlite;

/// The longest packet, in bytes; a statement that is longer goes by itself. Servers take at least a megabyte.
const MAX_PACKET: usize = 1 << 18;

pub struct Script<'a> {
    connection: &'a mut Connection,
    lock_timeout: LockTimeout<'a>,
    waiting: Sql,
    /// How many statements wait.
    number: usize,
    /// Whether one of them changes rows, which somebody else may hold.
    changes: bool,
}

impl<'a> Script<'a> {
    pub fn new(connection: &'a mut Connection, lock_timeout: LockTimeout<'a>) -> Script<'a> {
        let waiting = connection.sql("");
        Script { connection, lock_timeout, waiting, number: 0, changes: false }
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
    pub fn begin(&mut self) {
        for words in self.dialect().begin {
            self.append(self.sql(*words));
        }
    }

    /// Commits, with all that waits before it. `last` follows the COMMIT, and its rows are returned.
    pub async fn commit(&mut self, last: Option<Sql>) -> Result<Vec<Row>, Failure> {
        if matches!(self.lock_timeout, LockTimeout::Interrupt { .. }) {
            // Not to be interrupted within its COMMIT.
            if let Err(failure) = self.send().await {
                return Err(self.roll_back(failure).await);
            }
        }
        let before = self.number;
        self.append(self.sql("COMMIT"));
        last.into_iter().for_each(|sql| self.append(sql));
        let sql = self.take();
        match self.connection.send(sql).await {
            Ok(answer) => Ok(answer.rows),
            // The server's own word about a statement before the COMMIT, which it then did not begin.
            Err(Broken { ended, error: error @ sqlx::Error::Database(_) }) if ended < before => {
                Err(self.roll_back(error.into()).await)
            }
            Err(broken) if self.dialect().in_process => Err(self.roll_back(broken.into()).await),
            Err(broken) => Err(Failure::from(broken).of_commit(self.dialect().checks_at_commit)),
        }
    }

    /// Rolls back after a failure, and returns the failure that this all comes to. What waits is forgotten.
    pub async fn roll_back(&mut self, failure: Failure) -> Failure {
        self.take();
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

    /// A statement that changes rows. It may wait for the next one.
    pub async fn run(&mut self, sql: Sql) -> Result<(), Failure> {
        if self.waiting.text.len() + sql.text.len() > MAX_PACKET {
            self.send().await?;
        }
        self.changes = true;
        match self.lock_timeout {
            LockTimeout::InStatement(bound) => self.append(sql.after(bound)),
            _ => self.append(sql),
        }
        Ok(())
    }

    /// A statement, and its rows.
    pub async fn rows(&mut self, sql: Sql) -> Result<Vec<Row>, Failure> {
        self.append(sql);
        self.send().await
    }

    /// Sends what waits, and returns the rows it finds.
    pub async fn send(&mut self) -> Result<Vec<Row>, Failure> {
        let changes = self.changes;
        let sql = self.take();
        if sql.is_empty() {
            return Ok(Vec::new());
        }
        if !changes {
            return self.connection.fetch_all(sql).await;
        }
        self.lock_timeout.keep(self.connection, async |connection| connection.fetch_all(sql).await).await
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

    fn append(&mut self, sql: Sql) {
        self.waiting.append(sql);
        self.number += 1;
    }

    fn take(&mut self) -> Sql {
        (self.number, self.changes) = (0, false);
        std::mem::replace(&mut self.waiting, self.connection.sql(""))
    }
}
