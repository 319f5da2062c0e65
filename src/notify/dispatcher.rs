//! The task between the mail path and the couriers: it asks the database what was told already, and hands out the rest.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::bound::{self, Bound};
use super::courier::Courier;
use super::event::{Event, Kind, Notice};
use super::mail::{self, Addressee, MailSender};
use super::retry::Schedule;
use super::webhook::Caller;
use super::{Notifier, Settings, period};
use crate::clock;
use crate::config::{self, Config};
use crate::limiter::retention;
use crate::policy::quota::Window;
use crate::store::maintenance::{Aged, Outdated};
use crate::store::notices::{Claim, Claimed};
use crate::store::{Failure, Store};
use crate::telemetry::labels::{Channel, Heard};
use crate::telemetry::log_throttle::warn_limited;
use crate::telemetry::metrics::Metrics;

/// The most notices claimed in one transaction: it holds rows that the committer may need, so it is to be short.
const MAX_BATCH: usize = 32;
/// The most blocks that are told of at once.
const MAX_BLOCKS: u32 = 32;
/// A transaction is followed by so many times its length without one.
const REST: u32 = 9;
/// However long it took.
const MAX_REST: Duration = Duration::from_secs(2);
/// For one transaction.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Attempts at one transaction, and the pause between two. Then people are told without asking: better twice than never.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);
/// Between two looks for blocks that were set or are over.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// About a block that was set, or is over, for longer than this, in seconds, nobody is told any more: nobody wanted to be.
const NEWS: i64 = 3600;
/// Between two times that old notices are forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// The task and the threads that tell people. They end when the last [`Notifier`] has gone.
#[derive(Debug)]
pub struct Notifications {
    settings: watch::Sender<Arc<Settings>>,
    wanted: Arc<AtomicBool>,
    /// Events that were not handed out.
    waiting: Arc<AtomicUsize>,
    /// Notices that the couriers have not settled.
    open: Vec<Arc<AtomicUsize>>,
    draining: CancellationToken,
    dispatching: JoinHandle<()>,
}

impl Notifications {
    /// Starts the task and the threads. Must be called within the runtime.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(config: &Config, metrics: Arc<Metrics>) -> io::Result<(Notifier, Notifications)> {
        let (settings, settings_now) = watch::channel(Arc::new(Settings::from(config)));
        let wanted = Arc::new(AtomicBool::new(settings_now.borrow().is_anything_wanted()));
        let (notifier, events) = Notifier::new(wanted.clone(), metrics.clone());
        let courier = |channel, carrier| Courier::start(channel, carrier, Schedule::NORMAL, metrics.clone());
        let webhook =
            Courier::start(Channel::Webhook, Caller::new(settings_now.clone()), Schedule::NORMAL, metrics.clone())?;
        let mail = courier(Channel::Mail, MailSender::new(Addressee::Admin, settings_now.clone()))?;
        let sender_mail = courier(Channel::SenderMail, MailSender::new(Addressee::Sender, settings_now.clone()))?;
        let open = [&webhook, &mail, &sender_mail].map(Courier::open).to_vec();
        let dispatcher = Dispatcher {
            ledger: Ledger::new(&config.database),
            settings: settings_now,
            webhook,
            mail,
            sender_mail,
            waiting: notifier.waiting.clone(),
            bound: notifier.bound.clone(),
            draining: CancellationToken::new(),
            metrics,
        };
        let (waiting, draining) = (dispatcher.waiting.clone(), dispatcher.draining.clone());
        let dispatching = tokio::spawn(dispatcher.run(events));
        Ok((notifier, Notifications { settings, wanted, waiting, open, draining, dispatching }))
    }

    /// Takes on new settings; what waits already is told by them too.
    pub fn reconfigure(&self, config: &Config) {
        let settings = Settings::from(config);
        self.wanted.store(settings.is_anything_wanted(), Ordering::Relaxed);
        self.settings.send_replace(Arc::new(settings));
    }

    /// Waits until everybody is told, at the most for `timeout`. To be called when the last [`Notifier`] has gone.
    pub async fn drain(self, timeout: Duration) {
        self.draining.cancel();
        if tokio::time::timeout(timeout, self.dispatching).await.is_err() {
            let open: usize = self.open.iter().map(|open| open.load(Ordering::Relaxed)).sum();
            let waiting = self.waiting.load(Ordering::Relaxed);
            log::warn!(
                "{open} notifications were not delivered before the end, and {waiting} events were not even looked up"
            );
        }
    }
}

