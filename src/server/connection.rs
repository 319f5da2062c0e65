//! One connection from Postfix: request after request, for as long as Postfix wants it. Never closed from here while it is
//! idle, since Postfix would wait a second before it asked again.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::Answerer;
use super::stream::Stream;
use crate::protocol::request::{Event, Parser};
use crate::telemetry::limited::warn_limited;

/// A request that has begun must end within this time. Postfix writes one at once.
pub const REQUEST_PATIENCE: Duration = Duration::from_secs(10);
/// A client must take its reply within this time. One that sends and never reads is let go.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes read at once: several requests of Postfix's size.
const CHUNK: usize = 4096;

/// Why a conversation ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The client closed, between two requests.
    Closed,
    /// The client closed within a request, which counts nothing and is not answered.
    Torn,
    /// A request never ended: too long, or begun and left.
    Endless,
    /// The client did not take its reply.
    Unread,
    /// An error of the connection.
    Lost,
    /// The daemon is stopping and nothing more was asked.
    Stopping,
}

/// Converses until the client closes, misbehaves, or `stop` comes and all that was asked is answered.
pub async fn converse(mut stream: Stream, answerer: &Answerer, stop: &CancellationToken) -> End {
    let _connected = answerer.metrics.connection();
    let mut parser = Parser::default();
    let mut begun = Instant::now();
    loop {
        // What a stopping daemon finds unread was asked of it: it is answered before the end.
        let stopping = stop.is_cancelled();
        if !stopping || parser.is_midway() {
            let readable = stream.readable();
            let patience = async {
                match parser.is_midway() {
                    true => tokio::time::sleep_until(begun + REQUEST_PATIENCE).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = readable => if ready.is_err() { return End::Lost },
                () = patience => {
                    warn_limited("endless", "a policy request was begun and not ended; the connection is closed");
                    return End::Endless;
                }
                () = stop.cancelled(), if !stopping => continue,
            }
        }
        // Held only while there is something in it: an idle connection costs no buffer.
        let mut chunk = Vec::with_capacity(CHUNK);
        match stream.try_read(&mut chunk) {
            Ok(0) if parser.is_midway() => return End::Torn,
            Ok(0) => return End::Closed,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && stopping && !parser.is_midway() => {
                return End::Stopping;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return End::Lost,
        }
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            if !parser.is_midway() {
                begun = Instant::now();
            }
            let (taken, event) = parser.feed(rest);
            rest = rest.get(taken..).unwrap_or_default();
            match event {
                None => {}
                Some(Event::Endless) => {
                    warn_limited("endless", "a policy request exceeds its bound; the connection is closed");
                    return End::Endless;
                }
                Some(Event::Request(request)) => {
                    let answer = answerer.answer(request).await;
                    let mut wire = Vec::with_capacity(128);
                    answer.action.write(&mut wire);
                    let sent = within(WRITE_PATIENCE, stream.write_all(&wire)).await;
                    answerer.follow_up(answer);
                    match sent {
                        Some(Ok(())) => {}
                        Some(Err(_)) => return End::Lost,
                        None => return End::Unread,
                    }
                }
            }
        }
    }
}

async fn within<T>(patience: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(patience, future).await.ok()
}
