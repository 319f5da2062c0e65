//! Any bytes are a log or not; what is made of it is bounded, in order, and no daemon's line is lost.
#![no_main]

use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use policyd_rate_guard::replay::join::Joiner;
use policyd_rate_guard::replay::line::{self, Content};
use policyd_rate_guard::replay::stamp::Stamps;

fuzz_target!(|input: (&str, i64, bool)| {
    let (text, newest, wants_size) = input;
    let mut stamps = Stamps::new(TimeZone::UTC, newest);
    let mut joiner = Joiner::new(wants_size);
    let (mut told, mut made) = (0, 0);
    for line in text.lines() {
        let Ok(line) = line::read(&mut stamps, line) else { continue };
        told += u64::from(matches!(line.content, Content::Decided(_) | Content::Policyd(_)));
        joiner.take(line);
        while joiner.next_message().is_some() {
            made += 1;
        }
    }
    joiner.end();
    while let Some((_, asked)) = joiner.next_message() {
        assert!(asked.from.chars().count() <= 512 && asked.to.chars().count() <= 512);
        made += 1;
    }
    assert!(made >= told);
});
