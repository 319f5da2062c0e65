//! Token authentication: STATUS_TOKEN admits to all that names a sender.
//!
//! A token is compared at once, in a time that does not tell how much of it was right, so guesses of others never delay the
//! right one. The answer to a wrong one waits, which makes guessing slow for a client that waits for it. Only so many wait at once;
//! the rest is refused without a wait, and its connection closed, so that guesses do not use up the slots. What keeps out
//! one that does not wait is the length of the token: see `config/check/status.rs`.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{Semaphore, watch};

use crate::config::Secret;
use crate::telemetry::log_throttle::warn_limited;

/// How long the answer to a wrong token waits.
const DELAY: Duration = Duration::from_secs(1);
/// The most of them that wait: a quarter of the connections there are.
const MAX_WAITING: usize = 16;

#[derive(Debug)]
pub struct TokenAuth {
    /// STATUS_TOKEN as it is now.
    token: watch::Receiver<Option<Secret>>,
    /// One permit for each wrong token whose answer waits.
    waiting: Semaphore,
}

/// Whether names may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Welcome,
    /// STATUS_TOKEN is not set: nobody may.
    NoToken,
    /// None was shown.
    Missing,
    Wrong,
    /// Wrong, while too many others are.
    TooManyWrong,
}

impl TokenAuth {
    pub fn new(token: watch::Receiver<Option<Secret>>) -> TokenAuth {
        TokenAuth { token, waiting: Semaphore::new(MAX_WAITING) }
    }

    /// STATUS_TOKEN, for the listener, which warns when it changes.
    pub fn token(&self) -> watch::Receiver<Option<Secret>> {
        self.token.clone()
    }

    /// True if STATUS_TOKEN is set.
    pub fn has_token(&self) -> bool {
        self.token.borrow().is_some()
    }

    /// Compares the token in a request's headers. Returns at once but for a wrong one.
    pub async fn admit(&self, headers: &HeaderMap) -> Admission {
        if !self.has_token() {
            return Admission::NoToken;
        }
        let Some(shown) = shown(headers) else { return Admission::Missing };
        if self.token.borrow().as_ref().is_some_and(|token| same(shown, token.reveal().as_bytes())) {
            return Admission::Welcome;
        }
        warn_limited("a wrong STATUS_TOKEN", "METRICS_LISTEN: somebody showed a wrong STATUS_TOKEN, and saw no names");
        let Ok(_permit) = self.waiting.try_acquire() else { return Admission::TooManyWrong };
        tokio::time::sleep(DELAY).await;
        Admission::Wrong
    }
}

/// What stands in `Authorization: Bearer …`.
fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// Compares digests, so that not even the length shows.
fn same(one: &[u8], other: &[u8]) -> bool {
    let digest = |text: &[u8]| Sha256::digest(text);
    digest(one).as_slice().ct_eq(digest(other).as_slice()).into()
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        headers
    }

    fn auth(token: Option<&str>) -> TokenAuth {
        // The channel's value stays when its sender has gone.
        TokenAuth::new(watch::channel(token.map(|token| Secret::new(token.to_owned()))).1)
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_token_itself_is_welcome() {
        let auth = auth(Some("correct horse"));
        assert_eq!(auth.admit(&headers("Bearer correct horse")).await, Admission::Welcome);
        assert_eq!(auth.admit(&headers("bearer correct horse")).await, Admission::Welcome);
        assert_eq!(auth.admit(&HeaderMap::new()).await, Admission::Missing);
        for other in ["Basic correct horse", "correct horse", "Bearer", ""] {
            assert_eq!(auth.admit(&headers(other)).await, Admission::Missing, "{other}");
        }
        for wrong in
            ["Bearer ", "Bearer correct", "Bearer correct horse2", "Bearer Correct horse", "Bearer  correct horse"]
        {
            assert_eq!(auth.admit(&headers(wrong)).await, Admission::Wrong, "{wrong}");
        }
    }

    #[tokio::test]
    async fn without_a_token_nobody_is_welcome() {
        for shown in ["Bearer ", "Bearer x", "Bearer None"] {
            assert_eq!(auth(None).admit(&headers(shown)).await, Admission::NoToken);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_never_delay_the_right_token_and_only_so_many_wait() {
        let auth = std::sync::Arc::new(auth(Some("right")));
        let began = Instant::now();
        let guesses: Vec<_> = (0..100)
            .map(|_| {
                let auth = auth.clone();
                tokio::spawn(async move { (auth.admit(&headers("Bearer wrong")).await, began.elapsed()) })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(auth.admit(&headers("Bearer right")).await, Admission::Welcome);
        assert_eq!(began.elapsed(), Duration::ZERO);
        let mut answers = Vec::new();
        for guess in guesses {
            answers.push(guess.await.unwrap());
        }
        answers.sort_by_key(|(_, after)| *after);
        let (refused, waited) = answers.split_at(100 - MAX_WAITING);
        assert!(refused.iter().all(|answer| *answer == (Admission::TooManyWrong, Duration::ZERO)), "{refused:?}");
        assert!(waited.iter().all(|(answer, after)| *answer == Admission::Wrong && *after >= DELAY), "{waited:?}");
    }
}
