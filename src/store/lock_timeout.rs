//! How long a statement waits for rows that somebody else holds.

use std::pin::pin;
use std::time::Duration;

use super::connection::{Connection, Options};
use super::dialect::{LOCK_TIMEOUT, Session, SessionId};
use super::failure::Failure;

/// What keeps a statement to [`LOCK_TIMEOUT`].
pub enum LockTimeout<'a> {
    /// The server, by its settings. Or nothing does, and the statement waits as long as the server lets it.
    Server,
    /// These words before the statement.
    InStatement(&'static str),
    /// An interruption from another connection, for a server that cannot be told so finely itself.
    /// After a time: the packet's way there and back comes on top of [`LOCK_TIMEOUT`].
    Interrupt { options: &'a Options, session: SessionId, patience: Duration },
}

impl LockTimeout<'_> {
    /// What a session takes.
    pub fn new(options: &Options, session: Session) -> LockTimeout<'_> {
        let patience = LOCK_TIMEOUT + session.round_trip;
        match session.id {
            Some(session) => LockTimeout::Interrupt { options, session, patience },
            None if session.bound.is_empty() => LockTimeout::Server,
            None => LockTimeout::InStatement(session.bound),
        }
    }

    /// Runs statements. If they take longer than [`LOCK_TIMEOUT`] and nothing else bounds them, the server is asked to
    /// interrupt them, and its own word on that is the result: the transaction's end is never guessed at.
    pub async fn keep<T>(
        &self,
        connection: &mut Connection,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let LockTimeout::Interrupt { options, session, patience } = *self else { return work(connection).await };
        let done = {
            let mut statement = pin!(work(connection));
            tokio::select! {
                done = &mut statement => return done,
                () = tokio::time::sleep(patience) => {}
            }
            // Both to their end: an interruption that is still under way would hit the next statement.
            let (done, interrupted) = tokio::join!(statement, options.interrupt(session));
            if let Err(error) = interrupted {
                log::debug!("interrupting a statement that waits for a lock: {error}");
            }
            done?
        };
        // The interruption came too late. If it left a mark on the session, this takes it away; an error of it is the
        // transaction's as any other, since a transaction that the server has ended may say so here.
        connection.command("SELECT 1").await?;
        Ok(done)
    }
}
