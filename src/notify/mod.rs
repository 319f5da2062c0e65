//! Notifications, off the mail path: a webhook, mail, and error reports.
//!
//! After the reply to Postfix is sent, [`Notifier::tell`] takes the event and never waits: what is over the [`bound`] is left to
//! a summary, and a full queue drops the event and counts it. One task, the [`dispatcher`], asks the database whether this was
//! told in the same [`period`] already, by any daemon, and hands the rest to the channels. Each channel is a [`courier`], a
//! thread with a bounded queue of its own that tries again by the schedule of [`retry`]; so a receiver that hangs delays neither
//! mail nor the other channels.
//!
//! [`webhook`] and [`mail`] are what the couriers deliver; [`token`] is the pure part of the webhook, and [`https`] its connection.
//! [`error_reports`] sends the program's own errors to Sentry, apart from all this.

pub mod bound;
pub mod courier;
pub mod dispatcher;
pub mod error_reports;
pub mod event;
pub mod https;
pub mod mail;
pub mod period;
pub mod retry;
pub mod token;
pub mod webhook;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::{self, error::TrySendError};

use crate::config::{self, Config};
use crate::policy::quota::Window;
use crate::telemetry::decision::escaped;
use crate::telemetry::labels::Heard;
use crate::telemetry::log_throttle::warn_limited;
use crate::telemetry::metrics::Metrics;
use bound::Bound;
use event::Event;

/// The most events that wait for the database: more than ten thousand senders, blocked at once. One takes about a kilobyte.
const ROOM: usize = 16_384;

/// What people want to be told, and how. A reload makes a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub notify: config::Notify,
    /// The time that a quota is for.
    pub window: Window,
}

impl Settings {
    fn is_anything_wanted(&self) -> bool {
        self.notify.webhook.is_some() || self.notify.mail_to.is_some() || self.notify.mail_sender
    }
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Settings {
        Settings { notify: config.notify.clone(), window: config.quota.window }
    }
}

/// The mail path's end of the queue.
#[derive(Debug, Clone)]
pub struct Notifier {
    events: mpsc::Sender<Event>,
    wanted: Arc<AtomicBool>,
    /// Events that the dispatcher has not handed out.
    waiting: Arc<AtomicUsize>,
    bound: Arc<Mutex<Bound>>,
    metrics: Arc<Metrics>,
}

impl Notifier {
    fn new(wanted: Arc<AtomicBool>, metrics: Arc<Metrics>) -> (Notifier, mpsc::Receiver<Event>) {
        let (events, queue) = mpsc::channel(ROOM);
        (Notifier { events, wanted, waiting: Arc::default(), bound: Arc::default(), metrics }, queue)
    }

    /// One that tells nobody.
    pub fn silent(metrics: Arc<Metrics>) -> Notifier {
        Notifier::new(Arc::default(), metrics).0
    }

    /// Has people told, if any want to be. Never waits; the event is made only if it is needed.
    pub fn tell(&self, event: impl FnOnce() -> Event) {
        if !self.wanted.load(Ordering::Relaxed) {
            return;
        }
        let Some(event) = self.bound.lock().unwrap_or_else(PoisonError::into_inner).admit(event()) else {
            self.metrics.event(Heard::LeftOut);
            let why = "more notices about senders without a login, or of one login under many envelope senders, than are told in \
                       an hour; the rest is told in one at its end";
            return warn_limited("a flood of notices", why);
        };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let Err(unsent) = self.events.try_send(event) else { return };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.metrics.event(Heard::Dropped);
        let (event, why) = match unsent {
            TrySendError::Full(event) => (event, "too much at once"),
            TrySendError::Closed(event) => (event, "the task for it has ended, see the log before; restart the daemon"),
        };
        warn_limited("events", format_args!("{}: nobody is told that {event}: {why}", escaped(&event.sender)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::event::Kind;

    #[tokio::test]
    async fn a_flood_of_strangers_leaves_room_for_accounts() {
        let (wanted, metrics) = (Arc::new(AtomicBool::new(true)), Arc::new(Metrics::default()));
        let (notifier, queue) = Notifier::new(wanted, metrics.clone());
        for number in 0..100_000 {
            let stranger = event::tests::event(Kind::QuotaReached, &format!("<a{number}@example.net>"));
            notifier.tell(|| Event { login: String::new(), ..stranger });
        }
        notifier.tell(|| event::tests::event(Kind::QuotaReached, "alice"));
        assert_eq!(queue.len(), 11);
        let text = metrics.prometheus_text();
        for counted in ["{outcome=\"left_out\"} 99990\n", "{outcome=\"dropped\"} 0\n"] {
            assert!(text.contains(&format!("policyd_rate_guard_notification_events_total{counted}")), "{text}");
        }
    }

    #[tokio::test]
    async fn what_nobody_wants_is_not_even_made_and_a_full_queue_loses_and_counts() {
        let (wanted, metrics) = (Arc::new(AtomicBool::new(false)), Arc::new(Metrics::default()));
        let (notifier, mut queue) = Notifier::new(wanted.clone(), metrics.clone());
        notifier.tell(|| panic!("nobody wants it"));
        wanted.store(true, Ordering::Relaxed);
        for number in 0..ROOM + 50 {
            notifier.tell(|| event::tests::event(Kind::QuotaReached, &format!("sender{number}")));
        }
        assert_eq!((queue.len(), notifier.waiting.load(Ordering::Relaxed)), (ROOM, ROOM), "memory is bounded");
        assert_eq!(queue.recv().await.unwrap().sender, "sender0");
        let text = metrics.prometheus_text();
        assert!(text.contains("policyd_rate_guard_notification_events_total{outcome=\"dropped\"} 50\n"), "{text}");
    }
}
