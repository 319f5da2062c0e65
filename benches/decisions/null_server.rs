//! The yardsticks: two policy servers that decide nothing and answer DUNNO.
//!
//! The null server stores nothing: no policy server on this machine is faster. The durable one answers what is on the disk
//! and does nothing else: no server that keeps what it answered is faster, so a rate beside its rate says what deciding and
//! counting cost, on any machine and any disk.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;

const REPLY: &[u8] = b"action=DUNNO\n\n";

/// Serves with the daemon's runtime until the process is killed. Stores nothing.
pub fn run(socket: &Path) -> io::Result<()> {
    Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::UnixListener::bind(socket)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(answer(stream));
        }
    })
}

async fn answer(mut stream: tokio::net::UnixStream) -> io::Result<()> {
    let mut received = Vec::with_capacity(4096);
    while stream.read_buf(&mut received).await? > 0 {
        while let Some(end) = end_of_request(&received) {
            received.drain(..end);
            stream.write_all(REPLY).await?;
        }
    }
    Ok(())
}

/// Serves until the process is killed: appends what all ready connections have asked to a file beside the socket, has all of
/// it written to the disk at once, and only then answers.
pub fn run_durable(socket: &Path) -> io::Result<()> {
    let mut file = File::create(socket.with_extension("asked"))?;
    let listener = UnixListener::bind(socket)?;
    let mut clients: Vec<Client> = Vec::new();
    let mut asked = Vec::new();
    loop {
        let [new, ready @ ..] = &*ready(&listener, &clients)? else { continue };
        for client in clients.iter_mut().zip(ready).filter_map(|(client, ready)| ready.then_some(client)) {
            client.read(&mut asked)?;
        }
        if !asked.is_empty() {
            file.write_all(&asked)?;
            file.sync_data()?;
            asked.clear();
        }
        for client in &mut clients {
            client.answer()?;
        }
        clients.retain(|client| !client.ended);
        if *new {
            clients.push(Client::new(listener.accept()?.0));
        }
    }
}

/// Waits until the listener or a client has something to say. Says which of them has, the listener first.
fn ready(listener: &UnixListener, clients: &[Client]) -> io::Result<Vec<bool>> {
    let all = [listener.as_fd()].into_iter().chain(clients.iter().map(|client| client.stream.as_fd()));
    let mut polled: Vec<PollFd> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    poll(&mut polled, PollTimeout::NONE)?;
    Ok(polled.iter().map(|fd| fd.any().unwrap_or(true)).collect())
}

/// A client of the durable null server.
struct Client {
    stream: UnixStream,
    received: Vec<u8>,
    /// How many requests are to be answered.
    waiting: usize,
    ended: bool,
}

impl Client {
    fn new(stream: UnixStream) -> Client {
        Client { stream, received: Vec::with_capacity(4096), waiting: 0, ended: false }
    }

    /// Reads once, and adds the requests that are whole to `asked`.
    fn read(&mut self, asked: &mut Vec<u8>) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let read = self.stream.read(&mut bytes)?;
        self.ended = read == 0;
        self.received.extend_from_slice(&bytes[..read]);
        while let Some(end) = end_of_request(&self.received) {
            asked.extend(self.received.drain(..end));
            self.waiting += 1;
        }
        Ok(())
    }

    fn answer(&mut self) -> io::Result<()> {
        while self.waiting > 0 {
            self.waiting -= 1;
            self.stream.write_all(REPLY)?;
        }
        Ok(())
    }
}

/// Where the first whole request ends.
fn end_of_request(received: &[u8]) -> Option<usize> {
    Some(received.windows(2).position(|pair| pair == b"\n\n")? + 2)
}
