//! A closed-loop load: each connection sends its next request when it has its reply, as each of Postfix's processes does.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::support::client::Request;

/// So many senders share the load evenly.
pub const SENDERS: usize = 50;

const WARM_UP: Duration = Duration::from_millis(400);
/// A connection whose reply takes longer fails the benchmark.
const REPLY_LIMIT: Duration = Duration::from_secs(10);
const REPLY: &[u8] = b"action=DUNNO\n\n";

/// What a run over some connections measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Requests per second.
    pub rate: f64,
    pub p50: Duration,
    pub p99: Duration,
}

#[derive(Debug)]
pub struct Load {
    runtime: Runtime,
}

/// What one connection saw: latencies in nanoseconds within the measured time, and all its replies.
struct Seen {
    latencies: Histogram<u64>,
    replies: u64,
}

impl Load {
    pub fn new() -> io::Result<Load> {
        Ok(Load { runtime: Builder::new_multi_thread().enable_all().build()? })
    }

    /// Loads the server at `socket` for `length` after a warm-up. Also gives the number of all replies, warm-up included.
    pub fn run(&self, socket: &Path, connections: usize, length: Duration) -> io::Result<(Measured, u64)> {
        let begin = Instant::now() + WARM_UP;
        let end = begin + length;
        let seen = self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for _ in 0..connections {
                let stream = UnixStream::connect(socket).await?;
                tasks.spawn(ask_until(stream, begin, end));
            }
            tasks.join_all().await.into_iter().collect::<io::Result<Vec<Seen>>>()
        })?;
        let mut latencies = histogram();
        for one in &seen {
            latencies.add(&one.latencies).map_err(io::Error::other)?;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of requests is far below 2^52")]
        let rate = latencies.len() as f64 / length.as_secs_f64();
        let quantile = |q| Duration::from_nanos(latencies.value_at_quantile(q));
        let measured = Measured { rate, p50: quantile(0.5), p99: quantile(0.99) };
        Ok((measured, seen.iter().map(|one| one.replies).sum()))
    }
}

async fn ask_until(mut stream: UnixStream, begin: Instant, end: Instant) -> io::Result<Seen> {
    let mut requests = Requests::new();
    let mut seen = Seen { latencies: histogram(), replies: 0 };
    let mut reply = Vec::with_capacity(256);
    loop {
        let asked = Instant::now();
        if asked >= end {
            return Ok(seen);
        }
        stream.write_all(requests.next()).await?;
        reply.clear();
        while !reply.ends_with(b"\n\n") {
            let read = tokio::time::timeout(REPLY_LIMIT, stream.read_buf(&mut reply)).await;
            if read.map_err(io::Error::other)?? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed a connection"));
            }
        }
        if reply != REPLY {
            return Err(io::Error::other(format!("the server answered {:?}", String::from_utf8_lossy(&reply))));
        }
        let answered = Instant::now();
        seen.replies += 1;
        if answered >= begin && answered < end {
            let latency = u64::try_from((answered - asked).as_nanos()).unwrap_or(u64::MAX);
            seen.latencies.saturating_record(latency);
        }
    }
}

/// From 1 µs to 100 s with three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 100_000_000_000, 3).expect("bounds in order")
}

/// One connection's messages, one recipient each, of all senders in turn.
struct Requests {
    /// A request of each sender, and where in it the instance's number stands.
    templates: Vec<(Vec<u8>, usize)>,
    connection: u32,
    sent: u32,
}

impl Requests {
    fn new() -> Requests {
        static CONNECTIONS: AtomicU32 = AtomicU32::new(0);
        const NUMBER: &str = "0000000000000000";
        let template = |sender| {
            let login = format!("sender{sender:02}@example.com");
            let bytes = Request::data(&login, 1).instance(format_args!("1f3a.6560a1b2.{NUMBER}.0")).to_bytes();
            let found = bytes.windows(NUMBER.len()).position(|part| part == NUMBER.as_bytes());
            (bytes, found.expect("the instance"))
        };
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Requests { templates: (0..SENDERS).map(template).collect(), connection, sent: 0 }
    }

    /// The next message; no two have the same instance, or they would be one message asked about twice.
    fn next(&mut self) -> &[u8] {
        let sender = (self.connection as usize + self.sent as usize) % SENDERS;
        let number = format!("{:08x}{:08x}", self.connection, self.sent);
        self.sent += 1;
        let (bytes, place) = &mut self.templates[sender];
        bytes[*place..*place + number.len()].copy_from_slice(number.as_bytes());
        bytes
    }
}
