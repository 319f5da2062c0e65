//! Looks at the database again and again at a small cost: after each look it rests many times as long as the look took.
//!
//! What all senders have used is a sum over all minutes of the window, which takes long with a million senders. So all of them
//! are read rarely, and in between only those that are sending or were refused: their numbers are always current, and the
//! numbers of the others can only fall.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::snapshot::{Next, PolicyShown, Refused, Sender, Snapshot, Sort, Totals, limited};
use super::standing;
use crate::commit::blocks::KnownBlocks;
use crate::commit::standings::learnt_since;
use crate::limiter::blocks::Blocks;
use crate::limiter::decide::Policy;
use crate::limiter::explain::explain;
use crate::limiter::terms::{self, Terms};
use crate::limiter::usual::{self, Peaks};
use crate::limiter::window::{begin_of_minute, minute_of};
use crate::policy::duration;
use crate::policy::quota::Window;
use crate::store::refusals::{Count, Refusals};
use crate::store::report::Part;
use crate::store::senders::{Listed, Listing, Order};
use crate::store::{Failure, Store};

/// The most senders in a snapshot.
pub const MAX_SENDERS: u32 = 10_000;
/// Rest after a look, in multiples of the time it took.
pub const REST: u32 = 50;
/// Before all senders are read again, after that took too long.
const AFTER_GIVING_UP: Duration = Duration::from_secs(600);
/// The longest rest, however long a look took.
const MAX_REST: Duration = Duration::from_secs(60);
/// The most senders read again because they are sending.
const MAX_ACTIVE: u32 = 2_000;
/// Refusals that are shown.
const LAST_REFUSALS: u32 = 50;
/// Senders whose hours and limits are read: the first ones in order, and those refused most.
const CLOSELY: usize = 50;
/// Rows in one statement.
const AT_A_TIME: usize = 500;

/// Hours of [`Sender::hours`].
pub const HOURS: i64 = 24;
const DAY: i64 = 24 * 3600;

/// Reads snapshots, and keeps what need not be read again for the next one.
#[derive(Debug)]
pub struct Collector {
    pub sort: Sort,
    rest: u32,
    kept: HashMap<i64, Listed>,
    usual: Usual,
    blocks: KnownBlocks,
    totals: Totals,
    /// Of the quota that was kept.
    window: Option<Window>,
    /// When the last look was.
    looked: i64,
    /// When all senders may be read again.
    rested: Option<Instant>,
    /// The time of the last look, without the part for which `rested` accounts.
    took: Duration,
    /// When a look began that did not end: it failed, or was given up.
    unended: Option<Instant>,
}

/// What is usual for senders, as far as it was read on a day. It changes with the day only.
#[derive(Debug, Default)]
struct Usual {
    /// Counted from 1970.
    today: i64,
    peaks: HashMap<i64, Peaks>,
}

impl Usual {
    /// Reads it of senders of whom it was not read yet, once the database knows enough of all.
    async fn read(&mut self, store: &mut Store, senders: &HashMap<i64, Listed>, now: i64) -> Result<(), Failure> {
        let today = usual::today(now);
        if self.today != today {
            *self = Usual { today, peaks: HashMap::new() };
        }
        self.peaks.retain(|id, _| senders.contains_key(id));
        let unread: Vec<i64> = senders.keys().filter(|id| !self.peaks.contains_key(id)).copied().collect();
        if unread.is_empty() {
            return Ok(());
        }
        let first_day = store.learnt_since(&learnt_since(now)).await?.first_day;
        if first_day.is_none_or(|first_day| usual::acts_from(first_day) > now) {
            return Ok(());
        }
        for slice in unread.chunks(AT_A_TIME) {
            let mut read: HashMap<i64, Peaks> = store.peaks(slice, &usual::days(now)).await?.into_iter().collect();
            self.peaks.extend(slice.iter().map(|id| (*id, read.remove(id).unwrap_or_default())));
        }
        Ok(())
    }

    /// The most that counted against the quota in its window.
    fn of(&self, id: i64, window: Window) -> Option<u64> {
        self.peaks.get(&id)?.of_quota(window)
    }
}

