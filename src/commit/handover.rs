//! What was asked before a clean stop, for the next daemon: a message between DATA and END-OF-MESSAGE must not count twice
//! because the daemon was restarted. The one that stops leaves it in a file of the state directory; the one that starts takes
//! it, removes the file first, and so never reads it twice. A crash leaves nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use super::deduplication::Deduplication;
use super::deduplication::kept;

const FILE: &str = "asked.jsonl";
/// The largest file that is read, in bytes: more than what is ever remembered takes, which is bounded in memory.
const MAX_FILE: u64 = 256 << 20;
/// What is in it decides what is counted.
const MODE: u32 = 0o600;

/// The place of the file.
#[derive(Debug)]
pub struct Handover {
    path: PathBuf,
}

impl Handover {
    pub fn new(state_directory: &Path) -> Handover {
        Handover { path: state_directory.join(FILE) }
    }

    /// Takes what the last daemon left, at this time in Unix seconds; nothing if there is nothing that can be used.
    pub fn take(&self, now: i64) -> Deduplication {
        let path = self.path.display();
        match self.read(now) {
            Ok(None) => Deduplication::default(),
            Ok(Some(known)) => {
                log::debug!("{path}: {} messages were asked about in the last hour", known.len());
                known
            }
            Err(error) => {
                log::warn!("{path}: {error}. What is asked about again after this restart is counted again");
                Deduplication::default()
            }
        }
    }

    /// Leaves what is known to the next daemon. `elapsed` is the time since start.
    pub fn leave(&self, known: &Deduplication, elapsed: Duration, now: i64) {
        if known.is_empty() {
            return;
        }
        if let Err(error) = self.write(known, elapsed, now) {
            log::warn!(
                "{}: cannot be written: {error}. What is asked about again after a restart is counted again; STATE_DIRECTORY names \
                 another folder",
                self.path.display()
            );
        }
    }

    fn read(&self, now: i64) -> Result<Option<Deduplication>, kept::Unread> {
        // Neither through a link nor from a pipe: where there is no state directory it is the current one.
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            return Err(io::Error::other("it is not a file that only this daemon's user may write").into());
        }
        fs::remove_file(&self.path)?;
        kept::read(BufReader::new(file.take(MAX_FILE)), now).map(Some)
    }

    fn write(&self, known: &Deduplication, elapsed: Duration, now: i64) -> io::Result<()> {
        let draft = self.path.with_extension("new");
        if let Err(error) = fs::remove_file(&draft)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let file: File = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&draft)?;
        let mut to = BufWriter::new(file);
        kept::write(known, &mut to, elapsed, now)?;
        to.flush()?;
        fs::rename(&draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::Arc;

    use super::*;
    use crate::commit::deduplication::News;
    use crate::limiter::verdict::{FailOpen, Verdict};
    use crate::protocol::request::{Event, Parser, Request};

    const NOW: i64 = 1_800_000_000;

    fn request() -> Arc<Request> {
        match Parser::default().feed(b"protocol_state=DATA\nrecipient_count=3\ninstance=a.b.0\n\n").1 {
            Some(Event::Request(Ok(request))) => Arc::from(request),
            other => panic!("{other:?}"),
        }
    }

    fn known() -> Deduplication {
        let mut known = Deduplication::default();
        let asked = known.asked("alice", &request());
        known.remember(&asked, &Verdict::InDoubt(FailOpen::CommitUnknown), true, Duration::ZERO);
        known
    }

    fn is_known(known: &Deduplication) -> bool {
        matches!(known.news(&known.asked("alice", &request())), News::Nothing(_))
    }

    #[test]
    fn what_one_leaves_the_next_takes_once() {
        let folder = tempfile::tempdir().unwrap();
        let handover = Handover::new(folder.path());
        assert!(!is_known(&handover.take(NOW)), "nothing was left");
        fs::write(folder.path().join("asked.new"), "of a daemon that was killed while it wrote").unwrap();
        handover.leave(&known(), Duration::from_secs(9), NOW);
        let mode = folder.path().join(FILE).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        assert!(is_known(&handover.take(NOW + 5)));
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "it is removed");
        assert!(!is_known(&handover.take(NOW + 5)));
        handover.leave(&Deduplication::default(), Duration::ZERO, NOW);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "there is nothing to leave");
        Handover::new(Path::new("/nowhere")).leave(&known(), Duration::ZERO, NOW);
    }

    #[test]
    fn what_others_may_write_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let handover = Handover::new(folder.path());
        let path = folder.path().join(FILE);
        handover.leave(&known(), Duration::ZERO, NOW);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o622)).unwrap();
        assert!(!is_known(&handover.take(NOW)));
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(!is_known(&handover.take(NOW)));
        fs::remove_file(&path).unwrap();
        fs::rename(&elsewhere, &path).unwrap();
        assert!(is_known(&handover.take(NOW)));
        fs::create_dir(&path).unwrap();
        assert!(!is_known(&handover.take(NOW)));
    }
}
