//! The lines of policyd (thc2cat/go-policyd) in the system's log. They have no queue ids. Pure.
//!
//! ```text
//! Updating db: login/from/address/recipients/recipients of 24 hours
//! skipping whitelisted user: login/from/address/recipients
//! Holding blacklisted user: login/from/address/recipients
//! ```

use super::cause::Cause;
use super::{PastRequest, bounded};
use crate::protocol::request::MAX_RECIPIENTS;

/// Its program name in the log.
pub const PROGRAM: &str = "policyd";

/// Reads the line that each request leaves. None for another line.
pub fn read(text: &str) -> Result<Option<PastRequest>, Cause> {
    let prefixes = ["Updating db: ", "skipping whitelisted user: ", "Holding blacklisted user: "];
    let Some(asked) = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)) else { return Ok(None) };
    let of_the_day =
        if text.starts_with("Updating") { asked.rsplit_once('/').map(|(asked, _)| asked) } else { Some(asked) };
    let stopped = text.starts_with("Holding");
    of_the_day.and_then(request).map(|asked| Some(PastRequest { stopped, ..asked })).ok_or(Cause::Text)
}

/// `login/from/address/recipients`
fn request(asked: &str) -> Option<PastRequest> {
    // Only the envelope sender may hold a slash.
    let (asked, recipients) = asked.rsplit_once('/')?;
    let (asked, address) = asked.rsplit_once('/')?;
    let (login, from) = asked.split_once('/')?;
    Some(PastRequest {
        login: login.to_owned(),
        from: bounded(from),
        client_address: bounded(address),
        recipients: Some(recipients.parse().ok().filter(|count| *count <= MAX_RECIPIENTS)?),
        ..PastRequest::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_requests_and_not_what_it_says_beside_them() {
        let asked = read("Updating db: anaxxx/anabelle/x@sub.example.fr/192.168.39.96/2/50").unwrap().unwrap();
        assert_eq!((asked.login.as_str(), asked.from.as_str()), ("anaxxx", "anabelle/x@sub.example.fr"));
        assert_eq!((asked.client_address.as_str(), asked.recipients), ("192.168.39.96", Some(2)));
        assert!(!read("skipping whitelisted user: boss/boss@example.fr/2001:db8::1/7").unwrap().unwrap().stopped);
        assert!(read("Holding blacklisted user: x/x@example.fr/192.0.2.1/1").unwrap().unwrap().stopped);
        for line in [
            "0.77 started.",
            "DEFERRING overquota (1502>1500) for user phish2 using a@domain from ip [201.48.226.249]",
            "REJECTING overquota (3004>2x1500) for user phish2 using a@domain from ip [190.131.232.42]",
            "ERROR while UPDATING db: dial tcp 127.0.0.1:3306: connect: connection refused",
        ] {
            assert_eq!(read(line), Ok(None), "{line}");
        }
        for line in ["Updating db: a/b/c", "Updating db: a/b@c/192.0.2.1/many/50", "skipping whitelisted user: boss"] {
            assert_eq!(read(line), Err(Cause::Text), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_request_or_none(text in "(Updating db: |skipping whitelisted user: )?([/0-9]|\\PC){0,40}") {
            let _ = read(&text);
        }
    }
}
