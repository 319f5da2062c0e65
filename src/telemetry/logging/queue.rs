//! What stands between the threads that log and the one thread that writes a sink: bounded, and lossy when it is full.
//!
//! Our own because the writer must hear of a reopened file or of the end also while the queue is full, and takes all
//! that waits at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::line::Line;

/// What a line is counted for beside its text.
const LINE_COST: usize = 64;

/// Lines lost since the start of the process, of all sinks.
static LOST: AtomicU64 = AtomicU64::new(0);

/// See [`super::lost_lines`].
pub(super) fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// For the writer: there is something to do.
    work: Condvar,
    /// For those who flush: all is written.
    idle: Condvar,
    room: usize,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Arc<Line>>,
    bytes: usize,
    lost: u64,
    reopen: bool,
    closed: bool,
    /// A thread waits in `flush`.
    hurry: bool,
    /// The writer waits for a line and must be woken; it is not woken for each one while it gathers or writes.
    asleep: bool,
    writing: bool,
}

/// What the writer has to do next.
#[derive(Debug)]
pub(super) struct Work {
    pub lines: Vec<Arc<Line>>,
    /// Lines that were lost after those; at least since the last time.
    pub lost: u64,
    /// To be done before the lines are written.
    pub reopen: bool,
}

impl Queue {
    /// `room`: how many bytes may wait. As many again can be in the writer's hands.
    pub fn new(room: usize) -> Queue {
        Queue { state: Mutex::default(), work: Condvar::new(), idle: Condvar::new(), room }
    }

    /// Never waits for the writer: a line for which there is no room is lost, and counted.
    pub fn push(&self, line: Arc<Line>) {
        let mut state = self.state();
        let bytes = state.bytes + line.text.len() + LINE_COST;
        if state.closed || bytes > self.room {
            state.lost += 1;
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes = bytes;
        state.lines.push(line);
        self.wake(state);
    }

    /// Asks the writer to open its file or socket anew, before any line that is pushed from now on is written.
    pub fn reopen(&self) {
        let mut state = self.state();
        state.reopen = true;
        self.wake(state);
    }

    /// Lets the writer write what is there, as far as that needs no waiting, and end.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        self.wake(state);
    }

    /// Waits until all is written, or until `deadline`; says whether it is.
    pub fn flush(&self, deadline: Instant) -> bool {
        let mut state = self.state();
        state.hurry = true;
        self.work.notify_one();
        let wait = deadline.saturating_duration_since(Instant::now());
        let unfinished = |state: &mut State| !state.lines.is_empty() || state.writing;
        let (mut state, timeout) =
            self.idle.wait_timeout_while(state, wait, unfinished).unwrap_or_else(PoisonError::into_inner);
        state.hurry = false;
        !timeout.timed_out()
    }

    /// For the writer: waits for work. None when the queue is closed and empty.
    pub fn take(&self) -> Option<Work> {
        let mut state = self.state();
        state.writing = false;
        while state.lines.is_empty() && !state.reopen {
            self.idle.notify_all();
            if state.closed {
                return None;
            }
            state.asleep = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.asleep = false;
        }
        state.writing = true;
        state.bytes = 0;
        let lines = std::mem::take(&mut state.lines);
        // Without a line to write nothing shows that the sink works; a loss is told with the next one.
        let lost = if lines.is_empty() { 0 } else { std::mem::take(&mut state.lost) };
        Some(Work { lines, lost, reopen: std::mem::take(&mut state.reopen) })
    }

    /// For the writer: lines that it took and could not write are lost too; `again` were lost before, and their loss could
    /// not be told.
    pub fn lose(&self, lines: u64, again: u64) {
        LOST.fetch_add(lines, Ordering::Relaxed);
        self.state().lost += lines + again;
    }

    /// For the writer: lets lines gather, so that a busy daemon neither wakes it nor writes for each one.
    pub fn gather(&self, wait: Duration) {
        let _unlocked_at_once = self.wait(wait, |state| state.hurry || state.reopen || state.closed);
    }

    /// For the writer: waits before it connects again. Says whether that still makes sense, which it does until the
    /// queue is closed. A wish to reopen ends the wait, and is granted by what follows.
    pub fn retry_after(&self, wait: Duration) -> bool {
        let mut state = self.wait(wait, |state| state.reopen || state.closed);
        state.reopen = false;
        !state.closed
    }

    fn wait(&self, wait: Duration, until: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.work.wait_timeout_while(self.state(), wait, |state| !until(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let needed = std::mem::take(&mut state.asleep) || state.reopen || state.closed;
        drop(state);
        if needed {
            self.work.notify_one();
        }
    }

    /// Nothing is done under the lock that could leave it half changed, so a poisoned one is good.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &Queue, text: &str) {
        queue.push(Arc::new(Line::new(log::Level::Info, format_args!("{text}"))));
    }

    #[test]
    fn a_full_queue_counts_what_it_loses() {
        let queue = Queue::new(3 * (LINE_COST + 1));
        for text in ["a", "b", "c", "d", "e"] {
            push(&queue, text);
        }
        let work = queue.take().unwrap();
        assert_eq!(work.lines.iter().map(|line| line.text.as_str()).collect::<String>(), "abc");
        assert_eq!((work.lost, work.reopen), (2, false));
        push(&queue, "f");
        assert_eq!(queue.take().unwrap().lost, 0, "a loss is told once");
    }

    #[test]
    fn a_loss_without_a_new_line_does_not_wake_the_writer() {
        let queue = Queue::new(1000);
        queue.lose(3, 0);
        queue.reopen();
        let work = queue.take().unwrap();
        assert_eq!((work.lines.len(), work.lost, work.reopen), (0, 0, true));
        push(&queue, "works again");
        assert_eq!(queue.take().unwrap().lost, 3);
    }

    #[test]
    fn a_closed_queue_hands_out_what_it_has_and_ends() {
        let queue = Queue::new(1000);
        push(&queue, "last");
        queue.close();
        push(&queue, "too late");
        assert_eq!(queue.take().unwrap().lines.len(), 1);
        assert!(queue.take().is_none());
        assert!(!queue.retry_after(Duration::from_secs(3600)));
    }

    #[test]
    fn a_wish_to_reopen_ends_the_wait_for_a_retry_once() {
        let queue = Queue::new(1000);
        queue.reopen();
        assert!(queue.retry_after(Duration::from_secs(3600)));
        assert!(!queue.state().reopen);
    }

    #[test]
    fn flush_says_when_the_writer_did_not_come() {
        let queue = Queue::new(1000);
        assert!(queue.flush(Instant::now()), "nothing to write");
        push(&queue, "x");
        assert!(!queue.flush(Instant::now()));
    }
}