impl Collector {
    pub fn new(sort: Sort) -> Collector {
        Collector {
            sort,
            rest: REST,
            kept: HashMap::new(),
            usual: Usual::default(),
            blocks: KnownBlocks::default(),
            totals: Totals::default(),
            window: None,
            looked: 0,
            rested: None,
            took: Duration::ZERO,
            unended: None,
        }
    }

    /// Returns a collector that rests `rest` times as long as a look took.
    pub fn with_rest(sort: Sort, rest: u32) -> Collector {
        Collector { rest, ..Collector::new(sort) }
    }

    /// Returns how long to wait after a look, so that looks take little of the database's time.
    pub fn rest(&self) -> Duration {
        let took = self.unended.map_or(self.took, |begun| begun.elapsed());
        took.saturating_mul(self.rest).min(MAX_REST)
    }

    /// One look. `now` is in seconds since 1970.
    pub async fn collect(&mut self, store: &mut Store, terms: &Terms, now: i64) -> Result<Snapshot, Failure> {
        let (policy, message_log) = (&terms.policy, terms.message_log);
        let begun = Instant::now();
        self.unended = Some(begun);
        let mut rested_for = Duration::ZERO;
        // Whole minutes: a value that changes every second would have to be sent to every viewer.
        let day = begin_of_minute(now.saturating_sub(DAY));
        let refusals = if message_log { store.refusals(day, LAST_REFUSALS).await? } else { Refusals::default() };
        if self.window != Some(policy.window) {
            // The sums that were kept are of another window.
            self.window = Some(policy.window);
            self.kept.clear();
            self.rested = None;
        }
        if self.rested.is_none_or(|rested| Instant::now() >= rested) {
            let begun = Instant::now();
            // If this is given up because it takes too long, it is not begun again at once.
            self.rested = begun.checked_add(AFTER_GIVING_UP);
            let looked = self.look_at_all(store, policy, now).await;
            rested_for = begun.elapsed();
            match looked {
                Ok(()) => self.rested = Instant::now().checked_add(rested_for.saturating_mul(self.rest)),
                // The server took too long for all senders; those that are busy are known from before.
                Err(failure) if failure.rolled_back() => {}
                Err(failure) => {
                    self.rested = None;
                    return Err(failure);
                }
            }
        } else {
            self.look_at_busy(store, policy, &refusals, now).await?;
        }
        self.looked = now;
        self.usual.read(store, &self.kept, now).await?;

        let counts: HashMap<i64, Count> = refusals.counts.iter().map(|count| (count.id, *count)).collect();
        let mut senders: Vec<Sender> =
            self.kept.values().map(|listed| self.sender(listed, policy, counts.get(&listed.row.id))).collect();
        let hours_from = first_hour(now, &policy.zone);
        self.look_closely(store, policy, &refusals, hours_from, now, &mut senders).await?;
        if let Some((revision, rows)) = store.blocks_unless(self.blocks.revision(), now).await? {
            self.blocks.take(revision, rows, &terms.accounts);
        }
        by_lists_and_blocks(&mut senders, terms, self.blocks.blocks(), now);
        self.sort.sort(&mut senders);
        let room = usize::try_from(MAX_SENDERS).unwrap_or(usize::MAX);
        if senders.len() > room {
            // A blocked sender is never left out.
            senders.sort_by_key(|sender| sender.next.is_none() && sender.blocked == 0);
            for sender in senders.split_off(room) {
                self.kept.remove(&sender.id);
            }
            self.sort.sort(&mut senders);
        }
        self.took = begun.elapsed().saturating_sub(rested_for);
        self.unended = None;
        let sum = |number: fn(&Count) -> i64| refusals.counts.iter().map(number).sum();
        Ok(Snapshot {
            at: now,
            policy: PolicyShown::new(policy),
            totals: self.totals,
            complete: self.totals.at > 0 && self.totals.known <= i64::try_from(senders.len()).unwrap_or(i64::MAX),
            blocked_now: senders.iter().filter(|sender| sender.next.is_some()).count(),
            above_usual: senders.iter().filter(|sender| sender.is_above_usual()).count(),
            senders,
            hours_from,
            refused: Refused {
                known: message_log,
                from: refusals.from.filter(|_| refusals.cut).map_or(day, |from| from.max(day)),
                blocked: sum(|count| count.blocked),
                held: sum(|count| count.held),
                last: refusals.last,
            },
        })
    }

