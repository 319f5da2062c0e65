//! Sockets that systemd (or another supervisor) opened and handed over, taken by their number; names mean nothing here.

use std::io;

use listenfd::ListenFd;
use socket2::SockRef;

use super::error::Error;
use super::listener::Listener;

/// Takes all sockets that were handed over to this process, in order. Each must listen, on TCP or on a unix stream.
///
/// Changes the environment (LISTEN_PID and LISTEN_FDS go), so it must be called before the process has a second thread.
pub(super) fn take() -> Result<Vec<Listener>, Error> {
    let mut handed_over = ListenFd::from_env();
    (0..handed_over.len()).map(|index| take_one(&mut handed_over, index)).collect()
}

fn take_one(handed_over: &mut ListenFd, index: usize) -> Result<Listener, Error> {
    let unfit = |source: io::Error| Error::Inherited { number: index + 1, source };
    // listenfd closes them to other programs, but leaves them blocking, which an asynchronous accept cannot use.
    let listener = if let Ok(Some(listener)) = handed_over.take_unix_listener(index) {
        Listener::Unix(listener)
    } else if let Ok(Some(listener)) = handed_over.take_tcp_listener(index) {
        Listener::Tcp(listener)
    } else {
        return Err(unfit(io::Error::other("it is neither a TCP nor a unix stream socket")));
    };
    let socket = SockRef::from(&listener);
    if !socket.is_listener().map_err(unfit)? {
        return Err(unfit(io::Error::other("it does not listen (Accept=yes is not supported)")));
    }
    socket.set_nonblocking(true).map_err(unfit)?;
    Ok(listener)
}
