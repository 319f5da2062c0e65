//! The few words in which the three databases differ, and what is known about a connection.

use std::time::Duration;

use super::charset::Charset;

/// How long a transaction waits for a row that somebody else holds. Long enough for another daemon's commit, short enough
/// that the others in the batch hardly notice.
pub const LOCK_TIMEOUT: Duration = Duration::from_millis(150);

/// A question that took longer met a server that was busy.
pub const MAX_ROUND_TRIP: Duration = Duration::from_millis(250);

/// How long the server itself lets a statement run, so that it ends what the client has given up.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// How a database writes what the others write otherwise. Pairs go around a value.
#[derive(Debug)]
pub struct Dialect {
    /// Whether the database runs in this process: each of its errors is certain.
    pub in_process: bool,
    /// Whether COMMIT looks at values: constraints and triggers may be deferred until then.
    pub checks_at_commit: bool,
    /// Writes a text into a statement as a literal. None if values are bound.
    pub literal: Option<fn(&str) -> String>,
    /// Begins a transaction that is going to write, and sets it up.
    pub begin: &'static [&'static str],
    /// The type to CAST a whole number to, so that it is read as a signed 64-bit one whatever its column is.
    pub integer: &'static str,
    /// The type to CAST anything to, so that it is read as text whatever its column is.
    pub characters: &'static str,
    /// The function that returns the lesser of two numbers.
    pub least: &'static str,
    /// The function that returns the greater of two numbers.
    pub greatest: &'static str,
    /// Which messages of a sender an index finds: a condition to be added, empty where it is all of them. The others keep the
    /// number of a sender that is deleted, which never becomes another's.
    pub messages_found: &'static str,
    /// What of `ratelimits` is compared with a key (and is unique).
    pub sender: &'static str,
    /// Whether the number of a row that has gone may become another row's.
    pub reuses_ids: bool,
    /// The table `usage`, whose name is a reserved word in one of them.
    pub usage: &'static str,
    /// How the rows of an INSERT are written.
    pub rows: Rows,
    /// How a point in time is written into a column.
    pub time: Time,
    /// Around a column's point in time to make whole seconds since 1970 of it.
    pub to_epoch: (&'static str, &'static str),
    /// Before a list of names: which of these tables there are.
    pub tables_among: &'static str,
    /// Which columns `ratelimits` and `messages` have: a row of two texts for each, table and column.
    pub columns_found: &'static str,
    /// Around FROM, WHERE and LIMIT of a subquery: the rows it finds, whatever their key. None where DELETE has a LIMIT itself.
    pub rows_found: Option<(&'static str, &'static str)>,
    /// Around a column of texts, which may be one of bytes.
    pub text: (&'static str, &'static str),
    /// Around an INSERT that leaves a row as it is if it is there already.
    pub insert_absent: (&'static str, &'static str),
    /// Around the columns of a key: begins the part of an upsert that says what to do with a row that is there already.
    /// None where the server looks at every key by itself.
    pub on_conflict: Option<(&'static str, &'static str)>,
    /// Around a column: the value that an upsert brought for it.
    pub brought: (&'static str, &'static str),
}

/// What PostgreSQL and SQLite have in common.
pub const STANDARD: Dialect = Dialect {
    in_process: false,
    checks_at_commit: false,
    literal: None,
    begin: &["BEGIN"],
    integer: "BIGINT",
    characters: "TEXT",
    least: "LEAST",
    greatest: "GREATEST",
    messages_found: "",
    sender: "lower(sender)",
    reuses_ids: false,
    usage: "usage",
    rows: Rows::Values,
    time: Time::Function("", ""),
    to_epoch: ("", ""),
    tables_among: "",
    columns_found: "",
    rows_found: None,
    text: ("", ""),
    insert_absent: ("INSERT", " ON CONFLICT DO NOTHING"),
    on_conflict: Some((" ON CONFLICT (", ") DO UPDATE SET ")),
    brought: ("excluded.", ""),
};

/// How many rows, or values to be looked for, are written.
#[derive(Debug)]
pub enum Rows {
    /// One after the other.
    Values,
    /// The same, for statements that are prepared, up to the next power of two: a packet of two statements with any numbers of
    /// rows would be too many packets to be kept prepared. Rows of NULLs are left out.
    Padded,
    /// An array for each column: PostgreSQL reads it in half the time.
    Arrays,
}

/// How a point in time, in seconds since 1970, is written into a column.
#[derive(Debug)]
pub enum Time {
    /// As a text: a function of the database would be called for each row.
    Text(fn(i64) -> String),
    /// Around the number.
    Function(&'static str, &'static str),
}

impl Dialect {
    /// Begins the part of an upsert that says what to do with a row that is there already.
    pub fn on_conflict(&self, key: &str) -> String {
        match self.on_conflict {
            Some(around) => enclosed(around, key),
            None => " ON DUPLICATE KEY UPDATE ".to_owned(),
        }
    }

    /// The words before and after a condition that delete the rows of a table which meet it, `most` at the most.
    pub fn delete_some(&self, table: &str, most: i64) -> (String, String) {
        match self.rows_found {
            Some((open, close)) => {
                (format!("DELETE FROM {table} WHERE {open} FROM {table} WHERE "), format!(" LIMIT {most}{close}"))
            }
            None => (format!("DELETE FROM {table} WHERE "), format!(" LIMIT {most}")),
        }
    }

    /// The value that an upsert brought for a column.
    pub fn brought(&self, column: &str) -> String {
        enclosed(self.brought, column)
    }

    /// A column's text, empty for NULL.
    pub fn text(&self, column: &str) -> String {
        format!("COALESCE({}, '')", enclosed(self.text, column))
    }

    /// A column's point in time as whole seconds since 1970.
    pub fn epoch(&self, column: &str) -> String {
        enclosed(self.to_epoch, column)
    }
}

fn enclosed((before, after): (&str, &str), inner: &str) -> String {
    format!("{before}{inner}{after}")
}

/// A host and its port, as they are written together.
pub fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What a table lacks.
#[derive(Debug)]
pub struct Addition {
    /// In words, for people.
    pub name: String,
    /// The statement that makes it.
    pub sql: String,
    /// Whether that takes long on a large table.
    pub slow: bool,
}

/// What is known about a connection and the tables it finds.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    /// The server's number for this session, to interrupt its statement. None if the server itself keeps to [`LOCK_TIMEOUT`].
    pub id: Option<SessionId>,
    /// Stands before a statement that must keep to [`LOCK_TIMEOUT`], if the server takes that from the statement.
    pub bound: &'static str,
    /// What `ratelimits.sender` can hold.
    pub keys: Charset,
    /// What the text columns of `messages` can hold.
    pub texts: Charset,
    /// The column, with an index, that has the sender in lower case. None where `Dialect::sender` finds a row typed with
    /// capitals itself.
    pub lowered: Option<&'static str>,
    /// How long a question took on its way there and back, at the most [`MAX_ROUND_TRIP`].
    pub round_trip: Duration,
    /// A node of Galera. `Script` in `store/script.rs` says what is done about it.
    pub loses_transactions: bool,
    /// False for a replica, and for a node that has lost its cluster.
    pub takes_writes: bool,
}

/// A session of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionId {
    pub server: u128,
    pub number: i64,
}

impl Default for Session {
    fn default() -> Session {
        Session {
            id: None,
            bound: "",
            keys: Charset::Utf8mb4,
            texts: Charset::Utf8mb4,
            lowered: None,
            round_trip: Duration::ZERO,
            loses_transactions: false,
            takes_writes: true,
        }
    }
}
