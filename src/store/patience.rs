//! Patience with rows that somebody else holds.

use std::future::Future;
use std::pin::pin;

use super::dialect::{Dialect, LOCK_PATIENCE};

/// Bounds how long a statement waits for locks, on servers that cannot be told so finely themselves.
pub struct Patience<'a, D: Dialect> {
    pub options: &'a D::Options,
    /// The session whose statement is interrupted; none where the server bounds the wait.
    pub session: Option<i64>,
}

impl<D: Dialect> Patience<'_, D> {
    /// Runs a statement. If it takes longer than [`LOCK_PATIENCE`], the server is asked to interrupt it, and its own word on
    /// that is the result: the transaction's end is never guessed at.
    pub async fn wait_for<T>(&self, statement: impl Future<Output = T>) -> T {
        let mut statement = pin!(statement);
        let Some(session) = self.session else { return statement.await };
        tokio::select! {
            done = &mut statement => return done,
            () = tokio::time::sleep(LOCK_PATIENCE) => {}
        }
        let interrupted = D::interrupt(self.options, session);
        tokio::select! {
            done = &mut statement => return done,
            interrupted = interrupted => if let Err(error) = interrupted {
                log::debug!("interrupting a statement that waits for a lock: {error}");
            },
        }
        statement.await
    }
}
