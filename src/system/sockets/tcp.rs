//! TCP sockets of our own.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

use super::listener::BACKLOG;

/// Listens on exactly this address: an IPv6 wildcard does not take IPv4 along, so that both may be asked for.
/// The socket does not block and is not inherited by other programs.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
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
        let v6 = bind((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        let port = v6.local_addr().unwrap().port();
        let v4 = bind((Ipv4Addr::UNSPECIFIED, port).into()).unwrap();
        for (listener, address) in
            [(&v6, SocketAddr::from((Ipv6Addr::LOCALHOST, port))), (&v4, (Ipv4Addr::LOCALHOST, port).into())]
        {
            let client = TcpStream::connect(address).unwrap();
            assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        }
    }

    #[test]
    fn accepting_never_blocks() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_port_in_use_is_not_shared() {
        let first = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let error = bind(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_port_with_old_connections_is_bound_again() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        // The server's side closes first and is left in TIME_WAIT.
        drop((accepted, listener, client));
        bind(address).unwrap();
    }
}
