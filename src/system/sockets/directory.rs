//! Opens the directory of a unix socket, or of a file that root writes, so that root never works in a directory that somebody
//! else has chosen.
//!
//! USER owns the directory that this program makes, and may own others on the way: with a symbolic link planted there,
//! a plain path would let root bind, change owners and remove files anywhere. So root goes down the path one descriptor
//! at a time, never through a link that another user could have made, and all that follows is relative to the descriptor.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat};
use nix::unistd::fchownat;

use super::error::Error;
use crate::system::privileges::{Identity, is_root};

/// For walking and for work relative to a directory; needs no right to read it.
const WALK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// As many links as Linux itself follows in one path.
const MAX_LINKS: u32 = 40;
const NEW_DIRECTORY_MODE: u32 = 0o755;
/// A sibling that is starting holds the lock for a few system calls only.
const LOCK_ATTEMPTS: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(1);
/// How long a start waits for one that never ends.
#[cfg(test)]
pub(super) const LOCK_LIMIT: Duration = LOCK_PAUSE.saturating_mul(LOCK_ATTEMPTS);

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    descriptor: OwnedFd,
    /// Only root, or this process's own user, can make its path lead elsewhere.
    steady: bool,
}

impl Directory {
    /// Opens `path`, which is absolute; a missing last directory is made with mode 0755.
    ///
    /// As root, a directory made here is given to `owner`; an existing one stays as it is.
    pub(super) fn open(path: &Path, owner: Option<&Identity>) -> Result<Directory, Error> {
        if is_root() { walk(path, Missing::Made(owner)) } else { open_plainly(path, true) }
    }

