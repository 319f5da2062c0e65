//! Whatever is configured as an action, what is sent is one reply that Postfix takes as it was meant.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policyd_rate_guard::protocol::reply::{Action, MAX_REPLY_LINE};

const WORDS: [&str; 8] = ["DUNNO", "OK", "WARN", "INFO", "HOLD", "DEFER", "DEFER_IF_PERMIT", "REJECT"];

fn assert_valid(action: &Action) {
    let mut wire = Vec::new();
    action.write(&mut wire);
    let reply = String::from_utf8(wire).expect("UTF-8");
    let line = reply.strip_suffix("\n\n").expect("one line and an empty one");
    assert!(line.len() < MAX_REPLY_LINE && !line.contains(char::is_control), "{line:?}");
    let action = line.strip_prefix("action=").expect("an action");
    let (word, text) = action.split_once(' ').unwrap_or((action, ""));
    let code = word.len() == 3 && matches!(word.as_bytes()[0], b'4' | b'5') && word.bytes().all(|b| b.is_ascii_digit());
    assert!(WORDS.contains(&word) || code && !text.trim().is_empty(), "{line:?}");
}

fuzz_target!(|input: (&str, &str)| {
    let (written, text) = input;
    assert_valid(&Action::defer_if_permit(text));
    if let Ok(action) = Action::parse(written) {
        assert_valid(&action);
        assert_valid(&action.with_text(text));
    }
});
