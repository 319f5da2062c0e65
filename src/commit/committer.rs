//! The committer: one task that carries out what [`super::rounds`] says: it takes charges from the queue, talks to the
//! database, and sends the answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::breaker::Outage;
use super::coarsening::Coarsening;
use super::handover::Handover;
use super::probe::{self, Probe};
use super::queue::{Reply, Waiting};
use super::quotas::Quotas;
use super::rounds::{Answered, MAX_BATCH, MAX_TRANSACTION_TIME, MIN_TRANSACTION_TIME, Next, Now, Rounds, Transaction};
use super::standings::Standings;
use crate::clock;
use crate::config;
use crate::limiter::blocks::Blocks;
use crate::limiter::day;
use crate::limiter::terms::Terms;
use crate::policy::quota::Window;
use crate::store::blocks::{BlockRow, Revision};
use crate::store::counters::HeldRow;
use crate::store::migrate::MigrateError;
use crate::store::{Failure, Store};
use crate::telemetry::log_throttle::warn_limited;
use crate::telemetry::metrics::Metrics;

/// Of a transaction whose statements are all prepared before. It gets the time for these, however urgent its charges are: each
/// try would end in the same way.
const ROUND_TRIPS: u32 = 24;

/// How often the blocks are looked at where no mail brings them along, so that those which are known hold when the database is
/// away.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// At so many looks they are read in any case: a hand that wrote the table may have left its revision as it was.
const LOOKS_UNTIL_DOUBT: u32 = 60;

/// Everything the committer task owns.
pub struct Committer {
    settings: config::Database,
    waiting: Waiting,
    terms: watch::Receiver<Arc<Terms>>,
    rounds: Rounds<Reply>,
    database: Database,
    /// The blocks that are known, for others to look at.
    blocks: watch::Sender<Arc<Blocks>>,
    /// Looks at the blocks since they were read in any case.
    looks: u32,
    quotas: Quotas,
    _coarsening: Coarsening,
    /// At an interval, also within a long round: proof that this task still moves.
    heartbeat: Option<Heartbeat>,
    /// Where the next daemon finds what this one was asked.
    handover: Option<Handover>,
    metrics: Arc<Metrics>,
}

/// Whether the database answers.
enum Database {
    Here(Box<Store>),
    Away(Probe),
}

struct Heartbeat {
    interval: Duration,
    last: Instant,
    beat: Box<dyn Fn() + Send>,
}

impl Heartbeat {
    fn beat(&mut self) {
        self.last = Instant::now();
        (self.beat)();
    }

    /// For a round of many parts, each of which is progress. Early enough that a part may take as long as it is allowed to a
    /// few times.
    fn beat_if_due(&mut self) {
        if self.last.elapsed() >= self.interval / 4 {
            self.beat();
        }
    }
}

/// Why the committer ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum CommitterError {
    #[error("{place}: {error}")]
    Unusable { place: String, error: MigrateError },
    #[error("the task that gets the database back ended: {0}")]
    Probe(tokio::task::JoinError),
}

impl Committer {
    /// Connects within two seconds if that can be; a database that is merely away is no error.
    ///
    /// # Errors
    /// The database must not be used by this program (made by a newer one, or a migration was changed).
    pub async fn start(
        settings: config::Database,
        waiting: Waiting,
        terms: watch::Receiver<Arc<Terms>>,
        metrics: Arc<Metrics>,
    ) -> Result<Committer, CommitterError> {
        let mut store = Store::new(&settings);
        let place = store.place();
        let away = match probe::try_once(&mut store, probe::START_TIMEOUT).await {
            Ok(()) => {
                probe::fill_usage(&mut store, longest_window(&terms)).await;
                log::info!("counting in {place}");
                None
            }
            Err(error) if probe::is_final(&error) => return Err(CommitterError::Unusable { place, error }),
            Err(error) => Some(error.to_string()),
        };
        metrics.database_is_up(away.is_none());
        metrics.database_host(&store.host());
        let here = away.is_none();
        let mut rounds = Rounds::new(terms.borrow().clone(), Standings::default());
        rounds.several_servers(store.has_other_servers());
        if let Some(reason) = away {
            rounds.database_is_away(reason, Now { elapsed: waiting.start.elapsed(), unix: clock::now() });
        }
        let quotas = Quotas::start(settings.clone(), terms.clone());
        let coarsening = Coarsening::start(settings.clone(), terms.clone());
        let database = Database::Here(Box::new(store));
        let mut committer = Committer {
            settings,
            waiting,
            terms,
            rounds,
            database,
            blocks: watch::Sender::default(),
            looks: 0,
            quotas,
            _coarsening: coarsening,
            heartbeat: None,
            handover: None,
            metrics,
        };
        if here {
            committer.look_at_blocks().await;
        }
        Ok(committer)
    }

