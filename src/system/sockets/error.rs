//! Why the daemon cannot listen.

use std::io;
use std::path::PathBuf;

/// Why the daemon cannot listen as it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("SOCKET names nothing to listen on")]
    Nothing,
    #[error("cannot listen on {name}: {source}{}", advice(source))]
    Bind { name: String, source: io::Error },
    #[error("another process listens on {name}; stop it, or change SOCKET")]
    InUse { name: String },
    #[error("{path} is a {kind}, not a socket, and is left alone; remove it, or change SOCKET")]
    NotASocket { path: PathBuf, kind: &'static str },
    #[error("cannot replace the socket {path}, which may be in use: {source}")]
    Dead { path: PathBuf, source: io::Error },
    #[error("cannot open the directory {path}: {source}; create it, or name another")]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "root does not follow the symbolic link {path}, which another user could have put there; \
         name the directory that it leads to, or start as USER"
    )]
    PlantedLink { path: PathBuf },
    #[error("somebody replaced {path} while it was being set up; look who may write its directory, then start again")]
    Replaced { path: PathBuf },
    #[error("cannot give {path} to user {user}: {source}")]
    Give { path: PathBuf, user: String, source: io::Error },
    #[error("cannot use socket number {number} of those handed over at start: {source}; see the socket unit")]
    Inherited { number: usize, source: io::Error },
}

/// What to do about the usual errors of bind(2).
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; start as root, or choose a place where this user may",
        io::ErrorKind::AddrNotAvailable => "; no network interface has this address",
        io::ErrorKind::AddrInUse => "; another process was quicker",
        _ => "",
    }
}
