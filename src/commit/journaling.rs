//! What becomes of the outage journal: what is written in it while the database is away, and how it is charged when the
//! database is back, in parts, until nothing of it is left. Knows no file, no clock and no SQL: it says what is to be done
//! next, and is told what came of it.
//!
//! Invariants: what is charged was written before; each record is charged once, since the database says how many are; no
//! record is given up because the database as a whole is in trouble, and none holds up the others for long.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::late::LatePart;
use crate::journal::depth::Depth;
use crate::journal::entry::Entry;
use crate::journal::file::Held;
use crate::journal::record::{self, Found, HEADER};
use crate::limiter::terms::Terms;
use crate::store::Failure;
use crate::store::counters::{HeldRow, Row};
use crate::store::journal::Part;
use crate::telemetry::decision::escaped;

/// The most entries charged in one transaction: mail that comes meanwhile waits for it.
const MAX_PART: usize = 512;
/// How long nothing is written after the file could not be.
const REST: Duration = Duration::from_secs(10);
/// Before a part that the database could not take is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How often one account's entries are tried before the trouble is taken for the database's.
const TRIES: u32 = 5;
/// How long one account's row, held by somebody else, may hold up all others.
const ROW_TIMEOUT: Duration = Duration::from_secs(10);

/// What is to be done with the file or the database.
#[derive(Debug)]
pub enum Task {
    /// Write these records at a place in the file, which is emptied first for a journal of another number if there is one.
    Append {
        journal: Option<i64>,
        offset: u64,
        records: Vec<u8>,
    },
    /// Read from a place in the file on.
    Read {
        offset: u64,
    },
    Charge(Box<LatePart>),
    /// Find out whether somebody holds the row of this account.
    FindHeld(String),
    /// Keep a copy of what is behind a place in the file.
    KeepAside {
        offset: u64,
    },
    /// Empty the file, for a journal of this number.
    BeginAnew(i64),
}

/// What came of it.
#[derive(Debug)]
pub enum Report {
    Appended(Result<(), String>),
    Read(Result<Vec<u8>, String>),
    /// How many records are charged now, and the rows of the part's sums.
    Charged(Box<LatePart>, Result<(i64, Vec<Option<Row>>), Failure>),
    Held(String, Result<Vec<HeldRow>, Failure>),
    /// The name of the copy.
    KeptAside(Result<String, String>),
    BegunAnew(Result<(), String>),
}

/// How it goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// What was to be written is written, or never will be.
    Answer,
    Going,
    /// A part was charged.
    Charged,
    /// The database cannot be used.
    Away(String),
    /// Nothing is left to be charged.
    Done,
}

/// A journal between two steps.
#[derive(Debug, Default)]
pub struct Journaling {
    /// The most bytes of the file; 0 without a journal.
    size: u64,
    journal: i64,
    /// Whether the file holds another journal, all of which is charged. It may become this one at any time: a disk that does not
    /// answer does late what it was told.
    holds_another: bool,
    /// How many records there are, and where the last one ends.
    written: Place,
    /// How many of them are charged, as far as is known here.
    charged: Place,
    /// How many the database says are charged.
    known_charged: i64,
    oldest: Option<i64>,
    group: Group,
    /// How many bytes are being written.
    appending: u64,
    /// Nothing is written until then.
    rests_until: Option<Duration>,
    is_full: bool,
    /// Where a record was found to be broken: what is in the file from there on is kept aside.
    broken: Option<u64>,
    /// Nothing is written until the file is emptied, since it is not known how many records there were: what came behind them
    /// might be taken for what is charged.
    is_closed: bool,
    /// Records that were read and are not charged, in their order.
    read: VecDeque<Slot>,
    /// The most entries of the next part.
    most: usize,
    not_before: Duration,
    /// How often in a row one account's entries could not be charged.
    tries: u32,
    /// One session has held this row since then.
    held: Option<(HeldRow, Duration)>,
    asking: Option<String>,
    given_up: HashSet<String>,
    /// The part whose COMMIT was not answered, and how many of its records had an entry.
    in_doubt: Option<(Part, usize)>,
    /// The rows of what was charged, by account.
    rows: HashMap<String, Row>,
    charged_in_all: u64,
    lost: u64,
}

/// A place between two records: how many are before it, in how many bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    record: i64,
    offset: u64,
}

const BEGIN: Place = Place { record: 0, offset: HEADER as u64 };