    /// The blocks as they were last read.
    pub fn blocks(&self) -> watch::Receiver<Arc<Blocks>> {
        self.blocks.subscribe()
    }

    /// Goes on from what the last daemon was asked, and leaves to the next what this one was, when it ends.
    pub fn with_handover(mut self, handover: Handover) -> Committer {
        self.rounds.recall(handover.take(clock::now()));
        self.handover = Some(handover);
        self
    }

    /// Has `beat` called at this interval, for as long as the committer makes progress.
    pub fn with_heartbeat(mut self, interval: Duration, beat: impl Fn() + Send + 'static) -> Committer {
        self.heartbeat = Some(Heartbeat { interval, last: Instant::now(), beat: Box::new(beat) });
        // The service manager must not take patience for an end.
        self.rounds.limit_transactions(MAX_TRANSACTION_TIME.min(interval / 2));
        self
    }

    /// Settles charges until the queue is closed and empty.
    ///
    /// # Errors
    /// See [`CommitterError`]; the daemon cannot go on without its committer.
    pub async fn run(mut self) -> Result<(), CommitterError> {
        let mut received = Vec::with_capacity(MAX_BATCH);
        let beat_every = self.heartbeat.as_ref().map_or(Duration::from_secs(3600), |heartbeat| heartbeat.interval);
        let mut beat = interval(beat_every);
        let mut hourly = interval(Duration::from_secs(3600));
        let mut look = interval(LOOK_INTERVAL);
        loop {
            let now = self.now();
            let until = match self.rounds.next(now) {
                Next::Answer(Answered { charge, verdict, .. }) => {
                    // Whether anybody still waits does not matter: what was counted stays counted.
                    let _ = charge.reply.send(verdict);
                    continue;
                }
                Next::Settle(transaction) => {
                    if let Some(heartbeat) = &mut self.heartbeat {
                        heartbeat.beat_if_due();
                    }
                    let (charges, began) = (transaction.charges, Instant::now());
                    let result = settle(&mut self.database, transaction, now.unix).await;
                    self.metrics.transaction(charges, began.elapsed());
                    if result.is_ok() {
                        self.note_host();
                    }
                    let now = self.now();
                    self.rounds.settled(result, now);
                    self.show_blocks();
                    continue;
                }
                Next::LookAtBlocks { known, limit } => {
                    let result = look_at_blocks(&mut self.database, known, now.unix, limit).await;
                    let now = self.now();
                    self.rounds.looked(result, now);
                    self.show_blocks();
                    continue;
                }
                Next::FindOut { limit } => {
                    if let Some(heartbeat) = &mut self.heartbeat {
                        heartbeat.beat_if_due();
                    }
                    let result = find_out(&mut self.database, limit).await;
                    let now = self.now();
                    self.rounds.found_out(result, now);
                    continue;
                }
                Next::FindHeld { accounts, limit } => {
                    let result = find_held(&mut self.database, &accounts, limit).await;
                    let now = self.now();
                    self.rounds.held(result, now);
                    continue;
                }
                Next::OpenBreaker { reason, outage } => {
                    self.open_breaker(reason, outage);
                    continue;
                }
                Next::Pause(until) => {
                    tokio::time::sleep_until(self.waiting.start + until).await;
                    continue;
                }
                Next::Receive(until) => until.map(|until| self.waiting.start + until),
            };
            tokio::select! {
                biased;
                _ = beat.tick() => {
                    if let Some(heartbeat) = &mut self.heartbeat {
                        heartbeat.beat();
                    }
                }
                _ = hourly.tick() => self.warn_of_overdue_reset().await,
                back = async {
                    match &mut self.database {
                        Database::Away(probe) => probe.database_is_back().await,
                        Database::Here(_) => std::future::pending().await,
                    }
                } => self.close_breaker(back.map_err(CommitterError::Probe)?),
                taken = self.waiting.charges.recv_many(&mut received, MAX_BATCH) => {
                    match (taken, until) {
                        (0, None) => break,
                        // The queue is closed, and some charges are still parked.
                        (0, Some(until)) => tokio::time::sleep_until(until).await,
                        _ => self.rounds.reload(self.terms.borrow().clone()),
                    }
                    received.drain(..).for_each(|charge| self.rounds.take(charge));
                }
                () = async {
                    match until {
                        Some(until) => tokio::time::sleep_until(until).await,
                        None => std::future::pending().await,
                    }
                } => {}
                _ = look.tick() => self.look_at_blocks().await,
            }
        }
        let now = self.now();
        if let Some(handover) = &self.handover {
            handover.leave(self.rounds.asked(), now.elapsed, now.unix);
        }
        if let Database::Here(store) = &mut self.database {
            store.close().await;
        }
        Ok(())
    }

