//! Looks at the database for the screen: beside the drawing, on a connection of its own that only reads, and for a small part
//! of the time only.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::screen::figures::OneSender;
use crate::clock;
use crate::limiter::terms::Terms;
use crate::limiter::window::minute_of;
use crate::status::about;
use crate::status::snapshot::{Sender, Snapshot, Sort};
use crate::status::{Collector, collector};
use crate::store::{Failure, Store};

/// The longest time for one look. Then it is given up, with its connection.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Rest after a look, in multiples of the time it took, unless the operator asks for a look.
pub const REST: u32 = 9;
/// The shortest rest between two looks that the operator asks for, however fast keys come.
const MIN_REST: Duration = Duration::from_millis(50);
/// The most minutes whose sums are read for the pace.
const MAX_MINUTES: i64 = 10;
/// The most senders found by a part of their name that are not in the snapshot.
const MAX_FOUND: u32 = 500;

/// What the operator wants to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub sort: Sort,
    /// A part of a name, or empty.
    pub filter: String,
    /// The sender whose page is open.
    pub opened: Option<String>,
}

/// What a look found.
#[derive(Debug)]
pub struct Look {
    pub snapshot: Snapshot,
    pub asked: Option<OneSender>,
    /// Running totals of what was let through: time in seconds since 1970, messages, recipients.
    pub sums: Vec<(i64, i64, i64)>,
    pub took: Duration,
    /// Where the database is.
    pub place: String,
}

/// What a look brought, or why it brought nothing.
pub type Looked = Box<Result<Look, String>>;

/// Looks again and again until the receiver of the looks is gone.
pub async fn look(
    mut store: Store,
    terms: Terms,
    interval: Duration,
    mut wanted: watch::Receiver<Wanted>,
    looks: mpsc::Sender<Looked>,
) {
    let mut looker = Looker { collector: Collector::new(Sort::Share), meter: Meter::default(), found: None };
    loop {
        let asked = wanted.borrow_and_update().clone();
        let begun = Instant::now();
        let looked = looker.look(&mut store, &terms, &asked);
        let looked = match tokio::time::timeout(TIMEOUT, looked).await {
            Ok(Ok(look)) => Ok(Look { took: begun.elapsed(), ..look }),
            Ok(Err(failure)) => Err(failure.to_string()),
            Err(_) => {
                store.abandon();
                Err(format!("no answer within {} s", TIMEOUT.as_secs()))
            }
        };
        if looks.send(Box::new(looked)).await.is_err() {
            return;
        }
        let took = begun.elapsed();
        let rest = async {
            tokio::select! {
                () = tokio::time::sleep(interval.max(took * REST)) => {}
                changed = wanted.changed() => {
                    // At most half of the time, however fast keys come.
                    tokio::time::sleep(took.max(MIN_REST)).await;
                    return changed.is_ok();
                }
            }
            true
        };
        if !rest.await {
            return;
        }
    }
}

struct Looker {
    collector: Collector,
    meter: Meter,
    found: Option<Found>,
}

/// Senders whose name contains a text, and until when they need not be read again.
struct Found {
    text: String,
    senders: Vec<Sender>,
    until: Instant,
}

impl Looker {
    async fn look(&mut self, store: &mut Store, terms: &Terms, wanted: &Wanted) -> Result<Look, Failure> {
        let now = clock::now();
        self.collector.sort = wanted.sort;
        let mut snapshot = self.collector.collect(store, terms, now).await?;
        if !snapshot.complete && !wanted.filter.is_empty() {
            self.find(store, terms, &wanted.filter, now).await?;
            let found = self.found.iter().flat_map(|found| &found.senders);
            let known: std::collections::HashSet<i64> = snapshot.senders.iter().map(|sender| sender.id).collect();
            snapshot.senders.extend(found.filter(|sender| !known.contains(&sender.id)).cloned());
            wanted.sort.sort(&mut snapshot.senders);
        }
        let asked = match &wanted.opened {
            None => None,
            Some(name) => {
                let about = match store.sender(name).await? {
                    Some(row) => Some(about::read(store, terms, &row, now).await?),
                    None => None,
                };
                Some(OneSender { name: name.clone(), about })
            }
        };
        let sums = self.meter.read(store, now).await?;
        Ok(Look { snapshot, asked, sums, took: Duration::ZERO, place: store.place() })
    }

    /// Searches all senders, which may take long, so not on every look.
    async fn find(&mut self, store: &mut Store, terms: &Terms, text: &str, now: i64) -> Result<(), Failure> {
        if self.found.as_ref().is_some_and(|found| found.text == text && Instant::now() < found.until) {
            return Ok(());
        }
        let begun = Instant::now();
        let senders = self.collector.find(store, terms, text, MAX_FOUND, now).await?;
        let until = Instant::now() + begun.elapsed() * collector::REST;
        self.found = Some(Found { text: text.to_owned(), senders, until });
        Ok(())
    }
}

/// Reads what was let through since the screen was opened; only the last minutes are read each time.
#[derive(Default)]
struct Meter {
    /// The minute (counted from 1970) from which sums are read.
    from: Option<i64>,
    /// Messages and recipients of the minutes before that.
    before: (i64, i64),
}

impl Meter {
    async fn read(&mut self, store: &mut Store, now: i64) -> Result<Vec<(i64, i64, i64)>, Failure> {
        let minute = minute_of(now);
        let mut sums = Vec::new();
        let from = match self.from {
            // The first look, or the clock was set back.
            Some(from) if from <= minute => from,
            _ => {
                let from = minute - 1;
                *self = Meter { from: Some(from), before: (0, 0) };
                // The totals begin here, with 0.
                sums.push((from * 60, 0, 0));
                from
            }
        };
        let totals = store.totals(from * 60).await?;
        let (messages, recipients) = self.before;
        let (messages, recipients) =
            (messages.saturating_add(totals.messages), recipients.saturating_add(totals.recipients));
        sums.push((now, messages, recipients));
        if minute - from > MAX_MINUTES {
            let rest = store.totals((minute - 1) * 60).await?;
            self.from = Some(minute - 1);
            self.before = (messages.saturating_sub(rest.messages), recipients.saturating_sub(rest.recipients));
        }
        Ok(sums)
    }
}
