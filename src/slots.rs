//! Connection slots: how many connections are served at once, and which of them is closed when there are too many.
//!
//! A connection is busy while one of its requests is answered, else idle, even in the middle of a request. Nothing is closed
//! while there are free slots. When there are none, a new connection displaces the one that has been idle longest; a peer that
//! holds more than its share loses its own first. So nobody keeps others out by connections that ask nothing. A busy
//! connection is never displaced: if all are busy, the new one waits for the first that becomes idle.
//!
//! Invariant: either there are at most `size` connections that are not displaced, or none of them is idle.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A peer's share of all slots is one in so many, and one at least. It must be a minority: a host of many smtpd processes is no attacker, and
/// an attacker with many addresses must not make that host the one that holds most.
const SHARE: usize = 4;
/// The state of a connection that is not idle; any other value is since when it is.
const BUSY: u64 = u64::MAX;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// An IPv4 address, or the /64 network of an IPv6 address: the least that a host is given.
    Host(IpAddr),
    /// The user of this host who connected to a unix socket, by number. None if the system did not say.
    User(Option<u32>),
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Peer {
        Peer::Host(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
            address => address,
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Host(IpAddr::V6(network)) => write!(f, "{network}/64"),
            Peer::Host(address) => write!(f, "{address}"),
            Peer::User(Some(uid)) => write!(f, "user id {uid}"),
            Peer::User(None) => f.write_str("an unknown user"),
        }
    }
}

/// A number of slots for connections.
#[derive(Debug)]
pub struct Slots {
    size: usize,
    /// One for each slot. A displaced connection keeps its own until it is closed.
    permits: Arc<Semaphore>,
    started: Instant,
    displaced: AtomicU64,
    /// By how many the connections in `held` exceed `size`: that many are to be displaced as soon as they are idle.
    excess: AtomicUsize,
    held: Mutex<Held>,
}

/// The connections that are not displaced, those included that wait for a slot.
#[derive(Debug, Default)]
struct Held {
    /// By number, each with its time in `order`.
    connections: HashMap<u64, (u64, Arc<Connection>)>,
    /// Connections by the start of their idle time as it was last seen. Invariant: the true start is that time or later.
    /// A request therefore changes nothing here. The search for the connection that is idle longest corrects the entries that it
    /// meets: at most one for each request since the last search, not one for each connection.
    order: BTreeMap<(u64, u64), Peer>,
    /// How many of them each peer has.
    peers: HashMap<Peer, usize>,
    last_id: u64,
}

#[derive(Debug)]
struct Connection {
    peer: Peer,
    /// [`BUSY`], or since when it is idle, in nanoseconds after `Slots::started`.
    state: AtomicU64,
    displaced: CancellationToken,
}

/// A connection's slot, which is free again when this is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    id: u64,
    connection: Arc<Connection>,
    permit: Option<OwnedSemaphorePermit>,
}

/// Keeps a connection busy for as long as it lives.
#[derive(Debug)]
pub struct Busy<'a>(&'a Slot);

impl Slots {
    pub fn new(size: usize) -> Arc<Slots> {
        Arc::new(Slots {
            size,
            permits: Arc::new(Semaphore::new(size)),
            started: Instant::now(),
            displaced: AtomicU64::new(0),
            excess: AtomicUsize::new(0),
            held: Mutex::default(),
        })
    }

    /// Takes a slot. If none is free it displaces an idle connection; while all are busy it waits.
    pub async fn enter(self: &Arc<Slots>, peer: Peer) -> Slot {
        let mut slot = self.announce(peer);
        // An error would mean that the semaphore was closed, which nobody does.
        slot.permit = self.permits.clone().acquire_owned().await.ok();
        slot.becomes_idle();
        slot
    }