    /// Returns senders whose name contains `filter`, of all in the database.
    pub async fn find(
        &self,
        store: &mut Store,
        terms: &Terms,
        filter: &str,
        most: u32,
        now: i64,
    ) -> Result<Vec<Sender>, Failure> {
        let policy = &terms.policy;
        let listing = Listing { filter: Some(filter.to_owned()), limit: most, ..everybody(policy, now) };
        let listed = store.list(&listing).await?;
        let mut senders: Vec<Sender> =
            listed.iter().filter(|listed| is_charged(listed)).map(|listed| self.sender(listed, policy, None)).collect();
        by_lists_and_blocks(&mut senders, terms, self.blocks.blocks(), now);
        self.sort.sort(&mut senders);
        Ok(senders)
    }

    fn sender(&self, listed: &Listed, policy: &Policy, count: Option<&Count>) -> Sender {
        let [messages, recipients] = [listed.messages, listed.recipients].map(|number| number.max(0).cast_unsigned());
        Sender {
            id: listed.row.id,
            sender: listed.row.sender.clone(),
            quota: limited(listed.row.quota),
            messages,
            recipients,
            usual: self.usual.of(listed.row.id, policy.window),
            last: listed.row.updated_at,
            blocked: count.map_or(0, |count| count.blocked),
            held: count.map_or(0, |count| count.held),
            next: Next::by_quota(policy, messages.max(recipients), listed.row.quota),
            hours: Vec::new(),
        }
    }

    async fn look_at_all(&mut self, store: &mut Store, policy: &Policy, now: i64) -> Result<(), Failure> {
        let totals = store.totals(now.saturating_sub(DAY)).await?;
        let known = store.count_senders().await?;
        let listed = store.list(&everybody(policy, now)).await?;
        let domains = listed.iter().filter(|listed| !is_charged(listed)).count();
        self.kept = keyed(listed).collect();
        self.totals = Totals {
            at: now,
            known: known.saturating_sub(i64::try_from(domains).unwrap_or(0)),
            active: totals.senders,
            messages: totals.messages,
            recipients: totals.recipients,
        };
        Ok(())
    }

    /// Reads senders again that sent or were refused since the last look, or are at the quota and may be free again.
    async fn look_at_busy(
        &mut self,
        store: &mut Store,
        policy: &Policy,
        refusals: &Refusals,
        now: i64,
    ) -> Result<(), Failure> {
        // Another host's clock may be a minute behind.
        let mut busy: HashSet<i64> =
            store.active(minute_of(self.looked).saturating_sub(1), MAX_ACTIVE).await?.into_iter().collect();
        busy.extend(refusals.last.iter().filter_map(|refusal| refusal.id));
        let full = |listed: &&Listed| {
            let used = listed.messages.max(listed.recipients);
            listed.row.quota > 0 && used >= i64::from(listed.row.quota)
        };
        let full = self.kept.values().filter(full).map(|listed| listed.row.id);
        busy.extend(full.take(AT_A_TIME));
        let busy: Vec<i64> = busy.into_iter().collect();
        for slice in busy.chunks(AT_A_TIME) {
            let listing = Listing { only: Some(slice.to_vec()), ..everybody(policy, now) };
            let listed = store.list(&listing).await?;
            for id in slice {
                self.kept.remove(id);
            }
            self.kept.extend(keyed(listed));
        }
        Ok(())
    }

