//! How long a statement waits for rows that somebody else holds.

use std::pin::pin;

use sqlx::{Executor, QueryBuilder};

use super::dialect::{ConnectionOf, Dialect, LOCK_TIMEOUT};

/// Bounds how long a statement waits for locks, on servers that cannot be told so finely themselves.
pub struct LockTimeout<'a, D: Dialect> {
    pub options: &'a D::Options,
    /// The session whose statement is interrupted; none where the server bounds the wait.
    pub session: Option<i64>,
}

impl<D: Dialect> LockTimeout<'_, D>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
{
    /// Runs a statement. If it takes longer than [`LOCK_TIMEOUT`], the server is asked to interrupt it, and its own word on
    /// that is the result: the transaction's end is never guessed at.
    pub async fn execute(
        &self,
        connection: &mut ConnectionOf<D>,
        mut sql: QueryBuilder<D::Db>,
    ) -> Result<(), sqlx::Error> {
        let done = {
            let mut statement = pin!(connection.execute(sql.build()));
            let Some(session) = self.session else { return statement.await.map(drop) };
            tokio::select! {
                done = &mut statement => return done.map(drop),
                () = tokio::time::sleep(LOCK_TIMEOUT) => {}
            }
            // Both to their end: an interruption that is still under way would hit the next statement.
            let (done, interrupted) = tokio::join!(statement, D::interrupt(self.options, session));
            if let Err(error) = interrupted {
                log::debug!("interrupting a statement that waits for a lock: {error}");
            }
            done
        };
        if done.is_ok() {
            // It came too late. If it left a mark on the session, this takes it away.
            if let Err(error) = connection.execute("SELECT 1").await {
                log::debug!("a late interruption: {error}");
            }
        }
        done.map(drop)
    }
}
