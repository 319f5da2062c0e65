//! Connections as they are accepted: what a new one gets, and what a failed accept means.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use socket2::{SockRef, TcpKeepalive};

/// When a silent TCP peer is first asked whether it is still there. An idle smtpd hangs up after five minutes by itself.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(600);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_PROBES: u32 = 5;

/// Prepares an accepted TCP connection: a dead peer is noticed, and a reply is sent at once.
pub fn configure_accepted(connection: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(connection);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES),
    )
}

/// What to do after accept(2) failed. There is no error that ends the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptError {
    /// It concerned the one connection, which is gone: accept the next.
    Continue,
    /// It will be the same at once: wait a little, so that the loop does not spin, and try again.
    BackOff,
}

/// Tells an error of one connection from one of the process or the system, such as no more descriptors or memory.
pub fn accept_error(error: &io::Error) -> AcceptError {
    let Some(code) = error.raw_os_error() else { return AcceptError::BackOff };
    match Errno::from_raw(code) {
        Errno::ECONNABORTED | Errno::ECONNRESET | Errno::ETIMEDOUT | Errno::EPERM => AcceptError::Continue,
        Errno::EINTR | Errno::EAGAIN => AcceptError::Continue,
        // accept(2): Linux reports errors of the new connection here, to be treated like EAGAIN.
        Errno::EPROTO | Errno::ENOPROTOOPT | Errno::ENETDOWN | Errno::ENETUNREACH => AcceptError::Continue,
        Errno::EHOSTDOWN | Errno::EHOSTUNREACH | Errno::ENONET => AcceptError::Continue,
        _ => AcceptError::BackOff,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn one_connections_error_does_not_delay_the_next() {
        for errno in [Errno::ECONNABORTED, Errno::EINTR, Errno::EPROTO, Errno::EAGAIN, Errno::EPERM] {
            assert_eq!(accept_error(&io::Error::from(errno)), AcceptError::Continue, "{errno}");
        }
    }

    #[test]
    fn an_exhausted_system_is_given_time() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM] {
            assert_eq!(accept_error(&io::Error::from(errno)), AcceptError::BackOff, "{errno}");
        }
    }

    #[test]
    fn an_unknown_error_never_spins() {
        assert_eq!(accept_error(&io::Error::from(Errno::EINVAL)), AcceptError::BackOff);
        assert_eq!(accept_error(&io::Error::other("unknown")), AcceptError::BackOff);
    }

    #[test]
    fn an_accepted_connection_has_keep_alive() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        configure_accepted(&accepted).unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.keepalive().unwrap());
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
    }
}
