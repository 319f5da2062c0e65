//! However the network cuts a stream into pieces, the same requests come of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policyd_rate_guard::protocol::request::{Event, Parser};

fn events<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut parser = Parser::default();
    let mut events = Vec::new();
    for mut rest in pieces {
        while !rest.is_empty() {
            let (taken, event) = parser.feed(rest);
            assert!(taken > 0 && taken <= rest.len());
            rest = &rest[taken..];
            let endless = event == Some(Event::Endless);
            events.extend(event);
            if endless {
                // The connection is closed here, at whichever byte of a piece the bound was found to be passed.
                return events;
            }
        }
    }
    events
}

fuzz_target!(|input: (Vec<u8>, u8, Vec<u8>)| {
    let (bytes, size, cuts) = input;
    let whole = events([&bytes[..]].into_iter());
    assert_eq!(whole, events(bytes.chunks(usize::from(size).max(1))));

    let mut rest = &bytes[..];
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, after) = rest.split_at(usize::from(cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    assert_eq!(whole, events(pieces.into_iter()));
});
