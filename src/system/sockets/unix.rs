//! Unix sockets of our own: made with the right owner and mode, never in the place of something that is in use.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{Uid, UnlinkatFlags, unlinkat};
use socket2::{Domain, SockAddr, Socket, Type};

use super::directory::{Directory, give, kind, proc_path};
use super::error::Error;
use super::listener::{BACKLOG, unix_name};
use crate::system::privileges::Identity;

/// No other user may connect until the socket has its owner and mode.
const MODE_UNTIL_READY: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
/// What fits into a unix socket's address, beside its final NUL.
const MAX_ADDRESS: usize = 107;

/// The file of a unix socket that this process made, to be removed when it ends.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    directory: Directory,
    name: OsString,
    inode: (u64, u64),
}

impl SocketPath {
    /// Where the socket is, as it was asked for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file if it is still this socket's, and says whether it was.
    ///
    /// Call it *before* the listener is closed: until then the socket answers, so that no other daemon takes its place, and
    /// its inode's number is not used again. Fails where the process may not write the directory, which does no harm:
    /// the next start replaces a dead socket.
    pub fn remove(&self) -> io::Result<bool> {
        let directory = self.directory.descriptor();
        match fstatat(directory, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if inode(&stat) == self.inode => {}
            Ok(_) | Err(Errno::ENOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        unlinkat(directory, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
        Ok(true)
    }
}

/// Listens on `path`, with `mode` and, as root, owned by `owner`. A missing directory is made; a dead socket is replaced.
///
/// Two daemons that start at once must not both find the same dead socket and remove each other's new one, so finding,
/// removing and binding happen under a lock on the directory.
pub(super) fn bind(path: &Path, mode: u32, owner: Option<&Identity>) -> Result<(UnixListener, SocketPath), Error> {
    let failed = |source: io::Error| Error::Bind { name: unix_name(path), source };
    let path = std::path::absolute(path).map_err(failed)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(Errno::EISDIR.into()));
    };
    let directory = Directory::open(parent, owner)?;
    let lock = directory.lock();
    remove_dead(&directory, name, &path)?;

    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None).map_err(failed)?;
    // Linux makes the file with the mode of the socket's own inode. A umask would do the same, for all threads at once.
    fchmod(&socket, MODE_UNTIL_READY).map_err(|error| failed(error.into()))?;
    let address = SockAddr::unix(address(&directory, name, &path)).map_err(failed)?;
    socket.bind(&address).map_err(failed)?;

    let (entry, stat) = made_here(&directory, name, &path, owner)?;
    let name = name.to_owned();
    let made = SocketPath { path: path.clone(), directory, name, inode: inode(&stat) };
    let opened_up = open_up(&entry, &path, mode, owner).and_then(|()| socket.listen(BACKLOG).map_err(failed));
    drop(lock);
    if let Err(error) = opened_up {
        made.remove().ok();
        return Err(error);
    }
    Ok((socket.into(), made))
}

/// The address to bind: the plain path, which is what `ss -xl` shows to people, unless it is too long or somebody could
/// make it lead elsewhere meanwhile.
fn address(directory: &Directory, name: &OsStr, path: &Path) -> PathBuf {
    if directory.is_steady() && path.as_os_str().as_bytes().len() <= MAX_ADDRESS {
        path.to_owned()
    } else {
        directory.pinned(name)
    }
}

/// Opens the file that bind(2) made. As root, makes sure that the owner of the directory has not replaced it since.
fn made_here(
    directory: &Directory,
    name: &OsStr,
    path: &Path,
    owner: Option<&Identity>,
) -> Result<(std::os::fd::OwnedFd, FileStat), Error> {
    let failed = |source: Errno| Error::Bind { name: unix_name(path), source: source.into() };
    let replaced = || Error::Replaced { path: path.to_owned() };
    let entry = directory.entry(name).map_err(failed)?.ok_or_else(replaced)?;
    let stat = fstat(&entry).map_err(failed)?;
    if kind(&stat) != SFlag::S_IFSOCK || (owner.is_some() && !can_only_be_ours(&stat)) {
        return Err(replaced());
    }
    Ok((entry, stat))
}

/// A file of our own under one name only: nothing that another user could have made, moved or linked here.
fn can_only_be_ours(stat: &FileStat) -> bool {
    stat.st_uid == Uid::effective().as_raw() && stat.st_nlink == 1
}