    fn now(&self) -> Now {
        Now { elapsed: self.waiting.start.elapsed(), unix: clock::now() }
    }

    /// Looks at the blocks while nothing else is to be done.
    async fn look_at_blocks(&mut self) {
        self.looks += 1;
        if self.looks >= LOOKS_UNTIL_DOUBT {
            self.looks = 0;
            self.rounds.doubt_blocks();
        }
        let known = self.rounds.blocks_revision();
        match look_at_blocks(&mut self.database, known, clock::now(), MIN_TRANSACTION_TIME).await {
            Ok(Some((revision, rows))) => self.rounds.know_blocks(revision, rows),
            Ok(None) => {}
            // Whatever is wrong with the database shows when the next batch is settled.
            Err(failure) => log::debug!("looking at the blocks: {failure}"),
        }
        self.show_blocks();
    }

    /// Shows others the blocks that are known.
    fn show_blocks(&self) {
        let known = self.rounds.blocks();
        self.blocks.send_if_modified(|shown| {
            let is_other = !Arc::ptr_eq(shown, known);
            if is_other {
                self.metrics.blocks(known.iter().count());
                *shown = known.clone();
            }
            is_other
        });
    }

    /// In `reset` mode, senders stay blocked when the daily cleanup does not run.
    async fn warn_of_overdue_reset(&mut self) {
        let Database::Here(store) = &mut self.database else { return };
        if self.terms.borrow().policy.window != Window::Reset {
            return;
        }
        let now = clock::now();
        match tokio::time::timeout(MIN_TRANSACTION_TIME, store.last_reset(now)).await {
            Ok(Ok(Some(reset))) if now - reset > day::RESET_OVERDUE => log::warn!(
                "the counters were last reset {} hours ago, and QUOTA_WINDOW=reset: is policyd-rate-guard-cleanup.timer enabled?",
                (now - reset) / 3600
            ),
            Ok(Ok(_)) => {}
            // Whatever is wrong with the database shows when the next batch is settled.
            Ok(Err(error)) => log::debug!("looking for the last reset: {error}"),
            Err(_) => {
                store.abandon();
            }
        }
    }

    fn open_breaker(&mut self, reason: String, outage: Outage) {
        let mut store = match &mut self.database {
            Database::Here(store) => std::mem::replace(&mut **store, Store::new(&self.settings)),
            Database::Away(_) => Store::new(&self.settings),
        };
        let place = store.place();
        store.abandon();
        match outage.is_relapse() {
            false => log::error!(
                "{place}: {reason}. Mail goes on; until the database is back each sender is judged from memory, by what was \
                 last known of it"
            ),
            true => warn_limited(
                "relapse",
                format_args!(
                    "{place}: {reason}. It was back and has settled nothing; it is tried again in {} s, and mail is judged \
                     from memory meanwhile",
                    outage.pause.as_secs()
                ),
            ),
        }
        self.metrics.database_is_up(false);
        self.rounds.know_quotas(self.quotas.known());
        self.database = Database::Away(Probe::new(store, reason, longest_window(&self.terms), outage.pause));
    }

