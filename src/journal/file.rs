//! The file of the journal. Blocking: the committer has it read and written on threads for that.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record::{self, Found, HEADER, Header, MAX_PAYLOAD, MAX_RECORD};

/// Its name in the state directory.
const NAME: &str = "outage.journal";
/// Where a file goes that is no journal, or one of another version, and what follows a damaged record. One such file is kept.
const ASIDE: &str = "outage.journal.unreadable";
/// How much is read at once, in bytes.
pub const CHUNK: usize = 8 * MAX_PAYLOAD;

/// The open file. It is locked for as long as it is open: two daemons never share one.
#[derive(Debug)]
pub struct JournalFile {
    file: File,
    path: PathBuf,
}

/// What the file held when it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// The journal's own number.
    pub journal: i64,
    pub records: u64,
    /// Where the last record ends, in bytes from the beginning of the file.
    pub end: u64,
    /// How many bytes behind it were cut off, since they were no whole record.
    pub cut: u64,
    /// Whether there are whole records among them: then it was no power cut that damaged the first.
    pub damaged: bool,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another daemon uses it")]
    InUse,
    #[error("it is no journal of this version")]
    Foreign,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Where the journal is in a state directory.
pub fn path(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

/// Where in a state directory there is what could not be read, if anything.
pub fn aside(directory: &Path) -> PathBuf {
    directory.join(ASIDE)
}

impl JournalFile {
    /// Opens the journal of a state directory, made with the number `fresh` if there is none. Every payload in it is shown
    /// to `see`; what follows the last whole record before any damage is cut off, and kept aside if there are others in it.
    ///
    /// # Errors
    /// The directory or file cannot be read and written, or another daemon has it. A file that is no journal of this version is
    /// renamed, and a new one takes its place.
    pub fn open(directory: &Path, fresh: i64, mut see: impl FnMut(&[u8])) -> Result<(JournalFile, Held), OpenError> {
        let path = path(directory);
        match JournalFile::existing(&path)?.begun(fresh, &mut see) {
            Err(OpenError::Foreign) => {
                let aside = aside(directory);
                std::fs::rename(&path, &aside)?;
                log::error!("{}: no journal of this version; renamed to {}", path.display(), aside.display());
                JournalFile::existing(&path)?.begun(fresh, &mut see)
            }
            opened => opened,
        }
    }

    /// Looks at the journal of a state directory without changing it. None if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is no journal of this version.
    pub fn look(directory: &Path, see: impl FnMut(&[u8])) -> Result<Option<Held>, OpenError> {
        let path = path(directory);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        JournalFile { file, path }.held(see)
    }

    fn existing(path: &Path) -> Result<JournalFile, OpenError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(JournalFile { file, path: path.to_owned() }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// The file with a whole header and whole records.
    fn begun(self, fresh: i64, see: impl FnMut(&[u8])) -> Result<(JournalFile, Held), OpenError> {
        if let Some(held) = self.held(see)? {
            if held.damaged {
                let kept = match self.keep_aside(held.end) {
                    Ok(aside) => format!("they are kept in {}", aside.display()),
                    Err(error) => format!("they could not be kept: {error}"),
                };
                let path = self.path.display();
                log::error!(
                    "{path}: a record is damaged; the {} bytes from it on will not be charged, {kept}",
                    held.cut
                );
            }
            self.file.set_len(held.end)?;
            return Ok((self, held));
        }
        self.begin_anew(fresh)?;
        // The file's name must outlast a power cut as well.
        File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
        Ok((self, Held { journal: fresh, end: HEADER as u64, ..Held::default() }))
    }

    /// What is in the file. None if nothing was ever written to the end.
    fn held(&self, mut see: impl FnMut(&[u8])) -> Result<Option<Held>, OpenError> {
        let journal = match record::read_header(&self.read(0, HEADER)?) {
            Header::Journal(journal) => journal,
            Header::Unfinished => return Ok(None),
            Header::Foreign => return Err(OpenError::Foreign),
        };
        let mut held = Held { journal, end: HEADER as u64, ..Held::default() };
        loop {
            let bytes = self.read(held.end, CHUNK)?;
            let (mut rest, before) = (bytes.as_slice(), held.records);
            while let Found::Record { payload, length } = record::read(rest, journal) {
                see(payload);
                held.records += 1;
                held.end += length as u64;
                rest = rest.get(length..).unwrap_or_default();
            }
            if held.records == before {
                held.cut = self.file.metadata()?.len().saturating_sub(held.end);
                held.damaged = self.has_record_behind(held.end, journal)?;
                return Ok(Some(held));
            }
        }
    }

    /// Whether a whole record begins anywhere behind a place.
    fn has_record_behind(&self, mut from: u64, journal: i64) -> io::Result<bool> {
        loop {
            let bytes = self.read(from, CHUNK)?;
            let found = record::is_any_in(&bytes, journal);
            if found || bytes.len() < CHUNK {
                return Ok(found);
            }
            // The last one may not be there to its end.
            from += (CHUNK - MAX_RECORD) as u64;
        }
    }

    /// Copies what is behind a place to the file for what cannot be read, in place of what is there, and returns its path.
    pub fn keep_aside(&self, from: u64) -> io::Result<PathBuf> {
        let path = aside(self.path.parent().unwrap_or(Path::new("/")));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let mut copied = 0;
        loop {
            let bytes = self.read(from + copied, CHUNK)?;
            if bytes.is_empty() {
                file.sync_all()?;
                return Ok(path);
            }
            file.write_all_at(&bytes, copied)?;
            copied += bytes.len() as u64;
        }
    }

    /// Reads up to `most` bytes from a place on; fewer only at the end of the file.
    pub fn read(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; most];
        let mut filled = 0;
        while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.file.read_at(room, offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Writes records behind the last one, which ends at `end`, and has the disk keep them.
    ///
    /// # Errors
    /// They are not kept for certain. What was there before is.
    pub fn append(&self, end: u64, records: &[u8]) -> io::Result<()> {
        // Nothing may stand behind them: a disk writes late what nobody waited for any more.
        if self.file.metadata()?.len() > end {
            self.file.set_len(end)?;
        }
        self.file.write_all_at(records, end).and_then(|()| self.file.sync_data()).inspect_err(|_| {
            // Else it would stand before what is written next. It is tried again then.
            let _ = self.file.set_len(end);
        })
    }

    /// Empties the file: it is the journal of another number from now on.
    pub fn begin_anew(&self, journal: i64) -> io::Result<()> {
        self.file.set_len(0)?;
        // Before the header, or a power cut could leave the old records behind it.
        self.file.sync_all()?;
        self.file.write_all_at(&record::header(journal), 0)?;
        self.file.sync_all()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// In a record, a place within its payload.
    const IN_PAYLOAD: usize = 9;

    fn open(directory: &Path, fresh: i64) -> Result<(JournalFile, Held, Vec<Vec<u8>>), OpenError> {
        let mut seen = Vec::new();
        let (file, held) = JournalFile::open(directory, fresh, |payload| seen.push(payload.to_vec()))?;
        Ok((file, held, seen))
    }

    fn records(journal: i64, payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        payloads.iter().for_each(|payload| assert!(record::write(&mut bytes, journal, payload)));
        bytes
    }

    #[test]
    fn what_was_appended_is_there_when_it_is_opened_again_up_to_a_torn_tail() {
        let directory = tempfile::tempdir().unwrap();
        let (file, held, seen) = open(directory.path(), 7).unwrap();
        assert_eq!((held.journal, held.records, held.end, seen.len()), (7, 0, HEADER as u64, 0));
        let bytes = records(7, &[b"one", &[2; 3 * MAX_PAYLOAD / 4], b"three"]);
        file.append(held.end, &bytes).unwrap();
        let end = held.end + bytes.len() as u64;
        let torn = records(7, &[b"four"]);
        file.append(end, &torn[..torn.len() - 1]).unwrap();
        drop(file);
        let looked = JournalFile::look(directory.path(), |_| {}).unwrap().unwrap();
        let (file, held, seen) = open(directory.path(), 8).unwrap();
        assert_eq!(held, Held { journal: 7, records: 3, end, cut: torn.len() as u64 - 1, damaged: false });
        assert_eq!((looked, seen[2].as_slice()), (held, b"three".as_slice()));
        assert_eq!(file.file.metadata().unwrap().len(), end, "the tail is cut off");
        assert!(!aside(directory.path()).exists());
        file.begin_anew(9).unwrap();
        drop(file);
        assert_eq!(open(directory.path(), 8).unwrap().1, Held { journal: 9, end: HEADER as u64, ..Held::default() });
    }

    #[test]
    fn a_journal_of_many_chunks_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let (file, held, _) = open(directory.path(), 7).unwrap();
        let payloads: Vec<Vec<u8>> = (0..100).map(|number| vec![number; 1 + number as usize * 300]).collect();
        let bytes = records(7, &payloads.iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert!(bytes.len() > 4 * CHUNK);
        file.append(held.end, &bytes).unwrap();
        drop(file);
        assert_eq!(open(directory.path(), 8).unwrap().2, payloads);
    }

    #[test]
    fn what_follows_a_damaged_record_is_kept_aside() {
        let directory = tempfile::tempdir().unwrap();
        let (file, held, _) = open(directory.path(), 7).unwrap();
        let first = records(7, &[b"one"]);
        // The record behind it lies across the end of a chunk, wherever that is looked for.
        let mut rest = records(7, &[b"two"]);
        rest.extend(vec![0; 2 * CHUNK - MAX_RECORD - MAX_PAYLOAD / 2]);
        rest.extend(records(7, &[&[3; MAX_PAYLOAD]]));
        rest[IN_PAYLOAD] ^= 1;
        file.append(held.end, &[&first[..], &rest].concat()).unwrap();
        drop(file);
        let end = held.end + first.len() as u64;
        let expected = Held { journal: 7, records: 1, end, cut: rest.len() as u64, damaged: true };
        assert_eq!(JournalFile::look(directory.path(), |_| {}).unwrap(), Some(expected));
        let (file, held, seen) = open(directory.path(), 8).unwrap();
        assert_eq!((held, seen), (expected, vec![b"one".to_vec()]));
        assert_eq!(fs::read(aside(directory.path())).unwrap(), rest);
        assert_eq!(file.file.metadata().unwrap().len(), end);
        drop(file);
        assert!(!open(directory.path(), 8).unwrap().1.damaged);
    }

    #[test]
    fn two_daemons_do_not_share_a_journal() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path(), 1).unwrap();
        assert!(matches!(open(directory.path(), 2), Err(OpenError::InUse)));
        drop(first);
        open(directory.path(), 3).unwrap();
    }

    #[test]
    fn another_version_is_put_aside_and_a_header_that_was_cut_off_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(directory.path());
        fs::write(&path, "policyd-rate-guard journal 2\nmore of it").unwrap();
        assert!(matches!(JournalFile::look(directory.path(), |_| {}), Err(OpenError::Foreign)));
        assert_eq!(open(directory.path(), 1).unwrap().1.journal, 1);
        assert!(fs::read_to_string(directory.path().join(ASIDE)).unwrap().ends_with("more of it"));
        for cut in 0..HEADER {
            fs::write(&path, &record::header(5)[..cut]).unwrap();
            assert_eq!(open(directory.path(), 6).unwrap().1.journal, 6);
        }
    }

    #[test]
    fn what_was_written_late_does_not_stand_behind_what_takes_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let (file, held, _) = open(directory.path(), 1).unwrap();
        file.append(held.end, &records(1, &[b"one that is late", b"another", b"a third"])).unwrap();
        let bytes = records(1, &[b"one"]);
        file.append(held.end, &bytes).unwrap();
        drop(file);
        let (_, reopened, seen) = open(directory.path(), 2).unwrap();
        let end = held.end + bytes.len() as u64;
        assert_eq!((reopened, seen), (Held { records: 1, end, ..held }, vec![b"one".to_vec()]));
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let (file, held, _) = open(directory.path(), 1).unwrap();
        let bytes = records(1, &[b"one"]);
        file.append(held.end, &bytes).unwrap();
        let end = held.end + bytes.len() as u64;
        let read_only = JournalFile { file: File::open(&file.path).unwrap(), path: file.path.clone() };
        read_only.append(end, &bytes).unwrap_err();
        file.append(end, &records(1, &[b"two"])).unwrap();
        drop(file);
        assert_eq!(open(directory.path(), 2).unwrap().2, [b"one", b"two"]);
        let error = open(&directory.path().join("missing"), 1).unwrap_err();
        assert!(matches!(error, OpenError::Io(error) if error.kind() == io::ErrorKind::NotFound));
    }
}