/// Changes the socket's owner, then its permissions to `mode`, so that others can connect only after that.
fn open_up(entry: &std::os::fd::OwnedFd, path: &Path, mode: u32, owner: Option<&Identity>) -> Result<(), Error> {
    if let Some(owner) = owner {
        give(entry, owner).map_err(|source| Error::Give {
            path: path.to_owned(),
            user: owner.user.clone(),
            source: source.into(),
        })?;
    }
    fs::set_permissions(proc_path(entry), Permissions::from_mode(mode))
        .map_err(|source| Error::Bind { name: unix_name(path), source })
}

/// Removes a socket on which no process listens. Anything else stays, and is an error.
fn remove_dead(directory: &Directory, name: &OsStr, path: &Path) -> Result<(), Error> {
    let failed = |source: io::Error| Error::Dead { path: path.to_owned(), source };
    let Some(entry) = directory.entry(name).map_err(|error| failed(error.into()))? else { return Ok(()) };
    let found = fstat(&entry).map_err(|error| failed(error.into()))?;
    if kind(&found) != SFlag::S_IFSOCK {
        return Err(Error::NotASocket { path: path.to_owned(), kind: kind_name(kind(&found)) });
    }
    if is_alive(&proc_path(&entry)).map_err(failed)? {
        return Err(Error::InUse { name: unix_name(path) });
    }
    // Only what was asked and did not answer.
    let now = fstatat(directory.descriptor(), name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|e| failed(e.into()))?;
    if inode(&now) != inode(&found) {
        return Err(Error::Replaced { path: path.to_owned() });
    }
    unlinkat(directory.descriptor(), name, UnlinkatFlags::NoRemoveDir).map_err(|error| failed(error.into()))
}

/// Whether a process listens on a socket. Only a refused connection proves that none does.
fn is_alive(path: &Path) -> io::Result<bool> {
    // Not blocking: a full backlog is alive too.
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    let Err(error) = probe.connect(&SockAddr::unix(path)?) else { return Ok(true) };
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => Ok(false),
        // The last: a living socket of another type.
        Some(Errno::EAGAIN | Errno::EINPROGRESS | Errno::EPROTOTYPE) => Ok(true),
        _ => Err(error),
    }
}

