//! What the page asks for, in JSON. What names a sender takes the token.

use std::sync::Arc;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::poller::{Poller, Question, Seen};
use super::token::{Admission, TokenAuth};
use crate::clock;
use crate::http::reply::{Reply, reply};
use crate::telemetry::counters::Counters;
use crate::telemetry::metrics::Metrics;

const JSON: &str = "application/json";
/// The longest name that is searched for, in bytes.
const MAX_NAME: usize = 255;

/// What answers under `/api/`.
#[derive(Debug)]
pub struct Api {
    pub metrics: Arc<Metrics>,
    pub auth: TokenAuth,
    pub poller: Poller,
}

/// The daemon's own counters, for everybody.
#[derive(Serialize)]
struct Now {
    /// Milliseconds since 1970: rates are differences.
    at: u64,
    /// Whether STATUS_TOKEN is set, so that names can be seen at all.
    token: bool,
    daemon: Counters,
}

#[derive(Serialize)]
struct Refusal {
    error: &'static str,
    message: &'static str,
}

impl Api {
    /// Answers, if there is such a thing.
    pub async fn answer<B>(&self, request: &Request<B>) -> Option<Reply> {
        let path = request.uri().path().strip_prefix("/api/")?;
        if path == "daemon" {
            return Some(self.daemon());
        }
        let question = question(path, request.uri())?;
        Some(match self.auth.admit(request.headers()).await {
            Admission::Welcome => self.seen(question, request).await,
            refused => refusal(refused),
        })
    }

    fn daemon(&self) -> Reply {
        let now = Now { at: milliseconds(), token: self.auth.has_token(), daemon: self.metrics.counters() };
        json(StatusCode::OK, &now)
    }

    async fn seen<B>(&self, question: Question, request: &Request<B>) -> Reply {
        match self.poller.ask(question).await {
            // The page shows it in its place; as an error it would be one more line in the browser's console each time.
            Err(unavailable) => json(StatusCode::OK, &unavailable),
            Ok(seen) => shown(&seen, request.headers()),
        }
    }
}

/// What a path asks for.
fn question(path: &str, uri: &Uri) -> Option<Question> {
    match path.split_once('/').unwrap_or((path, "")) {
        ("status", "") => Some(Question::Everybody),
        ("sender", id) => Some(Question::Sender(id.parse().ok()?)),
        ("find", "") => {
            let name = uri.query()?.strip_prefix("name=")?;
            let name = percent_decode_str(name).decode_utf8().ok()?;
            (name.len() <= MAX_NAME && !name.contains('\0')).then(|| Question::Find(name.into_owned()))
        }
        _ => None,
    }
}

fn shown(seen: &Seen, asked: &HeaderMap) -> Reply {
    let says = |name, what: &str| {
        asked.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(what))
    };
    let mut response = if says(header::IF_NONE_MATCH, &seen.tag) {
        reply(StatusCode::NOT_MODIFIED, JSON, "")
    } else {
        match seen.packed.as_ref().filter(|_| says(header::ACCEPT_ENCODING, "gzip")) {
            Some(packed) => {
                let mut response = reply(StatusCode::OK, JSON, packed.clone());
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                response
            }
            None => reply(StatusCode::OK, JSON, seen.json.clone()),
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding, Authorization"));
    headers.insert(header::AGE, seen.at.elapsed().as_secs().into());
    if let Ok(tag) = HeaderValue::from_str(&seen.tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn refusal(why: Admission) -> Reply {
    let (status, error, message) = match why {
        Admission::NoToken => (
            StatusCode::FORBIDDEN,
            "no_token",
            "STATUS_TOKEN is not set, so no names are shown; set it in the settings and reload the daemon",
        ),
        Admission::Wrong => (StatusCode::UNAUTHORIZED, "wrong_token", "this is not the STATUS_TOKEN of the settings"),
        Admission::TooManyWrong => (
            StatusCode::TOO_MANY_REQUESTS,
            "wrong_token",
            "this is not the STATUS_TOKEN of the settings, like too many others at this time",
        ),
        _ => (StatusCode::UNAUTHORIZED, "token_missing", "names take `Authorization: Bearer` and the STATUS_TOKEN"),
    };
    let mut response = json(status, &Refusal { error, message });
    match status {
        StatusCode::UNAUTHORIZED => {
            let challenge = HeaderValue::from_static("Bearer realm=\"senders\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        StatusCode::TOO_MANY_REQUESTS => {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}

fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => reply(status, JSON, body),
        Err(error) => {
            log::debug!("the page's JSON: {error}");
            reply(StatusCode::INTERNAL_SERVER_ERROR, JSON, "{}")
        }
    }
}

/// Since 1970.
fn milliseconds() -> u64 {
    u64::try_from(clock::since_1970().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str) -> Option<Question> {
        let uri: Uri = uri.parse().unwrap();
        question(uri.path().strip_prefix("/api/").unwrap(), &uri)
    }

    #[test]
    fn only_what_there_is_can_be_asked() {
        assert_eq!(asked("/api/status"), Some(Question::Everybody));
        assert_eq!(asked("/api/status?token=x"), Some(Question::Everybody));
        assert_eq!(asked("/api/sender/17"), Some(Question::Sender(17)));
        assert_eq!(asked("/api/find?name=a%40b%2B%C3%BC"), Some(Question::Find("a@b+ü".to_owned())));
        let long = format!("/api/find?name={}", "a".repeat(256));
        for uri in [
            "/api/",
            "/api/status/1",
            "/api/sender",
            "/api/sender/x",
            "/api/sender/1/2",
            "/api/sender/99999999999999999999",
            "/api/find",
            "/api/find?q=x",
            "/api/find?name=%FF",
            "/api/find?name=%00",
            &long,
        ] {
            assert_eq!(asked(uri), None, "{uri}");
        }
    }
}
