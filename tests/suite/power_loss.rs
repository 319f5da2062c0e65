//! What a loss of power leaves behind: the files of the database as they are at any moment hold every message that was
//! answered before.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::client::Request;
use crate::support::daemon::{Daemon, Setup};
use crate::support::database::Database;
use crate::support::load::Load;

const ALICE: &str = "alice@example.com";

/// Copies the database and its log as they are at one moment, without what only lives in memory. Says how many messages were
/// answered before that moment.
fn copy(daemon: &Daemon, load: &Load, number: usize) -> (Database, i64) {
    let file = daemon.database().file().unwrap();
    let copy = daemon.setup().folder().join(format!("copy-{number}.db"));
    let beside = |file: &Path, end: &str| PathBuf::from(format!("{}{end}", file.display()));
    // A log is read as far as it is whole, and SQLite writes into the database only what the log holds: two files that are not
    // of exactly the same moment would prove nothing.
    daemon.stop();
    let answered = i64::try_from(load.answered()).unwrap();
    fs::copy(&file, &copy).unwrap();
    if let Err(error) = fs::copy(beside(&file, "-wal"), beside(&copy, "-wal")) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
    daemon.cont();
    (Database::sqlite(&copy), answered)
}

#[test]
fn each_copy_of_the_files_holds_all_that_was_answered_before() {
    const COPIES: usize = 12;
    let daemon = Setup::sqlite().setting("QUOTA", "unlimited").setting("MESSAGE_LOG", "True").start();
    let load = Load::default();
    let mut copies = Vec::new();
    load.run(
        &daemon.unix_address(),
        8,
        400,
        || Request::data(ALICE, 1),
        || {
            for number in 0..COPIES {
                std::thread::sleep(Duration::from_millis(fastrand::u64(1..60)));
                copies.push(copy(&daemon, &load, number));
            }
        },
    );
    assert_eq!(load.answered(), 8 * 400);
    copies.push(copy(&daemon, &load, COPIES));
    let mut last = 0;
    for (database, answered) in copies {
        let counted = database.counters(ALICE).map_or(0, |counters| counters.msg_total);
        assert!(counted >= answered.max(last), "{counted} counted, {answered} answered");
        assert_eq!(database.rows("messages"), counted, "a batch is there as a whole");
        assert_eq!(database.select(&["integrity_check"], "FROM pragma_integrity_check"), [["ok"]]);
        last = counted;
    }
    assert_eq!(last, 8 * 400);
}
