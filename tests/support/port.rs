//! A port that nobody else can take.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A loopback port, held by a socket that is bound to it and does not listen: connections are refused, the kernel hands the
/// port to nobody who asks for any, and a server that sets SO_REUSEADDR, as all here do, can listen on it as often as it is
/// started.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _holder: Socket,
}

impl Port {
    pub fn free() -> Port {
        let hold = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
            let address = socket.local_addr()?.as_socket().expect("an IPv4 address");
            Ok::<_, std::io::Error>(Port { address, _holder: socket })
        };
        hold().expect("a loopback port")
    }

    pub fn number(&self) -> u16 {
        self.address.port()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
