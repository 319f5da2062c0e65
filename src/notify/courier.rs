//! A courier: the thread of one channel, which delivers notices one after the other and tries again what failed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Instant;

use tokio::sync::oneshot;

use super::event::Notice;
use super::retry::Schedule;
use crate::telemetry::decision::escaped;
use crate::telemetry::labels::{Channel, Delivery};
use crate::telemetry::log_throttle::warn_limited;
use crate::telemetry::metrics::Metrics;

/// The most notices that wait for their first attempt, and as many that wait for another.
const ROOM: usize = 1024;

/// Delivers notices to a receiver. Called by one thread only. May block, but must return within a bounded time.
pub trait Carrier: Send + 'static {
    /// # Errors
    /// It did not arrive; the error says whether another attempt makes sense.
    fn carry(&mut self, notice: &Notice) -> Result<(), Undelivered>;
}

/// Why a notice did not arrive, in words that hold no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// Another attempt may succeed.
    #[error("{0}")]
    Later(String),
    /// It would fail again.
    #[error("{0}")]
    Never(String),
}

/// The handle of a courier's thread, which ends when this is dropped and all is carried or given up.
#[derive(Debug)]
pub struct Courier {
    channel: Channel,
    notices: SyncSender<Arc<Notice>>,
    open: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    ended: oneshot::Receiver<()>,
}

impl Courier {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        channel: Channel,
        carrier: impl Carrier,
        schedule: Schedule,
        metrics: Arc<Metrics>,
    ) -> io::Result<Courier> {
        let (notices, queue) = sync_channel(ROOM);
        let (ending, ended) = oneshot::channel();
        let open = Arc::new(AtomicUsize::new(0));
        let mut round = Round {
            channel,
            carrier,
            schedule,
            metrics: metrics.clone(),
            queue,
            later: BTreeMap::new(),
            number: 0,
            closing: false,
            open: open.clone(),
        };
        thread::Builder::new().name(format!("notify-{}", channel.name())).spawn(move || {
            while round.carry_next() {}
            let _ = ending.send(());
        })?;
        Ok(Courier { channel, notices, open, metrics, ended })
    }

    /// Has a notice carried. Never waits: one for which there is no room is lost, and counted.
    pub fn send(&self, notice: &Arc<Notice>) {
        self.open.fetch_add(1, Ordering::Relaxed);
        let Err(unsent) = self.notices.try_send(notice.clone()) else { return };
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.metrics.notification(self.channel, Delivery::Dropped);
        let why = match unsent {
            TrySendError::Full(_) => "too much waits already",
            TrySendError::Disconnected(_) => "its thread has ended, see the log before; restart the daemon",
        };
        let (name, sender) = (self.channel.name(), escaped(&notice.event.sender));
        warn_limited(name, format_args!("{name}: telling about {sender} is given up: {why}"));
    }

    /// How many notices are neither delivered nor given up.
    pub fn open(&self) -> Arc<AtomicUsize> {
        self.open.clone()
    }

    /// Lets the thread end. Returns what resolves when it has ended: each notice that waits gets one more attempt, at once.
    pub fn close(self) -> oneshot::Receiver<()> {
        self.ended
    }
}

/// What the thread works with.
struct Round<C> {
    channel: Channel,
    carrier: C,
    schedule: Schedule,
    metrics: Arc<Metrics>,
    queue: Receiver<Arc<Notice>>,
    /// What is to be tried again, by the time of the attempt; the number tells equal times apart.
    later: BTreeMap<(Instant, u64), Job>,
    number: u64,
    closing: bool,
    open: Arc<AtomicUsize>,
}

struct Job {
    notice: Arc<Notice>,
    /// Attempts that failed.
    failed: u32,
}

impl<C: Carrier> Round<C> {
    /// Carries the next notice when it is due. Returns false if there is none left and no more will come.
    fn carry_next(&mut self) -> bool {
        let Some(mut job) = self.next() else { return false };
        let name = self.channel.name();
        let (outcome, problem) = match self.carrier.carry(&job.notice) {
            Ok(()) => (Delivery::Delivered, None),
            Err(Undelivered::Never(reason)) => (Delivery::Failed, Some(reason)),
            Err(Undelivered::Later(reason)) => {
                job.failed += 1;
                match self.schedule.pause(job.failed, fastrand::f32()) {
                    Some(pause) if !self.closing && self.later.len() < ROOM => {
                        let sender = escaped(&job.notice.event.sender);
                        warn_limited(
                            &format!("{name} retries"),
                            format_args!("{name}: telling about {sender} failed: {reason}; trying again"),
                        );
                        self.metrics.notification(self.channel, Delivery::Retried);
                        self.number += 1;
                        self.later.insert((Instant::now() + pause, self.number), job);
                        return true;
                    }
                    _ => (Delivery::Failed, Some(reason)),
                }
            }
        };
        if let Some(reason) = problem {
            let sender = escaped(&job.notice.event.sender);
            warn_limited(
                &format!("{name} fails"),
                format_args!("{name}: telling about {sender} failed and is given up: {reason}"),
            );
        }
        self.metrics.notification(self.channel, outcome);
        self.open.fetch_sub(1, Ordering::Relaxed);
        true
    }

