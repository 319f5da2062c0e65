//! Accepting connections, on any number of sockets, whatever happens to any of them.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::Answerer;
use super::connection::{End, converse};
use super::stream::Stream;
use crate::system::sockets::{self, AcceptError, Bound};
use crate::telemetry::limited::warn_limited;

/// How long accepting pauses when the system has no descriptors or memory to give.
const BACK_OFF: Duration = Duration::from_millis(100);

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// How the network side is told to end.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// Take nothing new, answer what was asked, and end.
    pub stop: CancellationToken,
    /// End now, whatever is unanswered.
    pub cut: CancellationToken,
}

/// A socket that the runtime watches.
pub struct Acceptor {
    listener: Listener,
    name: String,
}

impl Acceptor {
    /// Hands a bound socket to the runtime.
    pub fn new(bound: &Bound) -> io::Result<Acceptor> {
        let listener = match &bound.listener {
            sockets::Listener::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener.try_clone()?)?),
            sockets::Listener::Unix(listener) => Listener::Unix(UnixListener::from_std(listener.try_clone()?)?),
        };
        Ok(Acceptor { listener, name: bound.name.clone() })
    }

    /// Accepts until it is to stop; at that point it takes what waits in the backlog, so that nobody who connected goes
    /// unanswered.
    ///
    /// Each connection is a task of its own in `tasks`: a panic there harms no other. At most `room` are open at once;
    /// beyond that, clients wait in the backlog.
    pub async fn accept(self, answerer: Arc<Answerer>, room: Arc<Semaphore>, tasks: TaskTracker, ending: Ending) {
        loop {
            let Some(Ok(permit)) = ending.cut.run_until_cancelled(room.clone().acquire_owned()).await else { return };
            let accepted = tokio::select! {
                biased;
                () = ending.cut.cancelled() => return,
                accepted = self.next() => accepted,
                () = ending.stop.cancelled() => return,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    let pause = match sockets::accept_error(&error) {
                        AcceptError::Continue => continue,
                        AcceptError::BackOff => BACK_OFF,
                    };
                    warn_limited("accept", format_args!("{}: cannot accept a connection: {error}", self.name));
                    tokio::time::sleep(pause).await;
                    continue;
                }
            };
            let (answerer, ending) = (answerer.clone(), ending.clone());
            tasks.spawn(async move {
                match ending.cut.run_until_cancelled(converse(stream, &answerer, &ending.stop)).await {
                    Some(End::Closed) => {}
                    Some(end) => log::debug!("a connection ended: {end:?}"),
                    None => log::debug!("a connection was cut off"),
                }
                drop(permit);
            });
        }
    }

    async fn next(&self) -> io::Result<Stream> {
        match &self.listener {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                sockets::configure_accepted(&stream)?;
                Ok(Stream::Tcp(stream))
            }
            Listener::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

/// Tells every task to stop, and waits for them at most `patience`; those left are cut off. Says how many that were.
pub async fn drain(tasks: &TaskTracker, ending: &Ending, patience: impl Future<Output = ()>) -> usize {
    tasks.close();
    ending.stop.cancel();
    tokio::select! {
        () = tasks.wait() => 0,
        () = patience => {
            let left = tasks.len();
            ending.cut.cancel();
            tasks.wait().await;
            left
        }
    }
}
