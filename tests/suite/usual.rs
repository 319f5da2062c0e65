//! Limits by what is usual, and of mail from new networks: held against a plain list of all mail, and on the real daemon.

use std::cell::Cell;
use std::sync::Arc;

use jiff::tz::TimeZone;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Builder;

use crate::support::client::{ACCEPTED, Client, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::database::Database;
use crate::support::simulated::Simulated;
use policyd_rate_guard::commit::days;
use policyd_rate_guard::commit::standings::learnt_since;
use policyd_rate_guard::config::{self, Sources};
use policyd_rate_guard::limiter::usual::untaught;
use policyd_rate_guard::policy::lists::Lists;
use policyd_rate_guard::store::Store;
use policyd_rate_guard::store::blocks::NewBlock;
use policyd_rate_guard::store::counters::Sum;
use policyd_rate_guard::store::journal::{Late, Part};
use policyd_rate_guard::store::settle::Writes;
use policyd_rate_guard::store::usage::{Arrival, PartsRow, SeenRow, UsageRow};

const DAY: i64 = 24 * 3600;
/// 2026-10-12 00:00 UTC: clocks in Europe go back two weeks later.
const BEGIN: i64 = 1_791_763_200;
const LIMITS: &str = "2x usual recipients/1h min 12 HOLD unusual; 1.5x usual messages/24h min 6 DEFER many; \
                      9 recipients/24h from new networks REJECT far";
const ALICE: &str = "alice@example.com";

/// The settings that name a database, and these.
fn load(database: &Database, settings: &[(&str, &str)]) -> config::Config {
    let named = database.settings();
    let named = named.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    config::load(&Sources::new(None, named.chain(settings.iter().copied()), false)).unwrap().config
}

/// A mail, and what happens before it.
#[derive(Debug, Clone)]
struct Mail {
    /// Seconds after the one before.
    pause: i64,
    daemon: usize,
    /// Whether that daemon is started again first.
    restart: bool,
    sender: u8,
    place: u8,
    recipients: u32,
    /// By how much that daemon's clock is off, in seconds.
    off: i64,
    /// Whether this sender, or everybody, is found to be compromised first.
    found: Option<Found>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    One,
    Everybody,
}

fn mails() -> impl Strategy<Value = Vec<Mail>> {
    let pause = prop_oneof![12 => 0i64..300, 2 => 0i64..7200, 2 => 0i64..3 * DAY, 1 => 0i64..9 * DAY];
    // Two hosts' clocks differ by less than an hour, and are set back and on.
    let off = prop_oneof![6 => Just(0i64), 1 => -1700i64..0, 1 => 0i64..1700];
    let found = prop_oneof![60 => Just(None), 2 => Just(Some(Found::One)), 1 => Just(Some(Found::Everybody))];
    let mail = (pause, 0..2usize, prop::bool::weighted(0.1), 0..2u8, 0..5u8, 1..14u32, off, found).prop_map(
        |(pause, daemon, restart, sender, place, recipients, off, found)| Mail {
            pause,
            daemon,
            restart,
            sender,
            place,
            recipients,
            off,
            found,
        },
    );
    prop::collection::vec(mail, 60..200)
}

/// What was let through, and whether it was held.
struct Sent {
    at: i64,
    sender: u8,
    recipients: u32,
    held: bool,
    from_new: bool,
}

/// All that was asked about, as a plain list.
#[derive(Default)]
struct List {
    /// How often something was held or refused.
    blocked: u32,
    sent: Vec<Sent>,
    /// When, who and from where, refused mail too.
    asked: Vec<(i64, u8, u8)>,
    /// Who was found to be compromised, and when.
    found: Vec<(u8, i64)>,
}

impl List {
    /// Recipients and messages of a window of so many seconds before a time, and so many after it.
    fn window(&self, sender: u8, at: i64, (before, after): (i64, i64), which: impl Fn(&Sent) -> bool) -> (u64, u64) {
        let (first, last) = ((at - before).div_euclid(60), (at + after).div_euclid(60));
        let held = self.sent.iter().filter(|sent| {
            let minute = sent.at.div_euclid(60);
            sent.sender == sender && (first..=last).contains(&minute) && which(sent)
        });
        held.fold((0, 0), |(recipients, messages), sent| (recipients + u64::from(sent.recipients), messages + 1))
    }

    /// Whether it was not sent on the day on which its sender was found to be compromised, or the day before.
    fn is_own(&self, sent: &Sent) -> bool {
        let day = sent.at.div_euclid(DAY);
        let on = |found: i64| [day, day + 1].contains(&found.div_euclid(DAY));
        !self.found.iter().any(|(sender, found)| *sender == sent.sender && on(*found))
    }

    fn usual(&self, sender: u8, now: i64, length: i64) -> (u64, u64) {
        let today = now.div_euclid(DAY);
        let teaches = |sent: &Sent| !sent.held && self.is_own(sent);
        let counts = |sent: &&Sent| {
            sent.sender == sender && teaches(sent) && (today - 35..=today - 2).contains(&sent.at.div_euclid(DAY))
        };
        let of_window = |sent: &Sent| self.window(sender, sent.at, (length, 0), teaches);
        let windows = self.sent.iter().filter(counts).map(of_window);
        windows.fold((0, 0), |(one, two), (a, b)| (one.max(a), two.max(b)))
    }

    fn is_from_new(&self, sender: u8, place: u8, now: i64) -> bool {
        // Since when it has been seen without five weeks between, which begin with a minute.
        let weeks_before = |at: i64| (at - 35 * DAY).div_euclid(60) * 60;
        let known = |place: u8| {
            let seen = self.asked.iter().filter(|(_, of, from)| *of == sender && *from == place).map(|(at, ..)| *at);
            let (mut first, mut last) = (None, None);
            for at in seen {
                if last.is_none_or(|last| last < weeks_before(at)) {
                    first = Some(at);
                }
                last = last.max(Some(at));
            }
            first.is_some_and(|first| first <= now - DAY) && last.is_some_and(|last| last >= weeks_before(now))
        };
        !known(place) && (0..5).any(known)
    }

    /// What Postfix must be told.
    fn expected(&self, mail: &Mail, now: i64) -> (&'static str, bool) {
        let today = now.div_euclid(DAY);
        let own = self.sent.iter().filter(|sent| self.is_own(sent));
        let days = own.map(|sent| sent.at.div_euclid(DAY)).filter(|day| (today - 35..today).contains(day));
        let acts = days.min().is_some_and(|first| today >= first + 14);
        let networks_act = now >= BEGIN + 14 * DAY;
        // A clock that is ahead may have counted it.
        let used = |length| self.window(mail.sender, now, (length, 3600), |_| true);
        let over = |used: u64, added: u64, thousandths: u64, usual: u64, min: u64| {
            used + added > min.max(usual * thousandths / 1000)
        };
        let recipients = u64::from(mail.recipients);
        let many = over(used(3600).0, recipients, 2000, self.usual(mail.sender, now, 3600).0, 12);
        let messages = over(used(DAY).1, 1, 1500, self.usual(mail.sender, now, DAY).1, 6);
        let from_new = self.is_from_new(mail.sender, mail.place, now);
        let far = from_new && self.window(mail.sender, now, (DAY, 3600), |sent| sent.from_new).0 + recipients > 9;
        let word = match (far && networks_act, messages && acts, many && acts) {
            (true, ..) => "REJECT",
            (_, true, _) => "DEFER",
            (.., true) => "HOLD",
            _ if far || messages || many => "WARN",
            _ => "DUNNO",
        };
        (word, from_new)
    }
}

/// Random mail through two daemons, which make days, are started again and have their clocks put back, decides as a plain list
/// of all mail does. Returns how often something was held or refused.
fn decides_as_a_list(database: &Database, mails: &[Mail]) -> Result<u32, TestCaseError> {
    let config = load(database, &[("QUOTA", "unlimited"), ("LIMITS", LIMITS), ("MESSAGE_LOG", "False")]);
    let terms = Arc::new(config.terms(Lists::default(), TimeZone::get("Europe/Berlin").unwrap()));
    let new = || Simulated::new(&config.database, &terms, BEGIN);
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut daemons = [new(), new()];
        let mut list = List::default();
        let (mut now, mut kept_up) = (BEGIN, i64::MIN);
        for (message, mail) in mails.iter().enumerate() {
            now += mail.pause;
            if mail.restart {
                daemons[mail.daemon] = new();
            }
            // What the daemons do once an hour, here whichever is next.
            if kept_up < now - 3600 {
                for at in (now - mail.pause..now).step_by(3600 * 24).chain([now]) {
                    let store = &mut daemons[usize::from(mail.place) % 2].store;
                    days::make(store, at, 0).await.unwrap();
                    store.notes_networks(at).await.unwrap();
                }
                kept_up = now;
            }
            // Around midnight a daemon whose clock is ahead has the next day already.
            let is_noticed = (1800..DAY - 1800).contains(&now.rem_euclid(DAY));
            if let Some(found) = mail.found.filter(|_| is_noticed) {
                let senders = if found == Found::One { mail.sender..=mail.sender } else { 0..=1 };
                list.found.extend(senders.map(|sender| (sender, now)));
                find_out(&mut daemons[mail.daemon].store, found, mail.sender, now).await;
            }
            let at = now + mail.off;
            let (expected, from_new) = list.expected(mail, at);
            let (account, from) = (format!("sender{}@example.com", mail.sender), format!("10.0.{}.1", mail.place));
            let (decision, _) = daemons[mail.daemon].ask(&account, message, &from, mail.recipients, now, at).await;
            let word = decision.action.word();
            prop_assert_eq!(&word, expected, "mail {} at {}", message, at);
            if !["REJECT", "DEFER"].contains(&word.as_str()) {
                let Mail { sender, recipients, .. } = *mail;
                list.sent.push(Sent { at, sender, recipients, held: word == "HOLD", from_new });
            }
            list.blocked += u32::from(["REJECT", "DEFER", "HOLD"].contains(&expected));
            list.asked.push((at, mail.sender, mail.place));
        }
        for mut daemon in daemons {
            daemon.store.close().await;
        }
        Ok(list.blocked)
    })
}

