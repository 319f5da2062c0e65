//! Any bytes in the file that a daemon leaves to the next one are read or refused, and what is read can be written again.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use policyd_rate_guard::commit::deduplication::kept::{read, write};

fuzz_target!(|bytes: &[u8]| {
    const NOW: i64 = 1_800_000_000;
    if let Ok(known) = read(bytes, NOW) {
        let mut text = Vec::new();
        write(&known, &mut text, Duration::ZERO, NOW).expect("a vector takes all");
        let read = read(text.as_slice(), NOW).expect("our own text");
        assert_eq!(known.len(), read.len());
    }
});
