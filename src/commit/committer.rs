//! The committer: one task that carries out what [`super::rounds`] says: it takes charges from the queue, talks to the
//! database, and sends the answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::breaker::Outage;
use super::database::Database;
use super::handover::Handover;
use super::journaling::{Journaling, Report, Task, new_journal};
use super::learning;
use super::memory::MemoryFallback;
use super::probe::{self, Probe};
use super::queue::{Reply, Waiting};
use super::quotas::Quotas;
use super::rounds::{Answered, MAX_BATCH, MAX_TRANSACTION_TIME, MIN_TRANSACTION_TIME, Next, Now, Rounds};
use super::standings::Standings;
use super::upkeep::Upkeep;
use crate::clock;
use crate::config;
use crate::journal::depth::Depth;
use crate::journal::entry::Entry;
use crate::journal::file::{self, CHUNK, JournalFile};
use crate::journal::writer::Writer;
use crate::limiter::blocks::Blocks;
use crate::limiter::day;
use crate::limiter::decide::Policy;
use crate::limiter::terms::Terms;
use crate::policy::quota::Window;
use crate::store::Store;
use crate::store::migrate::MigrateError;
use crate::telemetry::log_throttle::warn_limited;
use crate::telemetry::metrics::Metrics;

/// For writing what is to be answered into the journal: a disk that takes longer is one to do without.
const APPEND_TIMEOUT: Duration = Duration::from_secs(1);
/// For all else that is done with the journal's file, which nobody's answer waits for but what comes meanwhile.
const FILE_TIMEOUT: Duration = Duration::from_secs(5);
/// The most time that a start takes to charge what the journal holds, before mail is let in: a new daemon knows nobody.
const CATCH_UP: Duration = Duration::from_secs(3);

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
    /// None if there is no journal.
    journal: Option<Writer>,
    quotas: Quotas,
    _upkeep: Upkeep,
    /// At an interval, also within a long round: proof that this task still moves.
    heartbeat: Option<Heartbeat>,
    /// Where the next daemon finds what this one was asked.
    handover: Option<Handover>,
    /// What was said of the journal when the last outage was over.
    told: Depth,
    metrics: Arc<Metrics>,
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
        journal: Option<config::Journal>,
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
                let policy = terms.borrow().policy.clone();
                tell_what_is_learnt(&mut store, &policy).await;
                None
            }
            Err(error) if probe::is_final(&error) => return Err(CommitterError::Unusable { place, error }),
            Err(error) => Some(error.to_string()),
        };
        metrics.database_host(&store.host());
        let here = away.is_none();
        let mut rounds = Rounds::new(terms.borrow().clone(), Standings::default());
        rounds.several_servers(store.has_other_servers());
        let journal = match journal.filter(|_| !settings.is_in_memory()) {
            Some(journal) => open_journal(journal, terms.borrow().clone(), &mut rounds).await,
            None => None,
        };
        let now = Now { elapsed: waiting.start.elapsed(), unix: clock::now() };
        match away {
            Some(reason) => rounds.database_is_away(reason, now),
            None => rounds.database_is_back(now),
        }
        metrics.database_is_up(!rounds.is_away());
        metrics.journal(rounds.journal_depth());
        let quotas = Quotas::start(settings.clone(), terms.clone());
        let upkeep = Upkeep::start(settings.clone(), terms.clone());
        let database = Database::Here(Box::new(store));
        let mut committer = Committer {
            settings,
            waiting,
            terms,
            rounds,
            database,
            blocks: watch::Sender::default(),
            looks: 0,
            journal,
            quotas,
            _upkeep: upkeep,
            heartbeat: None,
            handover: None,
            told: Depth::default(),
            metrics,
        };
        if here {
            committer.look_at_blocks().await;
            committer.catch_up().await;
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
            let Some(until) = self.step().await else { continue };
            tokio::select! {
                biased;
                _ = beat.tick() => {
                    if let Some(heartbeat) = &mut self.heartbeat {
                        heartbeat.beat();
                    }
                }
                _ = hourly.tick() => self.warn_of_overdue_reset().await,
                back = self.database.is_back() => self.use_database(back.map_err(CommitterError::Probe)?),
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

    /// Does what is to be done next. Returns until when there is nothing to do but wait for charges, once there is.
    async fn step(&mut self) -> Option<Option<Instant>> {
        let now = self.now();
        match self.rounds.next(now) {
            Next::Answer(Answered { charge, verdict, .. }) => {
                // Whether anybody still waits does not matter: what was counted stays counted.
                let _ = charge.reply.send(verdict);
            }
            Next::Settle(transaction) => {
                if let Some(heartbeat) = &mut self.heartbeat {
                    heartbeat.beat_if_due();
                }
                let (charges, began) = (transaction.charges, Instant::now());
                let result = self.database.settle(transaction, now.unix).await;
                self.metrics.transaction(charges, began.elapsed());
                if result.is_ok() {
                    self.note_host();
                }
                let now = self.now();
                self.rounds.settled(result, now);
                self.show_blocks();
            }
            Next::LookAtBlocks { known, limit } => {
                let result = self.database.look_at_blocks(known, now.unix, limit).await;
                let now = self.now();
                self.rounds.looked(result, now);
                self.show_blocks();
            }
            Next::FindOut { limit } => {
                if let Some(heartbeat) = &mut self.heartbeat {
                    heartbeat.beat_if_due();
                }
                let result = self.database.find_out(limit).await;
                let now = self.now();
                self.rounds.found_out(result, now);
            }
            Next::FindHeld { accounts, limit } => {
                let result = self.database.find_held(&accounts, limit).await;
                let now = self.now();
                self.rounds.held(result, now);
            }
            Next::OpenBreaker { reason, outage } => {
                self.open_breaker(reason, outage);
            }
            Next::Pause(until) => {
                tokio::time::sleep_until(self.waiting.start + until).await;
            }
            Next::Journal(task) => {
                if let Some(heartbeat) = &mut self.heartbeat {
                    heartbeat.beat_if_due();
                }
                let report = self.with_journal(task, now.unix).await;
                let now = self.now();
                self.rounds.journaled(report, now);
                self.take_waiting();
                self.metrics.journal(self.rounds.journal_depth());
            }
            Next::CloseBreaker(outage) => self.close_breaker(outage),
            Next::Receive(until) => return Some(until.map(|until| self.waiting.start + until)),
        }
        None
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
        match self.database.look_at_blocks(known, clock::now(), MIN_TRANSACTION_TIME).await {
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
        match outage.is_relapse {
            false => log::error!(
                "{place}: {reason}. Mail goes on; until the database is back each sender is judged from memory, by what was \
                 last known of it"
            ),
            true => warn_limited(
                "relapse",
                format_args!(
                    "{place}: {reason}. It was back for a moment only; it is tried again in {} s, and mail is judged from \
                     memory meanwhile",
                    outage.pause.as_secs()
                ),
            ),
        }
        self.metrics.database_is_up(false);
        self.rounds.know_quotas(self.quotas.known());
        self.database = Database::Away(Probe::new(store, reason, longest_window(&self.terms), outage.pause));
    }

    fn close_breaker(&mut self, outage: Outage) {
        let Database::Here(store) = &self.database else { return };
        let depth = self.rounds.journal_depth();
        let (charged, lost) = (depth.charged - self.told.charged, depth.lost - self.told.lost);
        self.told = depth;
        let said = format!(
            "{} is back after {:.1} s; {} requests were judged from memory meanwhile{}",
            store.place(),
            outage.lasted(self.now().elapsed).as_secs_f32(),
            outage.decided,
            match self.journal {
                None => " and are not in it".to_owned(),
                Some(_) => format!("; {charged} were charged from the journal, {lost} are lost"),
            }
        );
        match outage.is_relapse {
            true => warn_limited("back", said),
            false => log::warn!("{said}"),
        }
        self.metrics.database_is_up(true);
    }

    /// Says so when another server is used than before.
    fn note_host(&mut self) {
        let Database::Here(store) = &self.database else { return };
        if store.has_other_servers() && self.metrics.database_host(&store.host()) {
            log::warn!("counting in {} from now on", store.place());
        }
        self.rounds.several_servers(store.has_other_servers());
    }

    /// The database answers again.
    fn use_database(&mut self, store: Store) {
        // It may be another one, or a backup.
        self.rounds.doubt_blocks();
        self.database = Database::Here(Box::new(store));
        self.note_host();
        let now = self.now();
        self.rounds.database_is_back(now);
    }

    /// Charges what an earlier daemon has left in the journal, before mail is let in, but not for long.
    async fn catch_up(&mut self) {
        let end = Instant::now() + CATCH_UP;
        while Instant::now() < end {
            match self.step().await {
                None => {}
                Some(Some(until)) => tokio::time::sleep_until(until.min(end)).await,
                Some(None) => break,
            }
        }
    }

    /// Takes in the charges that wait.
    fn take_waiting(&mut self) {
        for _ in 0..MAX_BATCH {
            let Ok(charge) = self.waiting.charges.try_recv() else { break };
            self.rounds.take(charge);
        }
    }

    /// Does something with the journal. `now` is in Unix seconds.
    async fn with_journal(&mut self, task: Task, now: i64) -> Report {
        match task {
            Task::Append { journal, offset, records } => {
                let append = move |file: &JournalFile| {
                    journal.map_or(Ok(()), |journal| file.begin_anew(journal))?;
                    file.append(offset, &records)
                };
                Report::Appended(self.with_file(APPEND_TIMEOUT, append).await)
            }
            Task::Read { offset } => {
                Report::Read(self.with_file(FILE_TIMEOUT, move |file| file.read(offset, CHUNK)).await)
            }
            Task::KeepAside { offset } => {
                let kept = self.with_file(FILE_TIMEOUT, move |file| file.keep_aside(offset)).await;
                Report::KeptAside(kept.map(|aside| aside.display().to_string()))
            }
            Task::BeginAnew(journal) => {
                Report::BegunAnew(self.with_file(FILE_TIMEOUT, move |file| file.begin_anew(journal)).await)
            }
            Task::FindHeld(account) => {
                let held = self.database.find_held(std::slice::from_ref(&account), MIN_TRANSACTION_TIME).await;
                Report::Held(account, held)
            }
            Task::Charge(part) => {
                let charged = self.database.charge(&part, now).await;
                Report::Charged(part, charged)
            }
        }
    }

    async fn with_file<T: Send + 'static>(
        &mut self,
        limit: Duration,
        work: impl FnOnce(&JournalFile) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        match &mut self.journal {
            Some(journal) => journal.run(limit, work).await,
            None => Err("there is no journal".to_owned()),
        }
    }
}

/// Opens the journal, and has decisions go on from what it holds.
async fn open_journal(journal: config::Journal, terms: Arc<Terms>, rounds: &mut Rounds<Reply>) -> Option<Writer> {
    let config::Journal { directory, size } = journal;
    let path = file::path(&directory);
    let opened = tokio::task::spawn_blocking(move || {
        let (mut memory, mut oldest) = (MemoryFallback::default(), None);
        let restore = |payload: &[u8]| {
            if let Some(entry) = Entry::decode(payload) {
                oldest.get_or_insert(entry.at);
                memory.restore(&terms.policy, &entry);
            }
        };
        JournalFile::open(&directory, new_journal(), restore).map(|(file, held)| (file, held, oldest, memory))
    });
    let why = match opened.await {
        Ok(Ok((file, held, oldest, memory))) => {
            if held.cut > 0 && !held.damaged {
                log::warn!(
                    "{}: its last {} bytes are no whole record, as after a power cut, and were cut off",
                    path.display(),
                    held.cut
                );
            }
            if held.records > 0 {
                log::info!(
                    "{}: {} requests that were answered while the database was away are to be charged",
                    path.display(),
                    held.records
                );
            }
            rounds.keep_journal(Journaling::new(size, held, oldest), memory);
            return Some(Writer::new(file));
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    log::warn!(
        "{}: {why}. Without a journal, what is answered while the database is away will not be charged",
        path.display()
    );
    None
}

/// Says which limits only warn so far.
async fn tell_what_is_learnt(store: &mut Store, policy: &Policy) {
    match tokio::time::timeout(MIN_TRANSACTION_TIME, learning::of(store, policy, clock::now())).await {
        Ok(Ok(learning)) => learning.iter().for_each(|one| log::info!("LIMITS: {}", one.told(&policy.zone))),
        Ok(Err(error)) => log::debug!("looking for what was learnt: {error}"),
        Err(_) => {
            store.abandon();
        }
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
