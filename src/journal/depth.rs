//! How much there is in a journal, for those who look after the daemon.

/// How much the journal holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Whether there is a journal that can be written.
    pub is_written: bool,
    /// Requests that are not charged yet.
    pub requests: u64,
    /// The size of the file.
    pub bytes: u64,
    /// When the oldest of these requests was answered, in Unix seconds.
    pub since: Option<i64>,
    /// Requests charged so far.
    pub charged: u64,
    /// Requests that were answered from memory and will not be charged.
    pub lost: u64,
}