    /// Opens `path`, which is absolute and must be there.
    ///
    /// # Errors
    /// It is not there; or root would follow a link that another user could have made.
    pub fn existing(path: &Path) -> Result<Directory, Error> {
        if is_root() { walk(path, Missing::Refused) } else { open_plainly(path, false) }
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// A path for an entry that leads into this very directory, whatever its real path now leads to.
    pub fn pinned(&self, name: &OsStr) -> PathBuf {
        proc_path(&self.descriptor).join(name)
    }

    pub(super) fn is_steady(&self) -> bool {
        self.steady
    }

    /// Opens an entry without following it. None if it does not exist.
    pub(super) fn entry(&self, name: &OsStr) -> nix::Result<Option<OwnedFd>> {
        match openat(&self.descriptor, name, WALK, Mode::empty()) {
            Ok(entry) => Ok(Some(entry)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps other starting daemons away from the directory until the result is dropped.
    ///
    /// The lock is on the directory itself, so that no lock file is left behind. Every user that may read the
    /// directory can hold it too. That must not keep this daemon from starting: the wait ends after half a second, without the lock.
    pub(super) fn lock(&self) -> Option<File> {
        let readable = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let file = File::from(openat(&self.descriptor, ".", readable, Mode::empty()).ok()?);
        for _ in 0..LOCK_ATTEMPTS {
            match file.try_lock() {
                Ok(()) => return Some(file),
                Err(fs::TryLockError::WouldBlock) => sleep(LOCK_PAUSE),
                Err(fs::TryLockError::Error(_)) => return None,
            }
        }
        None
    }
}

/// A path to what a descriptor has open, also one that was opened for walking only.
pub(super) fn proc_path(descriptor: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

/// The kind of file, without its permissions.
pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Changes the owner of an open file (O_PATH is enough) to USER and GROUP.
pub(super) fn give(descriptor: impl AsFd, owner: &Identity) -> nix::Result<()> {
    fchownat(descriptor, "", Some(owner.uid), Some(owner.gid), AtFlags::AT_EMPTY_PATH)
}

/// Without root's rights there is nothing to be tricked into: the kernel's own permission checks are enough.
fn open_plainly(path: &Path, make: bool) -> Result<Directory, Error> {
    let failed = |source: Errno| Error::Directory { path: path.to_owned(), source: source.into() };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let descriptor = match open(path, flags, Mode::empty()) {
        Err(Errno::ENOENT) if make => {
            let made = fs::create_dir(path).and_then(|()| fs::set_permissions(path, new_directory_permissions()));
            made.map_err(|source| Error::Directory { path: path.to_owned(), source })?;
            open(path, flags, Mode::empty())
        }
        result => result,
    };
    Ok(Directory { descriptor: descriptor.map_err(failed)?, steady: true })
}

/// What is to be done about a missing last directory.
#[derive(Debug, Clone, Copy)]
enum Missing<'a> {
    Refused,
    /// Made, and given to this user, if to any.
    Made(Option<&'a Identity>),
}

fn walk(path: &Path, missing: Missing<'_>) -> Result<Directory, Error> {
    let mut steps = Steps::default();
    steps.push(path);
    let mut links = 0;
    let mut here = root_directory()?;
    // What has been walked, for messages.
    let mut walked = PathBuf::from("/");
    while let Some(name) = steps.next() {
        let at = walked.join(&name);
        let failed = |source: Errno| Error::Directory { path: at.clone(), source: source.into() };
        let around = fstat(&here.descriptor).map_err(failed)?;
        let entry = match here.entry(&name).map_err(failed)? {
            Some(entry) => entry,
            None => match missing {
                Missing::Made(owner) if steps.is_done() => make(&here, &name, &at, owner)?,
                _ => return Err(failed(Errno::ENOENT)),
            },
        };
        let stat = fstat(&entry).map_err(failed)?;
        match kind(&stat) {
            SFlag::S_IFDIR => {
                here = Directory { steady: here.steady && cannot_be_moved(&around, &stat), descriptor: entry };
                walked = at;
            }
            SFlag::S_IFLNK => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(failed(Errno::ELOOP));
                }
                if !(only_root_writes(&around) && stat.st_uid == 0) {
                    return Err(Error::PlantedLink { path: at });
                }
                let target = PathBuf::from(readlinkat(&entry, "").map_err(failed)?);
                if target.is_absolute() {
                    here = root_directory()?;
                    walked = PathBuf::from("/");
                }
                steps.push(&target);
            }
            _ => return Err(failed(Errno::ENOTDIR)),
        }
    }
    Ok(here)
}

/// Names still to be walked, the next one last.
#[derive(Default)]
struct Steps(Vec<OsString>);

impl Steps {
    /// Puts the names of `path` before what is left.
    fn push(&mut self, path: &Path) {
        let names = path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        });
        let at = self.0.len();
        self.0.extend(names);
        if let Some(new) = self.0.get_mut(at..) {
            new.reverse();
        }
    }

    fn next(&mut self) -> Option<OsString> {
        self.0.pop()
    }

    fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}

fn root_directory() -> Result<Directory, Error> {
    let descriptor = open("/", WALK | OFlag::O_DIRECTORY, Mode::empty())
        .map_err(|source| Error::Directory { path: "/".into(), source: source.into() })?;
    Ok(Directory { descriptor, steady: true })
}

/// Makes a directory and gives it to `owner`, unless another was put in its place meanwhile.
fn make(parent: &Directory, name: &OsStr, path: &Path, owner: Option<&Identity>) -> Result<OwnedFd, Error> {
    let failed = |source| Error::Directory { path: path.to_owned(), source };
    let mode = Mode::from_bits_truncate(NEW_DIRECTORY_MODE);
    match mkdirat(&parent.descriptor, name, mode) {
        Ok(()) => {}
        // Another process made it just now: it exists.
        Err(Errno::EEXIST) => return opened(parent, name, path),
        Err(error) => return Err(failed(error.into())),
    }
    let made = opened(parent, name, path)?;
    let stat = fstat(&made).map_err(|error| failed(error.into()))?;
    // In a directory that others can write, the new name may already stand for something else. An empty directory of
    // root's is all that is ever given away.
    let is_ours = kind(&stat) == SFlag::S_IFDIR
        && stat.st_uid == 0
        && fs::read_dir(proc_path(&made)).map_err(failed)?.next().is_none();
    if !is_ours {
        return Err(Error::Replaced { path: path.to_owned() });
    }
    fs::set_permissions(proc_path(&made), new_directory_permissions()).map_err(failed)?;
    if let Some(owner) = owner {
        give(&made, owner).map_err(|source| Error::Give {
            path: path.to_owned(),
            user: owner.user.clone(),
            source: source.into(),
        })?;
    }
    Ok(made)
}

/// Said once more after a directory was made, since the umask may have taken bits away.
fn new_directory_permissions() -> Permissions {
    Permissions::from_mode(NEW_DIRECTORY_MODE)
}

fn opened(parent: &Directory, name: &OsStr, path: &Path) -> Result<OwnedFd, Error> {
    openat(&parent.descriptor, name, WALK, Mode::empty())
        .map_err(|source| Error::Directory { path: path.to_owned(), source: source.into() })
}

/// Whether only root can add, remove or rename the entries of a directory.
fn only_root_writes(directory: &FileStat) -> bool {
    directory.st_uid == 0 && directory.st_mode & 0o022 == 0
}

/// Whether only root can put something else in the place of this entry. In a sticky directory like /tmp, entries of
/// root's cannot be moved by others.
fn cannot_be_moved(directory: &FileStat, entry: &FileStat) -> bool {
    let sticky = directory.st_mode & Mode::S_ISVTX.bits() != 0;
    only_root_writes(directory) || (directory.st_uid == 0 && sticky && entry.st_uid == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(steps: &mut Steps) -> Vec<OsString> {
        std::iter::from_fn(|| steps.next()).collect()
    }

    #[test]
    fn a_links_target_is_walked_before_the_rest_of_the_path() {
        let mut steps = Steps::default();
        steps.push(Path::new("/var/run/./policyd"));
        assert_eq!(steps.next().unwrap(), "var");
        assert_eq!(steps.next().unwrap(), "run");
        steps.push(Path::new("../run/x"));
        assert_eq!(names(&mut steps), ["..", "run", "x", "policyd"]);
        assert!(steps.is_done());
    }

    #[test]
    fn a_held_lock_is_released_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path(), None).unwrap();
        let lock = directory.lock();
        assert!(lock.is_some());
        drop(lock);
        assert!(directory.lock().is_some());
    }
}
