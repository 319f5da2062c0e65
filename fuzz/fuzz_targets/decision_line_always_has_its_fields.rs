//! No value from the network can add a field to the log's line, hide one, or make the line too long.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policyd_rate_guard::telemetry::decision::DecisionLine;

const FIELDS: [&str; 8] =
    ["helo", "sasl_method", "sasl_username", "from", "to", "recipient_count", "curr_count", "status"];

fuzz_target!(|input: ([&str; 8], bool)| {
    let ([queue_id, client_name, client_address, helo_name, sasl_method, sasl_username, from, to], blocked) = input;
    let decision = DecisionLine {
        queue_id,
        client_name,
        client_address,
        helo_name,
        sasl_method,
        sasl_username,
        from,
        to,
        blocked,
        ..DecisionLine::default()
    };
    let line = decision.to_string();
    let names: Vec<&str> = line.split(", ").map(|field| field.split('=').next().unwrap_or("")).collect();
    assert_eq!(names[1..], FIELDS, "{line:?}");
    assert!(!line.contains(char::is_control) && line.len() < 4096, "{line:?}");
});
