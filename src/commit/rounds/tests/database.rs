//! A database that is a script: rows in memory, and everything that goes wrong with a real one.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::{LOCK_TIMEOUT, ms};
use crate::commit::late::LatePart;
use crate::commit::rounds::Transaction;
use crate::store::Failure;
use crate::store::blocks::{BlockRow, Revision};
use crate::store::counters::{HeldRow, Row, Sum};
use crate::store::messages::AuditRow;
use crate::store::settle::Decider;
use crate::store::usage::HistoryRows;

/// What is wrong with the database.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trouble {
    /// It does not answer; the connection is lost at once, or nothing comes any more.
    Away { silent: bool },
    /// The whole table is locked, and nobody who looks can see it.
    TableLocked,
    /// The account's value is refused.
    Refused(&'static str),
    /// The account's row is held by somebody.
    Held(&'static str),
    /// The account's row is handed on among other daemons: it is held whenever anybody looks, by one after the other, and
    /// whoever waits for it has it in the end.
    HandedOn(&'static str),
    /// The database keeps asking to try again.
    Contended(&'static str),
    /// The reply to one COMMIT is lost.
    CommitLost { written: bool },
    /// What became of a transaction cannot be seen, as while a session that nobody holds any more has the daemon's row.
    Mute,
}

impl Trouble {
    pub fn is_one_accounts(&self) -> bool {
        matches!(self, Trouble::Refused(_) | Trouble::Held(_) | Trouble::HandedOn(_) | Trouble::Contended(_))
    }
}

/// A transaction whose COMMIT was not answered.
pub struct Lost {
    pub written: bool,
    pub charges: usize,
    /// The messages of each account.
    pub messages: Vec<(String, u32)>,
}

#[derive(Default)]
pub struct Database {
    pub rows: BTreeMap<String, Row>,
    pub blocks: Vec<BlockRow>,
    pub revision: Revision,
    pub trouble: Vec<Trouble>,
    pub takes: Duration,
    /// How often a row that is handed on was seen, and how often it was waited for.
    pub handed_on: u32,
    pub waited: u32,
    /// Nobody has asked what became of it.
    pub lost: Option<Lost>,
    /// The messages of each account that were written without anybody having learnt it, and how many charges there were in
    /// such transactions, written or not.
    pub unknown: HashMap<String, u32>,
    pub never_known: usize,
    /// How many records of each journal are charged.
    pub charged: HashMap<i64, i64>,
    /// How many of them were left out of the last part, if nobody has learnt that it is charged.
    pub left_out: u64,
    pub audit: Vec<AuditRow>,
}

impl Database {
    pub fn settle(&mut self, transaction: Transaction<'_, usize>, now: &mut Duration) -> Result<(), Failure> {
        self.forget_lost();
        let Transaction { sums, mut decider, new_quota, charges, limit } = transaction;
        if let Some(failure) = self.failure(sums, limit, now) {
            return Err(failure);
        }
        let (rows, read) = self.with(sums, new_quota);
        if !decider.knows_blocks(self.revision) {
            decider.take_blocks(self.revision, self.blocks.clone());
        }
        decider.history(&read);
        let writes = decider.decide(&read, HistoryRows::default());
        let lost = self.loses_commit();
        if lost != Some(false) {
            self.rows = rows;
            self.audit.extend(writes.audit);
        }
        if let Some(written) = lost {
            let messages = sums.iter().map(|sum| (sum.sender.clone(), sum.messages)).collect();
            self.lost = Some(Lost { written, charges, messages });
            return Err(Failure::Unknown("scripted".to_owned()));
        }
        Ok(())
    }

    /// Charges a part of a journal.
    pub fn charge(&mut self, part: &LatePart, now: &mut Duration) -> Result<(i64, Vec<Option<Row>>), Failure> {
        self.forget_lost();
        if let Some(failure) = self.failure(&part.sums, ms(1000), now) {
            return Err(failure);
        }
        let charged = self.charged.entry(part.part.journal).or_default();
        if *charged != part.part.from {
            self.left_out = 0;
            return Ok((*charged, Vec::new()));
        }
        let (rows, read) = self.with(&part.sums, part.new_quota);
        let lost = self.loses_commit();
        if lost != Some(false) {
            self.rows = rows;
            self.audit.extend(part.late(&read, None).writes.audit);
            self.charged.insert(part.part.journal, part.part.to);
            let left_out = (part.part.to - part.part.from) as u64 - part.entries.len() as u64;
            self.left_out = lost.map_or(0, |_| left_out);
        }
        lost.map_or(Ok((part.part.to, read)), |_| Err(Failure::Unknown("scripted".to_owned())))
    }

    /// Why a transaction with these sums fails.
    pub fn failure(&mut self, sums: &[Sum], limit: Duration, now: &mut Duration) -> Option<Failure> {
        let said = || "scripted".to_owned();
        let has = |account: &str| sums.iter().any(|sum| sum.sender == account);
        let began = *now;
        *now += self.takes;
        for trouble in &self.trouble {
            match *trouble {
                Trouble::Away { silent } => {
                    if silent {
                        *now = began + limit;
                    }
                    return Some(Failure::Away(said()));
                }
                Trouble::TableLocked => {
                    *now += LOCK_TIMEOUT;
                    return Some(Failure::Locked(said()));
                }
                Trouble::Held(account) if has(account) => {
                    *now += LOCK_TIMEOUT;
                    return Some(Failure::Locked(said()));
                }
                Trouble::HandedOn(account) if has(account) => {
                    self.waited += 1;
                    if self.waited % 3 == 1 {
                        *now += LOCK_TIMEOUT;
                        return Some(Failure::Locked(said()));
                    }
                }
                Trouble::Refused(account) if has(account) => return Some(Failure::Refused(said())),
                Trouble::Contended(account) if has(account) => return Some(Failure::Transient(said())),
                _ => {}
            }
        }
        None
    }

    /// The rows with these sums, and those of the sums.
    pub fn with(&self, sums: &[Sum], new_quota: u32) -> (BTreeMap<String, Row>, Vec<Option<Row>>) {
        let mut rows = self.rows.clone();
        let mut read = Vec::new();
        for sum in sums {
            let (id, quota) = (rows.len() as i64 + 1, new_quota);
            let row = rows.entry(sum.sender.clone()).or_insert(Row {
                id,
                quota,
                messages: 0,
                recipients: 0,
                total_messages: 0,
                total_recipients: 0,
                window_from: 0,
                blocks: self.revision,
            });
            row.messages += sum.messages;
            row.recipients += sum.recipients;
            row.total_messages += sum.messages;
            row.total_recipients += sum.recipients;
            read.push(Some(*row));
        }
        (rows, read)
    }

    /// Whether the reply to this COMMIT is lost, and if so whether it was carried out.
    pub fn loses_commit(&mut self) -> Option<bool> {
        let place = self.trouble.iter().position(|trouble| matches!(trouble, Trouble::CommitLost { .. }))?;
        match self.trouble.remove(place) {
            Trouble::CommitLost { written } => Some(written),
            _ => None,
        }
    }

    /// Says whether the last transaction was committed.
    pub fn find_out(&mut self, limit: Duration, now: &mut Duration) -> Result<bool, Failure> {
        *now += self.takes.min(limit);
        for trouble in &self.trouble {
            match *trouble {
                Trouble::Away { silent } => {
                    if silent {
                        *now += limit.saturating_sub(self.takes);
                    }
                    return Err(Failure::Away("scripted".to_owned()));
                }
                Trouble::Mute => return Err(Failure::Locked("scripted".to_owned())),
                _ => {}
            }
        }
        self.lost.take().map(|lost| lost.written).ok_or_else(|| Failure::Refused("nothing is in doubt".to_owned()))
    }

    /// What became of the last transaction will not be asked any more.
    pub fn forget_lost(&mut self) {
        let Some(Lost { written, charges, messages }) = self.lost.take() else { return };
        self.never_known += charges;
        for (account, messages) in messages.into_iter().filter(|_| written) {
            *self.unknown.entry(account).or_default() += messages;
        }
    }

    pub fn blocks_unless(&self, known: Option<Revision>) -> Result<Option<(Revision, Vec<BlockRow>)>, Failure> {
        if !self.is_back() {
            return Err(Failure::Away("scripted".to_owned()));
        }
        Ok((known != Some(self.revision)).then(|| (self.revision, self.blocks.clone())))
    }

    pub fn is_blocked(&self, account: &str) -> bool {
        self.blocks.iter().any(|block| block.account == account)
    }

    pub fn block(&mut self, account: &str, on: bool) {
        self.revision += 1;
        self.blocks.retain(|block| block.account != account);
        if on {
            self.blocks.push(BlockRow {
                id: self.revision,
                account: account.to_owned(),
                since: 0,
                until: None,
                action: "REJECT".to_owned(),
                text: String::new(),
                reason: "manual".to_owned(),
                set_by: String::new(),
                note: String::new(),
                ended_at: None,
                ended_by: String::new(),
            });
        }
    }

    pub fn held(&mut self, accounts: &[String]) -> Result<Vec<HeldRow>, Failure> {
        let mut held = Vec::new();
        for trouble in &self.trouble {
            match trouble {
                Trouble::Away { .. } => return Err(Failure::Away("scripted".to_owned())),
                Trouble::Held(account) if accounts.iter().any(|asked| asked == account) => {
                    held.push(HeldRow { sender: (*account).to_owned(), totals: Some((1, 1)) });
                }
                Trouble::HandedOn(account) if accounts.iter().any(|asked| asked == account) => {
                    self.handed_on += 1;
                    let totals = Some((self.handed_on.into(), 1));
                    held.push(HeldRow { sender: (*account).to_owned(), totals });
                }
                _ => {}
            }
        }
        Ok(held)
    }

    /// Whether an attempt to get it back succeeds: that needs none of the senders' rows.
    pub fn is_back(&self) -> bool {
        !self.trouble.iter().any(|trouble| matches!(trouble, Trouble::Away { .. }))
    }
}
