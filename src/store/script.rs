//! The statements of a transaction on their way to the database.
//!
//! They wait for each other and go in one packet, as far as nobody needs to know what came of them: to a server each packet
//! is a round trip, and in this process each is a change of threads, which costs more than most statements.
//!
//! A node of Galera ends a transaction when another node's write meets it. Between two statements of one packet it does so
//! without a word, and runs what follows by itself. There autocommit is off, so that what follows is a transaction too, and
//! COMMIT is sent only once the transaction has proved to be the one that was begun.

use super::apart::apart;
use super::batch::Proof;
use super::connection::{Answer, Broken, Connection, Row};
use super::dialect::Dialect;
use super::failure::Failure;
use super::lock_timeout::LockTimeout;
use super::sql::Sql;
use super::sqlite;

/// The longest packet, in bytes; a statement that is longer goes by itself. Servers take at least a megabyte.
const MAX_PACKET: usize = 1 << 18;

/// What it means that a transaction cannot prove to be the one that was begun.
const LOST: &str = "the server has lost the transaction before its end";

/// A SELECT of one text and some whole numbers.
pub struct Question {
    sql: Sql,
    /// How many numbers.
    width: usize,
}

/// The rows that a [`Question`] finds.
pub type Found = Vec<(String, Vec<i64>)>;

pub struct Script<'a> {
    connection: &'a mut Connection,
    lock_timeout: LockTimeout<'a>,
    /// Whether the server loses transactions without a word.
    doubts: bool,
    waiting: Sql,
    /// How many statements wait.
    number: usize,
    /// Whether one of them changes rows, which somebody else may hold.
    changes: bool,
}

impl<'a> Script<'a> {
    pub fn new(connection: &'a mut Connection, lock_timeout: LockTimeout<'a>, doubts: bool) -> Script<'a> {
        let waiting = connection.sql("");
        Script { connection, lock_timeout, doubts, waiting, number: 0, changes: false }
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
        if self.doubts {
            self.append(self.sql("SET autocommit = 0"));
        }
        for words in self.dialect().begin {
            self.append(self.sql(*words));
        }
    }

    /// Commits, with all that waits before it. `proof` is that of the transaction, and follows the COMMIT too.
    pub async fn commit(&mut self, proof: Option<Proof>) -> Result<(), Failure> {
        if self.doubts || matches!(self.lock_timeout, LockTimeout::Interrupt { .. }) {
            if let Some(proof) = proof.as_ref().filter(|_| self.doubts) {
                self.append(proof.question.clone());
            }
            // Not to be interrupted within its COMMIT.
            let holds = match self.send().await {
                Ok(rows) if self.doubts => holds(proof.as_ref(), &rows),
                sent => sent.map(|_| true),
            };
            if let Some(failure) = holds.map_or_else(Some, |holds| (!holds).then(|| Failure::Transient(LOST.into()))) {
                return Err(self.roll_back(failure).await);
            }
        }
        let before = self.number;
        self.append(self.sql("COMMIT"));
        if self.doubts {
            self.append(self.sql("SET autocommit = 1"));
        }
        proof.iter().for_each(|proof| self.append(proof.question.clone()));
        let sql = self.take();
        match self.connection.send(sql).await {
            Ok(answer) => match holds(proof.as_ref(), &answer.rows)? {
                true => Ok(()),
                // What was there to be committed was the whole transaction, or nothing.
                false if self.doubts => Err(Failure::Transient(LOST.into())),
                false => Err(Failure::Unknown(LOST.into())),
            },
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
        let words = if self.doubts { "ROLLBACK; SET autocommit = 1" } else { "ROLLBACK" };
        match self.connection.command(words).await {
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
        Ok(self.answer().await?.rows)
    }

    /// Sends what waits.
    async fn answer(&mut self) -> Result<Answer, Failure> {
        let changes = self.changes;
        let sql = self.take();
        if sql.is_empty() {
            return Ok(Answer::none());
        }
        let answer = async |connection: &mut Connection| connection.send(sql).await.map_err(Failure::from);
        if !changes {
            return answer(self.connection).await;
        }
        self.lock_timeout.keep(self.connection, answer).await
    }

    /// A question, `rest` writing all that follows the columns.
    pub fn question(&self, text: &str, numbers: &[&str], rest: impl FnOnce(&mut Sql)) -> Question {
        let Dialect { integer, in_process, .. } = self.dialect();
        let columns: Vec<String> = numbers.iter().map(|number| format!("CAST({number} AS {integer})")).collect();
        let columns = columns.join(", ");
        let columns = if *in_process { sqlite::packed(text, &columns) } else { format!("{text}, {columns}") };
        let mut sql = self.sql(format!("SELECT {columns} "));
        rest(&mut sql);
        Question { sql, width: numbers.len() }
    }

    /// Asks questions in one packet, and returns what each finds.
    pub async fn ask(&mut self, questions: Vec<Question>) -> Result<Vec<Found>, Failure> {
        let mut widths = Vec::with_capacity(questions.len());
        for Question { sql, width } in questions {
            self.append(sql);
            widths.push(width);
        }
        let answers = self.answer().await?.of_last(widths.len());
        let is_packed = self.dialect().in_process;
        answers
            .into_iter()
            .zip(widths)
            .map(|(rows, width)| if is_packed { unpacked(&rows) } else { found(rows, width) })
            .collect()
    }

    /// Asks one question.
    pub async fn read(&mut self, text: &str, numbers: &[&str], rest: impl FnOnce(&mut Sql)) -> Result<Found, Failure> {
        let question = self.question(text, numbers, rest);
        Ok(self.ask(vec![question]).await?.pop().unwrap_or_default())
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

/// The rows that SQLite packed into one.
fn unpacked(rows: &[Row]) -> Result<Found, Failure> {
    let Some(row) = rows.first() else { return Ok(Found::new()) };
    let packed: String = row.try_get(0)?;
    apart(packed.len() / sqlite::LEAST_PACKED, || sqlite::unpacked(&packed))
}

fn found(rows: Vec<Row>, width: usize) -> Result<Found, Failure> {
    let read = |row: Row| {
        let numbers = (1..=width).map(|column| row.try_get(column)).collect::<Result<_, _>>()?;
        Ok((row.try_get(0)?, numbers))
    };
    apart(rows.len(), || rows.into_iter().map(read).collect())
}

/// Whether the last row is what the proof says.
fn holds(proof: Option<&Proof>, rows: &[Row]) -> Result<bool, Failure> {
    let Some(proof) = proof else { return Ok(true) };
    rows.last().map_or(Ok(false), |row| Ok(row.try_get::<i64>(0)? == proof.answer))
}
