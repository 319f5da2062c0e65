//! A host and a port of somebody else's, or of the page.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// As written: a name is looked up when it is needed, not when it is read. A name server that is away must not make good
/// settings bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Address(SocketAddr),
    Name(String, u16),
}

/// What is wrong with a page that others than this machine's users reach.
pub const IN_THE_OPEN: &str = "is no loopback address, and there is no TLS: STATUS_TOKEN and names cross the network for all to \
                               read; see docs/page.md for safer ways";

impl Endpoint {
    pub fn name(&self) -> Option<&str> {
        match self {
            Endpoint::Address(_) => None,
            Endpoint::Name(name, _) => Some(name),
        }
    }

    /// The addresses it stands for, one at the least. Blocks for as long as the name servers do.
    ///
    /// # Errors
    /// The name has no address, or nobody says so now.
    pub fn look_up(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Endpoint::Address(address) => Ok(vec![*address]),
            Endpoint::Name(name, port) => {
                let found: Vec<SocketAddr> = (name.as_str(), *port).to_socket_addrs()?.collect();
                if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Address(address) => address.fmt(f),
            Endpoint::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}
