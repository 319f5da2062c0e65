//! Log files: opened, unpacked if they are gzip'd, cut into lines of bounded length, and merged by the times of their lines,
//! so that rotated files and those of several programs may be named in any order, and several that hold the same lines.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::bufread::MultiGzDecoder;
use jiff::tz::TimeZone;
use lru::LruCache;
use memchr::memchr;

use super::cause::Cause;
use super::line::{self, Content, Line, Unread};
use super::postfix::Event;
use super::stamp::{Milliseconds, Stamps};
use super::{MAX_LINE, bounded};
use crate::policy::duration;

/// The file name that means standard input.
pub const STDIN: &str = "-";
const BUFFER: usize = 64 * 1024;
/// The same text in two logs within this time is one line: one of them may be cut to the second, or written later.
const SAME_LINE: Milliseconds = 2_000;
/// The most texts that are compared with what other logs hold.
const MAX_COMPARED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(50_000);

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot open {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot read {name}, line {line}: {source}")]
    Read { name: String, line: u64, source: io::Error },
    #[error("{name} is packed with {with}; unpack it: `{with} -dc {name} | policyd-rate-guard replay -`")]
    Packed { name: String, with: &'static str },
}

/// An open log.
#[derive(Debug)]
pub struct Opened {
    name: String,
    file: Source,
    /// When it was last written to, in Unix seconds.
    changed: i64,
    size: Option<u64>,
}

#[derive(Debug)]
enum Source {
    File(File),
    Stdin(io::Stdin),
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::File(file) => file.read(buffer),
            Source::Stdin(stdin) => stdin.read(buffer),
        }
    }
}

/// Opens a log; `-` is standard input. Nothing is read of it yet.
pub fn open(path: &Path, now: i64) -> Result<Opened, ReadError> {
    let name = path.display().to_string();
    if name == STDIN {
        return Ok(Opened {
            name: "standard input".into(),
            file: Source::Stdin(io::stdin()),
            changed: now,
            size: None,
        });
    }
    let opened = File::open(path).and_then(|file| {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let since =
            metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH).duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = duration::seconds(since);
        Ok(Opened { name, changed, size: metadata.is_file().then_some(metadata.len()), file: Source::File(file) })
    });
    opened.map_err(|source| ReadError::Open { path: path.to_owned(), source })
}

/// How much has been read; shared with the thread that shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of the files, packed as they are.
    pub bytes: AtomicU64,
    pub lines: AtomicU64,
    /// Of all files together; None if one has no size.
    pub size: Option<u64>,
}

impl Progress {
    pub fn of(opened: &[Opened]) -> Progress {
        Progress { size: opened.iter().map(|opened| opened.size).sum(), ..Progress::default() }
    }
}

/// How many lines of which kind were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub lines: u64,
    pub postfix: u64,
    pub decisions: u64,
    pub policyd: u64,
    pub other: u64,
    /// Without a time that can be read, and not on mail.
    pub unknown: u64,
    /// The first of them.
    pub first_unknown: Option<Place>,
    /// Lines that look like lines on mail, and are not understood.
    pub missed: u64,
    pub first_missed: Option<Missed>,
    /// Lines that were left out because another log had them.
    pub repeated: u64,
    /// Messages that clients began at Postfix, and how many of them with a login.
    pub clients: u64,
    pub logins: u64,
    /// Refusals that a daemon left out of its log.
    pub left_out: u64,
    /// How often the log daemon noted that it dropped lines.
    pub dropped: u64,
}

/// A line's file and number, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    pub line: u64,
}

/// A line on mail that was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    pub place: Place,
    pub text: String,
    pub cause: Cause,
}

/// All lines of some logs in the order of their times.
pub struct Merged {
    logs: Vec<Log>,
    heads: BinaryHeap<Reverse<(Milliseconds, usize)>>,
    compared: LruCache<u64, Compared>,
    pub counts: Counts,
    progress: Arc<Progress>,
}

