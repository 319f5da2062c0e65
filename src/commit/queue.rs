//! The bounded queue between the connections and the committer.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::limiter::verdict::{FailOpen, Verdict};
use crate::protocol::request::Request;

/// One request that must be counted, and where its verdict goes.
#[derive(Debug)]
pub struct Charge {
    /// The key of its sender's row.
    pub sender: String,
    pub request: Arc<Request>,
    pub arrived: Instant,
    /// When its connection stops waiting.
    pub deadline: Instant,
    reply: oneshot::Sender<Verdict>,
}

impl Charge {
    /// A charge, and where its verdict comes.
    pub fn new(
        sender: String,
        request: Arc<Request>,
        arrived: Instant,
        deadline: Instant,
    ) -> (Charge, oneshot::Receiver<Verdict>) {
        let (reply, verdict) = oneshot::channel();
        (Charge { sender, request, arrived, deadline, reply }, verdict)
    }

    /// Whether it still waits for a row that somebody else holds: for half of its time, since another daemon's commit may be
    /// slow, and never so long that the answer is late.
    pub fn may_wait_for_a_row(&self) -> bool {
        self.arrived.elapsed() < self.deadline.saturating_duration_since(self.arrived) / 2
    }

    /// Answers. Whether anybody still waits does not matter: what was counted stays counted.
    pub fn answer(self, verdict: Verdict) {
        let _ = self.reply.send(verdict);
    }
}

/// The connections' end of the queue.
#[derive(Debug, Clone)]
pub struct Queue {
    charges: mpsc::Sender<Charge>,
}

/// A queue for `capacity` charges: as many as there may be connections, since each has one request in flight.
pub fn queue(capacity: usize) -> (Queue, mpsc::Receiver<Charge>) {
    let (charges, waiting) = mpsc::channel(capacity);
    (Queue { charges }, waiting)
}

impl Queue {
    /// Puts a charge into the queue and waits for its verdict, at the most until `deadline`.
    pub async fn charge(
        &self,
        sender: String,
        request: Arc<Request>,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<Verdict, FailOpen> {
        let (charge, verdict) = Charge::new(sender, request, arrived, deadline);
        self.charges.try_send(charge).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => FailOpen::QueueFull,
            mpsc::error::TrySendError::Closed(_) => FailOpen::Stopping,
        })?;
        match tokio::time::timeout_at(deadline, verdict).await {
            Ok(Ok(verdict)) => Ok(verdict),
            Ok(Err(_)) => Err(FailOpen::Stopping),
            Err(_) => Err(FailOpen::Deadline),
        }
    }

    /// How many charges wait.
    pub fn depth(&self) -> usize {
        self.charges.max_capacity() - self.charges.capacity()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::request::{Event, Parser};

    fn request() -> Arc<Request> {
        match Parser::default().feed(b"protocol_state=DATA\n\n").1 {
            Some(Event::Request(Ok(request))) => Arc::from(request),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_a_deadline_and_a_gone_committer_have_their_names() {
        let (queue, waiting) = queue(1);
        let ask = || {
            let now = Instant::now();
            queue.charge("a".into(), request(), now, now + Duration::from_secs(2))
        };
        let late = ask().await;
        assert_eq!(late, Err(FailOpen::Deadline));
        assert_eq!(queue.depth(), 1, "it is counted all the same when its turn comes");
        assert_eq!(ask().await, Err(FailOpen::QueueFull));
        drop(waiting);
        assert_eq!(ask().await, Err(FailOpen::Stopping));
    }
}
