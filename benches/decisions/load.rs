//! A closed-loop load: each connection sends its next request when it has its reply, as each of Postfix's processes does.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::support::client::Request;

/// So many senders share the usual load evenly.
pub const SENDERS: usize = 50;

const WARM_UP: Duration = Duration::from_millis(400);
/// A connection whose reply takes longer fails the benchmark.
const REPLY_LIMIT: Duration = Duration::from_secs(10);
/// Stands in a request where its instance's number goes.
const NUMBER: &str = "0000000000000000";

/// Messages with one recipient each, of all senders in turn.
#[derive(Debug)]
pub struct Traffic {
    /// A request of each sender, and where in it the instance's number stands.
    templates: Vec<(Vec<u8>, usize)>,
    /// How every reply begins; another one fails the benchmark.
    reply: &'static [u8],
}

impl Traffic {
    /// Of so many senders, each let through.
    pub fn of(senders: usize) -> Traffic {
        Traffic::by(&(0..senders).map(sender).collect::<Vec<_>>())
    }

    pub fn by(senders: &[String]) -> Traffic {
        Traffic::made(senders, |login| Request::data(login, 1))
    }

    /// Of envelope senders without a login.
    pub fn by_strangers(senders: &[String]) -> Traffic {
        Traffic::made(senders, |sender| Request::data("", 1).sender(sender))
    }

    fn made(senders: &[String], request: impl Fn(&str) -> Request) -> Traffic {
        let template = |sender: &String| {
            let bytes = request(sender).instance(format_args!("1f3a.6560a1b2.{NUMBER}.0")).to_bytes();
            let found = bytes.windows(NUMBER.len()).position(|part| part == NUMBER.as_bytes());
            (bytes, found.expect("the instance"))
        };
        Traffic { templates: senders.iter().map(template).collect(), reply: b"action=DUNNO\n\n" }
    }

    /// Each deferred.
    pub fn deferred(self) -> Traffic {
        Traffic { reply: b"action=DEFER_IF_PERMIT ", ..self }
    }
}

/// The login of the sender of this number.
pub fn sender(number: usize) -> String {
    format!("sender{number:02}@example.com")
}

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
    pub fn run(
        &self,
        socket: &Path,
        traffic: &Arc<Traffic>,
        connections: usize,
        length: Duration,
    ) -> io::Result<(Measured, u64)> {
        let begin = Instant::now() + WARM_UP;
        let end = begin + length;
        let seen = self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for connection in 0..connections {
                let stream = UnixStream::connect(socket).await?;
                let requests = Requests::new(traffic.clone(), connection, connections);
                tasks.spawn(ask_until(stream, requests, begin, end));
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

async fn ask_until(mut stream: UnixStream, mut requests: Requests, begin: Instant, end: Instant) -> io::Result<Seen> {
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
        if !reply.starts_with(requests.traffic.reply) {
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

/// One connection's share of the messages.
struct Requests {
    traffic: Arc<Traffic>,
    /// Where it stands in the senders, and how far it goes each time: all connections together take all in turn.
    next: usize,
    step: usize,
    /// Of its own among all connections ever made, since no two messages may have the same instance, or they would be one
    /// message asked about twice.
    connection: u32,
    sent: u32,
    bytes: Vec<u8>,
}

impl Requests {
    fn new(traffic: Arc<Traffic>, next: usize, step: usize) -> Requests {
        static CONNECTIONS: AtomicU32 = AtomicU32::new(0);
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Requests { traffic, next, step, connection, sent: 0, bytes: Vec::new() }
    }

    fn next(&mut self) -> &[u8] {
        let senders = self.traffic.templates.len();
        // A step that divides their number would leave most of them out: each time around begins one further.
        let (turn, place) = (self.next / senders, self.next % senders);
        let (template, number) = &self.traffic.templates[(place + turn) % senders];
        self.bytes.clone_from(template);
        let text = format!("{:08x}{:08x}", self.connection, self.sent);
        self.bytes[*number..*number + text.len()].copy_from_slice(text.as_bytes());
        self.next += self.step;
        self.sent += 1;
        &self.bytes
    }
}
