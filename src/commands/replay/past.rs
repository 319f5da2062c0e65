//! Past mail, read from logs: the lines on a thread of its own, here the messages that they tell of. Shows the progress.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::bar::Bar;
use crate::cli;
use crate::exit::{Exit, Failed};
use crate::replay::PastRequest;
use crate::replay::files::{Counts, Merged, Opened, Progress, ReadError};
use crate::replay::join::{Gaps, Joiner};
use crate::replay::line::Line;

/// Lines are handed from the thread that reads to the one that decides in batches of this many; so many batches may wait.
const BATCH: usize = 1024;
const WAITING_BATCHES: usize = 4;

/// Logs that are being read.
pub struct Past {
    joiner: Joiner,
    batches: Receiver<Vec<Line>>,
    ended: bool,
    reading: JoinHandle<Result<Counts, ReadError>>,
    progress: Arc<Progress>,
    bar: Bar,
    /// Of other times no messages are returned, in Unix seconds.
    since: Option<i64>,
    until: Option<i64>,
}

impl Past {
    /// Times without a zone are in `zone`; `wants_size` as of [`Joiner::new`].
    pub fn read(opened: Vec<Opened>, zone: &TimeZone, wants_size: bool, options: &cli::Replay) -> Result<Past, Failed> {
        let (since, until) = (local(options.since, zone)?, local(options.until, zone)?);
        let progress = Arc::new(Progress::of(&opened));
        let (lines, batches) = mpsc::sync_channel(WAITING_BATCHES);
        let reading = start_reading(opened, zone.clone(), progress.clone(), lines)?;
        let (joiner, bar) = (Joiner::new(wants_size), Bar::new());
        Ok(Past { joiner, batches, ended: false, reading, progress, bar, since, until })
    }

    /// Returns the messages that the next lines complete, the oldest first, each with its time in Unix seconds. None after the
    /// last.
    pub fn next_messages(&mut self) -> Option<Vec<(i64, PastRequest)>> {
        if self.ended {
            return None;
        }
        let Progress { bytes, lines, size } = &*self.progress;
        self.bar.show(bytes.load(Ordering::Relaxed), *size, || format!("{} lines", lines.load(Ordering::Relaxed)));
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
        let (since, until) = (self.since, self.until);
        messages.retain(|(at, _)| since.is_none_or(|since| *at >= since) && until.is_none_or(|until| *at < until));
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

fn local(written: Option<DateTime>, zone: &TimeZone) -> Result<Option<i64>, Failed> {
    let at = written.map(|written| zone.to_timestamp(written)).transpose();
    let at = at.map_err(|error| Failed::new(Exit::Usage, format_args!("--since, --until: {error}")))?;
    Ok(at.map(Timestamp::as_second))
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
