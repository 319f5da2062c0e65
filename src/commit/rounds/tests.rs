//! The rounds against a database that is a script: rows in memory, and everything that goes wrong with a real one.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use super::super::breaker;
use super::*;
use crate::commit::late::LatePart;
use crate::config::{self, Sources};
use crate::journal::entry::Entry;
use crate::journal::file::{CHUNK, Held};
use crate::journal::record::{self, Found, HEADER};
use crate::policy::lists::Lists;
use crate::protocol::reply::Action;
use crate::protocol::request::{Event as Parsed, Parser, Request};
use crate::store::blocks::{BlockRow, Revision};
use crate::store::counters::{Row, Sum};
use crate::store::messages::AuditRow;
use crate::store::settle::Decider;
use crate::store::usage::HistoryRows;
use jiff::tz::TimeZone;

const DECISION_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a statement waits for a lock, as in the store.
const LOCK_TIMEOUT: Duration = Duration::from_millis(150);
const ACCOUNTS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const ALICE: &str = ACCOUNTS[0];

/// What is wrong with the database.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
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
    fn is_one_accounts(&self) -> bool {
        matches!(self, Trouble::Refused(_) | Trouble::Held(_) | Trouble::HandedOn(_) | Trouble::Contended(_))
    }
}

/// A transaction whose COMMIT was not answered.
struct Lost {
    written: bool,
    charges: usize,
    /// The messages of each account.
    messages: Vec<(String, u32)>,
}

#[derive(Default)]
struct Database {
    rows: BTreeMap<String, Row>,
    blocks: Vec<BlockRow>,
    revision: Revision,
    trouble: Vec<Trouble>,
    takes: Duration,
    /// How often a row that is handed on was seen, and how often it was waited for.
    handed_on: u32,
    waited: u32,
    /// Nobody has asked what became of it.
    lost: Option<Lost>,
    /// The messages of each account that were written without anybody having learnt it, and how many charges there were in
    /// such transactions, written or not.
    unknown: HashMap<String, u32>,
    never_known: usize,
    /// How many records of each journal are charged.
    charged: HashMap<i64, i64>,
    /// How many of them were left out of the last part, if nobody has learnt that it is charged.
    left_out: u64,
    audit: Vec<AuditRow>,
}

