//! The committer: one task that takes all charges that wait, settles them in one transaction, and answers.
//!
//! What must stay true: a verdict that depends on counts leaves only after COMMIT; what may have been committed is never
//! tried again; one sender's trouble is answered for that sender alone; and nobody waits for a database that is away.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::batch::{self, Due, Ruler};
use super::breaker::{self, Open, Return};
use super::histories::Histories;
use super::locks::{Found, Locks};
use super::queue::Charge;
use super::repeats::{News, Repeats};
use super::standin::StandIn;
use crate::config;
use crate::limiter::day;
use crate::limiter::terms::Terms;
use crate::limiter::verdict::{FailOpen, Verdict};
use crate::policy::quota::Window;
use crate::store::migrate::MigrateError;
use crate::store::{Failure, Store};
use crate::system::clock;
use crate::telemetry::decision::escaped;
use crate::telemetry::limited::warn_limited;
use crate::telemetry::metrics::Metrics;

/// The most charges settled in one transaction.
const MAX_BATCH: usize = 1024;
/// What must be left of a request's time when a transaction is given up, so that the answer still comes in time.
const MARGIN: Duration = Duration::from_millis(100);
/// How long `serve` waits for the database at its start before it answers without it.
const START_TIMEOUT: Duration = Duration::from_secs(1);
/// How old a charge may be to be tried again after it waited for a lock that nobody was seen to hold.
const UNSEEN_LOCK_TIMEOUT: Duration = Duration::from_millis(300);
/// The least time a transaction gets.
const MIN_TRANSACTION_TIME: Duration = Duration::from_millis(500);
/// The most time a transaction gets, however patient Postfix is: a database that takes longer is away.
const MAX_TRANSACTION_TIME: Duration = Duration::from_secs(10);
/// How often a part is tried at once when the database asks for it. What fails every time is split, until the sender whose row
/// cannot be written in peace is found.
const TRIES_AT_ONCE: u32 = 3;
/// Between two looks at rows that somebody else holds, and two tries of what the database asks to try again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Everything the committer task owns.
pub struct Committer {
    settings: config::Database,
    waiting: mpsc::Receiver<Charge>,
    terms: watch::Receiver<Arc<Terms>>,
    database: DatabaseState,
    /// What counts while the database is away; it outlasts outages that follow each other.
    standin: StandIn,
    /// None unless the database was away of late.
    back: Option<Return>,
    repeats: Repeats,
    histories: Histories,
    /// Charges put off to the next round: their sender's row is held by somebody else, or the same message is in this round.
    parked: Vec<Charge>,
    locks: Locks,
    started: Instant,
    /// At an interval, also within a long round: proof that this task still moves.
    heartbeat: Option<Heartbeat>,
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

    /// For a round of many parts, each of which is progress. Early enough that a part may take as long as
    /// [`Committer::longest`] a few times.
    fn beat_if_due(&mut self, now: Instant) {
        if now.duration_since(self.last) >= self.interval / 4 {
            self.beat();
        }
    }
}

