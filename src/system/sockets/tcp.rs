//! TCP sockets of our own.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

use super::listener::BACKLOG;

/// Listens on this address. An IPv6 wildcard takes IPv4 along unless `only_v6`, whatever the system's default is.
/// The socket does not block and is not inherited by other programs.
pub(super) fn bind(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Without it a restart fails for as long as old connections are in TIME_WAIT. Two listeners still exclude each other.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};

    use super::*;

    #[test]
    fn both_families_may_have_the_same_port() {
        let v6 = bind((Ipv6Addr::UNSPECIFIED, 0).into(), true).unwrap();
        let port = v6.local_addr().unwrap().port();
        let v4 = bind((Ipv4Addr::UNSPECIFIED, port).into(), true).unwrap();
        for (listener, address) in
            [(&v6, SocketAddr::from((Ipv6Addr::LOCALHOST, port))), (&v4, (Ipv4Addr::LOCALHOST, port).into())]
        {
            let client = TcpStream::connect(address).unwrap();
            assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        }
    }

    #[test]
    fn an_ipv6_wildcard_alone_takes_both_families() {
        let both = bind((Ipv6Addr::UNSPECIFIED, 0).into(), false).unwrap();
        let port = both.local_addr().unwrap().port();
        for address in [SocketAddr::from((Ipv6Addr::LOCALHOST, port)), (Ipv4Addr::LOCALHOST, port).into()] {
            let _client = TcpStream::connect(address).unwrap();
            assert_eq!(both.accept().unwrap().1.ip().to_canonical(), address.ip());
        }
    }

    #[test]
    fn accepting_never_blocks() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), false).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_port_in_use_is_not_shared() {
        let first = bind((Ipv4Addr::LOCALHOST, 0).into(), false).unwrap();
        let error = bind(first.local_addr().unwrap(), false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_port_with_old_connections_is_bound_again() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), false).unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        // The server's side closes first and is left in TIME_WAIT.
        drop((accepted, listener, client));
        bind(address, false).unwrap();
    }
}
