//! One connection from Postfix: request after request, for as long as Postfix wants it. An idle one is closed only if another
//! needs its slot, since Postfix then waits a second before it asks again.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::Answerer;
use super::stream::Stream;
use crate::protocol::request::{Event, Parser};
use crate::slots::Slot;
use crate::telemetry::log_throttle::warn_limited;

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
    /// Another connection needed its slot.
    Displaced,
    /// The daemon is stopping and nothing more was asked.
    Stopping,
}

/// Converses until the client closes, misbehaves or loses its slot, or `stop` comes and all that was asked is answered.
pub async fn converse(mut stream: Stream, slot: &Slot, answerer: &Answerer, stop: &CancellationToken) -> End {
    let _connected = answerer.metrics.connection();
    let mut parser = Parser::default();
    let mut begun = Instant::now();
    let mut stopped = pin!(stop.cancelled());
    let mut displaced = pin!(slot.displaced());
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
            // What is there unread was asked before the stop, or before the slot was lost: it is answered before the end.
            biased;
            read = stream.read_chunk() => read,
            () = &mut displaced => return End::Displaced,
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
                    let busy = slot.answers();
                    let answer = answerer.answer(request).await;
                    // A client that does not take its reply keeps no slot for it.
                    drop(busy);
                    let mut wire = Vec::with_capacity(128);
                    answer.action.write(&mut wire);
                    let sent = tokio::select! {
                        biased;
                        sent = tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(&wire)) => match sent {
                            Ok(Ok(())) => None,
                            Ok(Err(_)) => Some(End::Lost),
                            Err(_) => Some(End::Unread),
                        },
                        () = &mut displaced => Some(End::Displaced),
                    };
                    answerer.follow_up(answer);
                    if let Some(end) = sent {
                        return end;
                    }
                }
            }
        }
        if slot.is_displaced() {
            return End::Displaced;
        }
    }
}

/// Ends when there is no request that was there before the stop. A timer fires after the system was asked what there is to
/// read, also on a connection just accepted. A client that was answered since then asks elsewhere: waiting for it would have no
/// end under load.
async fn last_look(looked: bool) {
    match looked {
        true => tokio::task::yield_now().await,
        false => tokio::time::sleep(LAST_LOOK).await,
    }
}
