//! The rounds against a database that is a script: rows in memory, and everything that goes wrong with a real one.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use super::super::breaker;
use super::*;
use crate::config::{self, Sources};
use crate::policy::lists::Lists;
use crate::protocol::reply::Action;
use crate::protocol::request::{Event as Parsed, Parser, Request};
use crate::store::blocks::{BlockRow, Revision};
use crate::store::counters::Row;
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
}

impl Database {
    fn settle(&mut self, transaction: Transaction<'_, usize>, now: &mut Duration) -> Result<(), Failure> {
        self.forget_lost();
        let Transaction { sums, mut decider, new_quota, charges, limit } = transaction;
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
                    return Err(Failure::Away(said()));
                }
                Trouble::TableLocked => {
                    *now += LOCK_TIMEOUT;
                    return Err(Failure::Locked(said()));
                }
                Trouble::Held(account) if has(account) => {
                    *now += LOCK_TIMEOUT;
                    return Err(Failure::Locked(said()));
                }
                Trouble::HandedOn(account) if has(account) => {
                    self.waited += 1;
                    if self.waited % 3 == 1 {
                        *now += LOCK_TIMEOUT;
                        return Err(Failure::Locked(said()));
                    }
                }
                Trouble::Refused(account) if has(account) => return Err(Failure::Refused(said())),
                Trouble::Contended(account) if has(account) => return Err(Failure::Transient(said())),
                _ => {}
            }
        }
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
        if !decider.knows_blocks(self.revision) {
            decider.take_blocks(self.revision, self.blocks.clone());
        }
        decider.history(&read);
        decider.decide(&read, HistoryRows::default());
        let lost = self.trouble.iter().position(|trouble| matches!(trouble, Trouble::CommitLost { .. }));
        if let Some(Trouble::CommitLost { written }) = lost.map(|place| self.trouble.remove(place)) {
            let messages = sums.iter().map(|sum| (sum.sender.clone(), sum.messages)).collect();
            self.lost = Some(Lost { written, charges, messages });
            if written {
                self.rows = rows;
            }
            return Err(Failure::Unknown(said()));
        }
        self.rows = rows;
        Ok(())
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
    outages: Vec<Outage>,
}

fn request(message: u32) -> Arc<Request> {
    let text = format!("protocol_state=DATA\nrecipient_count=1\ninstance={message}\n\n");
    match Parser::default().feed(text.as_bytes()).1 {
        Some(Parsed::Request(Ok(request))) => Arc::from(request),
        other => panic!("{other:?}"),
    }
}

fn terms(quota: &str) -> Arc<Terms> {
    let config = config::load(&Sources::new(None, [("QUOTA", quota)], false)).unwrap().config;
    Arc::new(config.terms(Lists::default(), TimeZone::UTC))
}

/// Plays the committer, by a clock of its own.
fn play(quota: &str, takes: Duration, mut events: Vec<(Duration, Event)>) -> Outcome {
    events.sort_by_key(|(at, _)| *at);
    let mut events = events.into_iter().peekable();
    let mut rounds = Rounds::new(terms(quota), Standings::default());
    let mut database = Database { takes, ..Database::default() };
    let (mut told, mut asked, mut outages) = (Vec::new(), 0, Vec::new());
    // Each block that was set or ended; of each charge how many there were before it, and whether its account was blocked.
    let mut changes: Vec<(&str, bool)> = Vec::new();
    let mut before = Vec::new();
    let mut elapsed = Duration::ZERO;
    let mut probe = None;
    loop {
        while let Some((at, event)) = events.next_if(|(at, _)| *at <= elapsed) {
            match event {
                Event::Trouble(trouble) => database.trouble = trouble,
                Event::Block { account, on } => {
                    database.block(account, on);
                    changes.push((account, on));
                }
                Event::Ask { account, message } | Event::AskListed { account, message } => {
                    before.push((changes.len(), database.is_blocked(account)));
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
        let now = |elapsed: Duration| Now { elapsed, unix: 1_800_000_000 + elapsed.as_secs() as i64 };
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
            Next::Pause(until) => elapsed = elapsed.max(until),
            Next::Receive(until) => {
                if let Some(at) = probe.filter(|at| *at <= elapsed) {
                    probe = if database.is_back() {
                        rounds.database_is_back();
                        None
                    } else {
                        Some(at + breaker::PAUSE)
                    };
                    continue;
                }
                let next = [until, events.peek().map(|(at, _)| *at)].into_iter().flatten().min();
                let Some(next) = next else { break };
                elapsed = elapsed.max(probe.map_or(next, |probe| next.min(probe)));
            }
        }
    }
    database.forget_lost();
    Outcome { database, told, asked, outages }
}

impl Outcome {
    /// What holds whatever happens.
    fn check(&self) {
        assert_eq!(self.told.len(), self.asked, "each is answered once");
        for told in &self.told {
            assert!(told.answered <= told.asked + DECISION_TIMEOUT, "late: {told:?}");
        }
        let unknown = |told: &&Told| told.verdict == Verdict::InDoubt(FailOpen::CommitUnknown) && told.new > 0;
        let unknown = self.told.iter().filter(unknown).count();
        assert_eq!(
            unknown, self.database.never_known,
            "in doubt is what nobody could find out, and it is not tried again"
        );
        for account in ACCOUNTS {
            // Mail on a list whose block is ended while it is settled is counted.
            let is_counted = |told: &Told| matches!(told.verdict, Verdict::Counted(_) | Verdict::NotBlocked);
            let counted = |told: &&Told| told.account == account && is_counted(told);
            let counted: u32 = self.told.iter().filter(counted).map(|told| told.new).sum();
            let unknown = self.database.unknown.get(account).copied().unwrap_or(0);
            let row = self.database.rows.get(account).map_or(0, |row| row.total_messages);
            assert_eq!(row, counted + unknown, "{account}: what is answered as counted is, and once");
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
    assert!(outcome.outages.iter().all(|outage| !outage.is_relapse()));
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
            let events = vec![trouble(0, &[lost]), ask(0, 1), trouble(1, &[hidden]), ask(100, 2), trouble(1500, &[])];
            let outcome = play("1", ms(1), events);
            outcome.check();
            let passed = outcome.told.iter().map(|told| told.verdict.decision().map(|decision| decision.let_through));
            assert_eq!(passed.collect::<Vec<_>>(), [Some(true), Some(false)], "{hidden:?}, written: {written}");
            assert!(outcome.outages.is_empty());
        }
    }
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
    assert!(outcome.outages.iter().skip(1).all(|outage| outage.is_relapse()) && outcome.outages.len() < 12);
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
}
