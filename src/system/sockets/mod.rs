//! The sockets that Postfix connects to: handed over by systemd, or bound here as SOCKET says.
//!
//! `directory` and `unix` are careful because this runs as root: see there. `accepted` is for the life after the start.

mod accepted;
pub mod directory;
mod error;
mod inherited;
mod listener;
mod tcp;
mod unix;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use socket2::SockRef;

use crate::config::{self, ListenAddress};
use crate::system::privileges::Identity;

pub use accepted::{AcceptError, accept_error, configure_accepted};
pub use error::Error;
pub use listener::Listener;
pub use unix::SocketPath;

/// A socket to accept on, and what else is known about it.
#[derive(Debug)]
pub struct Bound {
    pub listener: Listener,
    /// As main.cf writes it: `inet:127.0.0.1:10033`, `unix:/path`.
    pub name: String,
    /// Whether it was handed over; such a socket belongs to the supervisor and outlives the daemon.
    pub inherited: bool,
    /// The file of a unix socket that was made here, to be removed at the end, before the listener is closed.
    pub path: Option<SocketPath>,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Opens every socket that the daemon is to listen on.
///
/// Sockets handed over replace the default SOCKET; one that the operator wrote is listened on too, unless it is among
/// them already. Started as root, `owner` is who gets the unix sockets, and their directories where these are missing.
/// After an error no socket file of this call is left.
///
/// Must be called once, before the process has a second thread and before privileges are dropped.
pub fn listen(sockets: &config::Sockets, owner: Option<&Identity>) -> Result<Vec<Bound>, Error> {
    let mut bound = Vec::new();
    for listener in inherited::take()? {
        let name = listener::name(&listener).map_err(|source| Error::Inherited { number: bound.len() + 1, source })?;
        bound.push(Bound { listener, name, inherited: true, path: None });
    }
    if bound.is_empty() || sockets.explicit {
        for address in &sockets.listen {
            if bound.iter().any(|open| open.covers(address)) {
                continue;
            }
            let only_v6 = has_other_ipv4(address, &sockets.listen, &bound);
            match bind(address, only_v6, sockets.mode, owner) {
                Ok(socket) => bound.push(socket),
                Err(error) if is_needless_loopback(address, &error, &sockets.listen) => {}
                Err(error) => {
                    bound.iter().filter_map(|open| open.path.as_ref()).for_each(|path| drop(path.remove()));
                    return Err(error);
                }
            }
        }
    }
    if bound.is_empty() { Err(Error::Nothing) } else { Ok(bound) }
}

/// Whether an IPv6 wildcard must leave IPv4 alone, because what is to be listened on there is named by itself.
fn has_other_ipv4(address: &ListenAddress, named: &[ListenAddress], bound: &[Bound]) -> bool {
    let ListenAddress::Tcp(address) = address else { return false };
    let open = bound.iter().filter_map(|open| match &open.listener {
        Listener::Tcp(listener) => listener.local_addr().ok(),
        Listener::Unix(_) => None,
    });
    let named = named.iter().filter_map(|named| match named {
        ListenAddress::Tcp(named) => Some(*named),
        ListenAddress::Unix(_) => None,
    });
    open.chain(named).any(|other| other.is_ipv4() && other.port() == address.port())
}

fn bind(address: &ListenAddress, only_v6: bool, mode: u32, owner: Option<&Identity>) -> Result<Bound, Error> {
    let name = address.to_string();
    let (listener, path) = match address {
        ListenAddress::Tcp(address) => match tcp::bind(*address, only_v6) {
            Ok(listener) => (Listener::Tcp(listener), None),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(Error::InUse { name }),
            Err(source) => return Err(Error::Bind { name, source }),
        },
        ListenAddress::Unix(path) => {
            let (listener, path) = unix::bind(path, mode, owner)?;
            (Listener::Unix(listener), Some(path))
        }
    };
    Ok(Bound { listener, name, inherited: false, path })
}

impl Bound {
    /// Whether connections to `address` arrive here.
    fn covers(&self, address: &ListenAddress) -> bool {
        match (&self.listener, address) {
            (Listener::Tcp(listener), ListenAddress::Tcp(wanted)) => {
                let only_v6 = SockRef::from(listener).only_v6().unwrap_or(true);
                listener.local_addr().is_ok_and(|local| takes(local, only_v6, *wanted))
            }
            (Listener::Unix(listener), ListenAddress::Unix(wanted)) => match &self.path {
                Some(made) => is_same_file(made.path(), wanted),
                None => listener
                    .local_addr()
                    .is_ok_and(|local| local.as_pathname().is_some_and(|path| is_same_file(path, wanted))),
            },
            _ => false,
        }
    }
}

/// Whether a TCP listener on `local` receives what is sent to `wanted`.
fn takes(local: SocketAddr, only_v6: bool, wanted: SocketAddr) -> bool {
    local.port() == wanted.port()
        && match (local.ip(), wanted.ip()) {
            (IpAddr::V6(any), IpAddr::V4(_)) => any == Ipv6Addr::UNSPECIFIED && !only_v6,
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
            (local, wanted) => local == wanted || local.is_unspecified(),
        }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let inode = |path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    one == other || matches!((inode(one), inode(other)), (Ok(one), Ok(other)) if one == other)
}

/// `localhost` often means `::1` too where IPv6 is switched off; 127.0.0.1 is enough then.
fn is_needless_loopback(address: &ListenAddress, error: &Error, all: &[ListenAddress]) -> bool {
    let ListenAddress::Tcp(address) = address else { return false };
    let Error::Bind { source, .. } = error else { return false };
    let v4 = ListenAddress::Tcp((Ipv4Addr::LOCALHOST, address.port()).into());
    let no_v6 = matches!(source.raw_os_error().map(Errno::from_raw), Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT));
    no_v6 && address.ip() == Ipv6Addr::LOCALHOST && all.contains(&v4)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn sockets(listen: Vec<ListenAddress>) -> config::Sockets {
        config::Sockets { listen, explicit: true, mode: 0o660, user: "nobody".into(), group: None }
    }

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    fn tcp(address: &str) -> ListenAddress {
        ListenAddress::Tcp(at(address))
    }

