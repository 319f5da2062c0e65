//! The rounds against a scripted database: whatever goes wrong, each charge is answered once, in time, and counted once.

mod database;
mod file;
mod play;

use proptest::prelude::*;

use super::*;
use crate::journal::record::{self, Found};
use crate::protocol::reply::Action;
use crate::store::settle::Decider;
use crate::store::usage::HistoryRows;
use database::Trouble;
use play::{Event, Told, play, play_with, request, terms, unix};

const DECISION_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a statement waits for a lock, as in the store.
const LOCK_TIMEOUT: Duration = Duration::from_millis(150);
const ACCOUNTS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const ALICE: &str = ACCOUNTS[0];

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
fn an_outage_ends_although_mail_never_ceases() {
    // A transaction takes longer than it takes until more mail comes.
    for takes in [ms(15), ms(60)] {
        let mut events = traffic(0..10_000, 5);
        events.extend([trouble(1000, &[Trouble::Away { silent: false }]), trouble(2000, &[])]);
        let outcome = play_with(1 << 20, "unlimited", takes, events);
        outcome.check_journal();
        let from_memory = |told: &&Told| matches!(told.verdict, Verdict::FromMemory(_));
        let last = outcome.told.iter().filter(from_memory).map(|told| told.answered).max().unwrap();
        assert!(last < ms(4000), "mail was decided from memory until {last:?}");
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
