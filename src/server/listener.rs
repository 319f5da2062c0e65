//! Accepting connections, on any number of sockets, whatever happens to any of them.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::Answerer;
use super::connection::{End, converse};
use super::stream::Stream;
use crate::slots::{Peer, Slots};
use crate::system::sockets::{self, AcceptError};
use crate::telemetry::log_throttle::warn_limited;

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

/// The network side: the tasks that accept, those of the connections, and the slots of all sockets together.
#[derive(Clone)]
pub struct Network {
    answerer: Arc<Answerer>,
    slots: Arc<Slots>,
    acceptors: TaskTracker,
    connections: TaskTracker,
    pub ending: Ending,
}

impl Network {
    pub fn new(answerer: Arc<Answerer>, slots: Arc<Slots>) -> Network {
        Network {
            answerer,
            slots,
            acceptors: TaskTracker::new(),
            connections: TaskTracker::new(),
            ending: Ending::default(),
        }
    }

    /// Accepts connections on a bound socket until the end, and then closes it. Must be called within the runtime.
    ///
    /// # Errors
    /// The runtime cannot watch the socket.
    pub fn listen(&self, listener: sockets::Listener, name: String) -> io::Result<()> {
        let acceptor = Acceptor::new(listener, name)?;
        self.acceptors.spawn(acceptor.accept(self.clone()));
        Ok(())
    }

    /// Tells every task to stop, and waits for them at most `timeout`; those left are cut off. Says how many connections
    /// that were.
    pub async fn drain(self, timeout: impl Future<Output = ()>) -> usize {
        self.acceptors.close();
        self.connections.close();
        self.ending.stop.cancel();
        let ended = async {
            // In this order: an acceptor may still add a connection.
            self.acceptors.wait().await;
            self.connections.wait().await;
        };
        tokio::pin!(ended);
        tokio::select! {
            () = &mut ended => 0,
            () = timeout => {
                let left = self.connections.len();
                self.ending.cut.cancel();
                ended.await;
                left
            }
        }
    }
}

/// A socket that the runtime watches.
struct Acceptor {
    listener: Listener,
    name: String,
}

impl Acceptor {
    /// Hands a bound socket to the runtime.
    fn new(listener: sockets::Listener, name: String) -> io::Result<Acceptor> {
        let listener = match listener {
            sockets::Listener::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            sockets::Listener::Unix(listener) => Listener::Unix(UnixListener::from_std(listener)?),
        };
        Ok(Acceptor { listener, name })
    }

    /// Accepts until it is to stop; at that point it takes what waits in the backlog, so that nobody who connected goes
    /// unanswered.
    ///
    /// Each connection is a task of its own: a panic there harms no other. While all connections are busy, clients wait in
    /// the backlog.
    async fn accept(self, network: Network) {
        let ending = &network.ending;
        loop {
            let accepted = tokio::select! {
                biased;
                () = ending.cut.cancelled() => return,
                accepted = self.next() => accepted,
                () = ending.stop.cancelled() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
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
            if network.slots.is_full() {
                warn_limited(
                    "connections",
                    format_args!(
                        "{}; for each new one the one that was idle longest is closed. If they are all Postfix's, raise the \
                         limit on open files (LimitNOFILE=); else keep others from the socket",
                        network.slots
                    ),
                );
            }
            let Some(slot) = ending.cut.run_until_cancelled(network.slots.enter(peer)).await else { return };
            let (answerer, ending) = (network.answerer.clone(), ending.clone());
            network.connections.spawn(async move {
                match ending.cut.run_until_cancelled(converse(stream, &slot, &answerer, &ending.stop)).await {
                    Some(End::Closed) => {}
                    Some(end) => log::debug!("a connection ended: {end:?}"),
                    None => log::debug!("a connection was cut off"),
                }
            });
        }
    }

    async fn next(&self) -> io::Result<(Stream, Peer)> {
        match &self.listener {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                sockets::configure_accepted(&stream)?;
                Ok((Stream::Tcp(stream), address.ip().into()))
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred().ok().map(|credentials| credentials.uid());
                Ok((Stream::Unix(stream), Peer::User(user)))
            }
        }
    }
}