/// Blocks a sender, or everybody, as compromised, and frees them again.
async fn find_out(store: &mut Store, found: Found, sender: u8, now: i64) {
    let account = match found {
        Found::One => format!("sender{sender}@example.com"),
        Found::Everybody => "@example.com".to_owned(),
    };
    let block = NewBlock {
        account: account.clone(),
        until: None,
        action: "HOLD".to_owned(),
        text: String::new(),
        reason: "compromised".to_owned(),
        set_by: String::new(),
        note: String::new(),
    };
    store.block(&block, now).await.unwrap();
    store.forget_compromised(untaught(now)).await.unwrap();
    store.unblock(&account, "", now).await.unwrap();
}

fn a_list_of_all_mail(setup: &Setup, cases: u32) {
    let database = setup.database();
    let is_mysql = database.settings().iter().any(|(name, value)| name == "DB_DRIVER" && value == "mysql");
    let usage = if is_mysql { "`usage`" } else { "usage" };
    let tables = [usage, "days", "usage_parts", "arrivals", "networks", "meta", "blocks", "ratelimits"];
    assert!(setup.run("migrate", &[]).status.success());
    let blocked = Cell::new(0);
    let config = Config { failure_persistence: None, max_shrink_iters: 200, ..Config::with_cases(cases) };
    // Random mail may all be let through. That proves little, so that there is more of it then.
    for _ in 0..20 {
        let result = TestRunner::new(config.clone()).run(&mails(), |mails| {
            tables.iter().for_each(|table| database.execute(&format!("DELETE FROM {table}")));
            blocked.set(blocked.get() + decides_as_a_list(database, &mails)?);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{error}"));
        if blocked.get() > 0 {
            return;
        }
    }
    panic!("of none of so many mails anything was held or refused");
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A daemon whose database has known a sender for 20 days: of its highest hour's recipients, and from 192.0.2.0/24.
fn learnt(setup: Setup, limits: &str, hour: i64) -> Daemon {
    let daemon = setup.setting("QUOTA", "unlimited").setting("LIMITS", limits).start();
    assert_eq!(ask(&mut daemon.connect(), 1, "192.0.2.1"), ACCEPTED);
    let (today, long_ago) = (now() / DAY, now() - 20 * DAY);
    for statement in [
        format!(
            "INSERT INTO days (ratelimit_id, day, messages, recipients, hour_messages, hour_recipients, day_messages, \
             day_recipients) SELECT id, {}, 9, {hour}, 9, {hour}, 9, {hour} FROM ratelimits",
            today - 20
        ),
        format!("INSERT INTO meta (name, value) VALUES ('networks_since', '{long_ago}')"),
        format!("UPDATE arrivals SET first_seen = {long_ago}"),
    ] {
        daemon.database().execute(&statement);
    }
    daemon
}

fn ask(client: &mut Client, recipients: u32, from: &str) -> String {
    client.ask(&Request::data(ALICE, recipients).client_address(from))
}

fn asked(daemon: &Daemon, mails: u32, recipients: u32, from: &str) -> Vec<String> {
    let mut client = daemon.connect();
    (0..mails).map(|_| ask(&mut client, recipients, from)).collect()
}

fn seen(ratelimit_id: i64, place: u8, last_seen: i64) -> SeenRow {
    SeenRow { ratelimit_id, network: format!("10.0.{place}.0/24"), last_seen }
}

fn arrival(ratelimit_id: i64, place: u8, first_seen: i64) -> Arrival {
    Arrival { ratelimit_id, network: format!("10.0.{place}.0/24"), first_seen }
}

mod run {
    use super::*;

    pub fn random_mail_is_decided_as_by_a_list_of_all_mail(setup: Setup) {
        let cases = if setup.database().file().is_some() { 12 } else { 3 };
        a_list_of_all_mail(&setup, cases);
    }

    pub fn where_a_sender_is_seen_is_written_once_a_minute(setup: Setup) {
        let database = setup.database();
        let config = load(database, &[("QUOTA", "unlimited"), ("LIMITS", LIMITS), ("MESSAGE_LOG", "False")]);
        let terms = Arc::new(config.terms(Lists::default(), TimeZone::UTC));
        assert!(setup.run("migrate", &[]).status.success());
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let mut daemon = Simulated::new(&config.database, &terms, BEGIN);
        let mut seen = |second: i64| {
            let at = BEGIN + second;
            runtime.block_on(daemon.ask(ALICE, at as usize, "10.0.0.1", 1, at, at));
            database.number("SELECT last_seen FROM networks") - BEGIN
        };
        assert_eq!([10, 50, 60].map(&mut seen), [10, 10, 60]);
        // A sender whose window began anew is seen anew.
        let free = async {
            let mut store = Store::new(&config.database);
            store.free(ALICE, BEGIN + 70).await.unwrap();
            store.close().await;
        };
        runtime.block_on(free);
        assert_eq!(seen(80), 80);
        runtime.block_on(daemon.store.close());
    }

    pub fn three_times_what_is_usual_is_held_and_what_is_held_is_noted(setup: Setup) {
        let mut daemon = learnt(setup, "3x usual recipients/1h min 5 HOLD unusual {used} of {quota}", 10);
        // What was decided before the days were there is trusted for a while.
        daemon.term();
        daemon.start_again();
        let answers = asked(&daemon, 4, 9, "192.0.2.1");
        assert_eq!(answers, [ACCEPTED, ACCEPTED, ACCEPTED, "HOLD unusual 37 of 30"]);
        let second = Setup::on(daemon.database());
        let second =
            second.setting("QUOTA", "unlimited").setting("LIMITS", "3x usual messages/24h min 4 REJECT {quota}");
        assert_eq!(
            asked(&second.start(), 24, 1, "192.0.2.1").pop().unwrap(),
            "REJECT 27",
            "3 times 9, another daemon's 5"
        );
        let parts = daemon.database().select(&["held_messages", "held_recipients"], "FROM usage_parts");
        assert_eq!(parts, [["1", "9"]]);
        daemon.await_log("reason=\"3x usual recipients/1h min 5: 37\"");
    }

    pub fn what_an_outage_journal_held_reaches_its_day_and_new_networks_stay_new(setup: Setup) {
        assert!(setup.run("migrate", &[]).status.success());
        let (config, now) = (load(setup.database(), &[]), (BEGIN / DAY + 40) * DAY + 7200);
        let sum = |recipients| Sum { sender: ALICE.to_owned(), domain: None, messages: 1, recipients, count: true };
        let charged = |from: u64, recipients: i64, places: &'static [u8], at: i64| {
            let part = Part { journal: 7, from: from as i64, to: from as i64 + 1 };
            let late = move |id: i64| Late {
                writes: Writes {
                    usage: vec![UsageRow { ratelimit_id: id, minute: at / 60, messages: 1, recipients, bytes: 0 }],
                    seen: places.iter().map(|place| seen(id, *place, at)).collect(),
                    arrived: places.iter().map(|place| arrival(id, *place, at)).collect(),
                    ..Writes::default()
                },
                outlived: Vec::new(),
            };
            (part, late)
        };
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let mut store = Store::new(&config.database);
            let mut hours = Vec::new();
            for (number, (recipients, places, at)) in
                [(5, &[1, 2][..], now - 3 * DAY), (7, &[2, 3][..], now - 3 * DAY + 60)].into_iter().enumerate()
            {
                let (part, late) = charged(number as u64, recipients, places, at);
                let sums = [sum(recipients as u32)];
                let done = store.charge(part, &sums, 10, now, |rows, _| late(rows[0].unwrap().id)).await.unwrap();
                assert_eq!(done, number as i64 + 1);
                days::make(&mut store, now, 0).await.unwrap();
                let id = store.with_usage(0..now).await.unwrap()[0];
                let days = store.days_of(id, &learnt_since(now)).await.unwrap();
                hours.push((days[0].day, days[0].peaks.hour.recipients));
            }
            let day = (now - 3 * DAY) / DAY;
            assert_eq!(hours, [(day, 5), (day, 12)], "also when the day was made before");
            store.close().await;
        });
        let first = now - 3 * DAY;
        let arrivals = setup.database().select(&["network", "first_seen"], "FROM arrivals ORDER BY network");
        let expected = [(1, first), (2, first), (3, first + 60)];
        assert_eq!(arrivals, expected.map(|(place, at)| [format!("10.0.{place}.0/24"), at.to_string()]));
    }

    pub fn what_a_thief_sent_never_becomes_usual(setup: Setup) {
        assert!(setup.run("migrate", &[]).status.success());
        let (config, database) = (load(setup.database(), &[]), setup.database());
        let usage = if config.database.driver == config::Driver::Mysql { "`usage`" } else { "usage" };
        let today = now() / DAY;
        // Minutes after the noon of four days ago, and recipients.
        let (days_later, before_midnight) = (24 * 60, -725);
        for (id, (sender, mail)) in (1..).zip([
            ("after@a.example", &[(before_midnight, 500), (0, 40)][..]),
            ("all@b.example", &[(0, 40)]),
            ("later@a.example", &[(0, 40)]),
            ("next@a.example", &[(0, 40)]),
            ("now@a.example", &[(2 * days_later, 41), (3 * days_later + 5, 42)]),
            ("panel@c.example", &[(2 * days_later, 43), (3 * days_later + 5, 44)]),
            ("same@a.example", &[(0, 40)]),
            ("sure@a.example", &[(0, 40)]),
        ]) {
            database.execute(&format!("INSERT INTO ratelimits (id, sender) VALUES ({id}, '{sender}')"));
            for (later, recipients) in mail {
                let minute = (today - 4) * days_later + 720 + later;
                database.execute(&format!(
                    "INSERT INTO {usage} (ratelimit_id, minute, messages, recipients) VALUES ({id}, {minute}, 1, {recipients})"
                ));
            }
        }
        let block = |account: &str, at: i64, reason: &str| {
            database.execute(&format!(
                "INSERT INTO blocks (account, since, reason) VALUES ('{account}', {at}, '{reason}')"
            ));
        };
        let midnight = |days_ago: i64| (today - days_ago) * DAY;
        block("same@a.example", midnight(3) - 3600, "compromised");
        block("next@a.example", midnight(3) + 8 * 3600, "compromised");
        block("@b.example", midnight(3) + 8 * 3600, "compromised");
        block("later@a.example", midnight(2), "compromised");
        block("after@a.example", midnight(4) - 60, "compromised");
        block("sure@a.example", midnight(3) + 8 * 3600, "manual");
        let make = || {
            Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let mut store = Store::new(&config.database);
                days::make(&mut store, midnight(0) + 2 * 3600, 0).await.unwrap();
                store.close().await;
            });
        };
        let noted = || {
            let rows = "FROM days, ratelimits WHERE ratelimits.id = ratelimit_id ORDER BY sender, day";
            let rows = database.select(&["sender", "day", "hour_recipients", "day_recipients"], rows);
            let noted = rows.into_iter().map(|row| {
                let days_ago = today - row[1].parse::<i64>().unwrap();
                format!("{}: {} and {}, {days_ago} days ago", row[0], row[2], row[3])
            });
            Vec::from_iter(noted)
        };
        make();
        let mut left = vec![
            "after@a.example: 40 and 40, 4 days ago",
            "later@a.example: 40 and 40, 4 days ago",
            "now@a.example: 41 and 41, 2 days ago",
            "now@a.example: 42 and 42, 1 days ago",
            "panel@c.example: 43 and 43, 2 days ago",
            "panel@c.example: 44 and 44, 1 days ago",
            "sure@a.example: 40 and 40, 4 days ago",
        ];
        assert_eq!(noted(), left);
        // Yesterday is noted already.
        assert!(setup.run("sender", &["block", "now@a.example", "--reason", "compromised"]).status.success());
        left.remove(3);
        assert_eq!(noted(), left);
        // A control panel only writes the table.
        block("@c.example", midnight(0) + 60, "compromised");
        make();
        left.remove(4);
        assert_eq!(noted(), left);
    }

    pub fn a_wave_from_new_networks_is_stopped(setup: Setup) {
        let mut daemon = learnt(setup, "15 recipients/1h from new networks HOLD far", 1000);
        daemon.term();
        daemon.start_again();
        let mut client = daemon.connect();
        let answers: Vec<String> = (0..40).map(|place| ask(&mut client, 1, &format!("10.1.{place}.7"))).collect();
        assert_eq!(answers.iter().filter(|answer| *answer == ACCEPTED).count(), 15);
        assert_eq!(ask(&mut client, 50, "192.0.2.9"), ACCEPTED, "from where it was seen before");
        daemon.term();
        daemon.start_again();
        assert_eq!(ask(&mut daemon.connect(), 1, "10.1.3.7"), "HOLD far", "seen today only");
    }
}