fn inode(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn kind_name(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFREG => "regular file",
        SFlag::S_IFDIR => "directory",
        SFlag::S_IFLNK => "symbolic link",
        SFlag::S_IFIFO => "named pipe",
        _ => "device",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::sync::Barrier;
    use std::time::Instant;

    use super::super::directory::LOCK_LIMIT;
    use super::*;

    /// A directory of the test's own, and a path in it.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policyd");
        (folder, path)
    }

    #[test]
    fn the_socket_has_its_mode_and_answers() {
        let (_folder, path) = place();
        let (listener, _made) = bind(&path, 0o660, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o660);
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let _client = UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
    }

    #[test]
    fn the_file_is_closed_to_others_from_its_first_moment() {
        let (_folder, path) = place();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        fchmod(&socket, MODE_UNTIL_READY).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn the_plain_path_is_what_people_see() {
        let (_folder, path) = place();
        let (listener, _made) = bind(&path, 0o660, None).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(path.as_path()));
    }

    #[test]
    fn a_path_longer_than_an_address_works() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x".repeat(150)).join("policyd");
        let (_listener, made) = bind(&path, 0o660, None).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
        assert!(made.remove().unwrap());
    }

    #[test]
    fn a_missing_directory_is_made_but_not_a_missing_tree() {
        let folder = tempfile::tempdir().unwrap();
        bind(&folder.path().join("rateguard/policyd"), 0o660, None).unwrap();
        assert_eq!(fs::metadata(folder.path().join("rateguard")).unwrap().mode() & 0o7777, 0o755);
        let error = bind(&folder.path().join("a/b/policyd"), 0o660, None).unwrap_err();
        assert!(matches!(error, Error::Directory { .. }), "{error}");
        assert!(!folder.path().join("a").exists());
    }

    #[test]
    fn a_dead_socket_is_replaced() {
        let (_folder, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        let (_listener, _made) = bind(&path, 0o660, None).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_living_socket_stays() {
        let (_folder, path) = place();
        let living = UnixListener::bind(&path).unwrap();
        let error = bind(&path, 0o660, None).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        let _client = UnixStream::connect(&path).unwrap();
        // The probe's connection, then the client's.
        living.accept().unwrap();
        living.accept().unwrap();
    }

    #[test]
    fn a_living_socket_with_a_full_backlog_stays() {
        let (_folder, path) = place();
        let living = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        living.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        living.listen(0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        assert!(matches!(bind(&path, 0o660, None), Err(Error::InUse { .. })));
    }

    #[test]
    fn a_living_socket_of_another_type_stays() {
        let (_folder, path) = place();
        let _living = UnixDatagram::bind(&path).unwrap();
        assert!(matches!(bind(&path, 0o660, None), Err(Error::InUse { .. })));
        assert!(path.exists());
    }

    #[test]
    fn nothing_but_a_socket_is_ever_removed() {
        let (folder, path) = place();
        let refused = |expected: &str| match bind(&path, 0o660, None) {
            Err(Error::NotASocket { kind, .. }) => assert_eq!(kind, expected),
            other => panic!("{other:?}"),
        };
        fs::write(&path, "precious").unwrap();
        refused("regular file");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();

        fs::create_dir(&path).unwrap();
        refused("directory");
        fs::remove_dir(&path).unwrap();

        // A link to a dead socket, or to nothing, is not a dead socket.
        let elsewhere = folder.path().join("elsewhere");
        drop(UnixListener::bind(&elsewhere).unwrap());
        symlink(&elsewhere, &path).unwrap();
        refused("symbolic link");
        fs::remove_file(&elsewhere).unwrap();
        refused("symbolic link");
        assert!(!elsewhere.exists());
    }

    #[test]
    fn the_file_is_removed_at_the_end_only_if_it_is_still_ours() {
        let (_folder, path) = place();
        let (listener, made) = bind(&path, 0o660, None).unwrap();
        fs::remove_file(&path).unwrap();
        let successor = UnixListener::bind(&path).unwrap();
        assert!(!made.remove().unwrap());
        assert!(path.exists());
        drop((listener, successor));

        let (_listener, made) = bind(&path, 0o660, None).unwrap();
        assert!(made.remove().unwrap());
        assert!(!path.exists());
        assert!(!made.remove().unwrap());
    }

    #[test]
    fn what_took_the_new_sockets_place_is_never_given_away() {
        let (folder, path) = place();
        let directory = Directory::open(folder.path(), None).unwrap();
        let owner = Identity::resolve("nobody", None).unwrap();
        let check = || made_here(&directory, OsStr::new("policyd"), &path, Some(&owner));
        assert!(matches!(check(), Err(Error::Replaced { .. })));

        let _listener = UnixListener::bind(&path).unwrap();
        let (_, mut stat) = check().unwrap();
        stat.st_uid += 1;
        assert!(!can_only_be_ours(&stat));

        // Another socket of ours that was linked here, a file, and a link to one.
        let elsewhere = folder.path().join("elsewhere");
        fs::hard_link(&path, &elsewhere).unwrap();
        assert!(matches!(check(), Err(Error::Replaced { .. })));
        fs::remove_file(&path).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(matches!(check(), Err(Error::Replaced { .. })));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(check(), Err(Error::Replaced { .. })));
    }

    #[test]
    fn a_start_waits_for_another_in_the_directory_but_not_for_ever() {
        let (folder, path) = place();
        let _other = Directory::open(folder.path(), None).unwrap().lock().unwrap();
        let before = Instant::now();
        let (_listener, _made) = bind(&path, 0o660, None).unwrap();
        assert!(before.elapsed() >= LOCK_LIMIT);
    }

    #[test]
    fn of_many_that_start_at_once_one_gets_the_dead_socket() {
        let (_folder, path) = place();
        for _ in 0..100 {
            drop(UnixListener::bind(&path).unwrap());
            let ready = Barrier::new(4);
            let start = || {
                ready.wait();
                bind(&path, 0o660, None)
            };
            let results: Vec<_> = std::thread::scope(|scope| {
                let starts: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                starts.into_iter().map(|start| start.join().unwrap()).collect()
            });
            let winners: Vec<_> = results.into_iter().filter_map(Result::ok).collect();
            assert_eq!(winners.len(), 1);
            // And it is the one that clients reach.
            let _client = UnixStream::connect(&path).unwrap();
            while winners[0].0.accept().is_ok_and(|(_, peer)| peer.is_unnamed()) {}
            assert!(winners[0].1.remove().unwrap());
        }
    }
}
