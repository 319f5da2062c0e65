//! The bounded queue between the connections and the committer.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::charge::Charge;
use crate::limiter::verdict::{FailOpen, Verdict};
use crate::protocol::request::Request;

/// Where the answer to a charge goes.
pub type Reply = oneshot::Sender<Verdict>;

/// The connections' end of the queue.
#[derive(Debug, Clone)]
pub struct Queue {
    charges: mpsc::Sender<Charge<Reply>>,
    start: Instant,
}

/// The committer's end of the queue.
#[derive(Debug)]
pub struct Waiting {
    pub charges: mpsc::Receiver<Charge<Reply>>,
    /// The times of charges are since then.
    pub start: Instant,
}

/// A queue for `capacity` charges: as many as there may be connections, since each has one request in flight.
pub fn queue(capacity: usize) -> (Queue, Waiting) {
    let (sender, receiver) = mpsc::channel(capacity);
    let start = Instant::now();
    (Queue { charges: sender, start }, Waiting { charges: receiver, start })
}

impl Queue {
    /// Puts a charge into the queue and waits for its verdict, at the most until `deadline`. For one that is `listed`, see
    /// [`Charge`].
    pub async fn charge(
        &self,
        account: String,
        request: Arc<Request>,
        listed: bool,
        arrived: Instant,
        deadline: Instant,
    ) -> Verdict {
        let (reply, verdict) = oneshot::channel();
        let since_start = |time: Instant| time.saturating_duration_since(self.start);
        let charge = Charge {
            account,
            request,
            arrived: since_start(arrived),
            deadline: since_start(deadline),
            decided_at: None,
            listed,
            reply,
        };
        match self.charges.try_send(charge) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Verdict::InDoubt(FailOpen::QueueFull),
            Err(mpsc::error::TrySendError::Closed(_)) => return Verdict::InDoubt(FailOpen::Stopping),
        }
        match tokio::time::timeout_at(deadline, verdict).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) => Verdict::InDoubt(FailOpen::Stopping),
            Err(_) => Verdict::InDoubt(FailOpen::Deadline),
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
            queue.charge("a".into(), request(), false, now, now + Duration::from_secs(2))
        };
        let late = ask().await;
        assert_eq!(late, Verdict::InDoubt(FailOpen::Deadline));
        assert_eq!(queue.depth(), 1, "it is counted all the same when its turn comes");
        assert_eq!(ask().await, Verdict::InDoubt(FailOpen::QueueFull));
        drop(waiting);
        assert_eq!(ask().await, Verdict::InDoubt(FailOpen::Stopping));
    }
}