impl Merged {
    /// Times without a zone are in `zone`.
    pub fn new(opened: Vec<Opened>, zone: &TimeZone, progress: Arc<Progress>) -> Result<Merged, ReadError> {
        let logs =
            opened.into_iter().map(|opened| Log::new(opened, zone, &progress)).collect::<Result<Vec<Log>, _>>()?;
        let (heads, compared) = (BinaryHeap::new(), LruCache::new(MAX_COMPARED));
        let mut merged = Merged { logs, heads, compared, counts: Counts::default(), progress };
        for at in 0..merged.logs.len() {
            merged.advance(at)?;
        }
        // If a log was rotated within a second, the lines of the older file come first.
        merged.logs.sort_by_key(|log| log.head.as_ref().map(|head| head.at));
        let heads = merged.logs.iter().enumerate();
        merged.heads = heads.filter_map(|(at, log)| Some(Reverse((log.head.as_ref()?.at, at)))).collect();
        Ok(merged)
    }

    /// Returns the next line that tells something. None at the end of all logs.
    pub fn next_line(&mut self) -> Result<Option<Line>, ReadError> {
        while let Some(Reverse((_, at))) = self.heads.pop() {
            let line = self.logs.get_mut(at).and_then(|log| log.head.take());
            self.advance(at)?;
            if let Some(line) = line.filter(|line| !self.is_repeated(at, line) && self.counts.take(line)) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// Whether another log had this line.
    fn is_repeated(&mut self, log: usize, line: &Line) -> bool {
        if self.logs.len() < 2
            || matches!(line.content, Content::Other | Content::Dropped | Content::Postfix(Event::Nothing))
        {
            return false;
        }
        let seen = self.compared.get_or_insert_mut(line.fingerprint, || Compared::new(line.at));
        if line.at.abs_diff(seen.at) > SAME_LINE.unsigned_abs() {
            *seen = Compared::new(line.at);
        }
        let repeated = seen.is_repeated(log);
        self.counts.repeated += u64::from(repeated);
        repeated
    }

    /// Reads a log's next line with a time.
    fn advance(&mut self, at: usize) -> Result<(), ReadError> {
        let Some(log) = self.logs.get_mut(at) else { return Ok(()) };
        while log.read_line()? {
            self.counts.lines += 1;
            self.progress.lines.store(self.counts.lines, Ordering::Relaxed);
            let text = String::from_utf8_lossy(&log.line);
            let place = || Place { file: log.name.clone(), line: log.number };
            match line::read(&mut log.stamps, &text) {
                Ok(head) => {
                    self.heads.push(Reverse((head.at, at)));
                    log.head = Some(head);
                    break;
                }
                Err(Unread::Missed(cause)) => {
                    self.counts.missed += 1;
                    let first = || Missed { place: place(), text: bounded(&text), cause };
                    self.counts.first_missed.get_or_insert_with(first);
                }
                Err(Unread::NoTime) if text.trim().is_empty() => {}
                Err(Unread::NoTime) => {
                    self.counts.unknown += 1;
                    self.counts.first_unknown.get_or_insert_with(place);
                }
            }
        }
        Ok(())
    }
}

/// How often a text was read in each log.
#[derive(Debug)]
struct Compared {
    at: Milliseconds,
    by_log: Vec<(usize, u32)>,
    /// How often it was passed on: as often as it was read in one log at most.
    passed_on: u32,
}

impl Compared {
    fn new(at: Milliseconds) -> Compared {
        Compared { at, by_log: Vec::new(), passed_on: 0 }
    }

    /// Counts the text once more for this log. A text that stands twice in one log was logged twice.
    fn is_repeated(&mut self, log: usize) -> bool {
        let times = match self.by_log.iter_mut().find(|(known, _)| *known == log) {
            Some((_, times)) => {
                *times += 1;
                *times
            }
            None => {
                self.by_log.push((log, 1));
                1
            }
        };
        let repeated = times <= self.passed_on;
        self.passed_on = self.passed_on.max(times);
        repeated
    }
}

impl Counts {
    /// Returns how many lines of Postfix and of policy daemons were understood.
    pub fn understood(&self) -> u64 {
        self.postfix + self.decisions + self.policyd
    }

    /// Counts a line. Returns whether it tells something of a message.
    fn take(&mut self, line: &Line) -> bool {
        self.left_out = self.left_out.saturating_add(line.left_out);
        match &line.content {
            Content::Postfix(told) => {
                self.postfix += 1;
                if let Event::Client { login, .. } | Event::Filtered { login, .. } = told {
                    self.clients += 1;
                    self.logins += u64::from(!login.is_empty());
                }
                *told != Event::Nothing
            }
            Content::Decided(_) => {
                self.decisions += 1;
                true
            }
            Content::Policyd(_) => {
                self.policyd += 1;
                true
            }
            Content::Dropped | Content::Other => {
                self.other += 1;
                self.dropped += u64::from(line.content == Content::Dropped);
                false
            }
        }
    }
}

/// One log that is read line by line.
struct Log {
    name: String,
    bytes: Box<dyn BufRead + Send>,
    stamps: Stamps,
    line: Vec<u8>,
    number: u64,
    head: Option<Line>,
}

impl Log {
    fn new(opened: Opened, zone: &TimeZone, progress: &Arc<Progress>) -> Result<Log, ReadError> {
        let Opened { name, file, changed, .. } = opened;
        let bytes = unpacked(&name, Counted { source: file, progress: progress.clone() })?;
        let stamps = Stamps::new(zone.clone(), changed);
        Ok(Log { name, bytes, stamps, line: Vec::new(), number: 0, head: None })
    }

    /// Reads the next line, or as much of it as is looked at. Returns false at the end.
    fn read_line(&mut self) -> Result<bool, ReadError> {
        self.number += 1;
        bounded_line(&mut self.bytes, &mut self.line).map_err(|source| ReadError::Read {
            name: self.name.clone(),
            line: self.number,
            source,
        })
    }
}

/// Puts the next line, without its newline and cut at [`MAX_LINE`], into `line`. Returns false at the end of the input.
fn bounded_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let bytes = match input.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.is_empty() {
            return Ok(any);
        }
        any = true;
        let newline = memchr(b'\n', bytes);
        let piece = bytes.get(..newline.unwrap_or(bytes.len())).unwrap_or(bytes);
        let room = MAX_LINE.saturating_sub(line.len());
        line.extend_from_slice(piece.get(..room).unwrap_or(piece));
        let taken = piece.len() + usize::from(newline.is_some());
        input.consume(taken);
        if newline.is_some() {
            return Ok(true);
        }
    }
}

