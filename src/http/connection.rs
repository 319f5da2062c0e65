//! The connections of METRICS_LISTEN.
//!
//! Everybody who reaches the address may ask, so all of it is bounded: how many connections there are, the size of a request's
//! head, and by hyper the time until a head is there, also the next one of a connection that is kept. What a client does not
//! read has no end of its own: it is idle, and its slot is another's when needed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::listener::Opener;
use super::site::Site;
use crate::config::Endpoint;
use crate::slots::{Slot, Slots};
use crate::telemetry::log_throttle::warn_limited;

/// The most connections at once. A browser keeps one or two open.
pub const MAX_CONNECTIONS: usize = 64;
/// A request's head must come within this time of the connection's begin, or of the last answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// How long accepting pauses when the system has nothing to give.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Opens what it is to listen on, and answers there.
pub async fn serve(listen: Endpoint, site: Arc<Site>, tried: oneshot::Sender<()>) {
    let slots = Slots::new(MAX_CONNECTIONS);
    let mut opener = Opener::new(listen);
    let mut tried = Some(tried);
    let mut token = site.page.token();
    loop {
        let (opened, again) = opener.attempt().await;
        for listener in opened {
            tokio::spawn(accept(listener, site.clone(), slots.clone()));
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

async fn accept(listener: TcpListener, site: Arc<Site>, slots: Arc<Slots>) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let slot = slots.enter(address.ip().into()).await;
                tokio::spawn(converse(stream, site.clone(), slot));
            }
            Err(error) => {
                warn_limited("status", format_args!("METRICS_LISTEN: cannot accept a connection: {error}"));
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, site: Arc<Site>, slot: Slot) {
    let service = service_fn(|request| {
        let busy = slot.answers();
        let site = &site;
        async move {
            let reply = site.answer(&request).await;
            drop(busy);
            Ok::<_, Infallible>(reply)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        biased;
        ended = connection => {
            if let Err(error) = ended {
                log::debug!("METRICS_LISTEN: {error}");
            }
        }
        () = slot.displaced() => {}
    }
}
