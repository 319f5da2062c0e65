//! Which SQLite file the running daemon counts in. One that was removed or replaced it notices by itself; but after a change of
//! DB_DATABASE, or where its unit sees other files than an operator does, each speaks of a file of its own.

use std::path::{Path, PathBuf};

use super::Finding;

/// A file that a process has open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// As the kernel tells it, with ` (deleted)` at its end if that is so.
    pub path: PathBuf,
    /// Device and inode.
    pub inode: (u64, u64),
}

/// Compares what the daemon has open with the file at `path`. None if it has that one open, or no database at all.
pub fn judge(path: &Path, at_path: (u64, u64), open: &[Open]) -> Option<Finding> {
    let name = |open: &Open| open.path.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    let names: Vec<String> = open.iter().map(name).collect();
    // A database has its log beside it.
    let mut databases =
        open.iter().zip(&names).filter(|(_, name)| names.contains(&format!("{name}-wal"))).map(|(open, _)| open);
    let counts_in = databases.next()?;
    if open.iter().any(|open| open.inode == at_path) {
        return None;
    }
    Some(Finding::problem(
        "other-file",
        format!("{}: the running daemon counts in another file, {}", path.display(), counts_in.path.display()),
        "What this and every other command shows and changes has no effect on mail.",
        "restart the daemon, which takes a changed DB_DATABASE only then. If both names are the same: its unit has a /tmp of its own \
         and does not see everything; move the file below /var/lib/policyd-rate-guard"
            .to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_daemon_that_has_another_database_open_is_found() {
        let open = |path: &str, inode| Open { path: path.into(), inode: (1, inode) };
        let judged = |at_path, open: &[Open]| judge(Path::new("/lib/a.db"), (1, at_path), open).map(|found| found.what);
        let same = [open("/dev/null", 1), open("/lib/a.db", 7), open("/lib/a.db-wal", 8), open("socket:[7]", 3)];
        assert_eq!(judged(7, &same), None);
        let told = judged(9, &same).unwrap();
        assert_eq!(told, "/lib/a.db: the running daemon counts in another file, /lib/a.db");
        let removed = [open("/lib/a.db (deleted)", 7), open("/lib/a.db-wal (deleted)", 8)];
        assert!(judged(9, &removed).unwrap().ends_with("/lib/a.db (deleted)"));
        // It may still have the file open that it has left.
        assert_eq!(judged(9, &[&removed[..], &[open("/lib/a.db", 9), open("/lib/a.db-wal", 10)]].concat()), None);
        assert_eq!(judged(9, &[open("/var/log/mail.log", 4)]), None, "while it is away no file is open");
    }
}
