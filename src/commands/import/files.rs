//! The files that an import writes: whole or not at all, and readable for the daemon.
//!
//! This runs as root, and the folder may be another user's. So the folder is opened once, by a path that no other user can
//! turn elsewhere; no link in it is followed, what is new is made under a name that was free, and owners and permissions are
//! changed of open files, never by name.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use serde::Serialize;

use crate::config::{self, Sources};
use crate::exit::{Exit, Failed};
use crate::system;
use crate::system::privileges::{self, Identity};
use crate::system::sockets::directory::Directory;

/// A new file's permissions: it may hold a password, and the daemon reads it through its group.
const MODE: u32 = 0o640;
/// The largest file that is read, in bytes. Lists of logins may be long.
const MAX_FILE: u64 = 64 << 20;

/// A file in the report.
#[derive(Debug, Serialize)]
pub struct ChangedFile {
    pub path: PathBuf,
    /// One for each line that is added or changed.
    pub changes: Vec<String>,
}

/// Where a file is, or is to be.
#[derive(Debug)]
pub struct Place {
    pub path: PathBuf,
    folder: Directory,
    name: OsString,
}

/// A file as it is to be.
#[derive(Debug)]
pub struct Planned {
    pub place: Place,
    pub text: String,
    /// One for each line that is added or changed; empty where the file is good as it is.
    pub changes: Vec<String>,
    /// Whether it is the settings file.
    pub is_settings: bool,
}

impl Place {
    /// # Errors
    /// The folder is missing, or root cannot be sure which one it is.
    pub fn new(path: PathBuf) -> Result<Place, Failed> {
        let failed = |error: &dyn std::fmt::Display| {
            Failed::new(Exit::IoError, format_args!("cannot write {}: {error}", path.display()))
        };
        let whole = std::path::absolute(&path).map_err(|error| failed(&error))?;
        let (Some(parent), Some(name)) = (whole.parent(), whole.file_name()) else {
            return Err(failed(&"it is a directory"));
        };
        let folder = Directory::existing(parent).map_err(|error| failed(&error))?;
        Ok(Place { folder, name: name.to_owned(), path })
    }

    /// The file's text; empty if there is no file.
    pub fn read(&self) -> Result<String, Failed> {
        let text = self.open().and_then(|file| file.map_or_else(|| Ok(String::new()), |file| text_of(&file)));
        text.map_err(|error| Failed::new(Exit::IoError, format_args!("cannot read {}: {error}", self.path.display())))
    }

