//! Tables of another program, in its own database. Only reads.

use super::connection::{Connection, Options, Row};
use super::failure::Failure;
use crate::config;

/// The most rows that are read of one table; one that is longer is refused.
const MAX_ROWS: usize = 1_000_000;

/// A connection to another program's database.
pub struct Foreign {
    connection: Connection,
    place: String,
}

impl Foreign {
    /// Connects to the first of the servers that are named.
    ///
    /// # Errors
    /// In words: where it is, and why it cannot be used.
    pub async fn connect(database: &config::Database) -> Result<Foreign, String> {
        let server = database.places().into_iter().next().unwrap_or_default();
        let options = Options::new(database, &server, true);
        let place = format!("{} {}", options.database(), options.host());
        if !options.exists() {
            return Err(format!("{place}: there is no such file"));
        }
        match options.connect(true).await {
            Ok((connection, _)) => Ok(Foreign { connection, place }),
            Err(failure) => Err(format!("{place}: {}", failure.words())),
        }
    }

    /// Reads these columns of what stands behind `FROM`, all as text; what is NULL is empty.
    ///
    /// # Errors
    /// In words: why they cannot be read.
    pub async fn rows(&mut self, columns: &[&str], from: &str) -> Result<Vec<Vec<String>>, String> {
        let text = self.connection.dialect().characters;
        let selected: Vec<String> =
            columns.iter().map(|column| format!("COALESCE(CAST({column} AS {text}), '')")).collect();
        let sql = format!("SELECT {} FROM {from} LIMIT {}", selected.join(", "), MAX_ROWS + 1);
        let told = |failure: Failure| format!("{}: {}", self.place, failure.words());
        let rows = self.connection.fetch_all(self.connection.sql(sql)).await.map_err(told)?;
        if rows.len() > MAX_ROWS {
            return Err(format!("{}: more than {MAX_ROWS} rows in {from}", self.place));
        }
        let values = |row: &Row| (0..columns.len()).map(|column| row.try_get(column)).collect();
        rows.iter().map(values).collect::<Result<_, Failure>>().map_err(told)
    }

    /// Ends the connection.
    pub async fn close(self) {
        self.connection.close().await;
    }
}
