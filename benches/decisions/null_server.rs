//! The yardstick: a policy server with the daemon's runtime that reads a request, answers DUNNO, and does nothing else. No
//! policy server on this machine is faster, so a rate beside its rate says what counting costs, on any machine.

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Builder;

/// Serves until the process is killed.
pub fn run(socket: &Path) -> io::Result<()> {
    Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = UnixListener::bind(socket)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(answer(stream));
        }
    })
}

async fn answer(mut stream: UnixStream) -> io::Result<()> {
    let mut received = Vec::with_capacity(4096);
    while stream.read_buf(&mut received).await? > 0 {
        while let Some(end) = received.windows(2).position(|pair| pair == b"\n\n") {
            received.drain(..end + 2);
            stream.write_all(b"action=DUNNO\n\n").await?;
        }
    }
    Ok(())
}
