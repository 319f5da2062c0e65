//! By what a receiver knows that the webhook is ours, as PolicydRateGuard makes it. Pure: time is an argument.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// How long a JSON web token is valid, in seconds.
const VALID: i64 = 60;

#[derive(Serialize)]
struct Header {
    alg: &'static str,
    typ: &'static str,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iss: &'static str,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// The simple token: the SHA-256 of secret and sender, in hexadecimal digits.
pub fn simple(secret: &str, sender: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(secret);
    hash.update(sender);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A JSON web token (RFC 7519) about the sender, signed with HMAC-SHA-256. Always Some: a key of any length will do.
pub fn jwt(key: &[u8], sender: &str, now: i64) -> Option<String> {
    let header = part(&Header { alg: "HS256", typ: "JWT" });
    let iss = env!("CARGO_PKG_NAME");
    let claims = part(&Claims { sub: sender, iss, iat: now, nbf: now, exp: now.saturating_add(VALID) });
    let signed = format!("{header}.{claims}");
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    hmac.update(signed.as_bytes());
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac.finalize().into_bytes())))
}

fn part(value: &impl Serialize) -> String {
    // Only a map with keys that are no text would fail.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simple_token_is_what_sha256sum_says() {
        // printf secretalice@example.com | sha256sum
        assert_eq!(
            simple("secret", "alice@example.com"),
            "18d72a58765497b643e0ba5520177db0e02deb189195a3322763aa5664f4a390"
        );
    }

    #[test]
    fn a_json_web_token_is_what_python_makes() {
        // base64.urlsafe_b64encode of header and claims, and hmac.new(b"secret key", …, hashlib.sha256).
        assert_eq!(
            jwt(b"secret key", "alice", 1_800_014_400).unwrap(),
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
             eyJzdWIiOiJhbGljZSIsImlzcyI6InBvbGljeWQtcmF0ZS1ndWFyZCIsImlhdCI6MTgwMDAxNDQwMCwibmJmIjoxODAwMDE0NDAwLCJl\
             eHAiOjE4MDAwMTQ0NjB9.25N63e95j1xky-SEVeNgu2Cd1E-wdoKilDuVJ5nHhdU"
        );
    }
}
