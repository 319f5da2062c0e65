//! The HTTP listener of METRICS_LISTEN: `/metrics` for Prometheus, `/healthz` for load balancers, and the page for people.
//!
//! `listener` opens it; `connection` accepts and bounds, since everybody who reaches the address may ask; `page` is what
//! browsers get.

mod connection;
mod listener;
mod page;

use std::io;
use std::sync::Arc;
use std::thread;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use self::connection::MAX_CONNECTIONS;
use self::page::Page;
use crate::config::{self, Endpoint, Secret};
use crate::limiter::terms::Terms;
use crate::telemetry::metrics::Metrics;

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Reply = Response<Full<Bytes>>;

/// What the listener shows.
#[derive(Debug)]
pub struct Site {
    metrics: Arc<Metrics>,
    /// The daemon is stopping: a load balancer should look elsewhere.
    stopping: CancellationToken,
    page: Page,
}

impl Site {
    /// Starts the thread that reads for the page; it opens the database when somebody looks.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn new(
        metrics: Arc<Metrics>,
        stopping: CancellationToken,
        own_name: Option<String>,
        database: config::Database,
        terms: watch::Receiver<Arc<Terms>>,
        token: watch::Receiver<Option<Secret>>,
    ) -> io::Result<Site> {
        let page = Page::new(metrics.clone(), own_name, database, terms, token)?;
        Ok(Site { metrics, stopping, page })
    }

    /// Answers until the process ends, on a thread of its own: however much is asked here, mail has its own threads. Gives
    /// what tells when a first attempt was made to open `listen`.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(self, listen: Endpoint) -> io::Result<oneshot::Receiver<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (tried, first_attempt) = oneshot::channel();
        thread::Builder::new()
            .name("status".to_owned())
            .spawn(move || runtime.block_on(connection::serve(listen, Arc::new(self), tried)))?;
        Ok(first_attempt)
    }

    /// The routes.
    async fn answer(&self, request: &Request<Incoming>) -> Reply {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        }
        match request.uri().path() {
            "/metrics" => self.figures(request.headers().get(header::ACCEPT)),
            "/healthz" => self.health(),
            _ => self.page.answer(request).await,
        }
    }

    fn figures(&self, accept: Option<&HeaderValue>) -> Reply {
        let accepts =
            |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("application/openmetrics-text"));
        if accept.is_some_and(accepts) {
            reply(StatusCode::OK, OPEN_METRICS, self.metrics.open_metrics())
        } else {
            reply(StatusCode::OK, PROMETHEUS, self.metrics.prometheus_text())
        }
    }

    /// Mail is answered also while the database is away, so that is no reason to send it elsewhere.
    fn health(&self) -> Reply {
        if self.stopping.is_cancelled() {
            reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "stopping\n")
        } else if self.metrics.is_database_up() {
            reply(StatusCode::OK, TEXT, "ok\n")
        } else {
            reply(StatusCode::OK, TEXT, "ok; the database is away, and senders are counted in memory\n")
        }
    }
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Full::new(body.into()));
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
