//! Who may see names: whoever shows STATUS_TOKEN.
//!
//! A token is compared in a time that does not tell how much of it was right. After a wrong one everybody waits in turn, in
//! the order of arrival: guessing is slow from however many connections, and nobody is locked out by another's guesses.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::config::Secret;
use crate::telemetry::limited::warn_limited;

/// After a wrong token, until the next one is looked at. Short enough that whoever has the right one is still there when
/// all other connections guess.
const TURN: Duration = Duration::from_millis(100);

/// Keeps the door to all that names a sender.
#[derive(Debug)]
pub struct Doorkeeper {
    /// STATUS_TOKEN as it is now.
    token: watch::Receiver<Option<Secret>>,
    /// When the next token is looked at. The lock is fair: whoever waits keeps the place.
    next: Mutex<Option<Instant>>,
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
}

impl Doorkeeper {
    pub fn new(token: watch::Receiver<Option<Secret>>) -> Doorkeeper {
        Doorkeeper { token, next: Mutex::new(None) }
    }

    /// STATUS_TOKEN, for whoever has to know when it changes.
    pub fn token(&self) -> watch::Receiver<Option<Secret>> {
        self.token.clone()
    }

    /// Whether it is set.
    pub fn has_token(&self) -> bool {
        self.token.borrow().is_some()
    }

    /// Looks at what a request shows.
    pub async fn admit(&self, headers: &HeaderMap) -> Admission {
        if !self.has_token() {
            return Admission::NoToken;
        }
        let Some(shown) = shown(headers) else { return Admission::Missing };
        let mut next = self.next.lock().await;
        if let Some(turn) = *next {
            tokio::time::sleep_until(turn).await;
        }
        let is_right = self.token.borrow().as_ref().is_some_and(|token| same(shown, token.reveal().as_bytes()));
        *next = (!is_right).then(|| Instant::now() + TURN);
        if is_right {
            return Admission::Welcome;
        }
        warn_limited("a wrong STATUS_TOKEN", "METRICS_LISTEN: somebody showed a wrong STATUS_TOKEN, and saw no names");
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
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        headers
    }

    fn doorkeeper(token: Option<&str>) -> Doorkeeper {
        // The channel's value stays when its sender has gone.
        Doorkeeper::new(watch::channel(token.map(|token| Secret::new(token.to_owned()))).1)
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_token_itself_is_welcome() {
        let door = doorkeeper(Some("correct horse"));
        assert_eq!(door.admit(&headers("Bearer correct horse")).await, Admission::Welcome);
        assert_eq!(door.admit(&headers("bearer correct horse")).await, Admission::Welcome);
        assert_eq!(door.admit(&HeaderMap::new()).await, Admission::Missing);
        for other in ["Basic correct horse", "correct horse", "Bearer", ""] {
            assert_eq!(door.admit(&headers(other)).await, Admission::Missing, "{other}");
        }
        for wrong in
            ["Bearer ", "Bearer correct", "Bearer correct horse2", "Bearer Correct horse", "Bearer  correct horse"]
        {
            assert_eq!(door.admit(&headers(wrong)).await, Admission::Wrong, "{wrong}");
        }
    }

    #[tokio::test]
    async fn without_a_token_nobody_is() {
        for shown in ["Bearer ", "Bearer x", "Bearer None"] {
            assert_eq!(doorkeeper(None).admit(&headers(shown)).await, Admission::NoToken);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_wait_their_turn_and_lock_nobody_out() {
        let door = std::sync::Arc::new(doorkeeper(Some("right")));
        let begun = Instant::now();
        assert_eq!(door.admit(&headers("Bearer right")).await, Admission::Welcome);
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody guessed");
        let guesses: Vec<_> = (0..10)
            .map(|_| {
                let door = door.clone();
                tokio::spawn(async move { door.admit(&headers("Bearer wrong")).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(door.admit(&headers("Bearer right")).await, Admission::Welcome);
        assert!(begun.elapsed() >= 10 * TURN && begun.elapsed() < 11 * TURN, "{:?}", begun.elapsed());
        for guess in guesses {
            assert_eq!(guess.await.unwrap(), Admission::Wrong);
        }
        let free = Instant::now();
        assert_eq!(door.admit(&headers("Bearer right")).await, Admission::Welcome);
        assert_eq!(free.elapsed(), Duration::ZERO, "a right one ends the waiting");
    }
}