    /// Has an idle connection displaced for a new one, if that is needed.
    fn announce(self: &Arc<Slots>, peer: Peer) -> Slot {
        let connection = Connection { peer, state: AtomicU64::new(BUSY), displaced: CancellationToken::new() };
        let connection = Arc::new(connection);
        let mut held = self.lock();
        let id = held.insert(connection.clone());
        self.settle(&mut held);
        Slot { slots: self.clone(), id, connection, permit: None }
    }

    /// True if a new connection would displace another or wait.
    pub fn is_full(&self) -> bool {
        self.permits.available_permits() == 0
    }

    /// How many connections were displaced so far.
    pub fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    /// Displaces idle connections until the invariant holds.
    fn settle(&self, held: &mut Held) {
        loop {
            let excess = held.connections.len().saturating_sub(self.size);
            // Before the search for idle connections: a connection that becomes idle later sees this number.
            self.excess.store(excess, Ordering::SeqCst);
            if excess == 0 {
                return;
            }
            let Some(id) = held.next_to_go(self.size) else { return };
            if let Some(connection) = held.remove(id) {
                self.displaced.fetch_add(1, Ordering::Relaxed);
                connection.displaced.cancel();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no free slot: `all 64 connections are in use, most of them by 192.0.2.7 (60)`.
impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "all {} connections are in use", self.size)?;
        match self.lock().peers.iter().max_by_key(|(_, count)| **count) {
            Some((peer, count)) => write!(f, ", most of them by {peer} ({count})"),
            None => Ok(()),
        }
    }
}

impl Held {
    fn insert(&mut self, connection: Arc<Connection>) -> u64 {
        self.last_id += 1;
        *self.peers.entry(connection.peer).or_default() += 1;
        self.order.insert((0, self.last_id), connection.peer);
        self.connections.insert(self.last_id, (0, connection));
        self.last_id
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Connection>> {
        let (time, connection) = self.connections.remove(&id)?;
        self.order.remove(&(time, id));
        if let Some(count) = self.peers.get_mut(&connection.peer) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&connection.peer);
            }
        }
        Some(connection)
    }

    /// The connection that has been idle longest: of the peer that holds most if that is more than its share, else of all.
    fn next_to_go(&mut self, size: usize) -> Option<u64> {
        let greatest = self.peers.iter().max_by_key(|(_, count)| **count);
        let share = (size / SHARE).max(1);
        let greedy = greatest.filter(|(_, count)| **count > share).map(|(peer, _)| *peer);
        greedy.and_then(|peer| self.longest_idle(Some(peer))).or_else(|| self.longest_idle(None))
    }

    /// Of a peer, or of all.
    fn longest_idle(&mut self, of: Option<Peer>) -> Option<u64> {
        // Of several since the same time it is the one that came first.
        let mut longest: Option<(u64, u64)> = None;
        let mut late = Vec::new();
        for (&(time, id), peer) in &self.order {
            if longest.is_some_and(|longest| (time, id) > longest) {
                break;
            }
            if of.is_some_and(|of| of != *peer) {
                continue;
            }
            let Some((_, connection)) = self.connections.get(&id) else { continue };
            let since = connection.state.load(Ordering::SeqCst);
            if since == BUSY {
                continue;
            }
            if since != time {
                late.push((time, id, since));
            }
            longest = Some(longest.map_or((since, id), |longest| longest.min((since, id))));
        }
        for (time, id, since) in late {
            if let (Some(peer), Some(known)) = (self.order.remove(&(time, id)), self.connections.get_mut(&id)) {
                self.order.insert((since, id), peer);
                known.0 = since;
            }
        }
        longest.map(|(_, id)| id)
    }
}