/// Records that are written together.
#[derive(Debug, Default)]
struct Group {
    bytes: Vec<u8>,
    records: i64,
    oldest: Option<i64>,
}

/// A record that was read.
#[derive(Debug)]
struct Slot {
    /// None if it cannot be charged.
    entry: Option<Entry>,
    length: u64,
}

impl Journaling {
    /// The journal that a file of at most `size` bytes holds; `oldest` is when its first request was answered.
    pub fn new(size: u64, held: Held, oldest: Option<i64>) -> Journaling {
        let record = i64::try_from(held.records).unwrap_or(i64::MAX);
        Journaling {
            size,
            journal: held.journal,
            written: Place { record, offset: held.end },
            is_closed: held.damaged,
            charged: BEGIN,
            oldest,
            most: MAX_PART,
            ..Journaling::default()
        }
    }

    pub fn depth(&self) -> Depth {
        let requests = self.owed();
        Depth {
            is_written: self.size > 0 && self.rests_until.is_none() && !self.is_full && !self.is_closed,
            requests: requests.unsigned_abs(),
            bytes: self.written.offset,
            since: self.oldest.filter(|_| requests > 0),
            charged: self.charged_in_all,
            lost: self.lost,
        }
    }

    /// Whether anything is left to be charged.
    pub fn owes(&self) -> bool {
        self.owed() > 0
    }

    /// How many records are left to be charged.
    fn owed(&self) -> i64 {
        self.written.record.saturating_sub(self.charged.record)
    }

    /// Whether the next part that is charged is the last one, and nothing is known to be in its way.
    pub fn is_near_its_end(&self) -> bool {
        usize::try_from(self.owed()).is_ok_and(|owed| owed <= self.most) && self.tries == 0 && self.held.is_none()
    }

    /// Puts an entry among those that are written next. False if it is in no journal.
    pub fn write(&mut self, entry: &Entry, elapsed: Duration) -> bool {
        if self.size == 0 {
            return false;
        }
        if self.is_closed || self.rests_until.is_some_and(|until| elapsed < until) {
            self.lost += 1;
            return false;
        }
        let before = self.group.bytes.len();
        let is_record = entry.encode().is_some_and(|text| record::write(&mut self.group.bytes, self.journal, &text));
        if !is_record || self.written.offset + self.group.bytes.len() as u64 > self.size {
            self.group.bytes.truncate(before);
            if is_record && !std::mem::replace(&mut self.is_full, true) {
                log::error!(
                    "the outage journal is full (JOURNAL_SIZE): what is answered from now on until the database is back \
                     will not be charged"
                );
            }
            self.lost += 1;
            return false;
        }
        self.group.records += 1;
        self.group.oldest.get_or_insert(entry.at);
        true
    }

    /// The records to be written now, if there are any.
    pub fn append(&mut self) -> Option<Task> {
        let records = std::mem::take(&mut self.group.bytes);
        self.appending = records.len() as u64;
        let journal = self.holds_another.then_some(self.journal);
        (!records.is_empty()).then_some(Task::Append { journal, offset: self.written.offset, records })
    }

    /// What is to be done next so that all is charged. Err says until when nothing is. `now` is in Unix seconds.
    pub fn next(&mut self, terms: &Terms, elapsed: Duration, now: i64) -> Result<Task, Duration> {
        if elapsed < self.not_before {
            return Err(self.not_before);
        }
        if let Some(account) = self.asking.take() {
            return Ok(Task::FindHeld(account));
        }
        if let Some(offset) = self.broken.take() {
            return Ok(Task::KeepAside { offset });
        }
        if !self.owes() {
            return Ok(self.begin_anew());
        }
        if self.read.is_empty() {
            return Ok(Task::Read { offset: self.charged.offset });
        }
        let (mut entries, mut records) = (Vec::new(), 0);
        for slot in &self.read {
            let entry = slot.entry.as_ref().filter(|entry| !self.given_up.contains(&entry.account));
            if entry.is_some() && entries.len() >= self.most {
                break;
            }
            records += 1;
            entries.extend(entry.cloned());
        }
        let from = self.charged.record;
        let part = Part { journal: self.journal, from, to: from + records };
        Ok(Task::Charge(Box::new(LatePart::new(part, entries, terms, now))))
    }

