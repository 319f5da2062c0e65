//! The HTTP listener of METRICS_LISTEN: `/metrics` for Prometheus, `/healthz` for load balancers, and the page for people.
//!
//! Whoever can connect may ask, so every side of a connection is bounded: how many there are, the size of a request's head,
//! and the time that all of it takes. `listener` opens it; `room` has the places. Only `api` names senders, to whom `token`
//! admits; `host` keeps foreign web pages out; `lookout` reads the database for all viewers together; `page` is what a browser
//! gets.

mod api;
mod host;
mod listener;
mod lookout;
mod page;
mod room;
mod token;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::api::Api;
use self::listener::Opener;
use self::lookout::Lookout;
use self::room::{Guest, Room};
use self::token::Doorkeeper;
use super::limited::warn_limited;
use super::metrics::Metrics;
use crate::config::{self, Endpoint, Secret};
use crate::limiter::terms::Terms;

/// The most connections at once; others wait. A browser keeps one or two open.
pub const MOST_CONNECTIONS: usize = 64;
/// So many places are for connections of one request each, so that viewers who stay keep no health check waiting.
const PASSING: usize = 16;
/// A request's head must come within this time.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// A connection takes no further request after this time. Prometheus then opens another.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(60);
/// What is under way then may go on for so long.
const LAST_PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of a request's head.
const MOST_HEAD: usize = 16 * 1024;
/// How long accepting pauses when the system has nothing to give.
const BACK_OFF: Duration = Duration::from_millis(100);

const HTML: &str = "text/html; charset=utf-8";
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
    /// The name in METRICS_LISTEN, if it is one.
    own_name: Option<String>,
    api: Api,
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
        let lookout = Lookout::start(database, terms)?;
        let api = Api { metrics: metrics.clone(), door: Doorkeeper::new(token), lookout };
        Ok(Site { metrics, stopping, own_name, api })
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
            .spawn(move || runtime.block_on(serve(listen, Arc::new(self), tried)))?;
        Ok(first_attempt)
    }
}

/// Opens what it is to listen on, and answers there.
async fn serve(listen: Endpoint, site: Arc<Site>, tried: oneshot::Sender<()>) {
    let room = Arc::new(Room::new(MOST_CONNECTIONS));
    let mut opener = Opener::new(listen);
    let mut tried = Some(tried);
    loop {
        let (opened, again) = opener.attempt(site.api.door.has_token()).await;
        for listener in opened {
            tokio::spawn(accept(listener, site.clone(), room.clone()));
        }
        if let Some(tried) = tried.take() {
            let _ = tried.send(());
        }
        if !again {
            return std::future::pending().await;
        }
        Opener::pause().await;
    }
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
        .header_read_timeout(HEAD_PATIENCE)
        .keep_alive(guest.free >= PASSING)
        .max_buf_size(MOST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let conversation = async {
        match tokio::time::timeout(CONNECTION_PATIENCE, connection.as_mut()).await {
            Ok(ended) => ended,
            Err(_) => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(LAST_PATIENCE, connection).await.unwrap_or(Ok(()))
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

impl Site {
    /// The routes.
    async fn answer(&self, request: &Request<Incoming>) -> Reply {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        }
        match request.uri().path() {
            "/metrics" => self.figures(request.headers().get(header::ACCEPT)),
            "/healthz" => self.health(),
            _ => {
                let mut response = self.page(request).await;
                page::strict_headers(response.headers_mut());
                response
            }
        }
    }

    /// What is for browsers.
    async fn page(&self, request: &Request<Incoming>) -> Reply {
        if !self.is_asked_by_a_name_of_ours(request) {
            return reply(
                StatusCode::MISDIRECTED_REQUEST,
                TEXT,
                "The page is shown under an IP address or `localhost` only, or under the name in METRICS_LISTEN: any other \
                 name could belong to somebody's web page. Behind a proxy, let it send one of those as Host.\n",
            );
        }
        if request.uri().path() == "/" {
            return reply(StatusCode::OK, HTML, page::HTML);
        }
        let answered = self.api.answer(request).await;
        answered.unwrap_or_else(|| reply(StatusCode::NOT_FOUND, TEXT, "there are /, /metrics and /healthz\n"))
    }

    fn is_asked_by_a_name_of_ours(&self, request: &Request<Incoming>) -> bool {
        let is_ours = |name: &str| host::is_ours(name, self.own_name.as_deref());
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let one = hosts.next().and_then(|host| host.to_str().ok()).is_some_and(is_ours) && hosts.next().is_none();
        one && request.uri().authority().is_none_or(|authority| is_ours(authority.as_str()))
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
