//! Past mail, read from logs: the lines on a thread of its own, here the messages that they tell of. Shows the progress.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;

use crate::exit::{Exit, Failed};
use crate::replay::PastRequest;
use crate::replay::files::{Counts, Merged, Opened, Progress, ReadError};
use crate::replay::join::{Gaps, Joiner};
use crate::replay::line::Line;

/// Lines are handed from the thread that reads to the one that decides in batches of this many; so many batches may wait.
const BATCH: usize = 1024;
const WAITING_BATCHES: usize = 4;
/// Between two updates of the progress bar.
const SHOWN_EVERY: Duration = Duration::from_millis(200);

/// Logs that are being read.
pub struct Past {
    joiner: Joiner,
    batches: Receiver<Vec<Line>>,
    ended: bool,
    reading: JoinHandle<Result<Counts, ReadError>>,
    bar: Bar,
}

impl Past {
    /// Times without a zone are in `zone`; `wants_size` as of [`Joiner::new`].
    pub fn read(opened: Vec<Opened>, zone: TimeZone, wants_size: bool) -> Result<Past, Failed> {
        let progress = Arc::new(Progress::of(&opened));
        let bar = Bar::new(progress.clone());
        let (lines, batches) = mpsc::sync_channel(WAITING_BATCHES);
        let reading = start_reading(opened, zone, progress, lines)?;
        Ok(Past { joiner: Joiner::new(wants_size), batches, ended: false, reading, bar })
    }

    /// Returns the messages that the next lines complete, the oldest first, each with its time in Unix seconds. None after the
    /// last.
    pub fn next_messages(&mut self) -> Option<Vec<(i64, PastRequest)>> {
        if self.ended {
            return None;
        }
        self.bar.show();
        let mut messages = Vec::new();
        match self.batches.recv() {
            // One by one, so that the result does not depend on the batches.
            Ok(batch) => {
                for line in batch {
                    self.joiner.take(line);
                    messages.extend(std::iter::from_fn(|| self.joiner.next_message()));
                }
            }
            Err(_) => {
                self.ended = true;
                self.joiner.end();
                messages.extend(std::iter::from_fn(|| self.joiner.next_message()));
            }
        }
        Some(messages)
    }

    /// The line of the progress bar is needed for other output.
    pub fn clear_bar(&self) {
        self.bar.clear();
    }

    /// Reads no more, and returns what was read.
    pub fn end(self) -> Result<(Counts, Gaps), Failed> {
        self.bar.clear();
        // Ends the thread that reads.
        drop(self.batches);
        match self.reading.join() {
            Ok(read) => {
                read.map(|counts| (counts, self.joiner.gaps)).map_err(|error| Failed::new(Exit::IoError, error))
            }
            Err(_) => Err(Failed::new(Exit::Software, "the thread that reads the logs ended: this is a bug")),
        }
    }
}

fn start_reading(
    opened: Vec<Opened>,
    zone: TimeZone,
    progress: Arc<Progress>,
    lines: SyncSender<Vec<Line>>,
) -> Result<JoinHandle<Result<Counts, ReadError>>, Failed> {
    let read = move || {
        let mut merged = Merged::new(opened, &zone, progress)?;
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(line) = merged.next_line()? {
            batch.push(line);
            if batch.len() == BATCH && lines.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).is_err() {
                // The other thread has failed, and returns the reason.
                return Ok(merged.counts);
            }
        }
        let _ = lines.send(batch);
        Ok(merged.counts)
    };
    thread::Builder::new()
        .name("logs".to_owned())
        .spawn(read)
        .map_err(|error| Failed::new(Exit::OsError, format_args!("cannot start a thread to read the logs: {error}")))
}

/// The progress, on a terminal.
struct Bar {
    progress: Arc<Progress>,
    terminal: bool,
    shown: Instant,
}

impl Bar {
    const WIDTH: usize = 30;

    fn new(progress: Arc<Progress>) -> Bar {
        Bar { progress, terminal: std::io::stderr().is_terminal(), shown: Instant::now() }
    }

    fn show(&mut self) {
        if self.terminal && self.shown.elapsed() >= SHOWN_EVERY {
            self.shown = Instant::now();
            eprint!("\r{}", Bar::line(&self.progress));
        }
    }

    fn line(progress: &Progress) -> String {
        let lines = progress.lines.load(Ordering::Relaxed);
        let Some(size) = progress.size.filter(|size| *size > 0) else { return format!("{lines} lines") };
        let share =
            |of: u64| u128::from(progress.bytes.load(Ordering::Relaxed).min(size)) * u128::from(of) / u128::from(size);
        let full = usize::try_from(share(Bar::WIDTH as u64)).unwrap_or(0);
        let (full, rest) = ("#".repeat(full), " ".repeat(Bar::WIDTH.saturating_sub(full)));
        format!("[{full}{rest}] {:3} %  {lines} lines", share(100))
    }

    fn clear(&self) {
        if self.terminal {
            eprint!("\r{:60}\r", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills() {
        let progress = Progress { bytes: 50.into(), lines: 7.into(), size: Some(100) };
        assert_eq!(Bar::line(&progress), "[###############               ]  50 %  7 lines");
        assert_eq!(Bar::line(&Progress { size: None, ..progress }), "7 lines");
    }
}
