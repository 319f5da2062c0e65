//! What is shown, and at which path.

use std::io;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::page::Page;
use super::reply::{Reply, TEXT, reply};
use crate::config::{self, Secret};
use crate::limiter::terms::Terms;
use crate::telemetry::metrics::Metrics;

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the listener shows.
#[derive(Debug)]
pub struct Site {
    metrics: Arc<Metrics>,
    /// The daemon is stopping: a load balancer should look elsewhere.
    stopping: CancellationToken,
    pub page: Page,
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

    /// The routes.
    pub async fn answer(&self, request: &Request<Incoming>) -> Reply {
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
