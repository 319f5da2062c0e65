//! How long a statement waits for rows that somebody else holds.

use std::pin::pin;

use super::connection::{Connection, Options};
use super::dialect::LOCK_TIMEOUT;
use super::failure::Failure;
use super::sql::Sql;

/// Bounds how long a statement waits for locks, on servers that cannot be told so finely themselves.
pub struct LockTimeout<'a> {
    pub options: &'a Options,
    /// The session whose statement is interrupted.
    pub session: i64,
}

impl LockTimeout<'_> {
    /// Runs a statement. If it takes longer than [`LOCK_TIMEOUT`], the server is asked to interrupt it, and its own word on
    /// that is the result: the transaction's end is never guessed at.
    pub async fn execute(&self, connection: &mut Connection, sql: Sql) -> Result<(), Failure> {
        self.bound(connection, async |connection| connection.execute(sql).await.map(drop)).await
    }

    /// The same for work that is one statement at a time.
    pub async fn bound<T>(
        &self,
        connection: &mut Connection,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let done = {
            let mut statement = pin!(work(connection));
            tokio::select! {
                done = &mut statement => return done,
                () = tokio::time::sleep(LOCK_TIMEOUT) => {}
            }
            // Both to their end: an interruption that is still under way would hit the next statement.
            let (done, interrupted) = tokio::join!(statement, self.options.interrupt(self.session));
            if let Err(error) = interrupted {
                log::debug!("interrupting a statement that waits for a lock: {error}");
            }
            done
        };
        if done.is_ok() {
            // It came too late. If it left a mark on the session, this takes it away.
            if let Err(error) = connection.command("SELECT 1").await {
                log::debug!("a late interruption: {error}");
            }
        }
        done
    }
}
