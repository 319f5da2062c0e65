//! Plays the committer by a clock of its own, and looks at what came of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::database::{Database, Trouble};
use super::file::File;
use super::{ACCOUNTS, DECISION_TIMEOUT};
use crate::commit::breaker::{self, Outage};
use crate::commit::charge::Charge;
use crate::commit::journaling::{Report, Task};
use crate::commit::rounds::{Answered, MIN_TRANSACTION_TIME, Next, Now, Rounds};
use crate::commit::standings::Standings;
use crate::config::{self, Sources};
use crate::journal::depth::Depth;
use crate::limiter::terms::Terms;
use crate::limiter::verdict::{FailOpen, Verdict};
use crate::policy::lists::Lists;
use crate::protocol::reply::Action;
use crate::protocol::request::{Event as Parsed, Parser, Request};
use crate::store::messages::AuditRow;

/// What happens, and when.
#[derive(Debug, Clone)]
pub enum Event {
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

#[derive(Debug)]
pub struct Told {
    pub account: String,
    pub message: String,
    pub asked: Duration,
    pub answered: Duration,
    pub verdict: Verdict,
    pub new: u32,
    /// Whether the account was blocked when it was asked, and after each change from then on until it was answered.
    pub blocked: Vec<bool>,
}

impl Told {
    pub fn is_blocked(&self) -> bool {
        self.verdict.decision().is_some_and(|decision| decision.block().is_some())
    }
}

/// What came of it.
pub struct Outcome {
    pub database: Database,
    pub told: Vec<Told>,
    pub asked: usize,
    /// Asked and not answered, since the daemon was killed.
    pub killed: usize,
    pub outages: Vec<Outage>,
    /// None without a journal.
    pub journal: Option<Depth>,
    /// What was kept of the journal since it could not be read.
    pub aside: Vec<u8>,
    /// Whether there was trouble with more than one account's row.
    pub all_in_trouble: bool,
}

pub fn request(message: u32) -> Arc<Request> {
    let text = format!("protocol_state=DATA\nrecipient={message}@x\nrecipient_count=1\ninstance={message}\n\n");
    match Parser::default().feed(text.as_bytes()).1 {
        Some(Parsed::Request(Ok(request))) => Arc::from(request),
        other => panic!("{other:?}"),
    }
}

pub fn terms(quota: &str) -> Arc<Terms> {
    let config = config::load(&Sources::new(None, [("QUOTA", quota)], false)).unwrap().config;
    Arc::new(config.terms(Lists::default(), TimeZone::UTC))
}

pub fn unix(elapsed: Duration) -> i64 {
    1_800_000_000 + elapsed.as_secs() as i64
}

/// Plays the committer without a journal.
pub fn play(quota: &str, takes: Duration, events: Vec<(Duration, Event)>) -> Outcome {
    play_with(0, quota, takes, events)
}

/// Plays the committer with a journal of this size, by a clock of its own.
pub fn play_with(size: u64, quota: &str, takes: Duration, mut events: Vec<(Duration, Event)>) -> Outcome {
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
    pub fn check(&self) {
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
    pub fn check_journal(&self) {
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
    pub fn passed(&self, account: &str) -> usize {
        let passed = |told: &&Told| told.account == account && told.verdict.lets_through(&Action::DUNNO);
        self.told.iter().filter(passed).count()
    }

    pub fn reasons(&self, account: &str) -> HashSet<Option<FailOpen>> {
        let of = self.told.iter().filter(|told| told.account == account);
        of.map(|told| match told.verdict {
            Verdict::InDoubt(reason) => Some(reason),
            _ => None,
        })
        .collect()
    }
}