    /// Opens the file; `None` if there is none.
    fn open(&self) -> io::Result<Option<File>> {
        // Another user's named pipe would never open.
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(self.folder.pinned(&self.name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => {
                return Err(io::Error::other("it is a symbolic link; name the file that it leads to"));
            }
            Err(error) => return Err(error),
        };
        match file.metadata()?.is_file() {
            true => Ok(Some(file)),
            false => Err(io::Error::other("it is not a regular file")),
        }
    }

    /// The name with this ending, in the same folder.
    fn beside(&self, ending: &str) -> OsString {
        [&self.name, OsStr::new("."), OsStr::new(ending)].into_iter().collect()
    }
}

fn text_of(file: &File) -> io::Result<String> {
    let mut text = String::new();
    let read = file.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

impl Planned {
    /// What is to be changed of it, for the report.
    pub fn changed(&self) -> ChangedFile {
        ChangedFile { path: self.place.path.clone(), changes: self.changes.clone() }
    }

    /// A list file with these lines beside those that it has.
    pub fn list(place: Place, lines: &[String]) -> Result<Planned, Failed> {
        let mut text = place.read()?;
        let missing: Vec<String> =
            lines.iter().filter(|line| !text.lines().any(|known| known == *line)).cloned().collect();
        if !missing.is_empty() && !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        missing.iter().for_each(|line| text.extend([line.as_str(), "\n"]));
        Ok(Planned { place, text, changes: missing, is_settings: false })
    }

    /// Writes the file beside its place, checks it if it is the settings file, keeps a copy of the old one, and puts it there.
    /// As root a new file is readable for `group`.
    pub fn write(&self, group: Option<u32>) -> Result<(), Failed> {
        let Place { path, folder, .. } = &self.place;
        let failed = |name: &OsStr, error: io::Error| {
            let path = path.with_file_name(name);
            Failed::new(Exit::IoError, format_args!("cannot write {}: {error}", path.display()))
        };
        let (draft, kept) = (self.place.beside("new"), self.place.beside("before-import"));
        let known = self.place.open().map_err(|error| failed(&self.place.name, error))?;
        let written = self.write_draft(&draft, known.as_ref(), group).map_err(|error| failed(&draft, error));
        if let Err(error) = written.and_then(|()| self.check(&path.with_file_name(&draft))) {
            let _ = fs::remove_file(folder.pinned(&draft));
            return Err(error);
        }
        if let Some(known) = known {
            self.keep(&kept, known).map_err(|error| failed(&kept, error))?;
        }
        fs::rename(folder.pinned(&draft), folder.pinned(&self.place.name))
            .map_err(|error| failed(&self.place.name, error))
    }

    fn write_draft(&self, draft: &OsStr, known: Option<&File>, group: Option<u32>) -> io::Result<()> {
        match fs::remove_file(self.place.folder.pinned(draft)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.create(draft)?;
        match known {
            Some(known) => make_like(&file, known)?,
            None if privileges::is_root() => fchown(&file, Some(0), group)?,
            None => {}
        }
        (&file).write_all(self.text.as_bytes())?;
        file.sync_all()
    }

    /// Copies the file as it was, unless there is a copy: of several imports the first one's is the operator's own file.
    fn keep(&self, kept: &OsStr, known: File) -> io::Result<()> {
        let copy = match self.create(kept) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            created => created?,
        };
        make_like(&copy, &known)?;
        io::copy(&mut &known, &mut &copy)?;
        copy.sync_all()
    }

    /// A new file. That the name must be free also means that no link is followed.
    fn create(&self, name: &OsStr) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(MODE).open(self.place.folder.pinned(name))
    }

    /// A settings file that cannot be used is none to put in place.
    fn check(&self, draft: &Path) -> Result<(), Failed> {
        if self.is_settings {
            config::load(&Sources::from_process(Some(draft.to_owned()), privileges::is_root(), system::host_name()))
                .map_err(|error| Failed::new(Exit::Config, error))?;
        }
        Ok(())
    }
}

/// Copies permissions and, as root, owner and group from `known` to a new file.
fn make_like(new: &File, known: &File) -> io::Result<()> {
    let known = known.metadata()?;
    if privileges::is_root() {
        fchown(new, Some(known.uid()), Some(known.gid()))?;
    }
    new.set_permissions(known.permissions())
}

/// The group that reads what an import writes as root: that of the settings file, else that of the usual USER.
pub fn readers(settings: &Place) -> Option<u32> {
    let of_settings = || settings.open().ok()??.metadata().ok().map(|settings| settings.gid());
    let of_user = || Identity::resolve("postfix", None).ok().map(|identity| identity.gid.as_raw());
    privileges::is_root().then(|| of_settings().or_else(of_user)).flatten()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A list in a folder of its own, to which a line is to be added.
    fn planned(folder: &Path) -> Result<Planned, Failed> {
        Planned::list(Place::new(folder.join("allowlist"))?, &["boss".to_owned()])
    }

    #[test]
    fn no_link_in_the_folder_is_followed() {
        let place = tempfile::tempdir().unwrap();
        let (folder, elsewhere) = (place.path().join("folder"), place.path().join("elsewhere"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("allowlist"), "known\n").unwrap();
        for name in ["allowlist.new", "allowlist.before-import"] {
            symlink(&elsewhere, folder.join(name)).unwrap();
        }
        planned(&folder).unwrap().write(None).unwrap();
        assert!(!elsewhere.exists(), "nothing is made through a link that leads nowhere");
        assert_eq!(fs::read_to_string(folder.join("allowlist")).unwrap(), "known\nboss\n");

        fs::write(&elsewhere, "precious\n").unwrap();
        fs::remove_file(folder.join("allowlist")).unwrap();
        symlink(&elsewhere, folder.join("allowlist")).unwrap();
        let refused = planned(&folder).unwrap_err().message;
        assert!(refused.contains("symbolic link; name the file that it leads to"), "{refused}");
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious\n");
    }

    #[test]
    fn a_folder_that_is_moved_meanwhile_is_still_the_one_that_was_looked_at() {
        let place = tempfile::tempdir().unwrap();
        let (folder, away, other) =
            (place.path().join("folder"), place.path().join("away"), place.path().join("other"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&other).unwrap();
        let planned = planned(&folder).unwrap();
        fs::rename(&folder, &away).unwrap();
        symlink(&other, &folder).unwrap();
        planned.write(None).unwrap();
        assert!(away.join("allowlist").exists() && fs::read_dir(&other).unwrap().next().is_none());
    }

    #[test]
    fn the_copy_is_as_closed_as_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allowlist");
        fs::write(&path, "known\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        planned(folder.path()).unwrap().write(None).unwrap();
        for name in ["allowlist", "allowlist.before-import"] {
            assert_eq!(fs::metadata(folder.path().join(name)).unwrap().mode() & 0o7777, 0o600, "{name}");
        }
        assert_eq!(fs::read_to_string(folder.path().join("allowlist.before-import")).unwrap(), "known\n");
        assert!(!folder.path().join("allowlist.new").exists());
    }
}
