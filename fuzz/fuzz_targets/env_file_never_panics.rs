//! Any bytes are read as a settings file or refused; each statement stands on a line of it.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use policyd_rate_guard::config::env_file::parse;

fuzz_target!(|bytes: &[u8]| {
    let environment = HashMap::from([("HOME".to_owned(), "/root".to_owned())]);
    if let Ok(statements) = parse(bytes, &environment) {
        let lines = bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
        assert!(statements.iter().all(|statement| (1..=lines).contains(&statement.line)));
    }
});
