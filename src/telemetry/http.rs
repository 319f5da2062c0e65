//! The HTTP listener of METRICS_LISTEN: `/metrics` for Prometheus, `/healthz` for load balancers.
//!
//! Whoever can connect may ask, so every side of a connection is bounded: how many there are, the size of a request's head,
//! and the time that all of it takes. Nothing here names a sender.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::limited::warn_limited;
use super::metrics::Metrics;

/// The most connections at once; others wait in the backlog.
const MOST_CONNECTIONS: usize = 16;
/// A request's head must come within this time.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// A connection ends after this time, whatever it is doing. Prometheus then opens another.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(60);
/// The most bytes of a request's head.
const MOST_HEAD: usize = 16 * 1024;
/// How long accepting pauses when the system has nothing to give.
const BACK_OFF: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the listener shows.
#[derive(Debug)]
pub struct Site {
    pub metrics: Arc<Metrics>,
    /// The daemon is stopping: a load balancer should look elsewhere.
    pub stopping: CancellationToken,
}

/// A listener that has its port and does not answer yet.
#[derive(Debug)]
pub struct StatusListener(TcpListener);

impl StatusListener {
    /// # Errors
    /// The address is in use, or not this host's.
    pub async fn bind(address: SocketAddr) -> io::Result<StatusListener> {
        TcpListener::bind(address).await.map(StatusListener)
    }

    /// Answers until the task is dropped.
    pub async fn serve(self, site: Arc<Site>) {
        let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            match self.0.accept().await {
                Ok((stream, _)) => {
                    let site = site.clone();
                    tokio::spawn(async move {
                        converse(stream, site).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn_limited("status", format_args!("METRICS_LISTEN: cannot accept a connection: {error}"));
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }
}

async fn converse(stream: TcpStream, site: Arc<Site>) {
    let service = service_fn(|request| {
        let response = site.answer(&request);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(MOST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_PATIENCE, connection).await {
        log::debug!("METRICS_LISTEN: {error}");
    }
}

impl Site {
    /// The routes.
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
        }
        match request.uri().path() {
            "/metrics" => self.figures(request.headers().get(header::ACCEPT)),
            "/healthz" => self.health(),
            _ => text(StatusCode::NOT_FOUND, TEXT, "there are /metrics and /healthz\n".to_owned()),
        }
    }

    fn figures(&self, accept: Option<&HeaderValue>) -> Response<Full<Bytes>> {
        let accepts =
            |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("application/openmetrics-text"));
        if accept.is_some_and(accepts) {
            text(StatusCode::OK, OPEN_METRICS, self.metrics.open_metrics())
        } else {
            text(StatusCode::OK, PROMETHEUS, self.metrics.prometheus_text())
        }
    }

    /// Mail is answered also while the database is away, so that is no reason to send it elsewhere.
    fn health(&self) -> Response<Full<Bytes>> {
        if self.stopping.is_cancelled() {
            text(StatusCode::SERVICE_UNAVAILABLE, TEXT, "stopping\n".to_owned())
        } else if self.metrics.is_database_up() {
            text(StatusCode::OK, TEXT, "ok\n".to_owned())
        } else {
            text(StatusCode::OK, TEXT, "ok; the database is away, and senders are counted in memory\n".to_owned())
        }
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
