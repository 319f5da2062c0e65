//! The connections of METRICS_LISTEN.
//!
//! Whoever can connect may ask, so every side of a connection is bounded: how many there are, the size of a request's head,
//! and the time that all of it takes.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::Site;
use super::listener::Opener;
use super::room::{Guest, Room};
use crate::config::Endpoint;
use crate::telemetry::limited::warn_limited;

/// The most connections at once; others wait. A browser keeps one or two open.
pub const MAX_CONNECTIONS: usize = 64;
/// So many places are for connections of one request each, so that viewers who stay keep no health check waiting.
const PASSING: usize = 16;
/// A request's head must come within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection takes no further request after this time. Prometheus then opens another.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// What is under way then may go on for so long.
const LAST_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// How long accepting pauses when the system has nothing to give.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Opens what it is to listen on, and answers there.
pub async fn serve(listen: Endpoint, site: Arc<Site>, tried: oneshot::Sender<()>) {
    let room = Arc::new(Room::new(MAX_CONNECTIONS));
    let mut opener = Opener::new(listen);
    let mut tried = Some(tried);
    let mut token = site.page.token();
    loop {
        let (opened, again) = opener.attempt().await;
        for listener in opened {
            tokio::spawn(accept(listener, site.clone(), room.clone()));
        }
        opener.warn_of_the_open(token.borrow_and_update().is_some());
        if let Some(tried) = tried.take() {
            let _ = tried.send(());
        }
        if !again {
            break;
        }
        Opener::pause().await;
    }
    // All is open that ever will be; a reload may yet show names there.
    while token.changed().await.is_ok() {
        opener.warn_of_the_open(token.borrow_and_update().is_some());
    }
    std::future::pending().await
}

async fn accept(listener: TcpListener, site: Arc<Site>, room: Arc<Room>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Some(guest) = room.enter().await else { return };
                tokio::spawn(converse(stream, site.clone(), guest));
            }
            Err(error) => {
                warn_limited("status", format_args!("METRICS_LISTEN: cannot accept a connection: {error}"));
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, site: Arc<Site>, guest: Arc<Guest>) {
    let service = service_fn(|request| {
        guest.asks();
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.answer(&request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(guest.free >= PASSING)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let conversation = async {
        match tokio::time::timeout(CONNECTION_TIMEOUT, connection.as_mut()).await {
            Ok(ended) => ended,
            Err(_) => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(LAST_TIMEOUT, connection).await.unwrap_or(Ok(()))
            }
        }
    };
    let ended = tokio::select! {
        ended = conversation => ended,
        () = guest.is_sent_away() => return,
    };
    if let Err(error) = ended {
        log::debug!("METRICS_LISTEN: {error}");
    }
}
