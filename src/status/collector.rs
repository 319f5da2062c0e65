//! Looks at the database again and again, and spends little on it: what a look took, it rests many times as long.
//!
//! Everybody's use of the quota is a sum over all minutes of the window, which takes long where there are a million senders.
//! So that is read when it may be, and in between only those who are sending or were refused: their numbers are always those
//! of the moment, and the others' only fall.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::snapshot::{Next, PolicyShown, Refused, Sender, Snapshot, Sort, Totals, limited};
use super::standing;
use crate::limiter::decide::Policy;
use crate::limiter::explain::explain;
use crate::limiter::terms::Terms;
use crate::limiter::window::minute_of;
use crate::policy::duration;
use crate::policy::quota::Window;
use crate::store::refusals::{Count, Refusals};
use crate::store::senders::{Listed, Listing, Order};
use crate::store::{Failure, Store};

/// The most senders in a snapshot.
pub const MAX_SENDERS: u32 = 10_000;
/// A look that took a second is followed by so many seconds without one.
pub const REST: u32 = 50;
/// Before everybody is looked at again, after that took too long.
const AFTER_GIVING_UP: Duration = Duration::from_secs(600);
/// However long a look took.
const MAX_REST: Duration = Duration::from_secs(60);
/// Senders read again since they are sending.
const MAX_ACTIVE: u32 = 2_000;
/// Refusals that are shown.
const LAST_REFUSALS: u32 = 50;
/// Senders whose hours and limits are read: the first ones in order, and those who were refused most.
const CLOSELY: usize = 50;
/// Rows in one statement.
const AT_A_TIME: usize = 500;

/// Hours of [`Sender::hours`].
pub const HOURS: i64 = 24;
const DAY: i64 = 24 * 3600;

/// Reads snapshots, and keeps from one to the next what need not be read again.
#[derive(Debug)]
pub struct Collector {
    pub sort: Sort,
    rest: u32,
    kept: HashMap<i64, Listed>,
    totals: Totals,
    /// Of the quota that was kept.
    window: Option<Window>,
    /// When the last look was.
    looked: i64,
    /// When everybody may be looked at again.
    rested: Option<Instant>,
    /// What the last look took, without what is rested for already.
    took: Duration,
    /// When a look began that has not come to its end: it failed, or was given up.
    unended: Option<Instant>,
}

impl Collector {
    pub fn new(sort: Sort) -> Collector {
        let (kept, totals) = (HashMap::new(), Totals::default());
        Collector {
            sort,
            rest: REST,
            kept,
            totals,
            window: None,
            looked: 0,
            rested: None,
            took: Duration::ZERO,
            unended: None,
        }
    }

    /// One that rests so many times as long as it looked.
    pub fn with_rest(sort: Sort, rest: u32) -> Collector {
        Collector { rest, ..Collector::new(sort) }
    }

    /// How long to wait after a look, so that all looks together take little of the database's time.
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
        // Whole minutes: what changes with every second would be news to every viewer.
        let day = now.saturating_sub(DAY).div_euclid(60) * 60;
        let refusals = if message_log { store.refusals(day, LAST_REFUSALS).await? } else { Refusals::default() };
        if self.window != Some(policy.window) {
            // What was kept was counted otherwise.
            self.window = Some(policy.window);
            self.kept.clear();
            self.rested = None;
        }
        if self.rested.is_none_or(|rested| Instant::now() >= rested) {
            let begun = Instant::now();
            // If this is given up since it takes too long, it is not begun again at once.
            self.rested = begun.checked_add(AFTER_GIVING_UP);
            let looked = self.look_at_all(store, policy, now).await;
            rested_for = begun.elapsed();
            match looked {
                Ok(()) => self.rested = Instant::now().checked_add(rested_for.saturating_mul(self.rest)),
                // The server is there, and took too long: those who are busy are known all the same.
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

        let counts: HashMap<i64, Count> = refusals.counts.iter().map(|count| (count.id, *count)).collect();
        let mut senders: Vec<Sender> =
            self.kept.values().map(|listed| sender(listed, policy, counts.get(&listed.row.id))).collect();
        let hours_from = first_hour(now, &policy.zone);
        self.look_closely(store, policy, &refusals, hours_from, now, &mut senders).await?;
        by_the_lists(&mut senders, terms, now);
        self.sort.sort(&mut senders);
        let room = usize::try_from(MAX_SENDERS).unwrap_or(usize::MAX);
        if senders.len() > room {
            // Whoever is blocked is never left out.
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

    /// Senders whose name contains `filter`, of all there are.
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
            listed.iter().filter(|listed| is_charged(listed)).map(|listed| sender(listed, policy, None)).collect();
        by_the_lists(&mut senders, terms, now);
        self.sort.sort(&mut senders);
        Ok(senders)
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

    /// Reads again who sent or was refused since the last look, and whoever is at the quota and may be free again.
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

    /// Reads the hours of the first senders, and by all limits whether they and those refused most are blocked.
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
        let mut hours: HashMap<i64, Vec<u64>> = ids.iter().map(|&id| (id, vec![0; HOURS as usize])).collect();
        for part in store.parts(&ids, minute_of(hours_from), 60).await? {
            // A host whose clock is ahead writes beyond the last hour.
            let place = usize::try_from(part.part.clamp(0, HOURS - 1)).unwrap_or(0);
            if let Some(hour) = hours.get_mut(&part.id).and_then(|hours| hours.get_mut(place)) {
                *hour = hour.saturating_add(u64::try_from(part.recipients).unwrap_or(0));
            }
        }
        let rows: Vec<_> = ids.iter().filter_map(|id| self.kept.get(id)).map(|listed| &listed.row).collect();
        let standings = standing::of(store, policy, &rows, now).await?;
        for sender in senders {
            if let Some(hours) = hours.remove(&sender.id) {
                sender.hours = hours;
            }
            if let Some(standing) = standings.get(&sender.id) {
                sender.next = Next::of(&explain(policy, standing, now));
            }
        }
        Ok(())
    }
}

/// Where a list says what the next message is told, it is not the limits that do.
fn by_the_lists(senders: &mut [Sender], terms: &Terms, now: i64) {
    for sender in senders {
        if let Some(listed) = terms.listed(&sender.sender, now).filter(|listed| listed.now) {
            sender.next = Next::of_listed(&listed);
        }
    }
}

fn everybody(policy: &Policy, now: i64) -> Listing {
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

/// An `@domain` row is the quota that others begin with; nobody is charged to it.
fn is_charged(listed: &Listed) -> bool {
    !listed.row.sender.starts_with('@')
}

fn keyed(listed: Vec<Listed>) -> impl Iterator<Item = (i64, Listed)> {
    listed.into_iter().filter(is_charged).map(|listed| (listed.row.id, listed))
}

fn sender(listed: &Listed, policy: &Policy, count: Option<&Count>) -> Sender {
    let positive = |number: i64| u64::try_from(number).unwrap_or(0);
    let (messages, recipients) = (positive(listed.messages), positive(listed.recipients));
    Sender {
        id: listed.row.id,
        sender: listed.row.sender.clone(),
        quota: limited(listed.row.quota),
        messages,
        recipients,
        last: listed.row.updated_at,
        blocked: count.map_or(0, |count| count.blocked),
        held: count.map_or(0, |count| count.held),
        next: Next::by_quota(policy, messages.max(recipients), listed.row.quota),
        hours: Vec::new(),
    }
}

/// The begin of the first of the last 24 hours of the local clock, the present one being the last.
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
