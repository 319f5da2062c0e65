//! The poller: reads the database for the page, once for all viewers.
//!
//! A thread of its own, with a connection of its own: not even encoding ten thousand senders takes a turn from the mail path.
//! A result is kept, and every viewer gets it, until it is time for the next read. Without a request for a while the connection
//! is closed.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::clock;
use crate::config;
use crate::limiter::terms::Terms;
use crate::status::about::{self, AboutJson};
use crate::status::{Collector, Sender, Snapshot, Sort, collector};
use crate::store::{Failure, Store};

/// The least time between two reads.
const INTERVAL: Duration = Duration::from_secs(1);
/// The limit of one read.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a request waits for a read; then it gets the last result.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Without a request for this time, the connection is closed and the kept results are forgotten.
const UNWATCHED: Duration = Duration::from_secs(15);
/// Requests that may wait at once.
const MAX_WAITING: usize = 64;
/// The longest that an answer about single senders, or to a search, is kept: people wait for what is new.
const MAX_KEPT_FOR: Duration = Duration::from_secs(10);
/// Answers about single senders and to searches that are kept.
const MAX_KEPT: usize = 64;
/// Senders that a search finds at the most.
const MAX_FOUND: u32 = 200;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// All senders.
    Everybody,
    /// One sender, by the number of its row.
    Sender(i64),
    /// Senders whose name contains this.
    Find(String),
}

/// An answer in JSON.
#[derive(Debug, Clone)]
pub struct Seen {
    pub json: Bytes,
    /// The same, packed; for large ones.
    pub packed: Option<Bytes>,
    /// Differs when the content does.
    pub tag: String,
    pub at: Instant,
}

/// Why there is no answer, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unavailable {
    pub unavailable: String,
}

type Answer = Result<Arc<Seen>, Unavailable>;

/// Where answers are to be had. The thread ends when the last one of these has gone.
#[derive(Debug, Clone)]
pub struct Poller {
    questions: mpsc::Sender<(Question, oneshot::Sender<Answer>)>,
    last: watch::Receiver<Option<Arc<Seen>>>,
}

impl Poller {
    /// # Errors
    /// The system has no thread to give.
    pub fn start(database: config::Database, terms: watch::Receiver<Arc<Terms>>) -> io::Result<Poller> {
        let (questions, asked) = mpsc::channel(MAX_WAITING);
        let (last, last_now) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("page".to_owned()).spawn(move || {
            runtime.block_on(Task::new(&database, terms, last).run(asked));
        })?;
        Ok(Poller { questions, last: last_now })
    }

    /// Asks, and waits for the answer for a bounded time.
    pub async fn ask(&self, question: Question) -> Answer {
        if self.questions.is_closed() {
            let why = "the page's thread has ended, which is a bug, see the log; restart the daemon";
            return Err(Unavailable { unavailable: why.to_owned() });
        }
        let (reply, answer) = oneshot::channel();
        let wants_everybody = question == Question::Everybody;
        let answered = async {
            self.questions.try_send((question, reply)).ok()?;
            timeout(REQUEST_TIMEOUT, answer).await.ok()?.ok()
        };
        match answered.await {
            Some(answer) => answer,
            None => {
                let last = self.last.borrow().clone().filter(|_| wants_everybody);
                last.ok_or_else(|| Unavailable { unavailable: "the database takes its time to answer".to_owned() })
            }
        }
    }
}

/// A look, and when it may be repeated.
#[derive(Debug, Clone)]
struct Kept {
    answer: Answer,
    until: Instant,
}

struct Task {
    store: Store,
    /// A database in the committer's memory, which no other connection sees.
    in_memory: bool,
    terms: watch::Receiver<Arc<Terms>>,
    collector: Collector,
    everybody: Option<Kept>,
    /// What was seen last, to find what is new.
    before: Option<(Snapshot, Arc<Seen>)>,
    others: HashMap<Question, Kept>,
    /// When there may be another look at single senders, or another search.
    rested: Instant,
    tags: u64,
    last: watch::Sender<Option<Arc<Seen>>>,
}

impl Task {
    fn new(
        database: &config::Database,
        terms: watch::Receiver<Arc<Terms>>,
        last: watch::Sender<Option<Arc<Seen>>>,
    ) -> Task {
        Task {
            store: Store::reading(database),
            in_memory: database.is_in_memory(),
            terms,
            collector: Collector::new(Sort::Share),
            everybody: None,
            before: None,
            others: HashMap::new(),
            rested: Instant::now(),
            // A tag of an earlier process must not be taken for one of this.
            tags: fastrand::u64(..),
            last,
        }
    }

    async fn run(mut self, mut asked: mpsc::Receiver<(Question, oneshot::Sender<Answer>)>) {
        loop {
            match timeout(UNWATCHED, asked.recv()).await {
                Ok(Some((question, mut reply))) => {
                    if let Some(answer) = self.answer(question, reply.closed()).await {
                        let _ = reply.send(answer);
                    }
                }
                Ok(None) => return self.store.close().await,
                Err(_) => self.rest().await,
            }
        }
    }

    async fn rest(&mut self) {
        self.store.close().await;
        self.collector = Collector::new(Sort::Share);
        self.everybody = None;
        self.before = None;
        self.others.clear();
        self.last.send_replace(None);
    }