    #[test]
    fn several_sockets_are_opened_at_once_each_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = ListenAddress::Unix(folder.path().join("policyd"));
        let config = sockets(vec![tcp("127.0.0.1:0"), tcp("[::1]:0"), path.clone(), path]);
        let bound = listen(&config, None).unwrap();
        let names: Vec<_> = bound.iter().map(ToString::to_string).collect();
        assert_eq!(names[2..], [format!("unix:{}/policyd", folder.path().display())]);
        assert_eq!(names[0], "inet:127.0.0.1:0");
        assert!(bound.iter().all(|socket| !socket.inherited));
        UnixStream::connect(folder.path().join("policyd")).unwrap();
    }

    #[test]
    fn ipv4_that_is_named_by_itself_is_not_taken_along() {
        let wildcard = tcp("[::]:10033");
        for (others, expected) in [
            (vec![], false),
            (vec![tcp("[::1]:10033"), ListenAddress::Unix("/run/x".into())], false),
            (vec![tcp("127.0.0.1:10034")], false),
            (vec![tcp("127.0.0.1:10033")], true),
            (vec![tcp("0.0.0.0:10033")], true),
        ] {
            assert_eq!(has_other_ipv4(&wildcard, &others, &[]), expected, "{others:?}");
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let listener = Listener::Tcp(free);
        let handed_over = Bound { listener, name: String::new(), inherited: true, path: None };
        assert!(has_other_ipv4(&tcp(&format!("[::]:{port}")), &[], &[handed_over]));
    }

    #[test]
    fn when_one_fails_no_socket_file_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let path = folder.path().join("policyd");
        let config = sockets(vec![ListenAddress::Unix(path.clone()), ListenAddress::Tcp(taken.local_addr().unwrap())]);
        let error = listen(&config, None).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn nothing_to_listen_on_is_an_error() {
        assert!(matches!(listen(&sockets(vec![]), None), Err(Error::Nothing)));
    }

    #[test]
    fn a_wildcard_takes_the_addresses_of_its_port() {
        for (local, only_v6, wanted, expected) in [
            ("127.0.0.1:10033", true, "127.0.0.1:10033", true),
            ("127.0.0.1:10033", true, "127.0.0.1:10034", false),
            ("127.0.0.1:10033", true, "127.0.0.2:10033", false),
            ("0.0.0.0:10033", true, "127.0.0.1:10033", true),
            ("0.0.0.0:10033", true, "[::1]:10033", false),
            ("[::]:10033", true, "[::1]:10033", true),
            ("[::]:10033", true, "127.0.0.1:10033", false),
            ("[::]:10033", false, "127.0.0.1:10033", true),
            ("[::1]:10033", false, "127.0.0.1:10033", false),
        ] {
            assert_eq!(takes(at(local), only_v6, at(wanted)), expected, "{local} {only_v6} {wanted}");
        }
    }

    #[test]
    fn only_the_loopback_of_a_missing_ipv6_may_be_missing() {
        let missing = |name: &str| Error::Bind { name: name.into(), source: Errno::EADDRNOTAVAIL.into() };
        let both = [tcp("[::1]:10033"), tcp("127.0.0.1:10033")];
        assert!(is_needless_loopback(&both[0], &missing("inet:[::1]:10033"), &both));
        assert!(!is_needless_loopback(&both[1], &missing("inet:127.0.0.1:10033"), &both));
        assert!(!is_needless_loopback(&both[0], &missing("inet:[::1]:10033"), &both[..1]));
        assert!(!is_needless_loopback(&both[0], &Error::InUse { name: "inet:[::1]:10033".into() }, &both));
    }

    #[test]
    fn an_error_says_what_to_do() {
        let error = bind(&tcp("192.0.2.1:10033"), false, 0o660, None).unwrap_err().to_string();
        assert!(error.starts_with("cannot listen on inet:192.0.2.1:10033: "), "{error}");
        assert!(error.ends_with("no network interface has this address"), "{error}");
    }
}