    /// Takes in what came of a task.
    pub fn report(&mut self, report: Report, elapsed: Duration) -> Progress {
        match report {
            Report::Appended(result) => self.appended(result, elapsed),
            Report::Read(result) => self.take_in(result, elapsed),
            Report::Charged(part, Ok((charged, rows))) => self.part_charged(&part, charged, rows),
            Report::Charged(part, Err(failure)) => self.part_failed(&part, failure, elapsed),
            Report::Held(account, result) => self.found_held(account, result, elapsed),
            Report::KeptAside(Ok(aside)) => {
                log::error!("what cannot be read of the outage journal is kept in {aside}");
                Progress::Going
            }
            Report::KeptAside(Err(reason)) => {
                log::error!("what cannot be read of the outage journal could not be kept: {reason}");
                Progress::Going
            }
            Report::BegunAnew(result) => self.begun_anew(result),
        }
    }

    /// Leaves off charging: the database is away again.
    pub fn interrupt(&mut self) {
        self.read.clear();
        (self.not_before, self.tries) = (Duration::ZERO, 0);
        (self.held, self.asking) = (None, None);
    }

    /// The accounts that were given up, and the rows of those that were charged, once all is.
    pub fn take_outcome(&mut self) -> (HashSet<String>, HashMap<String, Row>) {
        (std::mem::take(&mut self.given_up), std::mem::take(&mut self.rows))
    }

    fn appended(&mut self, result: Result<(), String>, elapsed: Duration) -> Progress {
        let Group { records, oldest, .. } = std::mem::take(&mut self.group);
        match result {
            Ok(()) => {
                self.written.record += records;
                self.written.offset += self.appending;
                self.oldest = self.oldest.or(oldest);
                (self.rests_until, self.holds_another) = (None, false);
            }
            Err(reason) => {
                if self.rests_until.is_none() {
                    log::error!(
                        "the outage journal cannot be written: {reason}. What is answered until the database is back will \
                         not be charged; it is tried again every {} s",
                        REST.as_secs()
                    );
                }
                self.lost += records.unsigned_abs();
                self.rests_until = Some(elapsed + REST);
            }
        }
        Progress::Answer
    }

