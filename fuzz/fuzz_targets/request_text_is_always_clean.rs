//! Nothing in a request that was read can end a line or disguise itself in a log, whatever bytes came.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policyd_rate_guard::protocol::request::{Event, MAX_LINE, MAX_RECIPIENTS, Parser};

fuzz_target!(|bytes: &[u8]| {
    let mut parser = Parser::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (taken, event) = parser.feed(rest);
        rest = &rest[taken..];
        let Some(Event::Request(Ok(request))) = event else { continue };
        assert!(request.recipient_count <= MAX_RECIPIENTS);
        let id = request.queue_id.as_ref();
        assert!(id.is_none_or(|id| id.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric())));
        for text in [
            &request.instance,
            &request.client_address,
            &request.client_name,
            &request.helo_name,
            &request.sasl_method,
            &request.sasl_username,
            &request.sender,
            &request.recipient,
        ] {
            assert!(!text.contains(char::is_control), "{text:?}");
            // A byte that is not UTF-8 becomes a character of three.
            assert!(text.len() <= 3 * MAX_LINE);
        }
    }
});
