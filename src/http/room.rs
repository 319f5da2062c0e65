//! The places for connections. Whoever has asked nothing yet keeps a place only until somebody else needs it, so that no crowd of
//! silent ones keeps a health check waiting.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// So many places at once.
#[derive(Debug)]
pub struct Room {
    places: Arc<Semaphore>,
    /// In the order of arrival; some of them have asked or gone since.
    silent: Mutex<VecDeque<Weak<Guest>>>,
}

/// A connection in the room; its place is free again when this is dropped.
#[derive(Debug)]
pub struct Guest {
    /// How many places were free beside this one.
    pub free: usize,
    has_asked: AtomicBool,
    leave: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Room {
    pub fn new(size: usize) -> Room {
        Room { places: Arc::new(Semaphore::new(size)), silent: Mutex::default() }
    }

    /// Takes a place. Where there is none, whoever has been silent longest leaves; if nobody is silent, this waits.
    pub async fn enter(&self) -> Option<Arc<Guest>> {
        let place = match self.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                self.send_one_away();
                self.places.clone().acquire_owned().await.ok()?
            }
        };
        let free = self.places.available_permits();
        let guest = Guest { free, has_asked: AtomicBool::new(false), leave: CancellationToken::new(), _place: place };
        let guest = Arc::new(guest);
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.retain(|known| known.upgrade().is_some_and(|known| known.is_silent()));
        silent.push_back(Arc::downgrade(&guest));
        Some(guest)
    }

    fn send_one_away(&self) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(known) = silent.pop_front() {
            if let Some(guest) = known.upgrade().filter(|guest| guest.is_silent()) {
                return guest.leave.cancel();
            }
        }
    }
}

impl Guest {
    /// From now on the place is kept.
    pub fn asks(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
    }

    /// Ends when somebody else needs the place.
    pub async fn is_sent_away(&self) {
        self.leave.cancelled().await;
    }

    fn is_silent(&self) -> bool {
        !self.has_asked.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn whoever_was_silent_longest_makes_room_and_who_asked_stays() {
        let room = Room::new(3);
        let (asker, one, other) =
            (room.enter().await.unwrap(), room.enter().await.unwrap(), room.enter().await.unwrap());
        asker.asks();
        assert_eq!([asker.free, one.free, other.free], [2, 1, 0]);
        let leaves = async move {
            one.is_sent_away().await;
            drop(one);
        };
        let (newcomer, ()) = tokio::join!(room.enter(), leaves);
        assert!(!other.leave.is_cancelled() && !asker.leave.is_cancelled());
        // Where everybody has asked, whoever comes waits.
        other.asks();
        newcomer.as_ref().unwrap().asks();
        assert!(timeout(MINUTE, room.enter()).await.is_err());
        drop(other);
        assert!(timeout(MINUTE, room.enter()).await.unwrap().is_some());
        assert!(!asker.leave.is_cancelled());
    }
}
