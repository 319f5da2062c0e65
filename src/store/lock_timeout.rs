//! How long a statement waits for rows that somebody else holds.

use std::pin::pin;
use std::time::Duration;

use super::connection::{Connection, Options};
use super::dialect::{LOCK_TIMEOUT, Session};
use super::failure::Failure;
use super::sql::Sql;

/// Bounds how long a statement waits for locks, on servers that cannot be told so finely themselves.
pub struct LockTimeout<'a> {
    options: &'a Options,
    /// The session whose statement is interrupted.
    session: i64,
    /// Before it is.
    patience: Duration,
}

impl<'a> LockTimeout<'a> {
    /// None where the server itself keeps to [`LOCK_TIMEOUT`].
    pub fn new(options: &'a Options, session: Session) -> Option<LockTimeout<'a>> {
        // A statement may have to be prepared before.
        let patience = LOCK_TIMEOUT + session.round_trip * 2;
        session.id.map(|session| LockTimeout { options, session, patience })
    }

    /// Runs a statement. If it takes longer than [`LOCK_TIMEOUT`] there, the server is asked to interrupt it, and its own word on
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
                () = tokio::time::sleep(self.patience) => {}
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
