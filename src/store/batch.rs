//! A batch by its number, as the table `batches` has it: one row per daemon, written in the transaction of the batch itself.
//! When the connection is lost within a COMMIT, the row says what became of it.

use super::dialect::Dialect;
use super::sql::Sql;

/// A question, and what it is answered within and after one transaction only.
#[derive(Debug, Clone)]
pub struct Proof {
    pub question: Sql,
    pub answer: i64,
}

/// A batch of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    daemon: i64,
    /// From 1 on.
    pub(super) number: i64,
}

impl Batch {
    /// Before the first batch of a new daemon, whose number is a random one.
    pub(super) fn before_the_first() -> Batch {
        Batch { daemon: fastrand::i64(1..), number: 0 }
    }

    /// A number that no other store has.
    pub(super) fn daemon(self) -> i64 {
        self.daemon
    }

    pub(super) fn next(self) -> Batch {
        Batch { number: self.number.wrapping_add(1), ..self }
    }

    /// The statement that notes the batch at a time, in seconds since 1970.
    pub(super) fn noted(self, dialect: &'static Dialect, now: i64) -> Sql {
        let mut sql = Sql::new(dialect, "INSERT INTO batches (daemon, batch, seen_at) VALUES ");
        sql.push_list([self.daemon, self.number, now]).push(dialect.on_conflict("daemon"));
        sql.push("batch = ").push(dialect.brought("batch"));
        sql.push(", seen_at = ").push(dialect.brought("seen_at"));
        sql
    }

    /// The statement that writes the daemon's row and leaves its batch as it is.
    pub(super) fn touched(self, dialect: &'static Dialect) -> Sql {
        let mut sql = Sql::new(dialect, "INSERT INTO batches (daemon, batch, seen_at) VALUES ");
        sql.push_list([self.daemon, -1, 0]).push(dialect.on_conflict("daemon")).push("seen_at = batches.seen_at + 1");
        sql
    }

    /// How a transaction proves that it is still the one in which the batch was noted.
    pub fn proof(self, dialect: &'static Dialect) -> Proof {
        Proof { question: self.last(dialect), answer: self.number }
    }

    /// The statement that reads the number of the daemon's last batch.
    pub(super) fn last(self, dialect: &'static Dialect) -> Sql {
        let mut sql = Sql::new(dialect, "SELECT batch FROM batches WHERE daemon = ");
        sql.push_bind(self.daemon);
        sql
    }
}
