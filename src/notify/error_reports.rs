//! Reports of the program's own errors and panics to Sentry: what is logged as an error is sent, at most once a minute each.
//!
//! Mail addresses are taken out first, and all that stands in quotes: a login may be without a domain, and a database, or a
//! panic, quotes the text that it could not digest. The log has it whole. Nothing is put in beside: no host's name, no settings.
//! What is wrong with the settings stays in the log; another error may name a place that they name, such as the database's.
//! The transport has a bounded queue and a thread of its own, so a Sentry that hangs costs nothing.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sentry::protocol::{Event, Level};
use sentry::transports::UreqHttpTransportOptions;
use sentry::{Client, ClientOptions, Transport, TransportFactory, TransportOptions};
use ureq::Agent;

use super::https;
use crate::config;
use crate::telemetry::FINDING;
use crate::telemetry::logging::Logging;
use crate::telemetry::throttle::{Throttle, Verdict};

/// For one report.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The same error is reported once in this time.
const PERIOD: Duration = Duration::from_secs(60);
/// The most different errors that are told apart.
const MAX_ERRORS: usize = 256;

/// Where errors are reported.
pub struct Reporter {
    client: Client,
    throttle: Mutex<Throttle<String>>,
}

impl Reporter {
    /// Starts the transport's thread. Returns `None` if SENTRY_DSN is not set.
    pub fn start(notify: &config::Notify) -> Option<Reporter> {
        let config::SentryDsn(dsn) = notify.sentry_dsn.clone()?;
        let agent = https::agent(None, TIMEOUT).ok()?;
        let mut options = ClientOptions::default();
        options.dsn = Some(dsn);
        options.release = Some(concat!(env!("CARGO_PKG_NAME"), "@", env!("CARGO_PKG_VERSION")).into());
        options.environment = Some(notify.sentry_environment.clone().into());
        options.default_integrations = false;
        options.transport = Some(Arc::new(Factory(agent)));
        Some(Reporter {
            client: Client::with_options(options),
            throttle: Mutex::new(Throttle::new(1, PERIOD, MAX_ERRORS)),
        })
    }

    /// Reports every error that is logged from now on, panics among them, but for those in the settings.
    pub fn watch(self: &Arc<Reporter>, logging: &Logging) {
        let reporter = self.clone();
        logging.on_error(move |record| {
            if record.target() != FINDING {
                reporter.report(record.target(), record.args());
            }
        });
    }

    /// Reports an error. Never waits.
    pub fn report(&self, place: &str, message: impl fmt::Display) {
        let message = without_quotes(&without_addresses(&message.to_string()));
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if is_due(&mut throttle, &message, Instant::now()) {
            drop(throttle);
            let event = Event {
                level: Level::Error,
                logger: Some(place.to_owned()),
                message: Some(message),
                ..Event::default()
            };
            self.client.capture_event(event, None);
        }
    }

    /// Waits until all is sent, at the most for `timeout`.
    pub fn flush(&self, timeout: Duration) {
        self.client.flush(Some(timeout));
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reporter")
    }
}

/// Whether this is reported now. Errors that have gone quiet are forgotten first, which makes room for others.
fn is_due(throttle: &mut Throttle<String>, message: &str, now: Instant) -> bool {
    throttle.ended(now);
    matches!(throttle.admit(message, now), Verdict::Pass { .. })
}

/// Makes the transport over our own client.
struct Factory(Agent);

impl TransportFactory for Factory {
    fn create_transport_with_options(&self, options: TransportOptions) -> Arc<dyn Transport> {
        Arc::new(UreqHttpTransportOptions::from(options).with_agent(self.0.clone()).build())
    }
}

/// The message without mail addresses: everything around an `@`, up to what cannot belong to an address.
fn without_addresses(message: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '(' | ')' | ',' | ';' | '"' | '\'' | '`');
    let mut clean = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find('@') {
        let (before, after) = rest.split_at(at);
        let begin = before
            .rfind(is_end)
            .map_or(0, |end| before.get(end..).map_or(0, |tail| end + tail.chars().next().map_or(0, char::len_utf8)));
        clean.push_str(before.get(..begin).unwrap_or_default());
        clean.push_str("[address]");
        rest = after.find(is_end).and_then(|end| after.get(end..)).unwrap_or_default();
    }
    clean.push_str(rest);
    clean
}

/// The message without what stands in quotes, as databases and Rust quote values. An apostrophe begins none.
fn without_quotes(message: &str) -> String {
    let mut clean = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(begin) = rest.find(['\'', '"', '`']) {
        let (before, from) = rest.split_at(begin);
        let mut inside = from.chars();
        let quote = inside.next().unwrap_or_default();
        clean.push_str(before);
        clean.push(quote);
        rest = inside.as_str();
        if quote == '\'' && before.ends_with(char::is_alphanumeric) {
            continue;
        }
        // One that is cut off hides all that follows.
        clean.push('…');
        rest = rest.find(quote).and_then(|end| rest.get(end..)).unwrap_or_default();
        if let Some(after) = rest.strip_prefix(quote) {
            clean.push(quote);
            rest = after;
        }
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_taken_out_wherever_they_are() {
        for (message, clean) in [
            ("nothing to hide", "nothing to hide"),
            ("alice@example.com: refused", "[address] refused"),
            ("row 'alice@example.com' of <bob@example.org>, x", "row '[address]' of <[address]>, x"),
            ("a@b@c d@e", "[address] [address]"),
            ("jürgen@müller.example ist da", "[address] ist da"),
            ("@example.com and alice@", "[address] and [address]"),
        ] {
            assert_eq!(without_addresses(message), clean, "{message}");
        }
    }

    #[test]
    fn what_is_quoted_is_taken_out() {
        for (message, clean) in [
            ("nothing quoted, or so the sender's log says", "nothing quoted, or so the sender's log says"),
            ("Duplicate entry 'alice' for key 'sender'", "Duplicate entry '…' for key '…'"),
            ("inside 'é' (bytes 4..6) of `alicé`", "inside '…' (bytes 4..6) of `…`"),
            (r#"left: "alice", right: "bob""#, r#"left: "…", right: "…""#),
            ("near 'alice", "near '…"),
            ("'' and \"\"", "'…' and \"…\""),
        ] {
            assert_eq!(without_quotes(message), clean, "{message}");
        }
    }

    #[test]
    fn errors_of_long_ago_leave_room_for_new_ones() {
        let mut throttle = Throttle::new(1, PERIOD, MAX_ERRORS);
        let start = Instant::now();
        let due = |throttle: &mut Throttle<String>, number: usize, now| is_due(throttle, &number.to_string(), now);
        assert!((0..MAX_ERRORS).all(|number| due(&mut throttle, number, start)));
        assert!(!due(&mut throttle, 0, start));
        let later = start + PERIOD * 2;
        assert!((MAX_ERRORS..2 * MAX_ERRORS).all(|number| due(&mut throttle, number, later)));
        assert!((MAX_ERRORS..2 * MAX_ERRORS).all(|number| !due(&mut throttle, number, later)));
    }

    proptest! {
        #[test]
        fn no_address_stays(words in proptest::collection::vec("[a-zé.@<>(), ']{0,12}", 0..6)) {
            prop_assert!(!without_addresses(&words.concat()).contains('@'));
        }

        #[test]
        fn no_quoted_login_stays(before in "[a-z .]{0,9}", login in "[A-Z]{1,9}", quote in "['\"`]", after in "[a-z' .]{0,9}") {
            let message = format!("{before} {quote}{login}{quote}{after}");
            prop_assert!(!without_quotes(&message).contains(&login));
        }
    }
}