/// Whether the database answers.
enum DatabaseState {
    Here(Box<Store>),
    Away(Open),
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
    /// Connects within a second if that can be; a database that is merely away is no error.
    ///
    /// # Errors
    /// The database must not be used by this program (made by a newer one, or a migration was changed).
    pub async fn start(
        settings: config::Database,
        waiting: mpsc::Receiver<Charge>,
        terms: watch::Receiver<Arc<Terms>>,
        metrics: Arc<Metrics>,
    ) -> Result<Committer, CommitterError> {
        let mut store = Store::new(&settings);
        let place = store.place();
        let window = longest_window(&terms);
        let database = match tokio::time::timeout(START_TIMEOUT, breaker::try_once(&mut store)).await {
            Ok(Ok(())) => {
                breaker::fill_usage(&mut store, window).await;
                log::info!("counting in {place}");
                DatabaseState::Here(Box::new(store))
            }
            Ok(Err(error)) if breaker::is_final(&error) => return Err(CommitterError::Unusable { place, error }),
            failed => {
                let reason = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => format!("no answer within {} s", START_TIMEOUT.as_secs()),
                };
                DatabaseState::Away(open_breaker(&settings, &reason, window, breaker::PAUSE))
            }
        };
        metrics.database_is_up(matches!(database, DatabaseState::Here(_)));
        Ok(Committer {
            settings,
            waiting,
            terms,
            database,
            standin: StandIn::default(),
            back: None,
            repeats: Repeats::default(),
            histories: Histories::default(),
            parked: Vec::new(),
            locks: Locks::default(),
            started: Instant::now(),
            heartbeat: None,
            metrics,
        })
    }

    /// Has `beat` called at this interval, for as long as the committer makes progress.
    pub fn with_heartbeat(mut self, interval: Duration, beat: impl Fn() + Send + 'static) -> Committer {
        self.heartbeat = Some(Heartbeat { interval, last: Instant::now(), beat: Box::new(beat) });
        self
    }

    /// Settles charges until the queue is closed and empty.
    ///
    /// # Errors
    /// See [`CommitterError`]; the daemon cannot go on without its committer.
    pub async fn run(mut self) -> Result<(), CommitterError> {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        let beat_every = self.heartbeat.as_ref().map_or(Duration::from_secs(3600), |heartbeat| heartbeat.interval);
        let mut beat = tokio::time::interval(beat_every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hourly = tokio::time::interval(Duration::from_secs(3600));
        hourly.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let parked = !self.parked.is_empty();
            tokio::select! {
                biased;
                _ = beat.tick() => {
                    if let Some(heartbeat) = &mut self.heartbeat {
                        heartbeat.beat();
                    }
                    continue;
                }
                _ = hourly.tick() => {
                    self.warn_of_overdue_reset().await;
                    continue;
                }
                back = async {
                    match &mut self.database {
                        DatabaseState::Away(open) => open.database_is_back().await,
                        DatabaseState::Here(_) => std::future::pending().await,
                    }
                } => {
                    self.close_breaker(back.map_err(CommitterError::Probe)?);
                    continue;
                }
                taken = self.waiting.recv_many(&mut batch, MAX_BATCH) => {
                    if taken == 0 && !parked {
                        break;
                    }
                    if taken == 0 {
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                }
                () = tokio::time::sleep(RETRY_PAUSE), if parked => {}
            }
            let mut charges = std::mem::take(&mut self.parked);
            charges.append(&mut batch);
            self.round(charges).await;
        }
        if let DatabaseState::Here(store) = &mut self.database {
            store.close().await;
        }
        Ok(())
    }

    /// In `reset` mode, senders stay blocked when the daily cleanup does not run.
    async fn warn_of_overdue_reset(&mut self) {
        let DatabaseState::Here(store) = &mut self.database else { return };
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
            // Whatever ails the database shows when the next batch is settled.
            Ok(Err(error)) => log::debug!("looking for the last reset: {error}"),
            Err(_) => {
                store.abandon();
            }
        }
    }

    /// One round over all charges that wait.
    async fn round(&mut self, charges: Vec<Charge>) {
        let terms = self.terms.borrow().clone();
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.beat_if_due(Instant::now());
        }
        let batch = self.due(charges);
        let mut together = self.put_off_held(batch, &terms).await;
        // After all others, who must not wait for them.
        let apart = together.extract_if(.., |due| self.locks.contends(&due.charge.sender)).collect();
        // A part that the database refuses as a whole is split, so that only what it refuses fails. Both halves are tried
        // before a quarter is, so that a row that is held unseen can be told from a table.
        let longest = self.longest();
        let mut parts: VecDeque<_> = [together, apart].into_iter().filter(|part| !part.is_empty()).collect();
        while let Some(part) = parts.pop_front() {
            let began = Instant::now();
            if let Some(heartbeat) = &mut self.heartbeat {
                heartbeat.beat_if_due(began);
            }
            let DatabaseState::Here(store) = &mut self.database else {
                self.answer_from_memory(part, &terms);
                continue;
            };
            let tries = if part.iter().any(|due| self.locks.contends(&due.charge.sender)) { 1 } else { TRIES_AT_ONCE };
            let effort = Effort { tries, longest };
            let settled = settle(store, &part, &terms, &mut self.histories, effort).await;
            self.metrics.transaction(part.len(), began.elapsed());
            match settled {
                Ok(verdicts) => {
                    self.locks.settled(&part);
                    if self.back.as_mut().is_some_and(Return::settles) {
                        self.back = None;
                        self.standin = StandIn::default();
                    }
                    self.answer_all(part, verdicts);
                }
                Err(Failure::Refused(reason)) if part.len() == 1 => {
                    log::warn!("{}: the database refuses a value: {reason}", escaped(sender_of(&part)));
                    self.fail_open(part, FailOpen::Refused, &terms);
                }
                Err(Failure::Refused(_)) => split_into(&mut parts, part),
                Err(Failure::Locked(reason)) => self.set_held_apart(&mut parts, part, &reason, &terms).await,
                Err(Failure::Transient(_)) if batch::sums(&part).len() > 1 => split_into(&mut parts, part),
                Err(Failure::Transient(reason)) => {
                    self.locks.contended(&part);
                    let (early, late): (Vec<_>, Vec<_>) = part.into_iter().partition(is_in_time);
                    self.parked.extend(early.into_iter().map(|due| due.charge));
                    if !late.is_empty() {
                        log::warn!("{}: giving up: {reason}", escaped(sender_of(&late)));
                        self.fail_open(late, FailOpen::Contended, &terms);
                    }
                }
                Err(Failure::Away(reason)) => {
                    self.open_breaker(&reason);
                    parts.push_front(part);
                }
                Err(Failure::Unknown(reason)) => {
                    self.open_breaker(&reason);
                    for due in &part {
                        let verdict = Verdict::FailOpen(FailOpen::CommitUnknown, terms.policy.on_error.clone());
                        self.repeats.remember(&due.asked, &verdict, self.started.elapsed());
                    }
                    self.fail_open(part, FailOpen::CommitUnknown, &terms);
                }
            }
        }
    }

    /// The most time that the database gets for one answer: the service manager must not take patience for an end.
    fn longest(&self) -> Duration {
        self.heartbeat
            .as_ref()
            .map_or(MAX_TRANSACTION_TIME, |heartbeat| MAX_TRANSACTION_TIME.min(heartbeat.interval / 2))
    }

    /// Leaves out the charges of senders whose rows are held by somebody else; those that have waited long enough fail open.
    async fn put_off_held(&mut self, mut batch: Vec<Due>, terms: &Terms) -> Vec<Due> {
        let senders = batch.iter().map(|due| due.charge.sender.as_str());
        let held: HashSet<&str> = senders.filter(|sender| self.locks.holds(sender)).collect();
        if held.is_empty() {
            return batch;
        }
        let held: Vec<String> = held.into_iter().map(str::to_owned).collect();
        let limit = self.longest().min(time_left(batch.iter().map(|due| due.charge.deadline)));
        if let DatabaseState::Here(store) = &mut self.database {
            self.locks.look_again(store, &held, limit).await;
        }
        for Due { charge, .. } in batch.extract_if(.., |due| self.locks.holds(&due.charge.sender)) {
            if charge.may_wait_for_a_row() {
                self.parked.push(charge);
            } else {
                charge.answer(Verdict::FailOpen(FailOpen::Locked, terms.policy.on_error.clone()));
            }
        }
        batch
    }

    /// What is new about each charge. Answers repeats at once; puts off what is asked about twice in this round.
    fn due(&mut self, charges: Vec<Charge>) -> Vec<Due> {
        let mut in_round = HashSet::new();
        let mut batch = Vec::with_capacity(charges.len());
        for charge in charges {
            let asked = self.repeats.asked(&charge.sender, &charge.request);
            match self.repeats.news(&asked) {
                News::Nothing(verdict) => charge.answer(verdict),
                News::Some(_) if asked.key.is_some_and(|key| !in_round.insert(key)) => self.parked.push(charge),
                News::Some(new) => batch.push(Due { charge, asked, new }),
            }
        }
        batch
    }

    fn answer_all(&mut self, part: Vec<Due>, verdicts: Vec<Verdict>) {
        let now = self.started.elapsed();
        for (due, verdict) in part.into_iter().zip(verdicts) {
            if !due.charge.request.dry_run {
                self.repeats.remember(&due.asked, &verdict, now);
            }
            due.charge.answer(verdict);
        }
    }

    fn answer_from_memory(&mut self, part: Vec<Due>, terms: &Terms) {
        if let DatabaseState::Away(open) = &mut self.database {
            open.answered += part.len() as u64;
        }
        let verdicts = part
            .iter()
            .map(|due| {
                let facts = due.facts(&terms.policy, clock::now());
                let ruling = self.standin.rule(&terms.policy, &facts, due.charge.request.dry_run);
                Verdict::Remembered(Arc::new(ruling))
            })
            .collect();
        self.answer_all(part, verdicts);
    }

    fn fail_open(&self, part: Vec<Due>, reason: FailOpen, terms: &Terms) {
        for due in part {
            due.charge.answer(Verdict::FailOpen(reason, terms.policy.on_error.clone()));
        }
    }

    /// Somebody holds a row that this part needs. Finds out whose, puts those aside and leaves the rest in `parts`.
    async fn set_held_apart(&mut self, parts: &mut VecDeque<Vec<Due>>, part: Vec<Due>, reason: &str, terms: &Terms) {
        let limit = self.longest().min(time_left(part.iter().map(|due| due.charge.deadline)));
        let DatabaseState::Here(store) = &mut self.database else { return };
        let senders: Vec<String> = batch::sums(&part).into_iter().map(|sum| sum.sender).collect();
        match self.locks.find(store, &senders, limit).await {
            Found::Away(reason) => {
                self.open_breaker(&reason);
                parts.push_front(part);
                return;
            }
            Found::Held(held) => {
                let (apart, rest): (Vec<_>, Vec<_>) =
                    part.into_iter().partition(|due| held.contains(&due.charge.sender));
                self.parked.extend(apart.into_iter().map(|due| due.charge));
                parts.extend((!rest.is_empty()).then_some(rest));
                return;
            }
            Found::Unseen => {}
        }
        let alone = senders.len() <= 1;
        let urgent = part.iter().any(|due| !due.charge.may_wait_for_a_row());
        if self.locks.are_a_tables() && (alone || urgent) {
            self.open_breaker(reason);
            parts.push_front(part);
        } else if alone {
            // The lock is gone, or it is one that cannot be seen. Others must not wait for it again and again.
            let young = |due: &Due| due.charge.arrived.elapsed() < UNSEEN_LOCK_TIMEOUT;
            let (young, old): (Vec<_>, Vec<_>) = part.into_iter().partition(young);
            self.parked.extend(young.into_iter().map(|due| due.charge));
            if !old.is_empty() {
                log::warn!("{}: {reason}", escaped(sender_of(&old)));
                self.fail_open(old, FailOpen::Locked, terms);
            }
        } else {
            split_into(parts, part);
        }
    }

    fn open_breaker(&mut self, reason: &str) {
        self.locks.forget();
        self.metrics.database_is_up(false);
        let pause = self.back.take().map_or(breaker::PAUSE, |back| back.next_pause());
        self.database = DatabaseState::Away(open_breaker(&self.settings, reason, longest_window(&self.terms), pause));
    }

    fn close_breaker(&mut self, store: Store) {
        if let DatabaseState::Away(open) = &self.database {
            let said = format!(
                "{} is back after {:.1} s; {} requests were judged from memory meanwhile and are not in it",
                store.place(),
                open.lasted().as_secs_f32(),
                open.answered,
            );
            match open.is_relapse() {
                true => warn_limited("back", said),
                false => log::warn!("{said}"),
            }
            self.back = Some(open.ended());
        }
        self.metrics.database_is_up(true);
        self.database = DatabaseState::Here(Box::new(store));
    }
}

