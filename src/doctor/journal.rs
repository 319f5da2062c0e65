//! The outage journal: whether it can be written, and what waits in it.

use std::path::{Path, PathBuf};

use super::Finding;

/// What was found of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Journal {
    /// It cannot be read or written, for this reason.
    Unusable(String),
    /// So many requests in it are not known to be charged, the oldest answered so many seconds ago.
    Waiting { requests: u64, oldest: i64 },
    /// Something that could not be read is kept in this file.
    Unreadable(PathBuf),
}

pub fn judge(path: &Path, journal: Journal) -> Finding {
    let path = path.display();
    match journal {
        Journal::Unusable(reason) => Finding::problem(
            "no-journal",
            format!("{path}: {reason}"),
            "What is answered while the database is away is counted in the daemon's memory alone, and never charged.",
            "make the directory, and give it and the file to USER; then restart the daemon. JOURNAL_SIZE=0 does without"
                .to_owned(),
        ),
        Journal::Waiting { requests, oldest } => Finding::advice(
            "not-charged",
            format!("{path}: {requests} requests wait to be charged, the oldest for {} minutes", oldest.max(0) / 60),
            "They were answered while the database was away; the daemon charges them when it is back.",
            "start the daemon if it does not run; else its log says why it does not reach the database".to_owned(),
        ),
        Journal::Unreadable(aside) => Finding::advice(
            "journal-unreadable",
            format!("{}: a part of the outage journal that could not be read", aside.display()),
            "What it holds was answered while the database was away, and is not charged. The disk or its file system has lost \
             something, or another version of this program wrote it.",
            "look after the disk (`dmesg`, `smartctl`), then remove the file".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_advice_and_what_cannot_be_written_a_problem() {
        let path = Path::new("/var/lib/x/outage.journal");
        let waiting = judge(path, Journal::Waiting { requests: 7, oldest: 181 });
        assert_eq!(waiting.what, "/var/lib/x/outage.journal: 7 requests wait to be charged, the oldest for 3 minutes");
        let unusable = judge(path, Journal::Unusable("No space left on device".to_owned()));
        assert_eq!((waiting.id, unusable.id), ("not-charged", "no-journal"));
        let unreadable = judge(path, Journal::Unreadable("/var/lib/x/outage.journal.unreadable".into()));
        assert!(unreadable.what.starts_with("/var/lib/x/outage.journal.unreadable: a part of"));
        assert_eq!((unreadable.id, unreadable.severity), ("journal-unreadable", waiting.severity));
        assert!(unusable.severity < waiting.severity && unusable.what.ends_with("No space left on device"));
    }
}
