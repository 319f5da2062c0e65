//! Stands between daemon and database, and does what networks and hung servers do.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::stream::{Address, Stream};

/// What happens to what passes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    Forward,
    /// Connections are accepted and stay open; nothing passes in either direction.
    Frozen,
    /// New connections are closed at once.
    Refuse,
    /// When a client sends these bytes they reach the server, but its connection is cut before the reply.
    LoseReplyTo(Vec<u8>),
    /// The same once, and new connections are closed at once from then on.
    LastReplyTo(Vec<u8>),
    /// When a client sends these bytes they never reach the server: the connection is cut on both sides.
    CutAt(Vec<u8>),
    /// The same once, and new connections are closed at once from then on.
    LastCutAt(Vec<u8>),
    /// When a client sends these bytes everything freezes before they reach the server.
    FreezeAt(Vec<u8>),
    /// When a client sends the first the server gets the second in their place, once.
    Replace(Vec<u8>, Vec<u8>),
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    target: Address,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// Both ends of every connection that was accepted.
    open: Vec<Stream>,
    lost: u32,
    /// How often a client has sent something.
    requests: u32,
    ended: bool,
}

/// A running proxy; all its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: Address,
}

impl Proxy {
    /// On a loopback port, in front of `target`.
    pub fn tcp(target: Address) -> Proxy {
        Proxy::tcp_on((Ipv4Addr::LOCALHOST, 0).into(), target)
    }

    /// At an address of its own, in front of `target`.
    pub fn tcp_on(address: SocketAddr, target: Address) -> Proxy {
        let listener = TcpListener::bind(address).expect("a loopback port");
        let address = Address::Tcp(listener.local_addr().expect("the address of a bound socket"));
        let accept = move || {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        };
        Proxy::start(address, target, accept)
    }

    /// On a unix socket, in front of `target`.
    pub fn unix(path: &Path, target: Address) -> Proxy {
        let listener = UnixListener::bind(path).expect("a unix socket");
        let accept = move || listener.accept().map(|(stream, _)| Stream::Unix(stream));
        Proxy::start(Address::Unix(path.to_owned()), target, accept)
    }