struct Dispatcher {
    ledger: Ledger,
    settings: watch::Receiver<Arc<Settings>>,
    webhook: Courier,
    mail: Courier,
    sender_mail: Courier,
    waiting: Arc<AtomicUsize>,
    bound: Arc<Mutex<Bound>>,
    draining: CancellationToken,
    metrics: Arc<Metrics>,
}

impl Dispatcher {
    /// Until the queue is closed and empty, and the couriers have settled all they were given.
    async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        let mut period = tokio::time::interval_at(Instant::now() + bound::PERIOD, bound::PERIOD);
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let received = tokio::select! {
                received = events.recv_many(&mut batch, MAX_BATCH) => received,
                _ = period.tick() => {
                    self.sum_up();
                    continue;
                }
                _ = look.tick() => {
                    self.tell_of_blocks().await;
                    continue;
                }
            };
            if received == 0 {
                break;
            }
            let began = Instant::now();
            let settings = self.settings.borrow().clone();
            let batch = std::mem::take(&mut batch);
            for (event, claimed) in self.ledger.claim(batch, settings.window, &self.draining).await {
                self.hand_out(event, claimed, &settings.notify);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            // The database is the mail's: a tenth of the time it works for us. At the end there is no more mail.
            let rest = (began.elapsed() * REST).min(MAX_REST);
            let _ = self.draining.run_until_cancelled(tokio::time::sleep(rest)).await;
        }
        self.sum_up();
        let ends: Vec<oneshot::Receiver<()>> =
            [self.webhook, self.mail, self.sender_mail].map(Courier::close).into_iter().collect();
        for end in ends {
            let _ = end.await;
        }
    }

    /// Tells of strikes, and of the blocks that were set or are over, by hand or by the daemon, on any host.
    async fn tell_of_blocks(&mut self) {
        let settings = self.settings.borrow().clone();
        if !settings.is_anything_wanted() {
            return;
        }
        let (now, Some(store)) = (clock::now(), &mut self.ledger.store) else { return };
        let untold = match tokio::time::timeout(TIMEOUT, untold(store, now)).await {
            Ok(Ok(untold)) => untold,
            // What was claimed and not told is lost with it, which is better than to hold up all others.
            Ok(Err(failure)) => return log::debug!("looking for blocks: {failure}"),
            Err(_) => {
                store.abandon();
                return;
            }
        };
        for (event, quota_reset) in untold {
            if now.saturating_sub(event.at) < NEWS {
                self.hand_out(event, Claimed::Ours { quota_reset }, &settings.notify);
            }
        }
    }

    /// Tells how much was left out. What was left out here is told from here: the database is not asked.
    fn sum_up(&self) {
        let summaries = self.bound.lock().unwrap_or_else(PoisonError::into_inner).end();
        let settings = self.settings.borrow().clone();
        summaries.into_iter().for_each(|summary| self.hand_out(summary, Claimed::NoRow, &settings.notify));
    }

    fn hand_out(&self, event: Event, claimed: Claimed, notify: &config::Notify) {
        let quota_reset = match claimed {
            Claimed::Told => return self.metrics.event(Heard::AlreadyTold),
            Claimed::Ours { quota_reset } => quota_reset,
            Claimed::NoRow => event.quota,
        };
        self.metrics.event(Heard::Told);
        let notice = Arc::new(Notice { event, quota_reset });
        if notify.webhook.is_some() {
            self.webhook.send(&notice);
        }
        if notify.mail_to.is_some() {
            self.mail.send(&notice);
        }
        if notify.mail_sender && mail::address_of(&notice.event).is_some() {
            self.sender_mail.send(&notice);
        }
    }
}