    fn close_breaker(&mut self, store: Store) {
        let now = self.now().elapsed;
        if let Some(outage) = self.rounds.database_is_back() {
            let said = format!(
                "{} is back after {:.1} s; {} requests were judged from memory meanwhile and are not in it",
                store.place(),
                outage.lasted(now).as_secs_f32(),
                outage.decided,
            );
            match outage.is_relapse() {
                true => warn_limited("back", said),
                false => log::warn!("{said}"),
            }
        }
        self.metrics.database_is_up(true);
        // It may be another one, or a backup.
        self.rounds.doubt_blocks();
        self.database = Database::Here(Box::new(store));
        self.note_host();
    }

    /// Says so when another server is used than before.
    fn note_host(&mut self) {
        let Database::Here(store) = &self.database else { return };
        if store.has_other_servers() && self.metrics.database_host(&store.host()) {
            log::warn!("counting in {} from now on", store.place());
        }
        self.rounds.several_servers(store.has_other_servers());
    }
}

/// The longest window that decisions look at.
fn longest_window(terms: &watch::Receiver<Arc<Terms>>) -> Duration {
    terms.borrow().policy.longest_window().unwrap_or_default()
}

fn interval(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn settle(database: &mut Database, transaction: Transaction<'_, Reply>, now: i64) -> Result<(), Failure> {
    let Database::Here(store) = database else { return Err(is_away()) };
    let Transaction { sums, mut decider, new_quota, limit, .. } = transaction;
    let limit = limit.max(store.round_trip() * ROUND_TRIPS);
    match tokio::time::timeout(limit, store.settle(sums, new_quota, now, &mut decider)).await {
        Ok(result) => result,
        Err(_) => {
            let reason = format!("no answer within {} ms", limit.as_millis());
            Err(if store.abandon() { Failure::Unknown(reason) } else { Failure::Away(reason) })
        }
    }
}

/// Whether the last transaction was committed.
async fn find_out(database: &mut Database, limit: Duration) -> Result<bool, Failure> {
    let Database::Here(store) = database else { return Err(is_away()) };
    match tokio::time::timeout(limit, store.committed(store.batch())).await {
        Ok(result) => result,
        Err(_) => {
            store.abandon();
            Err(Failure::Away(format!("no answer within {} ms", limit.as_millis())))
        }
    }
}

/// The blocks, unless they are those of a known revision.
async fn look_at_blocks(
    database: &mut Database,
    known: Option<Revision>,
    now: i64,
    limit: Duration,
) -> Result<Option<(Revision, Vec<BlockRow>)>, Failure> {
    let Database::Here(store) = database else { return Err(is_away()) };
    match tokio::time::timeout(limit, store.blocks_unless(known, now)).await {
        Ok(result) => result,
        Err(_) => {
            store.abandon();
            Err(Failure::Locked(format!("no answer within {} ms", limit.as_millis())))
        }
    }
}

/// Which of these accounts' rows somebody else holds.
async fn find_held(database: &mut Database, accounts: &[String], limit: Duration) -> Result<Vec<HeldRow>, Failure> {
    let Database::Here(store) = database else { return Err(is_away()) };
    let look = async {
        // Where somebody holds the whole table every row seems held.
        store.table_is_free().await?;
        store.locked(accounts).await
    };
    match tokio::time::timeout(limit, look).await {
        Ok(result) => result,
        Err(_) => {
            store.abandon();
            Err(Failure::Locked(format!("no answer within {} ms", limit.as_millis())))
        }
    }
}

fn is_away() -> Failure {
    Failure::Away("the database is away".to_owned())
}