    fn start(address: Address, target: Address, accept: impl Fn() -> io::Result<Stream> + Send + 'static) -> Proxy {
        let state = State { mode: Mode::Forward, open: Vec::new(), lost: 0, requests: 0, ended: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), target });
        let proxy = Proxy { shared: Arc::clone(&shared), address };
        thread::spawn(move || {
            while let Ok(client) = accept() {
                if shared.state().ended {
                    return;
                }
                let shared = Arc::clone(&shared);
                // An error is a connection that ended, which is what the test's own assertions are about.
                thread::spawn(move || shared.serve(client));
            }
        });
        proxy
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The address of a proxy made by [`Proxy::tcp`].
    pub fn tcp_address(&self) -> SocketAddr {
        match &self.address {
            Address::Tcp(address) => *address,
            Address::Unix(path) => panic!("the proxy listens on {}", path.display()),
        }
    }

    /// Accepts, keeps open, and lets nothing pass.
    pub fn freeze(&self) {
        self.set(Mode::Frozen);
    }

    /// Cuts what is open and closes new connections at once.
    pub fn refuse(&self) {
        self.set(Mode::Refuse);
        self.drop_connections();
    }

    /// Lets everything pass again, also what was held back while frozen.
    pub fn resume(&self) {
        self.set(Mode::Forward);
    }

    /// The next time a client sends something that holds `bytes`, such as `COMMIT`, the server gets it, and the connection
    /// is cut before its reply. Each connection from then on does the same, until [`Proxy::resume`].
    pub fn lose_reply_to(&self, bytes: &[u8]) {
        self.set(Mode::LoseReplyTo(bytes.to_owned()));
    }

    /// The next time a client sends something that holds `bytes`, the connection is cut before the server gets it. Each
    /// connection from then on does the same, until [`Proxy::resume`].
    pub fn cut_at(&self, bytes: &[u8]) {
        self.set(Mode::CutAt(bytes.to_owned()));
    }

    /// When a client next sends something that holds `bytes`, nothing passes any more, and nobody is told: a cable that is cut.
    pub fn freeze_at(&self, bytes: &[u8]) {
        self.set(Mode::FreezeAt(bytes.to_owned()));
    }

    /// Lets the server do what it is asked with these bytes, cuts the client off before the reply, and refuses from then on.
    pub fn refuse_after(&self, bytes: &[u8]) {
        self.set(Mode::LastReplyTo(bytes.to_owned()));
    }

    /// Cuts both sides when a client sends these bytes, which the server never sees, and refuses from then on.
    pub fn refuse_from(&self, bytes: &[u8]) {
        self.set(Mode::LastCutAt(bytes.to_owned()));
    }

    /// The next time a client sends these bytes the server gets others in their place, as many.
    pub fn replace_once(&self, bytes: &[u8], others: &[u8]) {
        assert_eq!(bytes.len(), others.len(), "a packet says how long it is");
        self.set(Mode::Replace(bytes.to_owned(), others.to_owned()));
    }

    /// How often clients have sent something to the server: round trips, if each waits for the reply.
    pub fn requests(&self) -> u32 {
        self.shared.state().requests
    }

    /// How many replies or requests were lost or replaced in that way.
    pub fn lost(&self) -> u32 {
        self.shared.state().lost
    }

    /// Cuts all open connections, and goes on accepting.
    pub fn drop_connections(&self) {
        for stream in self.shared.state().open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
    }

    fn set(&self, mode: Mode) {
        self.shared.state().mode = mode;
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.drop_connections();
        // Wakes the thread that accepts, which then sees the end.
        let _ = Stream::connect(&self.address);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects an accepted client with the server, until either ends.
    fn serve(self: Arc<Self>, client: Stream) -> io::Result<()> {
        self.state().open.push(client.try_clone()?);
        if self.passage() == Mode::Refuse {
            return client.shutdown(Shutdown::Both);
        }
        let server = Stream::connect(&self.target).inspect_err(|_| {
            let _ = client.shutdown(Shutdown::Both);
        })?;
        self.state().open.push(server.try_clone()?);
        let replies = Arc::clone(&self);
        let (from_server, to_client) = (server.try_clone()?, client.try_clone()?);
        thread::spawn(move || replies.copy(from_server, to_client, false));
        self.copy(client, server, true);
        Ok(())
    }

    /// Copies one direction, waiting while frozen.
    fn copy(&self, mut from: Stream, mut to: Stream, is_request: bool) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let bytes = &mut buffer[..count];
            self.state().requests += u32::from(is_request);
            let mut mode = self.passage();
            if matches!(&mode, Mode::FreezeAt(wanted) if is_request && bytes.windows(wanted.len()).any(|part| part == wanted))
            {
                self.state().mode = Mode::Frozen;
                mode = self.passage();
            }
            if let Mode::Replace(wanted, others) = &mode
                && is_request
                && let Some(place) = bytes.windows(wanted.len()).position(|part| part == wanted)
            {
                bytes[place..place + others.len()].copy_from_slice(others);
                self.state().lost += 1;
                self.state().mode = Mode::Forward;
            }
            match mode {
                Mode::LoseReplyTo(wanted) if is_request && bytes.windows(wanted.len()).any(|part| part == wanted) => {
                    self.state().lost += 1;
                    let _ = self.lose_reply(&from, &mut to, bytes);
                    break;
                }
                Mode::LastReplyTo(wanted) if is_request && bytes.windows(wanted.len()).any(|part| part == wanted) => {
                    self.state().mode = Mode::Refuse;
                    let _ = self.lose_reply(&from, &mut to, bytes);
                    self.state().lost += 1;
                    break;
                }
                Mode::CutAt(wanted) if is_request && bytes.windows(wanted.len()).any(|part| part == wanted) => {
                    self.state().lost += 1;
                    break;
                }
                Mode::LastCutAt(wanted) if is_request && bytes.windows(wanted.len()).any(|part| part == wanted) => {
                    self.state().mode = Mode::Refuse;
                    self.state().lost += 1;
                    break;
                }
                Mode::Forward
                | Mode::LoseReplyTo(_)
                | Mode::LastReplyTo(_)
                | Mode::CutAt(_)
                | Mode::LastCutAt(_)
                | Mode::FreezeAt(_)
                | Mode::Replace(..)
                    if to.write_all(bytes).is_ok() => {}
                _ => break,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Cuts the client off first, so that no reply can reach it, then lets the server do what it was asked.
    fn lose_reply(&self, client: &Stream, server: &mut Stream, bytes: &[u8]) -> io::Result<()> {
        client.shutdown(Shutdown::Both)?;
        server.write_all(bytes)?;
        // The other direction's thread reads the reply and fails to write it; the server has acted by then.
        server.shutdown(Shutdown::Write)?;
        let mut rest = [0; 1024];
        while server.read(&mut rest)? > 0 {}
        Ok(())
    }

    /// Waits while frozen; then says how to go on.
    fn passage(&self) -> Mode {
        let frozen = |state: &mut State| state.mode == Mode::Frozen && !state.ended;
        let state = self.changed.wait_while(self.state(), frozen).unwrap_or_else(PoisonError::into_inner);
        if state.ended { Mode::Refuse } else { state.mode.clone() }
    }
}
