//! A host and a port: of another server, or of the page.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};

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
    /// The host is an address, one in brackets, or a name.
    pub fn new(host: &str, port: &str) -> Option<Endpoint> {
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse::<u16>().ok().filter(|_| is_number)?;
        if let Some(inside) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            let address = inside.parse::<Ipv6Addr>().ok()?;
            return Some(Endpoint::Address(SocketAddr::new(address.into(), port)));
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Endpoint::Address(SocketAddr::new(address, port)));
        }
        let is_name = !host.is_empty()
            && host.len() <= 253
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
            && host.contains(|c: char| c.is_ascii_alphabetic());
        is_name.then(|| Endpoint::Name(host.to_owned(), port))
    }

    pub fn name(&self) -> Option<&str> {
        match self {
            Endpoint::Address(_) => None,
            Endpoint::Name(name, _) => Some(name),
        }
    }

    /// The addresses it stands for, one at the least. Blocks for as long as the name servers do.
    ///
    /// # Errors
    /// The name has no address, or no name server answers now.
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