impl Database {
    fn settle(&mut self, transaction: Transaction<'_, usize>, now: &mut Duration) -> Result<(), Failure> {
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
    fn charge(&mut self, part: &LatePart, now: &mut Duration) -> Result<(i64, Vec<Option<Row>>), Failure> {
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
    fn failure(&mut self, sums: &[Sum], limit: Duration, now: &mut Duration) -> Option<Failure> {
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
    fn with(&self, sums: &[Sum], new_quota: u32) -> (BTreeMap<String, Row>, Vec<Option<Row>>) {
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
    fn loses_commit(&mut self) -> Option<bool> {
        let place = self.trouble.iter().position(|trouble| matches!(trouble, Trouble::CommitLost { .. }))?;
        match self.trouble.remove(place) {
            Trouble::CommitLost { written } => Some(written),
            _ => None,
        }
    }

    /// Says whether the last transaction was committed.
    fn find_out(&mut self, limit: Duration, now: &mut Duration) -> Result<bool, Failure> {
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
    fn forget_lost(&mut self) {
        let Some(Lost { written, charges, messages }) = self.lost.take() else { return };
        self.never_known += charges;
        for (account, messages) in messages.into_iter().filter(|_| written) {
            *self.unknown.entry(account).or_default() += messages;
        }
    }

    fn blocks_unless(&self, known: Option<Revision>) -> Result<Option<(Revision, Vec<BlockRow>)>, Failure> {
        if !self.is_back() {
            return Err(Failure::Away("scripted".to_owned()));
        }
        Ok((known != Some(self.revision)).then(|| (self.revision, self.blocks.clone())))
    }

    fn is_blocked(&self, account: &str) -> bool {
        self.blocks.iter().any(|block| block.account == account)
    }

    fn block(&mut self, account: &str, on: bool) {
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

    fn held(&mut self, accounts: &[String]) -> Result<Vec<HeldRow>, Failure> {
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
    fn is_back(&self) -> bool {
        !self.trouble.iter().any(|trouble| matches!(trouble, Trouble::Away { .. }))
    }
}

/// What happens, and when.
#[derive(Debug, Clone)]
enum Event {
    Ask {
        account: &'static str,
        message: u32,
    },
    /// Mail that is on a list.
    AskListed {
        account: &'static str,
        message: u32,
    },
    Block {
        account: &'static str,
        on: bool,
    },
    Trouble(Vec<Trouble>),
    /// The journal can no longer be written, or again.
    Disk {
        broken: bool,
    },
    /// What the journal's file has in its middle is damaged.
    Damage,
    /// The daemon is killed and started again.
    Killed,
}

/// The file of the journal.
#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    broken: bool,
    journal: i64,
}

impl File {
    fn begin_anew(&mut self, journal: i64) {
        self.journal = journal;
        self.bytes = record::header(journal);
    }

    fn append(&mut self, journal: Option<i64>, offset: u64, records: &[u8]) -> Result<(), String> {
        if self.broken {
            return Err("scripted".to_owned());
        }
        if let Some(journal) = journal {
            self.begin_anew(journal);
        }
        self.bytes.resize(offset as usize, 0);
        self.bytes.extend(records);
        Ok(())
    }

    fn read(&self, offset: u64) -> Vec<u8> {
        self.bytes[offset as usize..].iter().copied().take(CHUNK).collect()
    }

    /// What a new daemon finds in it.
    fn opened(&self, terms: &Terms, size: u64) -> (Journaling, MemoryFallback) {
        let mut held = Held { journal: self.journal, end: HEADER as u64, ..Held::default() };
        let (mut memory, mut oldest) = (MemoryFallback::default(), None);
        while let Found::Record { payload, length } = record::read(&self.bytes[held.end as usize..], self.journal) {
            let entry = Entry::decode(payload).unwrap();
            oldest.get_or_insert(entry.at);
            memory.restore(&terms.policy, &entry);
            held = Held { records: held.records + 1, end: held.end + length as u64, ..held };
        }
        held.damaged = record::is_any_in(&self.bytes[held.end as usize..], self.journal);
        (Journaling::new(size, held, oldest), memory)
    }
}

#[derive(Debug)]
struct Told {
    account: String,
    message: String,
    asked: Duration,
    answered: Duration,
    verdict: Verdict,
    new: u32,
    /// Whether the account was blocked when it was asked, and after each change from then on until it was answered.
    blocked: Vec<bool>,
}

impl Told {
    fn is_blocked(&self) -> bool {
        self.verdict.decision().is_some_and(|decision| decision.block().is_some())
    }
}

/// What came of it.
struct Outcome {
    database: Database,
    told: Vec<Told>,
    asked: usize,
    /// Asked and not answered, since the daemon was killed.
    killed: usize,
    outages: Vec<Outage>,
    /// None without a journal.
    journal: Option<Depth>,
    /// What was kept of the journal since it could not be read.
    aside: Vec<u8>,
    /// Whether there was trouble with more than one account's row.
    all_in_trouble: bool,
}

fn request(message: u32) -> Arc<Request> {
    let text = format!("protocol_state=DATA\nrecipient={message}@x\nrecipient_count=1\ninstance={message}\n\n");
    match Parser::default().feed(text.as_bytes()).1 {
        Some(Parsed::Request(Ok(request))) => Arc::from(request),
        other => panic!("{other:?}"),
    }
}

fn terms(quota: &str) -> Arc<Terms> {
    let config = config::load(&Sources::new(None, [("QUOTA", quota)], false)).unwrap().config;
    Arc::new(config.terms(Lists::default(), TimeZone::UTC))
}

fn unix(elapsed: Duration) -> i64 {
    1_800_000_000 + elapsed.as_secs() as i64
}

/// Plays the committer without a journal.
fn play(quota: &str, takes: Duration, events: Vec<(Duration, Event)>) -> Outcome {
    play_with(0, quota, takes, events)
}

/// Plays the committer with a journal of this size, by a clock of its own.
fn play_with(size: u64, quota: &str, takes: Duration, mut events: Vec<(Duration, Event)>) -> Outcome {
    events.sort_by_key(|(at, _)| *at);
    let mut events = events.into_iter().peekable();
    let mut rounds = Rounds::new(terms(quota), Standings::default());
    let mut database = Database { takes, ..Database::default() };
    // Each block that was set or ended; of each charge how many there were before it, and whether its account was blocked.
    let mut changes: Vec<(&str, bool)> = Vec::new();
    let mut before = Vec::new();
    let (mut file, mut aside) = (File::default(), Vec::new());
    file.begin_anew(1);
    if size > 0 {
        let (journaling, memory) = file.opened(&terms(quota), size);
        rounds.keep_journal(journaling, memory);
    }
    let (mut told, mut asked, mut killed, mut outages): (Vec<Told>, _, _, _) = (Vec::new(), 0, 0, Vec::new());
    let (mut lost, mut started, mut all_in_trouble) = (0, Duration::ZERO, false);
    let mut elapsed = Duration::ZERO;
    let mut probe = None;
    loop {
        while let Some((at, event)) = events.next_if(|(at, _)| *at <= elapsed) {
            match event {
                Event::Trouble(trouble) => {
                    all_in_trouble |= !trouble.iter().all(Trouble::is_one_accounts);
                    database.trouble = trouble;
                }
                Event::Disk { broken } => file.broken = broken,
                Event::Damage => {
                    let middle = file.bytes.len() / 2;
                    file.bytes[middle] ^= 1;
                }
                Event::Killed => {
                    killed = asked - told.len();
                    lost += rounds.journal_depth().lost + std::mem::take(&mut database.left_out);
                    rounds = Rounds::new(terms(quota), Standings::default());
                    let (journaling, memory) = file.opened(&terms(quota), size);
                    rounds.keep_journal(journaling, memory);
                    (probe, started) = (None, elapsed);
                    match database.is_back() {
                        true => rounds.database_is_back(Now { elapsed, unix: unix(elapsed) }),
                        false => rounds.database_is_away("scripted".to_owned(), Now { elapsed, unix: unix(elapsed) }),
                    }
                }
                Event::Block { account, on } => {
                    database.block(account, on);
                    changes.push((account, on));
                }
                Event::Ask { account, message } | Event::AskListed { account, message } => {
                    before.push((changes.len(), database.is_blocked(account)));
                    // Nobody was there to be asked before.
                    let at = at.max(started);
                    rounds.take(Charge {
                        account: account.to_owned(),
                        request: request(message),
                        arrived: at,
                        deadline: at + DECISION_TIMEOUT,
                        decided_at: None,
                        listed: matches!(event, Event::AskListed { .. }),
                        reply: asked,
                    });
                    asked += 1;
                }
            }
        }
        let now = |elapsed: Duration| Now { elapsed, unix: unix(elapsed) };
        match rounds.next(now(elapsed)) {
            Next::Answer(Answered { charge, verdict, new }) => told.push(Told {
                blocked: {
                    let (since, was_blocked) = before[charge.reply];
                    let later = changes[since..].iter().filter(|(account, _)| *account == charge.account);
                    std::iter::once(was_blocked).chain(later.map(|(_, on)| *on)).collect()
                },
                account: charge.account,
                message: charge.request.instance.clone(),
                asked: charge.arrived,
                answered: elapsed,
                verdict,
                new: new.map_or(0, |new| new.increase.messages),
            }),
            Next::Settle(transaction) => {
                let settled = database.settle(transaction, &mut elapsed);
                rounds.settled(settled, now(elapsed));
            }
            Next::FindOut { limit } => {
                let found = database.find_out(limit, &mut elapsed);
                rounds.found_out(found, now(elapsed));
            }
            Next::LookAtBlocks { known, .. } => {
                let looked = database.blocks_unless(known);
                elapsed += takes;
                rounds.looked(looked, now(elapsed));
            }
            Next::FindHeld { accounts, .. } => {
                elapsed += takes;
                rounds.held(database.held(&accounts), now(elapsed));
            }
            Next::OpenBreaker { outage, .. } => {
                probe = Some(elapsed + outage.pause);
                outages.push(outage);
            }
            Next::CloseBreaker(_) => {}
            Next::Journal(task) => {
                let report = match task {
                    Task::Append { journal, offset, records } => {
                        Report::Appended(file.append(journal, offset, &records))
                    }
                    Task::Read { offset } => Report::Read(Ok(file.read(offset))),
                    Task::Charge(part) => {
                        let charged = database.charge(&part, &mut elapsed);
                        Report::Charged(part, charged)
                    }
                    Task::FindHeld(account) => {
                        let held = database.held(std::slice::from_ref(&account));
                        Report::Held(account, held)
                    }
                    Task::KeepAside { offset } => {
                        aside.extend_from_slice(&file.bytes[offset as usize..]);
                        Report::KeptAside(Ok("aside".to_owned()))
                    }
                    // A disk that does not answer in time does it all the same.
                    Task::BeginAnew(journal) => {
                        file.begin_anew(journal);
                        Report::BegunAnew(if file.broken { Err("scripted".to_owned()) } else { Ok(()) })
                    }
                };
                rounds.journaled(report, now(elapsed));
            }
            Next::Pause(until) => elapsed = elapsed.max(until),
            Next::Receive(until) => {
                if let Some(at) = probe.filter(|at| *at <= elapsed) {
                    probe = if database.is_back() {
                        rounds.database_is_back(now(elapsed));
                        None
                    } else {
                        Some(at + breaker::PAUSE)
                    };
                    continue;
                }
                let back = probe.filter(|_| database.is_back());
                let next = [until, events.peek().map(|(at, _)| *at), back].into_iter().flatten().min();
                let Some(next) = next else { break };
                elapsed = elapsed.max(probe.map_or(next, |probe| next.min(probe)));
            }
        }
    }
    database.forget_lost();
    let depth = rounds.journal_depth();
    let journal = (size > 0).then(|| Depth { lost: depth.lost + lost, ..depth });
    Outcome { database, told, asked, killed, outages, journal, aside, all_in_trouble }
}

impl Outcome {
    /// What holds whatever happens.
    fn check(&self) {
        assert_eq!(self.told.len() + self.killed, self.asked, "each is answered once");
        // What had to wait for others until shortly before its deadline still gets the least time that the database needs: with
        // less, one that is well would be taken for away. Others are a part of the journal, or a transaction whose outcome was
        // hidden for long. The connection answers in doubt at the deadline, and the charge is counted all the same.
        let slack = if self.journal.is_some() || self.all_in_trouble { MIN_TRANSACTION_TIME } else { Duration::ZERO };
        for told in &self.told {
            assert!(told.answered <= told.asked + DECISION_TIMEOUT + slack, "late: {told:?}");
        }
        let unknown = |told: &&Told| told.verdict == Verdict::InDoubt(FailOpen::CommitUnknown) && told.new > 0;
        let unknown = self.told.iter().filter(unknown).count();
        assert!(
            (unknown..=unknown + self.killed).contains(&self.database.never_known),
            "in doubt is what nobody could find out, and it is not tried again"
        );
        let lost = self.journal.map_or(0, |depth| depth.lost) as u32;
        for account in ACCOUNTS {
            // Mail on a list whose block is ended while it is settled is counted.
            let counted = |told: &&Told| match told.verdict {
                Verdict::Counted(_) | Verdict::NotBlocked => true,
                Verdict::FromMemory(_) => self.journal.is_some(),
                _ => false,
            };
            let of_account = self.told.iter().filter(|told| told.account == account);
            let counted: u32 = of_account.filter(counted).map(|told| told.new).sum();
            let counted = counted + self.database.unknown.get(account).copied().unwrap_or(0);
            let row = self.database.rows.get(account).map_or(0, |row| row.total_messages);
            let possible = counted.saturating_sub(lost)..=counted + self.killed as u32;
            assert!(
                possible.contains(&row),
                "{account}: what is answered as counted is, and once: {row} of {possible:?}"
            );
        }
    }

    /// What is answered without the database is charged when it is back, each at its time, and nothing of it is left.
    fn check_journal(&self) {
        self.check();
        let depth = self.journal.unwrap();
        assert_eq!((depth.requests, depth.lost), (0, 0));
        let mut audit = self.database.audit.clone();
        for told in self.told.iter().filter(|told| matches!(told.verdict, Verdict::FromMemory(_)) && told.new > 0) {
            let to = format!("{}@x", told.message);
            let of = |row: &AuditRow| {
                let is_late = row.reason.starts_with("counted in memory");
                is_late && row.at == unix(told.answered) && row.sender == told.account && row.to == to
            };
            let place = audit.iter().position(of).unwrap_or_else(|| panic!("{told:?} is in no row"));
            audit.remove(place);
        }
    }

    /// How many of an account's charges were let through.
    fn passed(&self, account: &str) -> usize {
        let passed = |told: &&Told| told.account == account && told.verdict.lets_through(&Action::DUNNO);
        self.told.iter().filter(passed).count()
    }

    fn reasons(&self, account: &str) -> HashSet<Option<FailOpen>> {
        let of = self.told.iter().filter(|told| told.account == account);
        of.map(|told| match told.verdict {
            Verdict::InDoubt(reason) => Some(reason),
            _ => None,
        })
        .collect()
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Mail of all accounts every so many milliseconds, each a message of its own.
fn traffic(milliseconds: std::ops::Range<u64>, every: usize) -> Vec<(Duration, Event)> {
    let ask = |(number, at): (usize, u64)| {
        let ask = move |account| (ms(at), Event::Ask { account, message: number as u32 });
        ACCOUNTS.map(ask)
    };
    milliseconds.step_by(every).enumerate().flat_map(ask).collect()
}

fn trouble(at: u64, trouble: &[Trouble]) -> (Duration, Event) {
    (ms(at), Event::Trouble(trouble.to_vec()))
}

#[test]
fn a_database_that_dies_ten_times_under_load_loses_and_doubles_nothing() {
    let mut events = traffic(0..40_000, 50);
    for time in 0..10 {
        let died = if time % 3 == 0 {
            vec![Trouble::CommitLost { written: time % 2 == 0 }, Trouble::Away { silent: false }]
        } else {
            vec![Trouble::Away { silent: time % 3 == 1 }]
        };
        // The reply to a COMMIT that was under way is lost, then there is no server.
        events.push(trouble(time * 4000 + 300, &died[..1]));
        events.push(trouble(time * 4000 + 360, &died[died.len() - 1..]));
        events.push(trouble(time * 4000 + 2500, &[]));
    }
    let outcome = play("unlimited", ms(1), events);
    outcome.check();
    assert_eq!(outcome.outages.len(), 10, "{:?}", outcome.outages);
    assert!(outcome.outages.iter().all(|outage| !outage.is_relapse));
    let counted = outcome.told.iter().filter(|told| matches!(told.verdict, Verdict::Counted(_))).count();
    // Of each 4 s it is away for 2.2 s, and found again up to half a second later.
    assert!(counted * 3 > outcome.asked, "{counted} of {}", outcome.asked);
}

#[test]
fn what_became_of_a_commit_is_found_out_within_the_deadline() {
    for written in [true, false] {
        let lost = Trouble::CommitLost { written };
        let ask = |at, message| (ms(at), Event::Ask { account: ALICE, message });
        for hidden in [Trouble::Mute, Trouble::Away { silent: false }] {
            // The reply is lost, for a while nobody says what became of it, and then somebody does.
            let events = vec![trouble(0, &[lost]), ask(0, 1), trouble(1, &[hidden]), ask(100, 2), trouble(1400, &[])];
            let outcome = play("1", ms(1), events);
            outcome.check();
            let passed = outcome.told.iter().map(|told| told.verdict.decision().map(|decision| decision.let_through));
            assert_eq!(passed.collect::<Vec<_>>(), [Some(true), Some(false)], "{hidden:?}, written: {written}");
            assert!(outcome.outages.is_empty());
        }
    }
}

#[test]
fn a_connection_that_the_server_has_closed_is_replaced_once_however_little_time_there_is() {
    let now = |milliseconds| Now { elapsed: ms(milliseconds), unix: unix(ms(milliseconds)) };
    let closed = || Err(Failure::Away("scripted".to_owned()));
    let mut rounds = Rounds::new(terms("10"), Standings::default());
    rounds.take(Charge {
        account: ALICE.to_owned(),
        request: request(1),
        arrived: ms(0),
        deadline: ms(50),
        decided_at: None,
        listed: false,
        reply: 0,
    });
    for elapsed in [0, 60] {
        assert!(matches!(rounds.next(now(elapsed)), Next::Settle(Transaction { limit: MIN_TRANSACTION_TIME, .. })));
        rounds.settled(closed(), now(elapsed + 60));
    }
    assert!(matches!(rounds.next(now(120)), Next::OpenBreaker { .. }), "not again and again");
}

#[test]
fn an_account_that_is_always_contended_holds_up_the_others_of_its_round_for_few_tries() {
    // Nobody waits any more when it is found: of the round's 64 accounts it is found in 6 steps.
    const ACCOUNTS: u64 = 64;
    let mut rounds = Rounds::new(terms("10"), Standings::default());
    let account = |number: u64| format!("account{number:02}");
    for number in 0..ACCOUNTS {
        rounds.take(Charge {
            account: account(number),
            request: request(number as u32),
            arrived: ms(0),
            deadline: DECISION_TIMEOUT,
            decided_at: None,
            listed: false,
            reply: number,
        });
    }
    let (mut elapsed, mut tries, mut answered) = (ms(0), 0, 0);
    while answered < ACCOUNTS - 1 {
        let now = Now { elapsed, unix: unix(elapsed) };
        let result = match rounds.next(now) {
            Next::Settle(mut transaction) => {
                tries += 1;
                match transaction.sums.iter().any(|sum| sum.sender == account(8)) {
                    true => Err(Failure::Transient("scripted".to_owned())),
                    false => {
                        let rows = vec![None; transaction.sums.len()];
                        transaction.decider.history(&rows);
                        transaction.decider.decide(&rows, HistoryRows::default());
                        Ok(())
                    }
                }
            }
            Next::Answer(_) => {
                answered += 1;
                continue;
            }
            Next::Pause(until) => {
                elapsed = until;
                continue;
            }
            _ => break,
        };
        rounds.settled(result, now);
    }
    assert_eq!((answered, tries), (ACCOUNTS - 1, 3 + 2 * 6));
}

#[test]
fn a_commit_that_is_late_known_to_be_none_makes_no_answer_late_and_is_charged_once() {
    let ask = |at, account, message| (ms(at), Event::Ask { account, message });
    // Whatever else happens then: the database is silent, or somebody holds the row.
    for next in [Trouble::Away { silent: true }, Trouble::Held(ALICE)] {
        for told in (1400..1890).step_by(10) {
            let lost = [Trouble::CommitLost { written: false }, Trouble::Mute];
            let mut events = vec![trouble(0, &lost), ask(0, ALICE, 1), ask(20, ACCOUNTS[1], 2)];
            // It takes 40 ms to ask, and 50 to ask again.
            events.extend([trouble(told, &[]), trouble(told + 95, &[next]), trouble(6000, &[])]);
            let outcome = play_with(1 << 20, "10", ms(40), events);
            outcome.check_journal();
            let late = outcome.told.iter().find(|told| told.answered > told.asked + DECISION_TIMEOUT);
            assert!(late.is_none(), "told at {told}, then {next:?}: {late:?}");
        }
    }
}

#[test]
fn what_has_waited_for_others_until_its_deadline_gets_the_least_time_and_no_more() {
    let ask = |at, account, message| (ms(at), Event::Ask { account, message });
    let lost = [Trouble::CommitLost { written: true }, Trouble::Mute];
    let mut events = vec![trouble(0, &lost), ask(0, ALICE, 1), ask(20, ACCOUNTS[1], 2)];
    // At 1.837 s it is asked what became of the first; the second is settled after that, and then nobody answers any more.
    events.extend([trouble(1800, &[]), trouble(1838, &[Trouble::Away { silent: true }]), trouble(6000, &[])]);
    let outcome = play_with(1 << 20, "10", ms(1), events);
    outcome.check_journal();
    let second = outcome.told.iter().find(|told| told.account == ACCOUNTS[1]).unwrap();
    assert_eq!(second.answered, ms(1838) + MIN_TRANSACTION_TIME);
    assert!(matches!(second.verdict, Verdict::FromMemory(_)));
}

#[test]
fn an_unknown_outcome_of_commit_is_never_tried_again_nor_charged_to_a_retry() {
    for written in [true, false] {
        let ask = |at, message| (ms(at), Event::Ask { account: ALICE, message });
        let lost = [Trouble::CommitLost { written }, Trouble::Mute];
        let events = vec![trouble(0, &lost), ask(0, 1), ask(100, 1), trouble(1950, &[]), ask(3000, 1), ask(3100, 2)];
        let outcome = play("10", ms(1), events);
        outcome.check();
        let verdicts: Vec<bool> = outcome.told.iter().map(|told| told.verdict.decision().is_some()).collect();
        assert_eq!(
            verdicts,
            [false, false, false, true],
            "the first message stays in doubt, also when it is asked again"
        );
        assert_eq!(outcome.database.rows[ALICE].total_messages, 1 + u32::from(written));
    }
}

#[test]
fn while_a_table_is_locked_mail_is_limited_from_memory_although_attempts_succeed() {
    const QUOTA: usize = 5;
    let mut events = traffic(0..60_000, 100);
    events.push(trouble(0, &[Trouble::TableLocked]));
    events.push(trouble(50_000, &[]));
    let outcome = play("5", ms(1), events);
    outcome.check();
    assert!(outcome.outages.iter().skip(1).all(|outage| outage.is_relapse) && outcome.outages.len() < 12);
    for account in ACCOUNTS {
        // Those that find out that it is the table are let through in doubt; the database has counted nobody.
        let passed = outcome.passed(account);
        assert!((QUOTA..=2 * QUOTA + 3).contains(&passed), "{account}: {passed}");
    }
}

#[test]
fn a_row_that_other_daemons_hand_on_is_waited_for_and_one_that_is_held_is_not() {
    for (trouble_is, counted) in [(Trouble::HandedOn(ALICE), true), (Trouble::Held(ALICE), false)] {
        let mut events = traffic(0..5000, 50);
        events.push(trouble(0, &[trouble_is]));
        let outcome = play("unlimited", ms(1), events);
        outcome.check();
        let expected = if counted { None } else { Some(FailOpen::Locked) };
        assert_eq!(outcome.reasons(ALICE), HashSet::from([expected]));
        assert_eq!(outcome.reasons(ACCOUNTS[1]), HashSet::from([None]));
    }
}

#[test]
fn the_requests_of_one_account_are_decided_in_their_order() {
    let ask = |message| (ms(0), Event::Ask { account: ALICE, message });
    // The second asks about the same message in the same round; what follows it waits for it.
    let outcome = play("2", ms(1), vec![ask(1), ask(1), ask(2), ask(3), ask(3)]);
    outcome.check();
    let mut told: Vec<&Told> = outcome.told.iter().collect();
    told.sort_by_key(|told| told.message.clone());
    let blocked: Vec<bool> = told.iter().map(|told| !told.verdict.lets_through(&Action::DUNNO)).collect();
    assert_eq!(blocked, [false, false, false, true, true]);
}

#[test]
fn blocks_that_are_known_hold_while_the_database_is_away() {
    let ask = |at, account, message| (ms(at), Event::Ask { account, message });
    let listed = |at, account, message| (ms(at), Event::AskListed { account, message });
    let [_, bob, ..] = ACCOUNTS;
    let events = vec![
        (ms(10), Event::Block { account: ALICE, on: true }),
        ask(20, ALICE, 1),
        listed(30, ALICE, 2),
        listed(40, bob, 3),
        trouble(50, &[Trouble::Away { silent: false }]),
        ask(60, ALICE, 4),
        ask(70, bob, 5),
        listed(80, ALICE, 6),
        listed(90, bob, 7),
        (ms(100), Event::Block { account: ALICE, on: false }),
        trouble(110, &[]),
        ask(3000, ALICE, 8),
        listed(3010, ALICE, 9),
    ];
    let outcome = play("10", ms(1), events);
    outcome.check();
    let mut told: Vec<&Told> = outcome.told.iter().collect();
    told.sort_by_key(|told| told.message.clone());
    let blocked: Vec<bool> = told.iter().map(|told| told.is_blocked()).collect();
    assert_eq!(blocked, [true, true, false, true, false, true, false, false, false]);
    let by_list: Vec<bool> = told.iter().map(|told| told.verdict == Verdict::NotBlocked).collect();
    assert_eq!(by_list, [false, false, true, false, false, false, true, false, true]);
}

fn one_accounts_trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        Just(Trouble::Refused(ALICE)),
        Just(Trouble::Held(ALICE)),
        Just(Trouble::HandedOn(ALICE)),
        Just(Trouble::Contended(ALICE))
    ]
}

fn any_trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        3 => one_accounts_trouble(),
        1 => any::<bool>().prop_map(|silent| Trouble::Away { silent }),
        1 => Just(Trouble::TableLocked),
        1 => any::<bool>().prop_map(|written| Trouble::CommitLost { written }),
        1 => Just(Trouble::Mute),
        1 => Just(Trouble::Held(ACCOUNTS[1])),
    ]
}

fn events(trouble: impl Strategy<Value = Trouble>) -> impl Strategy<Value = Vec<(Duration, Event)>> {
    let ask =
        (prop::sample::select(&ACCOUNTS[..]), 0..40u32).prop_map(|(account, message)| Event::Ask { account, message });
    let trouble = prop::collection::vec(trouble, 0..3).prop_map(Event::Trouble);
    let event = prop_oneof![8 => ask, 1 => trouble];
    prop::collection::vec((0..6000u64, event).prop_map(|(at, event)| (ms(at), event)), 1..100)
}

proptest! {
    #[test]
    fn whatever_goes_wrong_each_charge_is_answered_once_in_time_and_counted_once(
        takes in 0..20u64,
        events in events(any_trouble()),
    ) {
        play("20", ms(takes), events).check();
    }

    /// Each request is decided by the blocks as they stood at some moment between itself and its answer, whether a list would
    /// decide or not, and only what nobody has blocked is counted in windows.
    #[test]
    fn a_block_counts_for_the_next_message(
        takes in 0..20u64,
        events in prop::collection::vec(
            (0..3000u64, prop::sample::select(&ACCOUNTS[..2]), 0..4u8, 0..40u32).prop_map(|(at, account, kind, message)| {
                let event = match kind {
                    0 => Event::Block { account, on: message < 20 },
                    1 => Event::AskListed { account, message: message + 100 },
                    _ => Event::Ask { account, message },
                };
                (ms(at), event)
            }),
            1..120,
        ),
    ) {
        let outcome = play("unlimited", ms(takes), events);
        outcome.check();
        let mut asked = HashSet::new();
        for told in &outcome.told {
            // What was asked before is answered as it was.
            if asked.insert((told.account.clone(), told.message.clone())) {
                prop_assert!(told.blocked.contains(&told.is_blocked()), "{:?}", told);
            }
        }
    }

    #[test]
    fn one_accounts_trouble_stays_that_accounts(takes in 0..20u64, events in events(one_accounts_trouble())) {
        let outcome = play("unlimited", ms(takes), events);
        outcome.check();
        prop_assert!(outcome.outages.is_empty());
        for account in &ACCOUNTS[1..] {
            prop_assert!(outcome.reasons(account).into_iter().all(|reason| reason.is_none()), "{}", account);
        }
    }

    #[test]
    fn what_is_answered_without_the_database_is_charged_once_and_at_its_time_whoever_is_killed(
        takes in 0..20u64,
        events in events(prop_oneof![
            2 => any::<bool>().prop_map(|silent| Trouble::Away { silent }),
            1 => Just(Trouble::TableLocked),
            1 => any::<bool>().prop_map(|written| Trouble::CommitLost { written }),
            1 => Just(Trouble::Contended(ALICE)),
        ]),
        killed in prop::collection::vec(0..9000u64, 0..4),
    ) {
        play_with(1 << 20, "20", ms(takes), killed_and_mended(events, killed)).check_journal();
    }

    #[test]
    fn whatever_goes_wrong_nothing_is_charged_twice(
        takes in 0..20u64,
        events in events(any_trouble()),
        killed in prop::collection::vec(0..9000u64, 0..4),
        disk in prop::collection::vec((0..9000u64, any::<bool>()), 0..4),
        size in 500..5000u64,
    ) {
        let mut events = killed_and_mended(events, killed);
        events.extend(disk.into_iter().map(|(at, broken)| (ms(at), Event::Disk { broken })));
        let outcome = play_with(size, "20", ms(takes), events);
        outcome.check();
        prop_assert_eq!(outcome.journal.unwrap().requests, 0);
    }
}

/// With the daemon killed at these times, and all trouble over in the end.
fn killed_and_mended(mut events: Vec<(Duration, Event)>, killed: Vec<u64>) -> Vec<(Duration, Event)> {
    events.extend(killed.into_iter().map(|at| (ms(at), Event::Killed)));
    events.push(trouble(60_000, &[]));
    events
}

#[test]
fn a_daemon_that_is_killed_while_the_database_is_away_gives_nobody_a_new_quota() {
    const QUOTA: usize = 7;
    let mut events = traffic(0..6000, 100);
    events.push(trouble(0, &[Trouble::Away { silent: false }]));
    let events = killed_and_mended(events, vec![1050, 2050, 3050, 4050]);
    let outcome = play_with(1 << 20, "7", ms(1), events);
    outcome.check_journal();
    for account in ACCOUNTS {
        assert_eq!(outcome.passed(account), QUOTA);
        assert_eq!(outcome.database.rows[account].total_messages, 60, "also what was refused is counted");
    }
}

#[test]
fn what_was_charged_is_known_in_the_next_outage() {
    let away = [Trouble::Away { silent: false }];
    let mut events = traffic(0..6000, 100);
    events.extend([trouble(0, &away), trouble(2050, &[]), trouble(4050, &away), trouble(60_000, &[])]);
    for account in ["7", "30"].map(|quota| (quota, play_with(1 << 20, quota, ms(1), events.clone()))) {
        let (quota, outcome) = account;
        outcome.check_journal();
        assert_eq!(outcome.outages.len(), 2);
        assert!(ACCOUNTS.iter().all(|account| outcome.passed(account).to_string() == quota));
    }
}

#[test]
fn a_row_that_somebody_holds_is_given_up_after_a_while_and_no_other() {
    let mut events = traffic(0..1000, 100);
    events.extend([trouble(0, &[Trouble::Away { silent: false }]), trouble(1000, &[Trouble::Held(ALICE)])]);
    let outcome = play_with(1 << 20, "unlimited", ms(1), events);
    outcome.check();
    let depth = outcome.journal.unwrap();
    assert_eq!((depth.requests, depth.charged, depth.lost), (0, 30, 10));
    assert!(!outcome.database.rows.contains_key(ALICE));
}

#[test]
fn a_record_that_the_database_refuses_is_left_out_but_not_all_of_them() {
    for (refused, lost) in [(vec![Trouble::Refused(ALICE)], 10), (ACCOUNTS.map(Trouble::Refused).to_vec(), 0)] {
        let mut events = traffic(0..1000, 100);
        events.extend([trouble(0, &[Trouble::Away { silent: false }]), trouble(1000, &refused), trouble(30_000, &[])]);
        let outcome = play_with(1 << 20, "unlimited", ms(1), events);
        outcome.check();
        let depth = outcome.journal.unwrap();
        assert_eq!((depth.requests, depth.charged, depth.lost), (0, 40 - lost, lost));
    }
}

#[test]
fn a_journal_that_is_full_falls_back_to_memory() {
    let mut events = traffic(0..4000, 100);
    events.extend([trouble(0, &[Trouble::Away { silent: false }]), trouble(4000, &[])]);
    let outcome = play_with(10_000, "7", ms(1), events);
    outcome.check();
    let depth = outcome.journal.unwrap();
    assert!(depth.requests == 0 && depth.lost > 50 && depth.charged + depth.lost == 160, "{depth:?}");
    assert!(depth.is_written && ACCOUNTS.iter().all(|account| outcome.passed(account) == 7));
}

#[test]
fn what_a_part_left_out_is_lost_also_when_nobody_said_that_it_is_charged() {
    let refused = Trouble::Refused(ALICE);
    let mut events = traffic(0..1000, 100);
    events.extend([trouble(0, &[Trouble::Away { silent: false }]), trouble(1000, &[refused])]);
    // Of a part with one that is refused; the rest goes well.
    events.push(trouble(1560, &[refused, Trouble::CommitLost { written: true }]));
    events.push(trouble(2000, &[]));
    let outcome = play_with(1 << 20, "unlimited", ms(1), events);
    outcome.check();
    let depth = outcome.journal.unwrap();
    assert_eq!((depth.requests, depth.charged, depth.lost), (0, 34, 6));
}

#[test]
fn a_file_that_is_emptied_late_takes_nothing_of_the_next_outage_along() {
    let away = [Trouble::Away { silent: false }];
    let mut events = traffic(0..6000, 100);
    events.retain(|(at, _)| *at < ms(2000) || *at > ms(4100));
    events.extend([trouble(0, &away), trouble(2050, &[]), trouble(4050, &away)]);
    // Only while the first journal is charged and emptied.
    events.extend([(ms(2040), Event::Disk { broken: true }), (ms(4000), Event::Disk { broken: false })]);
    let outcome = play_with(1 << 20, "unlimited", ms(1), killed_and_mended(events, vec![5050]));
    outcome.check_journal();
    assert_eq!(outcome.outages.len(), 3, "{:?}", outcome.outages);
}

#[test]
fn what_could_not_be_written_still_counts_in_the_next_outage() {
    let away = [Trouble::Away { silent: false }];
    let mut events = traffic(0..6000, 100);
    events.retain(|(at, _)| *at < ms(700) || *at > ms(4100));
    events.extend([trouble(0, &away), trouble(2050, &[]), trouble(4050, &away)]);
    events.push((ms(0), Event::Disk { broken: true }));
    let outcome = play_with(1 << 20, "7", ms(1), killed_and_mended(events, Vec::new()));
    outcome.check();
    let depth = outcome.journal.unwrap();
    assert_eq!((depth.requests, depth.charged, depth.lost), (0, 0, outcome.asked as u64));
    assert!(ACCOUNTS.iter().all(|account| outcome.passed(account) == 7));
}

#[test]
fn what_follows_a_record_that_is_damaged_meanwhile_is_given_up_and_kept_aside() {
    // Mail comes all the time.
    let mut events = traffic(0..3000, 10);
    events.extend([trouble(0, &[Trouble::Away { silent: false }]), (ms(1500), Event::Damage), trouble(2000, &[])]);
    let outcome = play_with(1 << 20, "unlimited", ms(1), events);
    outcome.check();
    let depth = outcome.journal.unwrap();
    let from_memory = |told: &&Told| matches!(told.verdict, Verdict::FromMemory(_));
    let from_memory = outcome.told.iter().filter(from_memory).count() as u64;
    assert_eq!((outcome.outages.len(), depth.requests, depth.charged + depth.lost), (1, 0, from_memory));
    assert!(depth.is_written && depth.charged > 250, "{depth:?}");
    let (mut bytes, mut records) = (outcome.aside.as_slice(), 0);
    while !bytes.is_empty() {
        match record::read(bytes, 1) {
            Found::Record { length, .. } => (bytes, records) = (&bytes[length..], records + 1),
            _ => bytes = &bytes[1..],
        }
    }
    assert!(records > 400 && records < depth.lost, "all behind it: {records} of {depth:?}");
}

#[test]
fn what_comes_behind_a_damaged_record_is_never_taken_for_charged() {
    let away = Trouble::Away { silent: false };
    let mut events = traffic(0..3000, 100);
    events.retain(|(at, _)| *at < ms(1000) || *at > ms(2000));
    // All is charged, and the daemon does not learn that; then half of it is lost.
    events.extend([
        trouble(0, &[away]),
        trouble(1000, &[Trouble::CommitLost { written: true }]),
        trouble(1010, &[away]),
    ]);
    events.extend([(ms(1500), Event::Damage), (ms(1600), Event::Killed), trouble(4000, &[])]);
    let outcome = play_with(1 << 20, "unlimited", ms(1), events);
    outcome.check();
    let depth = outcome.journal.unwrap();
    assert_eq!((depth.requests, depth.charged, depth.lost), (0, 0, 36));
}
