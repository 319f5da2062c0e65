//! Any bytes are a listing of Postfix's queue or are refused; what is read of it are queue ids that postsuper may be given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policyd_rate_guard::queue::listing::Listing;

fuzz_target!(|input: (&[u8], Vec<(String, String, String, i64)>)| {
    let (bytes, messages) = input;
    for entry in Listing::new(bytes).map_while(Result::ok) {
        assert!(entry.id.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
    // Lines that are messages: none is lost, whatever their texts are.
    let line = |(queue, id, sender, at): &(String, String, String, i64)| {
        format!(
            "{{\"queue_name\": {queue:?}, \"queue_id\": \"4F9D1{id}\", \"arrival_time\": {at}, \"sender\": {sender:?}}}\n"
        )
    };
    let plain = |text: &String| text.chars().all(|character| character.is_ascii_graphic());
    let messages: Vec<_> =
        messages.into_iter().filter(|(queue, id, sender, _)| plain(queue) && plain(id) && plain(sender)).collect();
    let text: String = messages.iter().map(line).filter(|line| !line.contains('\\') && !line.contains('\'')).collect();
    let mut listing = Listing::new(text.as_bytes());
    let mut read = 0;
    let refused = listing.by_ref().any(|entry| entry.map(|_| read += 1).is_err());
    assert!(refused || read + listing.unreadable() == text.lines().count() as u64);
});
