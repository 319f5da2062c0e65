//! One connection from Postfix: request after request, for as long as Postfix wants it. Never closed from here while it is
//! idle, since Postfix would wait a second before it asked again.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::Answerer;
use super::stream::Stream;
use crate::protocol::request::{Event, Parser};
use crate::telemetry::limited::warn_limited;

/// A request that has begun must end within this time. Postfix writes one at once.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A client must take its reply within this time. One that sends and never reads is let go.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stopping daemon looks for a request that is there already.
const LAST_LOOK: Duration = Duration::from_millis(5);

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
    let mut stopped = pin!(stop.cancelled());
    let mut stopping = false;
    let mut looked = false;
    loop {
        let timeout = async {
            match parser.is_midway() {
                true => tokio::time::sleep_until(begun + REQUEST_TIMEOUT).await,
                false => std::future::pending().await,
            }
        };
        let read = tokio::select! {
            // What a stopping daemon finds unread was asked of it: it is answered before the end.
            biased;
            read = stream.read_chunk() => read,
            () = timeout => {
                warn_limited("endless", "a policy request was begun and not ended; the connection is closed");
                return End::Endless;
            }
            () = &mut stopped, if !stopping => {
                stopping = true;
                continue;
            }
            () = last_look(looked), if stopping && !parser.is_midway() => return End::Stopping,
        };
        let chunk = match read {
            Ok(chunk) if chunk.is_empty() && parser.is_midway() => return End::Torn,
            Ok(chunk) if chunk.is_empty() => return End::Closed,
            Ok(chunk) => chunk,
            Err(_) => return End::Lost,
        };
        looked = stopping;
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
                    let sent = within(WRITE_TIMEOUT, stream.write_all(&wire)).await;
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

/// Ends when there is no request that was there before the stop. A timer fires after the system was asked what there is to
/// read, also on a connection just accepted. Whoever was answered since then asks elsewhere: waiting for it would have no
/// end under load.
async fn last_look(looked: bool) {
    match looked {
        true => tokio::task::yield_now().await,
        false => tokio::time::sleep(LAST_LOOK).await,
    }
}

async fn within<T>(timeout: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(timeout, future).await.ok()
}