impl Slot {
    /// To be called when a whole request has come, and kept until its answer is made.
    pub fn answers(&self) -> Busy<'_> {
        self.connection.state.store(BUSY, Ordering::Relaxed);
        Busy(self)
    }

    /// Ends when another connection needs the slot.
    pub async fn displaced(&self) {
        self.connection.displaced.cancelled().await;
    }

    pub fn is_displaced(&self) -> bool {
        self.connection.displaced.is_cancelled()
    }

    fn becomes_idle(&self) {
        let since = u64::try_from(self.slots.started.elapsed().as_nanos()).unwrap_or(BUSY - 1);
        self.connection.state.store(since, Ordering::SeqCst);
        if self.slots.excess.load(Ordering::SeqCst) > 0 {
            self.slots.settle(&mut self.slots.lock());
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.becomes_idle();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.slots.lock();
        if held.remove(self.id).is_some() {
            self.slots.settle(&mut held);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn host(number: u8) -> Peer {
        IpAddr::from([192, 0, 2, number]).into()
    }

    /// What a future that needs no runtime has come to.
    fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    fn enter(slots: &Arc<Slots>, peer: Peer) -> Slot {
        poll(pin!(slots.enter(peer))).expect("a free slot")
    }

    /// Each connection is idle since a time of its own.
    async fn a_second() {
        tokio::time::advance(Duration::from_secs(1)).await;
    }

    #[test]
    fn a_host_is_one_peer_however_it_is_written() {
        let peer = |text: &str| Peer::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(peer("::ffff:192.0.2.7"), peer("192.0.2.7"));
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:0:0:1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("2001:db8::1").to_string(), "2001:db8::/64");
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_taken_the_one_that_was_idle_longest_goes() {
        let slots = Slots::new(3);
        let mut held: Vec<Slot> = Vec::new();
        for peer in [1, 2, 3] {
            held.push(enter(&slots, host(peer)));
            a_second().await;
        }
        drop(held[0].answers());
        assert!(slots.is_full() && !held.iter().any(Slot::is_displaced), "nobody came");
        let mut newcomer = pin!(slots.enter(host(4)));
        assert!(poll(newcomer.as_mut()).is_none(), "the slot is free when the connection is closed");
        assert_eq!(held.iter().map(Slot::is_displaced).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!((slots.displaced(), slots.to_string().contains("all 3 connections are in use")), (1, true));
        held.remove(1);
        assert!(poll(newcomer).is_some());
        assert!(!held.iter().any(Slot::is_displaced), "for one newcomer one goes");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_holds_more_than_its_share_goes_first_however_busy_it_keeps() {
        for (greedy, other) in [(host(1), host(2)), (Peer::User(Some(1)), Peer::User(Some(2)))] {
            let slots = Slots::new(8);
            let quiet: Vec<Slot> = (0..2).map(|_| enter(&slots, other)).collect();
            a_second().await;
            let mut crowd: Vec<Slot> = (0..6).map(|_| enter(&slots, greedy)).collect();
            for _ in 0..4 {
                a_second().await;
                crowd.iter().for_each(|slot| drop(slot.answers()));
                let mut newcomer = pin!(slots.enter(other));
                assert!(poll(newcomer.as_mut()).is_none());
                crowd.retain(|slot| !slot.is_displaced());
                drop(poll(newcomer).expect("a slot"));
                crowd.push(enter(&slots, greedy));
            }
            assert!(!quiet.iter().any(Slot::is_displaced));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_do_not_turn_the_rule_against_an_honest_host() {
        let slots = Slots::new(40);
        let strangers: Vec<Slot> = (0..30).map(|number| enter(&slots, host(number))).collect();
        a_second().await;
        let honest: Vec<Slot> = (0..10).map(|_| enter(&slots, host(200))).collect();
        let mut newcomers: Vec<_> = (100..120).map(|number| Box::pin(slots.enter(host(number)))).collect();
        assert!(newcomers.iter_mut().all(|newcomer| poll(newcomer.as_mut()).is_none()));
        assert!(!honest.iter().any(Slot::is_displaced));
        assert_eq!(strangers.iter().filter(|slot| slot.is_displaced()).count(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_busy_the_first_that_has_its_answer_makes_room() {
        let slots = Slots::new(2);
        let (one, other) = (enter(&slots, host(1)), enter(&slots, host(2)));
        let (busy, _still) = (one.answers(), other.answers());
        let mut newcomer = pin!(slots.enter(host(3)));
        assert!(poll(newcomer.as_mut()).is_none() && !one.is_displaced() && !other.is_displaced());
        drop(busy);
        assert!(one.is_displaced());
        drop(one);
        assert!(poll(newcomer).is_some() && !other.is_displaced());
    }

    proptest! {
        /// Each newcomer displaces exactly the one that a look at all of them would find.
        #[test]
        fn the_longest_idle_goes_whatever_was_asked_between(
            steps in proptest::collection::vec((0..8_usize, prop::bool::weighted(0.3)), 0..100)
        ) {
            let slots = Slots::new(8);
            let mut inside: Vec<Slot> = (0..8).map(|number| enter(&slots, host(number))).collect();
            let idle_since = |slot: &Slot, time: u64| slot.connection.state.store(time, Ordering::SeqCst);
            inside.iter().for_each(|slot| idle_since(slot, 1));
            for (time, (which, comes)) in (2..).zip(steps) {
                if !comes {
                    idle_since(&inside[which], time);
                    continue;
                }
                let since = |slot: &Slot| (slot.connection.state.load(Ordering::SeqCst), slot.id);
                let expected = inside.iter().min_by_key(|slot| since(slot)).unwrap().id;
                let mut newcomer = Box::pin(slots.enter(host(u8::try_from(time).unwrap())));
                prop_assert!(poll(newcomer.as_mut()).is_none());
                let displaced: Vec<u64> = inside.iter().filter(|slot| slot.is_displaced()).map(|slot| slot.id).collect();
                prop_assert_eq!(displaced, [expected]);
                inside.retain(|slot| slot.id != expected);
                inside.push(poll(newcomer.as_mut()).expect("a slot"));
                idle_since(&inside[7], time);
            }
        }

        /// Any connections that come, ask, have their answers and go.
        #[test]
        fn nobody_goes_without_need_and_nobody_waits_while_another_is_idle(
            steps in proptest::collection::vec((0..4_u8, 0..8_usize, 0..4_u8), 0..200)
        ) {
            const SIZE: usize = 4;
            let slots = Slots::new(SIZE);
            let mut inside: Vec<Slot> = Vec::new();
            let mut waiting: Vec<Pin<Box<dyn Future<Output = Slot>>>> = Vec::new();
            let mut busy: Vec<u64> = Vec::new();
            let mut needed = 0;
            for (step, which, peer) in steps {
                match step {
                    0 => {
                        needed += u64::from(inside.len() + waiting.len() >= SIZE);
                        let slots = slots.clone();
                        waiting.push(Box::pin(async move { slots.enter(host(peer)).await }));
                    }
                    1 if which < inside.len() => {
                        std::mem::forget(inside[which].answers());
                        busy.push(inside[which].id);
                    }
                    2 if which < inside.len() => {
                        busy.retain(|id| *id != inside[which].id);
                        inside[which].becomes_idle();
                    }
                    3 if which < inside.len() => drop(inside.remove(which)),
                    _ => {}
                }
                // A displaced connection closes as soon as it has no answer to wait for.
                let mut progress = true;
                while progress {
                    let before = (inside.len(), waiting.len());
                    waiting.retain_mut(|future| match poll(future.as_mut()) {
                        Some(slot) => {
                            inside.push(slot);
                            false
                        }
                        None => true,
                    });
                    inside.retain(|slot| !slot.is_displaced() || busy.contains(&slot.id));
                    progress = before != (inside.len(), waiting.len());
                }
                prop_assert!(inside.len() <= SIZE && slots.displaced() <= needed);
                prop_assert!(waiting.is_empty() || inside.iter().all(|slot| busy.contains(&slot.id)));
            }
            let displaced = slots.displaced();
            drop((inside, waiting));
            prop_assert_eq!(slots.displaced(), displaced);
            let held = slots.lock();
            prop_assert!(held.connections.is_empty() && held.order.is_empty() && held.peers.is_empty());
        }
    }
}
