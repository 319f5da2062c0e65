//! A connection from Postfix, over TCP or a unix socket.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Bytes read at once: several requests of Postfix's size.
const CHUNK: usize = 4096;

/// Both kinds read and write the same way; only this file tells them apart.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Waits until there is something to read, and reads what is there: at the end of the stream nothing. A connection
    /// that waits costs no buffer. To drop the future loses nothing.
    pub async fn read_chunk(&mut self) -> io::Result<Vec<u8>> {
        poll_fn(|context| {
            let mut space = [MaybeUninit::uninit(); CHUNK];
            let mut buffer = ReadBuf::uninit(&mut space);
            let read = match self {
                Stream::Tcp(stream) => Pin::new(stream).poll_read(context, &mut buffer),
                Stream::Unix(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            };
            read.map_ok(|()| buffer.filled().to_vec())
        })
        .await
    }

    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.write_all(bytes).await,
            Stream::Unix(stream) => stream.write_all(bytes).await,
        }
    }
}