    /// Reads the hours of the first senders and of those refused most, and whether any limit blocks them.
    async fn look_closely(
        &self,
        store: &mut Store,
        policy: &Policy,
        refusals: &Refusals,
        hours_from: i64,
        now: i64,
        senders: &mut [Sender],
    ) -> Result<(), Failure> {
        self.sort.sort(senders);
        let refused: HashSet<i64> = refusals.counts.iter().take(CLOSELY).map(|count| count.id).collect();
        let close =
            |(place, sender): (usize, &Sender)| (place < CLOSELY || refused.contains(&sender.id)).then_some(sender.id);
        let ids: Vec<i64> = senders.iter().enumerate().filter_map(close).collect();
        let parts = store.parts(&ids, minute_of(hours_from), 60).await?;
        let mut hours = by_sender(&parts, HOURS as usize, |part| part.recipients);
        let rows: Vec<_> = ids.iter().filter_map(|id| self.kept.get(id)).map(|listed| &listed.row).collect();
        let standings = standing::of(store, policy, &rows, now).await?;
        for sender in senders {
            if let Some(standing) = standings.get(&sender.id) {
                sender.hours = hours.remove(&sender.id).unwrap_or_else(|| vec![0; HOURS as usize]);
                sender.next = Next::of(&explain(policy, standing, now));
            }
        }
        Ok(())
    }
}

/// If a list or a block decides on a sender's next message, the limits do not.
fn by_lists_and_blocks(senders: &mut [Sender], terms: &Terms, blocks: &Blocks, now: i64) {
    for sender in senders {
        let listed = terms.listed(&sender.sender, now).filter(|listed| listed.now);
        let block = blocks.of(&sender.sender, now);
        let strictness = |listed: &terms::Listed| listed.action.strictness();
        match (block, listed) {
            (Some(block), listed) if Some(block.action.strictness()) >= listed.as_ref().map(strictness) => {
                sender.next = Some(Next::of_block(block));
            }
            (_, Some(listed)) => sender.next = Next::of_listed(&listed),
            _ => {}
        }
    }
}

/// All senders, those that used most of the quota first.
pub fn everybody(policy: &Policy, now: i64) -> Listing {
    Listing {
        only: None,
        filter: None,
        blocked_since: None,
        window_since: match policy.window {
            Window::Reset => None,
            Window::Sliding(window) => Some(now.saturating_sub(duration::seconds(window))),
        },
        order: Order::Used,
        limit: MAX_SENDERS,
    }
}

/// An `@domain` row is the quota that new logins begin with; no mail is charged to it.
fn is_charged(listed: &Listed) -> bool {
    !listed.row.sender.starts_with('@')
}

fn keyed(listed: Vec<Listed>) -> impl Iterator<Item = (i64, Listed)> {
    listed.into_iter().filter(is_charged).map(|listed| (listed.row.id, listed))
}

/// Returns each sender's numbers in so many equal parts of a time, by id; a sender without any is left out.
pub fn by_sender(parts: &[Part], count: usize, number: impl Fn(&Part) -> i64) -> HashMap<i64, Vec<u64>> {
    let mut senders: HashMap<i64, Vec<u64>> = HashMap::new();
    for part in parts {
        let numbers = senders.entry(part.id).or_insert_with(|| vec![0; count]);
        // A host whose clock is ahead writes beyond the last part.
        let place = usize::try_from(part.part).unwrap_or(0).min(count.saturating_sub(1));
        if let Some(sum) = numbers.get_mut(place) {
            *sum = sum.saturating_add(number(part).max(0).cast_unsigned());
        }
    }
    senders
}

/// Returns when the first of the last 24 hours of the local clock began; the present hour is the last of them.
pub fn first_hour(now: i64, zone: &TimeZone) -> i64 {
    let offset = Timestamp::from_second(now).map_or(0, |at| i64::from(zone.to_offset(at).seconds()));
    (now + offset).div_euclid(3600) * 3600 - offset - (HOURS - 1) * 3600
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_those_of_the_local_clock() {
        let now = 1_800_014_400 + 25 * 60; // 2027-01-15 12:25 UTC
        assert_eq!(first_hour(now, &TimeZone::UTC), 1_800_014_400 - 23 * 3600);
        let kathmandu = TimeZone::fixed(jiff::tz::Offset::from_seconds(5 * 3600 + 45 * 60).unwrap());
        // There it is 18:10, and the hour began at 12:15 UTC.
        assert_eq!(first_hour(now, &kathmandu), 1_800_014_400 + 15 * 60 - 23 * 3600);
    }
}
