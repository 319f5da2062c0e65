//! What the daemon did since its start, in numbers: for STATUS= and, later, for metrics.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::commit::{FailOpen, Verdict};

/// Counters that any task may raise.
#[derive(Debug, Default)]
pub struct Tally {
    connections: AtomicU64,
    accepted: AtomicU64,
    blocked: AtomicU64,
    uncounted: AtomicU64,
    from_memory: AtomicU64,
    fail_open: [AtomicU64; FailOpen::ALL.len()],
}

impl Tally {
    /// Counts a connection for as long as the guard lives.
    pub fn connection(&self) -> Connected<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(self)
    }

    pub fn verdict(&self, verdict: &Verdict) {
        let ruling = match verdict {
            Verdict::Counted(ruling) => ruling,
            Verdict::Remembered(ruling) => {
                self.from_memory.fetch_add(1, Ordering::Relaxed);
                ruling
            }
            Verdict::Looked(_) => return self.uncounted(),
            Verdict::FailOpen(reason, _) => return self.fail_open(*reason),
        };
        let counter = if ruling.blocked { &self.blocked } else { &self.accepted };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A request that nobody is charged for.
    pub fn uncounted(&self) {
        self.uncounted.fetch_add(1, Ordering::Relaxed);
    }

    pub fn fail_open(&self, reason: FailOpen) {
        if let Some(counter) = self.fail_open.get(reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A connection that is open.
#[derive(Debug)]
pub struct Connected<'a>(&'a Tally);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One line for people: `12 connections; 3456 accepted, 7 blocked, 0 not counted; fail-open: 2 (deadline 2)`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            f,
            "{} connections; {} accepted, {} blocked, {} not counted",
            get(&self.connections),
            get(&self.accepted),
            get(&self.blocked),
            get(&self.uncounted)
        )?;
        if get(&self.from_memory) > 0 {
            write!(f, "; {} judged from memory", get(&self.from_memory))?;
        }
        let opened: Vec<String> = FailOpen::ALL
            .iter()
            .zip(&self.fail_open)
            .filter(|(_, counter)| get(counter) > 0)
            .map(|(reason, counter)| format!("{} {}", reason.name(), get(counter)))
            .collect();
        if !opened.is_empty() {
            write!(f, "; let through in doubt: {}", opened.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::reply::Action;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let tally = Tally::default();
        for (number, reason) in FailOpen::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            tally.verdict(&Verdict::FailOpen(reason, Action::DUNNO));
            assert!(tally.to_string().contains(&format!("{} 1", reason.name())), "{tally}");
        }
        let guard = tally.connection();
        assert!(tally.to_string().starts_with("1 connections"));
        drop(guard);
        assert!(tally.to_string().starts_with("0 connections"));
    }
}
