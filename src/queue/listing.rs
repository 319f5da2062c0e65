//! The output of `postqueue -j`: a JSON object on each line, for a message in the queue (postqueue(1), Postfix 3.1 and later).

use std::io::{self, BufRead, Read};

use serde::Deserialize;

use crate::protocol::queue_id::QueueId;

/// The longest line that is read, in bytes: some 60,000 recipients with a reason for the delay of each.
const MAX_LINE: u64 = 16 << 20;
/// What is printed of an empty queue, by some versions.
const EMPTY: &str = "Mail queue is empty";

/// A message in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: QueueId,
    pub queue: Queue,
    /// When Postfix made the queue file, in seconds since 1970: with the first recipient, so before it asked at DATA.
    pub arrived: i64,
    /// The envelope sender, after Postfix's rewriting; empty for `<>`.
    pub sender: String,
}

/// Where in the queue a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    Hold,
    /// Incoming, active or deferred: on its way, now or later.
    Moving,
    /// Not yet taken over by Postfix (maildrop), or not a message (corrupt).
    Other,
}

/// Why a listing cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    #[error("reading what postqueue prints: {0}")]
    Read(#[from] io::Error),
    #[error("line {line} of what postqueue prints is not a message in JSON")]
    NotAMessage { line: u64 },
}

/// Reads a listing line by line, so that memory does not depend on the length of the queue.
pub struct Listing<R> {
    input: R,
    buffer: Vec<u8>,
    line: u64,
    unreadable: u64,
}

/// The members that are needed. `<>` is written as MAILER-DAEMON.
#[derive(Deserialize)]
struct Message {
    queue_name: String,
    queue_id: String,
    arrival_time: i64,
    sender: String,
}

const NULL_SENDER: &str = "MAILER-DAEMON";

impl<R: BufRead> Listing<R> {
    pub fn new(input: R) -> Listing<R> {
        Listing { input, buffer: Vec::new(), line: 0, unreadable: 0 }
    }

    /// How many messages were left out, since their line is too long or their id is none that Postfix makes.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    fn read(&mut self) -> Result<Option<Entry>, ListingError> {
        loop {
            self.buffer.clear();
            if self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.buffer)? == 0 {
                return Ok(None);
            }
            self.line += 1;
            if self.buffer.len() as u64 == MAX_LINE && !self.buffer.ends_with(b"\n") {
                self.input.skip_until(b'\n')?;
                self.unreadable += 1;
                continue;
            }
            let text = self.buffer.trim_ascii();
            if text.is_empty() || text == EMPTY.as_bytes() {
                continue;
            }
            let message: Message =
                serde_json::from_slice(text).map_err(|_| ListingError::NotAMessage { line: self.line })?;
            match QueueId::parse(&message.queue_id) {
                Some(id) => return Ok(Some(entry(id, message))),
                None => self.unreadable += 1,
            }
        }
    }
}

fn entry(id: QueueId, message: Message) -> Entry {
    let queue = match message.queue_name.as_str() {
        "hold" => Queue::Hold,
        "incoming" | "active" | "deferred" => Queue::Moving,
        _ => Queue::Other,
    };
    let sender = if message.sender == NULL_SENDER { String::new() } else { message.sender };
    Entry { id, queue, arrived: message.arrival_time, sender }
}

impl<R: BufRead> Iterator for Listing<R> {
    type Item = Result<Entry, ListingError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As Postfix 3.7 prints it.
    const HELD: &str = r#"{"queue_name": "hold", "queue_id": "4F9D195432C", "arrival_time": 1800014400, "message_size": 314, "forced_expire": false, "sender": "alice@example.com", "recipients": [{"address": "bob@example.net"}, {"address": "eve@example.org", "delay_reason": "connect to x: \"no\""}]}"#;
    const BOUNCE: &str = r#"{"queue_name": "deferred", "queue_id": "4g6Yxn0WN4z9vD", "arrival_time": 1800014401, "message_size": 1, "sender": "MAILER-DAEMON", "recipients": []}"#;

    fn read(text: &[u8]) -> (Vec<Entry>, Option<ListingError>, u64) {
        let mut listing = Listing::new(text);
        let mut entries = Vec::new();
        let mut error = None;
        for entry in listing.by_ref() {
            match entry {
                Ok(entry) => entries.push(entry),
                Err(failed) => {
                    error = Some(failed);
                    break;
                }
            }
        }
        (entries, error, listing.unreadable())
    }

    #[test]
    fn a_line_is_a_message() {
        let (entries, error, unreadable) = read(format!("{HELD}\n{BOUNCE}\n").as_bytes());
        assert!(error.is_none() && unreadable == 0, "{error:?}");
        let id = |text| QueueId::parse(text).unwrap();
        let held = Entry {
            id: id("4F9D195432C"),
            queue: Queue::Hold,
            arrived: 1_800_014_400,
            sender: "alice@example.com".into(),
        };
        let bounce =
            Entry { id: id("4g6Yxn0WN4z9vD"), queue: Queue::Moving, arrived: 1_800_014_401, sender: String::new() };
        assert_eq!(entries, [held, bounce]);
    }

    #[test]
    fn an_empty_queue_has_no_message() {
        for text in ["", "\n", "Mail queue is empty\n"] {
            assert!(matches!(read(text.as_bytes()), (entries, None, 0) if entries.is_empty()), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_message_is_not_passed_over() {
        let said = "postqueue: fatal: Queue report unavailable - mail system is down\n";
        for (text, at) in
            [(said.to_owned(), 1), (format!("{HELD}\n{{}}\n"), 2), (format!("{HELD}\n{}", &BOUNCE[..40]), 2)]
        {
            let (_, error, _) = read(text.as_bytes());
            assert!(matches!(error, Some(ListingError::NotAMessage { line }) if line == at), "{text}: {error:?}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_and_an_id_that_is_none_are_counted() {
        let mut text = HELD.replace("bob", &"b".repeat(MAX_LINE as usize)).into_bytes();
        text.extend(format!("\n{}\n{BOUNCE}\n", HELD.replace("4F9D195432C", "ALL")).bytes());
        let (entries, error, unreadable) = read(&text);
        assert!(error.is_none() && unreadable == 2 && entries.len() == 1, "{error:?}");
    }

    proptest! {
        #[test]
        fn every_sender_comes_back_as_it_is(sender in "\\PC{1,60}", arrived in any::<i64>()) {
            let line = serde_json::json!({
                "queue_name": "hold", "queue_id": "4F9D195432C", "arrival_time": arrived, "sender": sender, "recipients": []
            });
            let (entries, _, _) = read(line.to_string().as_bytes());
            prop_assert_eq!(entries.len(), 1);
            prop_assert_eq!(entries[0].arrived, arrived);
            prop_assert!(entries[0].sender == sender || (entries[0].sender.is_empty() && sender == NULL_SENDER));
        }
    }
}