/// Returns the bytes of a log, unpacked if they begin as gzip's do.
fn unpacked(name: &str, mut source: Counted) -> Result<Box<dyn BufRead + Send>, ReadError> {
    let mut begin = Vec::new();
    source.by_ref().take(6).read_to_end(&mut begin).map_err(|source| ReadError::Read {
        name: name.to_owned(),
        line: 1,
        source,
    })?;
    let packed = |magic: &[u8]| begin.starts_with(magic);
    let others: [(&[u8], &'static str); 3] =
        [(&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"), (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"), (b"BZh", "bzip2")];
    if let Some((_, with)) = others.into_iter().find(|(magic, _)| packed(magic)) {
        return Err(ReadError::Packed { name: name.to_owned(), with });
    }
    let gzip = packed(&[0x1f, 0x8b]);
    let whole: Chain<Cursor<Vec<u8>>, Counted> = Cursor::new(begin).chain(source);
    let whole = BufReader::with_capacity(BUFFER, whole);
    Ok(if gzip { Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(whole))) } else { Box::new(whole) })
}

/// Counts the bytes that are read.
struct Counted {
    source: Source,
    progress: Arc<Progress>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.progress.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn gzip(text: &str) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    }

    fn log(number: u32, at: &str) -> String {
        format!("2026-11-21T{at}+00:00 mx postfix/qmgr[1]: 4XyZ{number:04}: removed\n")
    }

    /// The ids in the order in which they come.
    fn merged(files: &[Vec<u8>]) -> Result<(Vec<String>, Counts), ReadError> {
        let folder = tempfile::tempdir().unwrap();
        let open = |(number, bytes): (usize, &Vec<u8>)| {
            let path = folder.path().join(number.to_string());
            std::fs::write(&path, bytes).unwrap();
            open(&path, 0)
        };
        let opened = files.iter().enumerate().map(open).collect::<Result<Vec<_>, _>>()?;
        let progress = Arc::new(Progress::of(&opened));
        let mut merged = Merged::new(opened, &TimeZone::UTC, progress.clone())?;
        let mut ids = Vec::new();
        while let Some(line) = merged.next_line()? {
            let Content::Postfix(Event::Removed { id }) = line.content else { panic!("{line:?}") };
            ids.push(id);
        }
        assert_eq!(Some(progress.bytes.load(Ordering::Relaxed)), progress.size);
        Ok((ids, merged.counts))
    }

    #[test]
    fn files_in_any_order_packed_or_not_are_merged_by_time() {
        let late = log(3, "09:00:00") + &log(5, "11:00:00");
        let mut early = gzip(&log(1, "07:00:00"));
        early.extend(gzip(&(log(2, "08:00:00") + "not a line of a log\n\n" + &log(4, "10:00:00"))));
        let (ids, counts) = merged(&[late.into_bytes(), Vec::new(), early]).unwrap();
        assert_eq!(ids, ["4XyZ0001", "4XyZ0002", "4XyZ0003", "4XyZ0004", "4XyZ0005"]);
        assert_eq!((counts.lines, counts.postfix, counts.unknown), (7, 5, 1));
        assert_eq!(counts.first_unknown.unwrap().line, 3);
    }

    #[test]
    fn a_line_in_several_logs_is_one_and_twice_in_one_log_is_two() {
        let said = |at: &str, head: &str| format!("2026-11-21T{at}+00:00 {head} postfix/qmgr[1]: 4XyZ0001: removed\n");
        let in_journal = r#"{"__REALTIME_TIMESTAMP":"1795248000900000","SYSLOG_IDENTIFIER":"postfix/qmgr","MESSAGE":"4XyZ0001: removed"}"#;
        for (logs, lines) in [
            (vec![said("08:00:00", "mx"), said("08:00:00.7", "mail.info")], 1),
            (vec![said("08:00:00", "mx"), in_journal.to_owned(), said("08:00:01", "mx")], 1),
            (vec![said("08:00:00", "mx").repeat(2), said("08:00:00", "mx")], 2),
            (vec![said("08:00:00", "mx").repeat(2), said("08:00:00", "mx").repeat(3)], 3),
            (vec![said("08:00:00", "mx"), said("08:00:03", "mx")], 2),
            (vec![said("08:00:00", "mx").repeat(2)], 2),
        ] {
            let bytes: Vec<Vec<u8>> = logs.iter().map(|log| log.clone().into_bytes()).collect();
            let (ids, counts) = merged(&bytes).unwrap();
            assert_eq!(ids.len(), lines, "{logs:?}");
            assert_eq!(counts.repeated + counts.postfix, counts.lines);
        }
    }

    #[test]
    fn the_first_line_on_mail_that_is_not_understood_is_kept() {
        let text =
            log(1, "07:00:00") + "Okt 21 08:00:00 mx postfix/qmgr[1]: 4XyZ0002: removed\n" + "no line of a log\n";
        let (_, counts) = merged(&[text.into_bytes()]).unwrap();
        assert_eq!((counts.postfix, counts.missed, counts.unknown), (1, 1, 1));
        let Missed { place, text, cause } = counts.first_missed.unwrap();
        assert_eq!((place.line, cause), (2, Cause::Language));
        assert!(text.starts_with("Okt 21"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let truncated = gzip(&log(1, "07:00:00").repeat(1000));
        let error = merged(&[truncated[..truncated.len() / 2].to_vec()]).unwrap_err().to_string();
        assert!(error.starts_with("cannot read ") && error.contains(", line "), "{error}");
        let error = merged(&[b"\xfd7zXZ\0\0\0".to_vec()]).unwrap_err().to_string();
        assert!(error.contains("`xz -dc "), "{error}");
        let error = open(Path::new("/nonexistent/mail.log"), 0).unwrap_err().to_string();
        assert!(error.starts_with("cannot open /nonexistent/mail.log: "), "{error}");
        assert!(open(Path::new("/"), 0).is_err());
    }

    #[test]
    fn a_line_is_cut_and_its_rest_is_no_line() {
        let text = format!("{}\nshort\n{}", "x".repeat(3 * BUFFER), "y".repeat(MAX_LINE + 1));
        let mut input = BufReader::with_capacity(100, text.as_bytes());
        let mut line = Vec::new();
        let mut lengths = Vec::new();
        while bounded_line(&mut input, &mut line).unwrap() {
            lengths.push(line.len());
        }
        assert_eq!(lengths, [MAX_LINE, 5, MAX_LINE]);
    }
}