/// The longest window that decisions look at.
fn longest_window(terms: &watch::Receiver<Arc<Terms>>) -> Duration {
    terms.borrow().policy.longest_window().unwrap_or_default()
}

fn open_breaker(settings: &config::Database, reason: &str, window: Duration, pause: Duration) -> Open {
    let store = Store::new(settings);
    let place = store.place();
    let open = Open::new(store, reason, window, pause);
    match open.is_relapse() {
        false => log::error!(
            "{place}: {reason}. Mail goes on; until the database is back each sender is counted in memory, from zero, against \
             QUOTA"
        ),
        true => warn_limited(
            "relapse",
            format_args!(
                "{place}: {reason}. It was back and has settled nothing; it is tried again in {} s, and mail is judged from \
                 memory meanwhile",
                pause.as_secs()
            ),
        ),
    }
    open
}

/// How hard a part is tried.
struct Effort {
    /// How often, in all, when the database asks to try again.
    tries: u32,
    /// How long each time.
    longest: Duration,
}

/// Settles a part in one transaction, within the time of its most urgent charge. What the database asks to try again is
/// tried again; a connection that turns out to be dead is replaced once, since a server closes idle ones.
async fn settle(
    store: &mut Store,
    part: &[Due],
    terms: &Terms,
    histories: &mut Histories,
    effort: Effort,
) -> Result<Vec<Verdict>, Failure> {
    let sums = batch::sums(part);
    let (mut may_reconnect, mut tried) = (true, 0);
    loop {
        let limit = effort.longest.min(time_left(part.iter().map(|due| due.charge.deadline)));
        let now = clock::now();
        let ruler = Ruler::new(part, &sums, terms, now, histories);
        let attempt = store.settle(&sums, terms.policy.new_quota, now, ruler);
        let failure = match tokio::time::timeout(limit, attempt).await {
            Ok(Ok(ruled)) => {
                for (id, kept) in ruled.histories {
                    histories.keep(id, kept);
                }
                return Ok(ruled.verdicts);
            }
            Ok(Err(failure)) => failure,
            Err(_) => {
                let reason = format!("no answer within {} ms", limit.as_millis());
                return Err(if store.abandon() { Failure::Unknown(reason) } else { Failure::Away(reason) });
            }
        };
        let in_time = part.iter().all(is_in_time);
        tried += 1;
        match failure {
            Failure::Transient(_) if in_time && tried < effort.tries => tokio::time::sleep(RETRY_PAUSE).await,
            Failure::Away(_) if may_reconnect && in_time => may_reconnect = false,
            failure => return Err(failure),
        }
    }
}

/// Whether there is time for another try.
fn is_in_time(due: &Due) -> bool {
    due.charge.deadline > Instant::now() + MARGIN
}

/// How long a database may take for charges with these deadlines. Charges that are late already still get [`MIN_TRANSACTION_TIME`]: they are
/// answered, but they must be counted.
fn time_left(deadlines: impl Iterator<Item = Instant>) -> Duration {
    let now = Instant::now();
    let urgent = deadlines.min().unwrap_or(now);
    urgent.saturating_duration_since(now).saturating_sub(MARGIN).max(MIN_TRANSACTION_TIME)
}

fn split_into(parts: &mut VecDeque<Vec<Due>>, mut part: Vec<Due>) {
    let second = part.split_off(part.len() / 2);
    parts.extend([part, second].into_iter().filter(|half| !half.is_empty()));
}

fn sender_of(part: &[Due]) -> &str {
    part.first().map_or("", |due| due.charge.sender.as_str())
}
