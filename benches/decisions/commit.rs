//! What one durable commit costs on this disk: the least that a lone request can take.

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::runtime::{Builder, Runtime};

use crate::load::SENDERS;

/// An SQLite database with the daemon's durability and a row per sender.
pub struct Commits {
    runtime: Runtime,
    connection: SqliteConnection,
}

impl Commits {
    pub fn new(file: &Path) -> sqlx::Result<Commits> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let connection = runtime.block_on(async {
            let mut connection = options.connect().await?;
            sqlx::query("CREATE TABLE counters (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
                .execute(&mut connection)
                .await?;
            for id in 0..SENDERS as i64 {
                sqlx::query("INSERT INTO counters VALUES (?, 0)").bind(id).execute(&mut connection).await?;
            }
            Ok::<_, sqlx::Error>(connection)
        })?;
        Ok(Commits { runtime, connection })
    }

    /// The median time of BEGIN, UPDATE of one row, COMMIT, over `length`.
    pub fn p50(&mut self, length: Duration) -> sqlx::Result<Duration> {
        let mut times = Histogram::<u64>::new_with_bounds(1_000, 100_000_000_000, 3).expect("bounds in order");
        let end = Instant::now() + length;
        let connection = &mut self.connection;
        self.runtime.block_on(async {
            for id in (0..SENDERS as i64).cycle() {
                let began = Instant::now();
                if began >= end {
                    break;
                }
                let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
                sqlx::query("UPDATE counters SET n = n + 1 WHERE id = ?").bind(id).execute(&mut *transaction).await?;
                transaction.commit().await?;
                times.saturating_record(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
            Ok(Duration::from_nanos(times.value_at_quantile(0.5)))
        })
    }
}
