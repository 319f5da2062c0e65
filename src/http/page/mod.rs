//! The page for browsers, and what it asks for.
//!
//! `api` is the only part that names senders, and only for requests that `token` accepts. `host` refuses requests of foreign web
//! pages. `poller` reads the database for all viewers together. `markup` is the page itself.

mod api;
mod host;
mod markup;
mod poller;
mod token;

use std::io;
use std::sync::Arc;

use hyper::{Request, StatusCode, header};
use tokio::sync::watch;

use self::api::Api;
use self::poller::Poller;
use self::token::TokenAuth;
use super::reply::{Reply, TEXT, reply};
use crate::config::{self, Secret};
use crate::limiter::terms::Terms;
use crate::telemetry::metrics::Metrics;

const HTML: &str = "text/html; charset=utf-8";

/// What is for browsers.
#[derive(Debug)]
pub struct Page {
    /// The name in METRICS_LISTEN, if it is one.
    own_name: Option<String>,
    api: Api,
}

impl Page {
    /// Starts the thread that reads the database.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn new(
        metrics: Arc<Metrics>,
        own_name: Option<String>,
        database: config::Database,
        terms: watch::Receiver<Arc<Terms>>,
        token: watch::Receiver<Option<Secret>>,
    ) -> io::Result<Page> {
        let poller = Poller::start(database, terms)?;
        Ok(Page { own_name, api: Api { metrics, auth: TokenAuth::new(token), poller } })
    }

    /// STATUS_TOKEN, with which names are shown.
    pub fn token(&self) -> watch::Receiver<Option<Secret>> {
        self.api.auth.token()
    }

    /// Whatever this is, a browser is told to be strict with it.
    pub async fn answer<B>(&self, request: &Request<B>) -> Reply {
        let mut response = self.found(request).await;
        markup::strict_headers(response.headers_mut());
        response
    }

    async fn found<B>(&self, request: &Request<B>) -> Reply {
        if !self.is_asked_by_a_name_of_ours(request) {
            return reply(
                StatusCode::MISDIRECTED_REQUEST,
                TEXT,
                "The page is shown under an IP address or `localhost` only, or under the name in METRICS_LISTEN: any other \
                 name could belong to somebody's web page. Behind a proxy, let it send one of those as Host.\n",
            );
        }
        if request.uri().path() == "/" {
            return reply(StatusCode::OK, HTML, markup::HTML);
        }
        let answered = self.api.answer(request).await;
        answered.unwrap_or_else(|| reply(StatusCode::NOT_FOUND, TEXT, "there are /, /metrics and /healthz\n"))
    }

    fn is_asked_by_a_name_of_ours<B>(&self, request: &Request<B>) -> bool {
        let is_ours = |name: &str| host::is_ours(name, self.own_name.as_deref());
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let one = hosts.next().and_then(|host| host.to_str().ok()).is_some_and(is_ours) && hosts.next().is_none();
        one && request.uri().authority().is_none_or(|authority| is_ours(authority.as_str()))
    }
}