    fn take_in(&mut self, result: Result<Vec<u8>, String>, elapsed: Duration) -> Progress {
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(reason) => {
                self.tries += 1;
                self.not_before = elapsed + RETRY_PAUSE;
                if self.tries > TRIES {
                    self.give_up_file(&reason);
                }
                return Progress::Going;
            }
        };
        let (mut rest, mut owed) = (bytes.as_slice(), self.owed());
        while owed > 0
            && let Found::Record { payload, length } = record::read(rest, self.journal)
        {
            self.read.push_back(Slot { entry: Entry::decode(payload), length: length as u64 });
            rest = rest.get(length..).unwrap_or_default();
            owed -= 1;
        }
        if self.read.is_empty() {
            self.broken = Some(self.charged.offset);
            self.give_up_file("a record in it is broken");
            return Progress::Going;
        }
        self.go_to(self.known_charged);
        Progress::Going
    }

    /// Nothing more can be read.
    fn give_up_file(&mut self, reason: &str) {
        let left = self.depth().requests;
        log::error!("the outage journal cannot be read: {reason}. {left} requests in it will not be charged");
        self.lost += left;
        self.charged = self.written;
        self.is_closed = true;
    }

    fn part_charged(
        &mut self,
        LatePart { part, sums, entries, .. }: &LatePart,
        charged: i64,
        rows: Vec<Option<Row>>,
    ) -> Progress {
        if charged == part.to {
            let rows = sums.iter().zip(rows).filter_map(|(sum, row)| Some((sum.sender.clone(), row?)));
            self.rows.extend(rows);
            self.note_charged(part, entries.len());
            self.most = (2 * self.most).min(MAX_PART);
            (self.tries, self.held) = (0, None);
        } else if let Some((doubtful, entries)) = self.in_doubt.take()
            && doubtful.to == charged
        {
            self.note_charged(&doubtful, entries);
        }
        self.go_to(charged);
        Progress::Charged
    }

    /// A part is charged; so many of its records had an entry, the others are lost.
    fn note_charged(&mut self, part: &Part, entries: usize) {
        self.charged_in_all += entries as u64;
        let records = usize::try_from(part.to - part.from).unwrap_or(0);
        self.lost += records.saturating_sub(entries) as u64;
        self.in_doubt = None;
    }

    /// Goes on behind what the database says is charged.
    fn go_to(&mut self, charged: i64) {
        self.known_charged = charged;
        if charged < self.charged.record {
            self.charged = BEGIN;
            self.read.clear();
        }
        if charged >= self.written.record {
            self.charged = self.written;
            self.read.clear();
        }
        while self.charged.record < charged
            && let Some(slot) = self.read.pop_front()
        {
            self.charged.record += 1;
            self.charged.offset += slot.length;
        }
        if let Some(Slot { entry: Some(entry), .. }) = self.read.front() {
            self.oldest = Some(entry.at);
        }
    }

    fn part_failed(&mut self, part: &LatePart, failure: Failure, elapsed: Duration) -> Progress {
        let LatePart { part, sums, entries, .. } = part;
        let reason = match failure {
            Failure::Unknown(reason) => {
                self.in_doubt = Some((*part, entries.len()));
                self.halve(entries);
                return Progress::Away(reason);
            }
            Failure::Away(reason) => {
                // It may have been too much for one transaction.
                self.halve(entries);
                return Progress::Away(reason);
            }
            Failure::Transient(_) | Failure::Locked(_) if sums.len() > 1 => return self.halve(entries),
            Failure::Refused(_) if entries.len() > 1 => return self.halve(entries),
            Failure::Locked(_) if !sums.is_empty() => {
                self.asking = sums.first().map(|sum| sum.sender.clone());
                return Progress::Going;
            }
            Failure::Refused(reason) => {
                // It is left out for good only with the next part that is charged.
                let refused = self.read.iter_mut().find(|slot| slot.entry.as_ref() == entries.first());
                if let (Some(slot), Some(entry)) = (refused, entries.first()) {
                    slot.entry = None;
                    log::warn!(
                        "{}: the database refuses what the outage journal has of it: {reason}",
                        escaped(&entry.account)
                    );
                }
                reason
            }
            Failure::Transient(reason) | Failure::Locked(reason) => reason,
        };
        self.try_again(reason, elapsed)
    }

    fn halve(&mut self, entries: &[Entry]) -> Progress {
        self.most = (entries.len() / 2).max(1);
        Progress::Going
    }

    fn try_again(&mut self, reason: String, elapsed: Duration) -> Progress {
        self.tries += 1;
        self.not_before = elapsed + RETRY_PAUSE;
        if self.tries > TRIES { Progress::Away(reason) } else { Progress::Going }
    }

    fn found_held(&mut self, account: String, result: Result<Vec<HeldRow>, Failure>, elapsed: Duration) -> Progress {
        let looked = result.map(|held| held.into_iter().find(|row| row.sender == account));
        match looked {
            Err(Failure::Away(reason)) => Progress::Away(reason),
            Ok(Some(row)) => {
                // A row that several daemons hand on to each other has other totals each time.
                let since = match self.held.take() {
                    Some((before, since)) if before == row => since,
                    _ => elapsed,
                };
                if elapsed.saturating_sub(since) < ROW_TIMEOUT {
                    self.not_before = elapsed + 4 * RETRY_PAUSE;
                    self.held = Some((row, since));
                } else {
                    log::warn!(
                        "{}: somebody holds the row: what the outage journal has of it will not be charged",
                        escaped(&account)
                    );
                    self.given_up.insert(account);
                }
                Progress::Going
            }
            _ => self.try_again(format!("the row of {} is locked", escaped(&account)), elapsed),
        }
    }

    /// From now on this is a journal of another number, whatever becomes of the file.
    fn begin_anew(&mut self) -> Task {
        self.journal = new_journal();
        (self.holds_another, self.is_closed) = (true, false);
        (self.written, self.charged, self.known_charged) = (BEGIN, BEGIN, 0);
        (self.oldest, self.rests_until, self.is_full, self.in_doubt) = (None, None, false, None);
        self.interrupt();
        Task::BeginAnew(self.journal)
    }

    fn begun_anew(&mut self, result: Result<(), String>) -> Progress {
        match result {
            Ok(()) => self.holds_another = false,
            Err(reason) => {
                log::error!("the outage journal cannot be emptied: {reason}. It is tried again before it is written")
            }
        }
        Progress::Done
    }
}

/// The number of a new journal.
pub fn new_journal() -> i64 {
    fastrand::i64(1..)
}
