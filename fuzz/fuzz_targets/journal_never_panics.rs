//! Whatever a disk has made of a journal, what is read of it is whole records, and entries that are clean.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policyd_rate_guard::journal::entry::Entry;
use policyd_rate_guard::journal::record::{self, Found};

fuzz_target!(|input: (&[u8], &str, i64)| {
    let (bytes, text, journal) = input;
    let mut rest = bytes;
    while let Found::Record { payload, length } = record::read(rest, journal) {
        assert!(!payload.is_empty() && payload.len() < length);
        rest = &rest[length..];
    }
    record::read_header(bytes);
    let mut written = Vec::new();
    if record::write(&mut written, journal, text.as_bytes()) {
        let whole = Found::Record { payload: text.as_bytes(), length: written.len() };
        assert_eq!(record::read(&written, journal), whole);
    }
    for text in [text.as_bytes(), bytes] {
        if let Some(entry) = Entry::decode(text) {
            assert!(!entry.account.contains(char::is_control));
            assert_eq!(entry.encode().and_then(|text| Entry::decode(&text)), Some(entry));
        }
    }
});
