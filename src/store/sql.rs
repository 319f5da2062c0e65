//! A statement in the making: its text and the values that are bound to it.

use std::fmt::{Display, Write as _};

use super::dialect::Dialect;

/// The most rows in one statement. Where statements are prepared, each number of rows is one of its own.
pub const MAX_ROWS: usize = 64;

/// Splits `items` into slices for one statement each.
pub fn in_statements<T>(items: &[T]) -> std::slice::Chunks<'_, T> {
    items.chunks(MAX_ROWS)
}

/// A value in a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Number(i64),
    Text(String),
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Number(number.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

/// One or more statements. For a server they are whole text, for a database in this process the values stand beside it.
#[derive(Debug, Clone)]
pub struct Sql {
    dialect: &'static Dialect,
    pub text: String,
    pub values: Vec<Value>,
}

impl Sql {
    pub fn new(dialect: &'static Dialect, text: impl Into<String>) -> Sql {
        Sql { dialect, text: text.into(), values: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Adds a statement.
    pub fn append(&mut self, next: Sql) {
        if !self.is_empty() {
            self.push("; ");
        }
        self.push(next.text);
        self.values.extend(next.values);
    }

    /// The same statement with words before it.
    pub fn after(self, words: &str) -> Sql {
        Sql { text: format!("{words}{}", self.text), ..self }
    }

    /// Adds words of ours. What comes from outside goes by [`Sql::push_bind`].
    pub fn push(&mut self, words: impl Display) -> &mut Sql {
        // Writing to a String never fails.
        let _ = write!(self.text, "{words}");
        self
    }

    /// Adds a value.
    pub fn push_bind(&mut self, value: impl Into<Value>) -> &mut Sql {
        match (self.dialect.literal, value.into()) {
            (None, value) => {
                self.values.push(value);
                self.push("?")
            }
            (Some(literal), Value::Text(text)) => self.push(literal(&text)),
            (Some(_), Value::Number(number)) => self.push(number),
        }
    }

    /// Adds a point in time, in seconds since 1970. One before that is 1970: MariaDB makes NULL of it.
    pub fn push_time(&mut self, seconds: i64) -> &mut Sql {
        let (open, close) = self.dialect.from_epoch;
        self.push(open).push_bind(seconds.max(0)).push(close)
    }

    /// A list for IN.
    pub fn push_list<T: Into<Value>>(&mut self, values: impl IntoIterator<Item = T>) -> &mut Sql {
        let mut list = self.list();
        for value in values {
            list.bind(value);
        }
        self.push(")")
    }

    /// A list for IN of numbers of ours, which may be too many to be bound.
    pub fn push_ids(&mut self, ids: &[i64]) -> &mut Sql {
        let mut list = self.list();
        for id in ids {
            list.push(id);
        }
        self.push(")")
    }

    /// VALUES with a row for each item.
    pub fn push_rows<T>(&mut self, items: &[T], mut write: impl FnMut(&mut List<'_>, &T)) -> &mut Sql {
        self.push("VALUES ");
        for (number, item) in items.iter().enumerate() {
            if number > 0 {
                self.push(", ");
            }
            write(&mut self.list(), item);
            self.push(")");
        }
        self
    }

    fn list(&mut self) -> List<'_> {
        self.push("(");
        List { sql: self, is_first: true }
    }
}

/// A list in a statement, its parts separated by commas.
pub struct List<'a> {
    sql: &'a mut Sql,
    is_first: bool,
}

impl List<'_> {
    /// Adds words of ours.
    pub fn push(&mut self, words: impl Display) -> &mut Self {
        self.next().push(words);
        self
    }

    /// Adds a value.
    pub fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.next().push_bind(value);
        self
    }

    /// Adds a point in time, in seconds since 1970.
    pub fn time(&mut self, seconds: i64) -> &mut Self {
        self.next().push_time(seconds);
        self
    }

    fn next(&mut self) -> &mut Sql {
        if !std::mem::take(&mut self.is_first) {
            self.sql.push(", ");
        }
        self.sql
    }
}
