//! Where this program listens.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::endpoint::Endpoint;

/// A unix socket's path, with its closing NUL, has to fit into `sockaddr_un`.
const MAX_PATH: usize = 107;

/// The first port that every user may open.
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;
/// What there is to say of an address that [`ListenAddress::others_may_take`], after its name.
pub const OPENED_BY_THE_DAEMON: &str = "is opened by the daemon itself: whenever it does not run, every user of this host may open \
    that port and answer Postfix; give it to the socket unit (ListenStream=; docs/migrating.md, \"A TCP port\")";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What is wrong with an address, as the end of a sentence.
#[derive(Debug, thiserror::Error)]
pub enum AddressProblem {
    #[error("is not an address")]
    Form,
    // Postfix reads `unix:name` from its queue folder; this program is not there.
    #[error("must name a unix socket by its whole path, from / on, not {0}")]
    NotWhole(String),
    #[error("must name a unix socket by at most {MAX_PATH} bytes")]
    TooLong,
    #[error("has a host without an address: {0}: {1}")]
    NoAddress(String, io::Error),
}

impl ListenAddress {
    /// Reads PolicydRateGuard's and Postfix's ways to write an address. A host name stands for all its addresses, one at the
    /// least; it blocks for as long as the name servers do.
    pub fn parse(written: &str) -> Result<Vec<ListenAddress>, AddressProblem> {
        if let Some(path) = written.strip_prefix("unix:").or_else(|| written.starts_with('/').then_some(written)) {
            return Ok(vec![ListenAddress::Unix(socket_path(path)?)]);
        }
        let parts = match written.strip_prefix("inet:") {
            Some(address) => address.rsplit_once(':'),
            None => written.rsplit_once(','),
        };
        let (host, port) = parts.ok_or(AddressProblem::Form)?;
        let endpoint = Endpoint::new(host, port).ok_or(AddressProblem::Form)?;
        let found = endpoint.look_up().map_err(|error| AddressProblem::NoAddress(host.to_owned(), error))?;
        Ok(found.into_iter().map(ListenAddress::Tcp).collect())
    }

    /// Whether any user of this host may listen there while the daemon does not.
    pub fn others_may_take(&self) -> bool {
        matches!(self, ListenAddress::Tcp(address) if address.port() >= FIRST_UNPRIVILEGED_PORT)
    }
}

fn socket_path(path: &str) -> Result<PathBuf, AddressProblem> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(AddressProblem::NotWhole(path.to_owned()));
    }
    if path.len() > MAX_PATH || path.contains('\0') {
        return Err(AddressProblem::TooLong);
    }
    Ok(PathBuf::from(path))
}

/// As main.cf writes it.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(f, "inet:{address}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_back_as_it_is_shown() {
        for written in ["inet:127.0.0.1:10033", "inet:[::1]:25", "unix:/run/policyd"] {
            let read = ListenAddress::parse(written).unwrap();
            assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), [written]);
        }
    }
}