/// The table `notices`: what was told already.
struct Ledger {
    /// None for a database that lives in this process's memory only, on another connection.
    store: Option<Store>,
    forgotten: Option<Instant>,
}

impl Ledger {
    fn new(database: &config::Database) -> Ledger {
        Ledger { store: (!database.is_in_memory()).then(|| Store::new(database)), forgotten: None }
    }

    /// Which of these events are to be told. In doubt, all; at the end there is no time for a second attempt.
    async fn claim(
        &mut self,
        events: Vec<Event>,
        window: Window,
        draining: &CancellationToken,
    ) -> Vec<(Event, Claimed)> {
        let untold = |events: Vec<Event>| events.into_iter().map(|event| (event, Claimed::NoRow)).collect();
        let Some(store) = &mut self.store else { return untold(events) };
        for _ in 0..TRIES {
            match tokio::time::timeout(TIMEOUT, claim_all(store, &events, window)).await {
                Ok(Ok(claimed)) => {
                    self.forget_old().await;
                    return events.into_iter().zip(claimed).collect();
                }
                Ok(Err(failure)) => log::debug!("notices: {failure}"),
                Err(_) => {
                    store.abandon();
                }
            }
            if draining.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                break;
            }
        }
        warn_limited("notices", "the database does not say who was told what already: some may be told twice");
        untold(events)
    }

    async fn forget_old(&mut self) {
        let Some(store) = &mut self.store else { return };
        if self.forgotten.is_some_and(|at| at.elapsed() < FORGET_INTERVAL) {
            return;
        }
        self.forgotten = Some(Instant::now());
        let before = retention::notices_before(clock::now());
        match tokio::time::timeout(TIMEOUT, store.expire(Aged::Notices, Outdated::Before(before))).await {
            Ok(Ok(_)) => {}
            Ok(Err(failure)) => log::debug!("notices: {failure}"),
            Err(_) => {
                store.abandon();
            }
        }
    }
}

/// What is to be told of strikes and blocks, and the usual quota of each sender.
async fn untold(store: &mut Store, now: i64) -> Result<Vec<(Event, u32)>, Failure> {
    let mut events = Vec::new();
    for (account, strike) in store.untold_strikes(MAX_BLOCKS).await? {
        events.push((Event::of_account(Kind::Strike(strike.limit), &account, strike.at), 0));
    }
    for untold in store.untold_blocks(now, MAX_BLOCKS).await? {
        let quota_reset = untold.quota.map_or(0, |(_, reset)| u32::try_from(reset.max(0)).unwrap_or(u32::MAX));
        events.push((Event::of_block(&untold, now), quota_reset));
    }
    Ok(events)
}

/// Claims each event's notice. Returns the outcomes in the order of the events.
async fn claim_all(store: &mut Store, events: &[Event], window: Window) -> Result<Vec<Claimed>, Failure> {
    let last_reset = match window {
        Window::Reset => store.last_reset(clock::now()).await?,
        Window::Sliding(_) => None,
    };
    let zone = TimeZone::system();
    // Sorted, and each notice once: two events of one batch may be the same.
    let mut claims: BTreeMap<(&str, String, i64), Vec<usize>> = BTreeMap::new();
    for (number, event) in events.iter().enumerate() {
        let period = match event.kind {
            Kind::QuotaReached | Kind::QuotaNotice(_) => period::of_quota(window, event.at, last_reset, &zone),
            _ => period::of_limit(event.at),
        };
        claims.entry((&event.sender, event.kind.notice(), period)).or_default().push(number);
    }
    let at = clock::now();
    let claim = |(sender, notice, period): &(&str, String, i64)| Claim {
        sender: (*sender).to_owned(),
        notice: notice.clone(),
        period: *period,
        at,
    };
    let asked: Vec<Claim> = claims.keys().map(claim).collect();
    let mut outcomes = vec![Claimed::Told; events.len()];
    for (numbers, claimed) in claims.values().zip(store.claim_notices(&asked).await?) {
        if let Some(outcome) = numbers.first().and_then(|&number| outcomes.get_mut(number)) {
            *outcome = claimed;
        }
    }
    Ok(outcomes)
}
