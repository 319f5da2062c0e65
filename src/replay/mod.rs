//! Runs past mail through the policy that decides live: reads logs, and makes the decisions.
//!
//! [`files`] reads logs, unpacked and merged by their times; [`line`](mod@line) reads one line, with [`head`] and [`json`]
//! for what stands before its text, [`stamp`] for its time, and a reader for each kind of log: [`postfix`], [`decisions`] (ours
//! and PolicydRateGuard's) and [`policyd`]. [`join`] makes one message of the lines that tell of it, in the order of time.
//! [`judge`] asks about each message as Postfix would have asked, with the same code that answers live, on an empty database
//! in memory and at the log's own time. [`tally`] adds up the decisions. [`intake`] has the mail of
//! accounts, of which [`suggest`] finds the settings that fit, and [`learn`] what is usual.
//!
//! All but `files` and `judge` is pure: no clock, no I/O. A log is foreign text: each line, the messages that are open at once
//! and the senders told apart are bounded. No line on mail is passed over in silence: what is not understood is counted.

pub mod cause;
pub mod decisions;
pub mod files;
pub mod head;
pub mod intake;
pub mod join;
pub mod json;
pub mod judge;
pub mod learn;
pub mod line;
pub mod policyd;
pub mod postfix;
pub mod stamp;
pub mod suggest;
pub mod tally;

/// The longest line that is read, in bytes. The rest of a longer one is left out. The journal's entries in JSON are long.
pub const MAX_LINE: usize = 64 * 1024;
/// The longest value that is kept, in characters, as in a policy request.
const MAX_SHOWN: usize = 512;

/// One request as Postfix would have asked it, as far as a log tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PastRequest {
    /// Empty if Postfix had not given one yet, or the log does not tell.
    pub queue_id: String,
    /// The same for all requests of one message.
    pub message: String,
    pub login: String,
    /// The envelope sender; empty for `<>`.
    pub from: String,
    /// The recipient, if there is only one.
    pub to: String,
    pub client_name: String,
    pub client_address: String,
    /// How many recipients. None at RCPT, where each recipient has a request of its own.
    pub recipients: Option<u32>,
    /// In bytes; 0 if the log does not tell.
    pub size: u64,
    /// Whether it was held or refused at the time, or for all that the log tells never sent on.
    pub stopped: bool,
}

/// Returns a foreign value with a bounded length.
fn bounded(value: &str) -> String {
    match value.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => value.get(..end).unwrap_or(value).to_owned(),
        None => value.to_owned(),
    }
}

/// Returns what is between the first `before` and the next `after`, and what follows.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<(&'a str, &'a str)> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after)
}