    fn next(&mut self) -> Option<Job> {
        loop {
            let due = self.later.first_key_value().map(|((at, _), _)| *at);
            let now = Instant::now();
            if due.is_some_and(|at| at <= now || self.closing) {
                return self.later.pop_first().map(|(_, job)| job);
            }
            let received = match due {
                Some(at) => self.queue.recv_timeout(at.saturating_duration_since(now)),
                None => self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match received {
                Ok(notice) => return Some(Job { notice, failed: 0 }),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if self.later.is_empty() => return None,
                Err(RecvTimeoutError::Disconnected) => self.closing = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::event::{Kind, tests::event};
    use std::sync::Mutex;
    use std::sync::mpsc;
    use std::time::Duration;

    const QUICK: Schedule = Schedule { first: Duration::from_millis(2), factor: 2, attempts: 4 };
    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Answers as told, and then with success; tells what it carried.
    struct Scripted {
        answers: Vec<Result<(), Undelivered>>,
        carried: mpsc::Sender<String>,
    }

    impl Carrier for Scripted {
        fn carry(&mut self, notice: &Notice) -> Result<(), Undelivered> {
            self.carried.send(notice.event.sender.clone()).unwrap();
            if self.answers.is_empty() { Ok(()) } else { self.answers.remove(0) }
        }
    }

    fn notice(sender: &str) -> Arc<Notice> {
        Arc::new(Notice { event: event(Kind::QuotaReached, sender), quota_reset: 1000 })
    }

    /// Sends a notice through a courier with these answers. Returns how often it was carried, and what was counted.
    fn carried(answers: Vec<Result<(), Undelivered>>) -> (usize, String) {
        let metrics = Arc::new(Metrics::default());
        let (told, carried) = mpsc::channel();
        let carrier = Scripted { answers, carried: told };
        let courier = Courier::start(Channel::Webhook, carrier, QUICK, metrics.clone()).unwrap();
        courier.send(&notice("alice"));
        let open = courier.open.clone();
        let until = Instant::now() + TIMEOUT;
        while open.load(Ordering::Relaxed) > 0 {
            assert!(Instant::now() < until, "it never came to an end");
            thread::sleep(Duration::from_millis(1));
        }
        let _ended = courier.close();
        (carried.iter().count(), metrics.prometheus_text())
    }

    fn counted(text: &str, outcome: &str, expected: u64) -> bool {
        text.contains(&format!(
            "policyd_rate_guard_notifications_total{{channel=\"webhook\",outcome=\"{outcome}\"}} {expected}\n"
        ))
    }

    #[test]
    fn what_fails_for_now_is_carried_again_until_it_arrives() {
        let later = || Err(Undelivered::Later("answered 500".into()));
        let (times, text) = carried(vec![later(), later()]);
        assert!(times == 3 && counted(&text, "delivered", 1) && counted(&text, "retried", 2), "{text}");
    }

    #[test]
    fn what_keeps_failing_is_given_up() {
        let later = || Err(Undelivered::Later("answered 500".into()));
        let (times, text) = carried((0..9).map(|_| later()).collect());
        assert!(times == 4 && counted(&text, "failed", 1) && counted(&text, "retried", 3), "{text}");
        assert!(counted(&text, "delivered", 0), "{text}");
    }

    #[test]
    fn what_is_refused_is_not_carried_again() {
        let (times, text) = carried(vec![Err(Undelivered::Never("answered 403".into()))]);
        assert!(times == 1 && counted(&text, "failed", 1) && counted(&text, "retried", 0), "{text}");
    }

    /// Stands still until it is let go.
    struct Hung(Arc<Mutex<()>>);

    impl Carrier for Hung {
        fn carry(&mut self, _notice: &Notice) -> Result<(), Undelivered> {
            drop(self.0.lock().unwrap());
            Err(Undelivered::Later("no answer".into()))
        }
    }

    #[tokio::test]
    async fn a_receiver_that_hangs_costs_bounded_memory_and_the_end_waits_for_no_schedule() {
        let (metrics, hold) = (Arc::new(Metrics::default()), Arc::new(Mutex::new(())));
        let held = hold.lock().unwrap();
        let slow = Schedule { first: Duration::from_secs(3600), ..QUICK };
        let courier = Courier::start(Channel::Webhook, Hung(hold.clone()), slow, metrics.clone()).unwrap();
        for number in 0..10_000 {
            courier.send(&notice(&number.to_string()));
        }
        let open = courier.open.load(Ordering::Relaxed);
        assert!((ROOM..=ROOM + 1).contains(&open), "{open}");
        drop(held);
        let (open, ended) = (courier.open(), courier.close());
        tokio::time::timeout(TIMEOUT, ended).await.expect("it ends without waiting an hour").unwrap();
        assert_eq!(open.load(Ordering::Relaxed), 0);
        let text = metrics.prometheus_text();
        assert!(
            counted(&text, "dropped", 9999 - ROOM as u64) || counted(&text, "dropped", 10_000 - ROOM as u64),
            "{text}"
        );
    }
}
