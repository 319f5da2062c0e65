//! A statement in the making: its text and the values that are bound to it.

use std::fmt::{Display, Write as _};
use std::iter;

use super::dialect::{Dialect, Rows, Time};

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
    /// A point in time, in seconds since 1970.
    Time(i64),
    Null,
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
            (_, Value::Time(seconds)) => self.push_time(seconds),
            (None, value) => {
                self.values.push(value);
                self.push("?")
            }
            (Some(literal), Value::Text(text)) => self.push(literal(&text)),
            (Some(_), Value::Number(number)) => self.push(number),
            (Some(_), Value::Null) => self.push("NULL"),
        }
    }

    /// Adds a point in time, in seconds since 1970. One before that is 1970: MariaDB makes NULL of it.
    pub fn push_time(&mut self, seconds: i64) -> &mut Sql {
        let seconds = seconds.max(0);
        match self.dialect.time {
            Time::Text(written) => self.push_bind(written(seconds)),
            Time::Function(open, close) => self.push(open).push_bind(seconds).push(close),
        }
    }

    /// A list for IN.
    pub fn push_list<T: Into<Value>>(&mut self, values: impl IntoIterator<Item = T>) -> &mut Sql {
        let mut list = self.list();
        for value in values {
            list.bind(value);
        }
        self.push(")")
    }

    /// The condition that a column has one of some values, of which there is at least one.
    pub fn push_one_of<T: Into<Value> + Copy>(&mut self, values: &[T]) -> &mut Sql {
        match self.dialect.rows {
            Rows::Values => self.push(" IN ").push_list(values.iter().copied()),
            Rows::Padded => {
                let again = values.last().into_iter().cycle().take(padding(values.len()));
                self.push(" IN ").push_list(values.iter().chain(again).copied())
            }
            Rows::Arrays => {
                let values: Vec<Value> = values.iter().map(|value| (*value).into()).collect();
                self.push(" = ANY (").push_array(values.iter()).push(")")
            }
        }
    }

    /// A list for IN of numbers of ours, which may be too many to be bound.
    pub fn push_ids(&mut self, ids: &[i64]) -> &mut Sql {
        let mut list = self.list();
        for id in ids {
            list.push(id);
        }
        self.push(")")
    }

    /// The rows of an INSERT, one for each item. Their first value is never NULL.
    pub fn push_rows<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Cells, &T)) -> &mut Sql {
        let cells = |item| {
            let mut cells = Cells::default();
            write(&mut cells, item);
            cells.0
        };
        let rows: Vec<Vec<Value>> = items.iter().map(cells).collect();
        let width = rows.first().map_or(0, Vec::len);
        match self.dialect.rows {
            Rows::Values => self.push_values(rows),
            Rows::Padded => {
                let padding = iter::repeat_n(vec![Value::Null; width], padding(rows.len()));
                self.push("SELECT * FROM (").push_values(rows.into_iter().chain(padding));
                self.push(") WHERE column1 IS NOT NULL")
            }
            Rows::Arrays => self.push_columns(width, &rows),
        }
    }

    fn push_values(&mut self, rows: impl IntoIterator<Item = Vec<Value>>) -> &mut Sql {
        for (number, row) in rows.into_iter().enumerate() {
            self.push(if number == 0 { "VALUES " } else { ", " }).push_list(row);
        }
        self
    }

    /// Rows as an array for each of their columns.
    fn push_columns(&mut self, width: usize, rows: &[Vec<Value>]) -> &mut Sql {
        let column = |place: usize| rows.iter().filter_map(move |row| row.get(place));
        for place in 0..width {
            self.push(if place == 0 { "SELECT " } else { ", " });
            match (&self.dialect.time, column(place).next()) {
                (Time::Function(open, close), Some(Value::Time(_))) => {
                    self.push(format_args!("{open}column{place}{close}"))
                }
                _ => self.push(format_args!("column{place}")),
            };
        }
        for place in 0..width {
            self.push(if place == 0 { " FROM unnest(" } else { ", " }).push_array(column(place));
        }
        for place in 0..width {
            self.push(if place == 0 { ") AS given (" } else { ", " }).push(format_args!("column{place}"));
        }
        self.push(")")
    }

    /// An array of values that are all texts or all numbers.
    fn push_array<'a>(&mut self, values: impl Iterator<Item = &'a Value>) -> &mut Sql {
        let mut of = "bigint";
        let mut array = String::from("{");
        for value in values {
            if array.len() > 1 {
                array.push(',');
            }
            // Writing to a String never fails.
            let _ = match value {
                Value::Number(number) => write!(array, "{number}"),
                Value::Time(seconds) => write!(array, "{}", seconds.max(&0)),
                Value::Null => write!(array, "NULL"),
                Value::Text(text) => {
                    of = "text";
                    write!(array, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
                }
            };
        }
        array.push('}');
        self.push_bind(array).push(format_args!("::{of}[]"))
    }

    fn list(&mut self) -> List<'_> {
        self.push("(");
        List { sql: self, is_first: true }
    }
}

