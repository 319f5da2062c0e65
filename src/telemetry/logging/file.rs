//! The log file: appended to, one write per batch, opened anew after a rotation.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;
use log::Level;

use super::line::Line;
use super::queue::Queue;
use super::writer::{LineStream, Sink, Tell};

pub(super) struct LogFile {
    path: PathBuf,
    stream: LineStream<File>,
    tell: Tell,
    /// Trouble is told once, and not again until a write has worked.
    failing: bool,
}

impl LogFile {
    /// Opens the file as the current user, creating it readable for owner and group.
    pub fn open(path: PathBuf, tell: Tell) -> io::Result<LogFile> {
        Ok(LogFile { stream: LineStream::new(open(&path)?), path, tell, failing: false })
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

impl Sink for LogFile {
    fn write(&mut self, lines: &[Arc<Line>], _: &Queue) -> usize {
        let zone = TimeZone::system();
        let mut text = String::new();
        lines.iter().for_each(|line| line.write_stamped(&zone, &mut text));
        match self.stream.write(text) {
            Ok(()) => {
                self.failing = false;
                0
            }
            Err((missing, problem)) => {
                if !self.failing {
                    self.failing = true;
                    let path = self.path.display();
                    (self.tell)(
                        Level::Error,
                        format!("cannot write the log file {path}: {problem}; its lines are lost until that is mended"),
                    );
                }
                missing
            }
        }
    }

    fn reopen(&mut self) {
        match open(&self.path) {
            Ok(file) => self.stream = LineStream::new(file),
            Err(problem) => {
                let path = self.path.display();
                (self.tell)(
                    Level::Error,
                    format!("cannot open the log file {path} anew: {problem}; lines go on into the old one"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc;

    struct Rig {
        dir: tempfile::TempDir,
        path: PathBuf,
        sink: LogFile,
        told: mpsc::Receiver<String>,
    }

    fn rig() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guard.log");
        let (tell, told) = mpsc::channel();
        let sink = LogFile::open(path.clone(), Box::new(move |_, text| tell.send(text).unwrap())).unwrap();
        Rig { dir, path, sink, told }
    }

    fn write(sink: &mut LogFile, text: &str) -> usize {
        sink.write(&[Arc::new(Line::new(Level::Info, format_args!("{text}")))], &Queue::new(0))
    }

    #[test]
    fn lines_are_appended_and_others_may_not_read_them() {
        let Rig { dir: _dir, path, mut sink, .. } = rig();
        fs::write(&path, "before\n").unwrap();
        assert_eq!(write(&mut sink, "after"), 0);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("before\n") && text.ends_with(" INFO after\n"), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
    }

    #[test]
    fn lines_go_on_in_the_new_file_after_a_rotation() {
        let Rig { dir, path, mut sink, .. } = rig();
        let old = dir.path().join("guard.log.1");
        write(&mut sink, "one");
        fs::rename(&path, &old).unwrap();
        write(&mut sink, "two");
        sink.reopen();
        write(&mut sink, "three");
        assert_eq!(fs::read_to_string(&old).unwrap().lines().count(), 2);
        assert!(fs::read_to_string(&path).unwrap().ends_with(" INFO three\n"));
    }

    #[test]
    fn the_old_file_is_kept_when_the_new_one_cannot_be_opened() {
        let Rig { dir, path, mut sink, told } = rig();
        let old = dir.path().join("guard.log.1");
        fs::rename(&path, &old).unwrap();
        fs::create_dir(&path).unwrap();
        sink.reopen();
        assert!(told.recv().unwrap().contains("guard.log anew: Is a directory"));
        assert_eq!(write(&mut sink, "on"), 0);
        assert!(fs::read_to_string(&old).unwrap().ends_with(" INFO on\n"));
    }

    #[test]
    fn a_full_disk_is_told_once_and_its_lines_are_counted() {
        let (tell, told) = mpsc::channel();
        let mut sink = LogFile::open("/dev/full".into(), Box::new(move |_, text| tell.send(text).unwrap())).unwrap();
        assert_eq!((write(&mut sink, "a"), write(&mut sink, "b")), (1, 1));
        assert!(told.recv().unwrap().contains("No space left on device"));
        assert!(told.try_recv().is_err());
    }
}
