//! A listening socket, and its name.

use std::ffi::OsStr;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use socket2::SockRef;

/// Connections that may wait to be accepted, such as those made during a restart. The kernel lowers it to
/// net.core.somaxconn.
pub const BACKLOG: i32 = 4096;

/// A listening socket, not blocking, as an asynchronous runtime takes it over.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}

/// The name of the unix socket at a path.
pub fn unix_name(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// The name of a socket that was handed over, from its own address.
pub fn name(listener: &Listener) -> io::Result<String> {
    match listener {
        Listener::Tcp(listener) => Ok(format!("inet:{}", listener.local_addr()?)),
        Listener::Unix(listener) => {
            let address = SockRef::from(listener).local_addr()?;
            Ok(match (address.as_pathname(), address.as_abstract_namespace()) {
                (Some(path), _) => unix_name(path),
                (None, Some(name)) => format!("unix:@{}", OsStr::from_bytes(name).display()),
                (None, None) => "unix:(unnamed)".to_owned(),
            })
        }
    }
}