/// How many more there are up to the next power of two.
fn padding(number: usize) -> usize {
    number.next_power_of_two() - number
}

/// A row in the making.
#[derive(Default)]
pub struct Cells(Vec<Value>);

impl Cells {
    /// Adds a value.
    pub fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.0.push(value.into());
        self
    }

    /// Adds a point in time, in seconds since 1970.
    pub fn time(&mut self, seconds: i64) -> &mut Self {
        self.bind(Value::Time(seconds))
    }
}

/// A list in a statement, its parts separated by commas.
struct List<'a> {
    sql: &'a mut Sql,
    is_first: bool,
}

impl List<'_> {
    /// Adds words of ours.
    fn push(&mut self, words: impl Display) -> &mut Self {
        self.next().push(words);
        self
    }

    /// Adds a value.
    fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.next().push_bind(value);
        self
    }

    fn next(&mut self) -> &mut Sql {
        if !std::mem::take(&mut self.is_first) {
            self.sql.push(", ");
        }
        self.sql
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{mysql, postgres, sqlite};

    fn inserted(dialect: &'static Dialect, rows: &[(i64, &str)]) -> Sql {
        let mut sql = Sql::new(dialect, "INSERT INTO t ");
        sql.push_rows(rows, |cells, (number, text)| {
            cells.bind(*number).bind(*text).time(60);
        });
        sql
    }

    #[test]
    fn rows_are_written_as_each_database_reads_them_fastest() {
        let rows = [(1, "a'b"), (2, "c\"\\"), (3, "{,}")];
        assert_eq!(
            inserted(&mysql::DIALECT, &rows[..2]).text,
            "INSERT INTO t VALUES (1, _utf8mb4 X'612762', FROM_UNIXTIME(GREATEST(60, 1))), \
             (2, _utf8mb4 X'63225C', FROM_UNIXTIME(GREATEST(60, 1)))"
        );
        assert_eq!(
            inserted(&postgres::DIALECT, &rows).text,
            concat!(
                "INSERT INTO t SELECT column0, column1, to_timestamp(column2) FROM unnest(E'{1,2,3}'::bigint[], ",
                r#"E'{"a''b","c\\"\\\\","{,}"}'::text[], E'{60,60,60}'::bigint[]) AS given (column0, column1, column2)"#
            )
        );
        let sqlite = inserted(&sqlite::DIALECT, &rows);
        assert_eq!(
            sqlite.text,
            "INSERT INTO t SELECT * FROM (VALUES (?, ?, ?), (?, ?, ?), (?, ?, ?), (?, ?, ?)) WHERE column1 IS NOT NULL"
        );
        assert_eq!(sqlite.values.len(), 12);
        assert_eq!(sqlite.values[2], Value::Text("1970-01-01 00:01:00".to_owned()));
        assert!(sqlite.values[9..].iter().all(|value| *value == Value::Null));
    }

    #[test]
    fn one_of_some_values() {
        let text = |dialect| Sql::new(dialect, "a").push_one_of(&["x", "y", "z"]).text.clone();
        assert_eq!(text(&mysql::DIALECT), "a IN ('x', 'y', 'z')");
        assert_eq!(text(&postgres::DIALECT), r#"a = ANY (E'{"x","y","z"}'::text[])"#);
        assert_eq!(text(&sqlite::DIALECT), "a IN (?, ?, ?, ?)");
    }
}