    /// Returns the answer. None, without a look at the database, if the viewer is `gone` before its turn.
    async fn answer(&mut self, question: Question, gone: impl Future<Output = ()>) -> Option<Answer> {
        if self.in_memory {
            let why = "the database is in the daemon's memory (DB_DATABASE=:memory:), where only the daemon sees it";
            return Some(Err(Unavailable { unavailable: why.to_owned() }));
        }
        let now = Instant::now();
        self.others.retain(|_, kept| kept.until > now);
        let kept = match question {
            Question::Everybody => self.everybody.as_ref(),
            _ => self.others.get(&question),
        };
        if let Some(kept) = kept.filter(|kept| kept.until > now) {
            return Some(kept.answer.clone());
        }
        // Single senders and searches take half of the time at the most, however many search.
        let turn = if question == Question::Everybody { now } else { self.rested };
        tokio::select! {
            biased;
            () = gone => return None,
            () = tokio::time::sleep_until(turn) => {}
        }
        if question == Question::Everybody {
            return Some(self.look_at_everybody().await);
        }
        let began = Instant::now();
        let answer = self.look(&question).await;
        let took = began.elapsed();
        let now = Instant::now();
        self.rested = now + took.min(REQUEST_TIMEOUT);
        if self.others.len() < MAX_KEPT {
            let until = now + took.saturating_mul(collector::REST).clamp(INTERVAL, MAX_KEPT_FOR);
            self.others.insert(question, Kept { answer: answer.clone(), until });
        }
        Some(answer)
    }

    async fn look_at_everybody(&mut self) -> Answer {
        let terms = self.terms.borrow().clone();
        let looked = {
            let look = self.collector.collect(&mut self.store, &terms, clock::now());
            timeout(TIMEOUT, look).await
        };
        let until = Instant::now() + self.collector.rest().max(INTERVAL);
        let answer = self.found(looked).and_then(|snapshot| {
            let seen = match &self.before {
                Some((before, seen)) if before.says_the_same(&snapshot) => {
                    Arc::new(Seen { at: Instant::now(), ..(**seen).clone() })
                }
                _ => self.seen(&snapshot)?,
            };
            self.before = Some((snapshot, seen.clone()));
            self.last.send_replace(Some(seen.clone()));
            Ok(seen)
        });
        self.everybody = Some(Kept { answer: answer.clone(), until });
        answer
    }

    async fn look(&mut self, question: &Question) -> Answer {
        let terms = self.terms.borrow().clone();
        let now = clock::now();
        match question {
            Question::Everybody => self.look_at_everybody().await,
            Question::Sender(id) => {
                let look = async {
                    let Some(row) = self.store.sender_by_id(*id).await? else { return Ok(None) };
                    Ok(Some(about::read(&mut self.store, &terms, &row, now).await?))
                };
                let looked = timeout(TIMEOUT, look).await;
                let about = self.found(looked)?;
                self.seen(&about.map(|about| AboutJson::new(&about, &terms.policy)))
            }
            Question::Find(text) => {
                let look = self.collector.find(&mut self.store, &terms, text, MAX_FOUND, now);
                let looked = timeout(TIMEOUT, look).await;
                let senders = self.found(looked)?;
                self.seen(&Found { senders })
            }
        }
    }

    fn found<T>(&mut self, looked: Result<Result<T, Failure>, tokio::time::error::Elapsed>) -> Result<T, Unavailable> {
        let why = match looked {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => format!("no answer within {TIMEOUT:?}"),
        };
        self.store.abandon();
        Err(Unavailable { unavailable: format!("{}: {why}", self.store.place()) })
    }

    fn seen(&mut self, value: &impl Serialize) -> Answer {
        self.tags = self.tags.wrapping_add(1);
        let tag = format!("\"{:x}\"", self.tags);
        let encoded = serde_json::to_vec(value).map_err(io::Error::from).and_then(|json| {
            let packed = if json.len() > 4096 { Some(pack(&json)?.into()) } else { None };
            Ok(Arc::new(Seen { json: json.into(), packed, tag, at: Instant::now() }))
        });
        encoded.map_err(|error| Unavailable { unavailable: format!("this is a bug: {error}") })
    }
}

#[derive(Serialize)]
struct Found {
    senders: Vec<Sender>,
}

fn pack(json: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(json)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::future;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::config::Sources;
    use crate::policy::lists::Lists;

    #[tokio::test(start_paused = true)]
    async fn a_viewer_that_has_gone_waits_for_no_turn_and_costs_no_read() {
        let file = ("DB_DATABASE", "/nonexistent/rate-guard.db");
        let config = config::load(&Sources::new(None, [file], false)).unwrap().config;
        let terms = watch::channel(Arc::new(config.terms(Lists::default(), TimeZone::UTC))).1;
        let began = Instant::now();
        let turn = Duration::from_secs(60);
        let rested = began + turn;
        let mut watcher = Task { rested, ..Task::new(&config.database, terms, watch::channel(None).0) };
        let question = Question::Find("bob".to_owned());
        assert!(watcher.answer(question.clone(), future::ready(())).await.is_none());
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(watcher.answer(question, future::pending()).await.unwrap().is_err());
        assert!(began.elapsed() >= turn, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn what_was_seen_last_is_not_given_for_ever_when_the_thread_has_ended() {
        let seen = Seen { json: Bytes::new(), packed: None, tag: String::new(), at: Instant::now() };
        let (questions, asked) = mpsc::channel(1);
        let poller = Poller { questions, last: watch::channel(Some(Arc::new(seen))).1 };
        drop(asked);
        let told = poller.ask(Question::Everybody).await.unwrap_err();
        assert!(told.unavailable.contains("restart the daemon"), "{told:?}");
    }
}