crate::on_each_database! {
    where_a_sender_is_seen_is_written_once_a_minute
    random_mail_is_decided_as_by_a_list_of_all_mail
    three_times_what_is_usual_is_held_and_what_is_held_is_noted
    what_an_outage_journal_held_reaches_its_day_and_new_networks_stay_new
    what_a_thief_sent_never_becomes_usual
    a_wave_from_new_networks_is_stopped
}

#[test]
fn until_two_weeks_are_known_such_limits_only_warn() {
    let limits = "3x usual recipients/1h min 5 HOLD unusual; 2 recipients/1h from new networks HOLD far";
    let daemon = Setup::sqlite().setting("LIMITS", limits).start();
    assert_eq!(asked(&daemon, 1, 9, "192.0.2.1"), ["WARN unusual"]);
}

#[test]
fn what_is_released_becomes_usual_and_what_a_thief_sent_does_not() {
    let setup = Setup::sqlite();
    assert!(setup.run("migrate", &[]).status.success());
    let (today, config) = (BEGIN / DAY + 40, load(setup.database(), &[]));
    let minute = (today - 3) * 1440;
    let usage = format!("INSERT INTO usage (ratelimit_id, minute, messages, recipients) VALUES (1, {minute}, 3, 40)");
    let blocks = "INSERT INTO blocks (account, since, reason) VALUES";
    let held = "INSERT INTO usage_parts (ratelimit_id, minute, held_messages, held_recipients)";
    let logged = format!(
        "INSERT INTO messages (id, ratelimit_id, sender, rcpt_count, blocked, action, created_at) \
         VALUES (1, 1, 'alice@example.com', 20, 1, 'HOLD', datetime({}, 'unixepoch'))",
        minute * 60 + 5
    );
    for statement in [
        "INSERT INTO ratelimits (id, sender) VALUES (1, 'alice@example.com'), (2, 'bob@example.com')",
        &usage,
        &usage.replace("(1,", "(2,"),
        &logged,
        &format!("{blocks} ('bob@example.com', {}, 'compromised')", minute * 60 + 3600),
        &format!("{held} VALUES (1, {minute}, 2, 30)"),
    ] {
        setup.database().execute(statement);
    }
    let released = |held_recipients| PartsRow {
        ratelimit_id: 1,
        minute,
        held_messages: 1,
        held_recipients,
        ..PartsRow::default()
    };
    let usual = Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let (mut store, now) = (Store::new(&config.database), today * DAY + 7200);
        let mut usual = Vec::new();
        for step in 0..3 {
            match step {
                0 => {}
                // By its row in the audit log.
                1 => store.released_messages(&[1, 7]).await.unwrap(),
                _ => store.released(released(900)).await.unwrap(),
            }
            days::make(&mut store, now, 0).await.unwrap();
            let days = store.days_of(1, &learnt_since(now)).await.unwrap();
            usual.push((days[0].peaks.hour.messages, days[0].peaks.hour.recipients, days[0].total.recipients));
        }
        assert!(store.days_of(2, &learnt_since(now)).await.unwrap().is_empty(), "blocked as compromised that day");
        store.close().await;
        usual
    });
    assert_eq!(usual, [(1, 10, 10), (2, 30, 30), (3, 40, 40)]);
}
