//! The store, on each of the three databases: one suite, which a macro at the end gives to all.

use std::collections::HashSet;
use std::fs;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::support::daemon::Setup;
use crate::support::database::Database;
use crate::support::postgres::Postgres;
use crate::support::scratch::Scratch;
use crate::support::server::Server;
use crate::support::wait;
use policyd_rate_guard::config::{self, Sources};
use policyd_rate_guard::policy::quota::UNLIMITED;
use policyd_rate_guard::policy::strikes::Strikes;
use policyd_rate_guard::store::blocks::{BlockRow, NewBlock, Revision};
use policyd_rate_guard::store::counters::{Outlived, Row, Sum};
use policyd_rate_guard::store::dialect::LOCK_TIMEOUT;
use policyd_rate_guard::store::journal::{Late, Part};
use policyd_rate_guard::store::maintenance::{Aged, Chunk, Outdated, Worked};
use policyd_rate_guard::store::messages::AuditRow;
use policyd_rate_guard::store::migrate::{MigrateError, Step};
use policyd_rate_guard::store::notices::Claim;
use policyd_rate_guard::store::senders::{Change, SenderRow};
use policyd_rate_guard::store::settle::{Decider, Writes};
use policyd_rate_guard::store::strikes::Struck;
use policyd_rate_guard::store::usage::{Arrival, Coarse, HistoryRows, LearntSince, SeenRow, Since, UsageRow};
use policyd_rate_guard::store::{Failure, Store};
use tokio::runtime::{Builder, Runtime};

/// A second in 2026.
const NOW: i64 = 1_790_000_000;

/// A new, empty database.
struct Place {
    database: Database,
    /// The folder of a database that is a file.
    scratch: Option<Scratch>,
}

/// A store, its tables made.
struct Opened {
    runtime: Runtime,
    store: Store,
}

/// A judge that asks for what it was told to, writes what it was told to, and keeps what it saw.
#[derive(Default)]
struct Clerk {
    histories_since: Option<i64>,
    learnt: Option<LearntSince>,
    writes: Writes,
    saw: Option<(Vec<Option<Row>>, HistoryRows)>,
}

impl Decider for Clerk {
    fn knows_strike(&mut self, _: Struck) {}

    fn knows_blocks(&self, _: Revision) -> bool {
        true
    }

    fn take_blocks(&mut self, _: Revision, _: Vec<BlockRow>) {}

    fn history(&mut self, rows: &[Option<Row>]) -> Option<Since> {
        let time = self.histories_since?;
        Some(Since {
            rows: rows.iter().flatten().map(|row| row.id).collect(),
            time,
            coarse: None,
            networks: Some(time),
            learnt: self.learnt.clone(),
        })
    }

    fn decide(&mut self, rows: &[Option<Row>], history: HistoryRows) -> Writes {
        self.saw = Some((rows.to_vec(), history));
        self.writes.clone()
    }
}

impl Place {
    fn sqlite() -> Place {
        let scratch = Scratch::unprivileged();
        Place { database: Database::sqlite(&scratch.join("test.db")), scratch: Some(scratch) }
    }

    fn on<S: Server>() -> Place {
        Place { database: S::shared().database(), scratch: None }
    }

    fn driver(&self) -> String {
        self.database.settings().into_iter().find(|(name, _)| name == "DB_DRIVER").unwrap().1
    }

    fn is_sqlite(&self) -> bool {
        self.scratch.is_some()
    }

    fn is_mysql(&self) -> bool {
        self.config().driver == config::Driver::Mysql
    }

    /// A store whose tables may not be there yet.
    fn unprepared(&self) -> Opened {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Opened { runtime, store: Store::new(&self.config()) }
    }

    fn config(&self) -> config::Database {
        let sources =
            Sources { explicit: None, search: vec![], environment: vec![], is_root: false, host: String::new() };
        let environment =
            self.database.settings().into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        config::load(&Sources { environment, ..sources }).unwrap().config.database
    }

    fn open(&self) -> Opened {
        let mut opened = self.unprepared();
        opened.migrate().unwrap();
        opened
    }

    /// The commands, which run as another user when the tests run as root.
    fn setup(&self) -> Setup {
        if let Some(scratch) = &self.scratch {
            scratch.hand_over();
        }
        Setup::on(&self.database)
    }

    fn points(&self, sender: &str) -> (i64, i64, i64, i64) {
        let row = self.database.counters(sender).unwrap();
        (row.msg_counter, row.rcpt_counter, row.msg_total, row.rcpt_total)
    }
}

/// Tries again what waited for a lock for too long, as the program does: on a busy machine a statement may take as long.
fn again<T>(mut work: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut tries = 0..20;
    loop {
        match work() {
            Err(Failure::Locked(_)) if tries.next().is_some() => {}
            done => return done,
        }
    }
}

impl Opened {
    fn migrate(&mut self) -> Result<Vec<Step>, MigrateError> {
        self.runtime.block_on(self.store.migrate(true, NOW))
    }

    fn judged_by(
        &mut self,
        mut clerk: Clerk,
        sums: &[Sum],
        now: i64,
    ) -> Result<(Vec<Option<Row>>, HistoryRows), Failure> {
        again(|| self.runtime.block_on(self.store.settle(sums, 1000, now, &mut clerk)))?;
        Ok(clerk.saw.unwrap())
    }

    fn try_settle(&mut self, sums: &[Sum], audit: Vec<AuditRow>) -> Result<Vec<Option<Row>>, Failure> {
        again(|| self.settle_once(sums, &audit))
    }

    fn settle_once(&mut self, sums: &[Sum], audit: &[AuditRow]) -> Result<Vec<Option<Row>>, Failure> {
        let mut clerk = Clerk { writes: Writes { audit: audit.to_vec(), ..Writes::default() }, ..Clerk::default() };
        self.runtime.block_on(self.store.settle(sums, 1000, NOW, &mut clerk))?;
        Ok(clerk.saw.unwrap().0)
    }

    fn settle(&mut self, sums: &[Sum]) -> Vec<Option<Row>> {
        self.try_settle(sums, vec![]).unwrap()
    }

    /// Does a work to its end, and gives the rows of each chunk.
    fn chunks(&mut self, chunk: Chunk) -> Vec<u64> {
        let (mut rows, mut after) = (Vec::new(), 0);
        let mut next = |after| again(|| self.runtime.block_on(self.store.chunk(chunk, after))).unwrap();
        while let Some(Worked { rows: done, last }) = next(after) {
            rows.push(done);
            after = last;
        }
        rows
    }

    /// Deletes what is outdated, and gives the rows of each chunk.
    fn expired(&mut self, aged: Aged, outdated: Outdated) -> Vec<u64> {
        let expire = || again(|| self.runtime.block_on(self.store.expire(aged, outdated))).unwrap();
        std::iter::repeat_with(expire).map_while(|worked| Some(worked?.rows)).collect()
    }
}

fn sum(sender: &str, messages: u32, recipients: u32) -> Sum {
    Sum { sender: sender.to_owned(), messages, recipients, count: true, domain: None }
}

fn look(sender: &str) -> Sum {
    Sum { count: false, ..sum(sender, 0, 0) }
}

fn audit_row(ratelimit_id: i64, sender: &str) -> AuditRow {
    AuditRow {
        at: NOW,
        ratelimit_id,
        host: "mx1.example.com".into(),
        queue_id: "4bXq".into(),
        sender: sender.into(),
        recipients: 3,
        blocked: true,
        from: "from@example.com".into(),
        to: "to@example.org".into(),
        client_address: "2001:db8::25".into(),
        client_name: "client.example.net".into(),
        action: "DEFER_IF_PERMIT".into(),
        reason: "quota 1 reached: 3".into(),
    }
}

fn a_first_mail_makes_a_row_with_the_default_quota(place: &Place) {
    let rows = place.open().settle(&[sum("alice", 1, 3)]);
    let row = rows[0].unwrap();
    assert_eq!((row.quota, row.messages, row.recipients), (1000, 1, 3));
    let counters = place.database.counters("alice").unwrap();
    assert_eq!((counters.quota, counters.quota_reset, counters.quota_locked), (1000, 1000, false));
    assert_eq!(place.points("alice"), (1, 3, 1, 3));
}

fn sums_are_added_and_rows_read_in_the_order_of_the_sums(place: &Place) {
    let mut store = place.open();
    let senders: Vec<String> = (0..300).map(|number| format!("s{number:03}")).collect();
    let sums = |offset: u32| -> Vec<Sum> {
        senders.iter().zip(offset..).map(|(sender, recipients)| sum(sender, 1, recipients)).collect()
    };
    store.settle(&sums(1));
    let rows: Vec<Row> = store.settle(&sums(1000)).into_iter().flatten().collect();
    assert_eq!(rows.len(), 300);
    for (number, row) in rows.iter().enumerate() {
        assert_eq!((row.messages, row.recipients), (2, 1001 + 2 * number as u32), "{}", senders[number]);
    }
    assert_eq!(place.database.rows("ratelimits"), 300);
}

fn counters_stay_at_their_end(place: &Place) {
    let mut store = place.open();
    store.settle(&[sum("alice", u32::MAX - 1, u32::MAX - 5)]);
    for _ in 0..3 {
        let row = store.settle(&[sum("alice", 3, 1_000_000)])[0].unwrap();
        assert_eq!((row.messages, row.recipients), (u32::MAX, u32::MAX));
    }
    let end = i64::from(u32::MAX);
    assert_eq!(place.points("alice"), (end, end, end, end));
}

fn sums_of_bytes_stay_at_their_end(place: &Place) {
    let mut store = place.open();
    let id = store.settle(&[sum("alice", 1, 1)])[0].unwrap().id;
    let row = UsageRow { ratelimit_id: id, minute: 29_833_333, messages: 1, recipients: 1, bytes: i64::MAX };
    for _ in 0..3 {
        let writes = Writes { usage: vec![row], ..Writes::default() };
        store.judged_by(Clerk { writes, ..Clerk::default() }, &[look("alice")], NOW).unwrap();
        let usage = if place.driver() == "mysql" { "`usage`" } else { "usage" };
        let bytes = place.database.number(&format!("SELECT bytes FROM {usage}"));
        assert_eq!(bytes, i64::MAX / 2);
    }
}

fn a_part_of_a_journal_is_charged_once_and_at_its_time(place: &Place) {
    let mut store = place.open();
    let id = store.settle(&[sum("alice", 1, 1)])[0].unwrap().id;
    let part = |from, to| Part { journal: 77, from, to };
    let (minute, network) = (NOW.div_euclid(60) - 100, "192.0.2.0/24".to_owned());
    let mut charge = |part: Part| {
        let Opened { runtime, store } = &mut store;
        let usage = vec![UsageRow { ratelimit_id: id, minute, messages: 1, recipients: 3, bytes: 5 }];
        let seen = vec![SeenRow { ratelimit_id: id, network: network.clone(), last_seen: minute * 60 }];
        let audit = vec![AuditRow { at: minute * 60, ..audit_row(id, "alice") }];
        let late = move |rows: &[Option<Row>], reset| {
            assert_eq!((rows[0].unwrap().id, reset), (id, Some(NOW - 5)));
            let outlived = vec![Outlived { ratelimit_id: id, messages: 9, recipients: 1 }];
            Late { writes: Writes { audit, usage, seen, ..Writes::default() }, outlived }
        };
        runtime.block_on(store.set_meta("last_reset", &(NOW - 5).to_string())).unwrap();
        runtime.block_on(store.charge(part, &[sum("alice", 1, 3)], 1000, NOW, late)).unwrap()
    };
    assert_eq!(charge(part(0, 4)), 4);
    // The reply to that COMMIT was lost; then somebody has restored an older copy.
    assert_eq!([charge(part(0, 4)), charge(part(9, 12))], [4, 4]);
    assert_eq!(place.points("alice"), (0, 3, 2, 4), "what was before the reset is in the totals only");
    let usage = if place.is_mysql() { "`usage`" } else { "usage" };
    let history = format!("SELECT recipients FROM {usage} WHERE minute = {minute}");
    assert_eq!((place.database.number(&history), place.database.rows("messages")), (3, 1));
    assert_eq!(charge(part(4, 5)), 5);
    assert_eq!((place.database.number(&history), place.database.rows("messages")), (6, 2));
    assert_eq!(place.database.number("SELECT charged FROM journals WHERE journal = 77"), 5);
    // What was seen since is not unseen.
    let seen = SeenRow { ratelimit_id: id, network: network.clone(), last_seen: NOW };
    let writes = Writes { seen: vec![seen], ..Writes::default() };
    store.judged_by(Clerk { writes, ..Clerk::default() }, &[look("alice")], NOW).unwrap();
    let Opened { runtime, store } = &mut store;
    let seen = vec![SeenRow { ratelimit_id: id, network, last_seen: NOW - 9000 }];
    let late = |_: &[Option<Row>], _| Late { writes: Writes { seen, ..Writes::default() }, outlived: vec![] };
    assert_eq!(runtime.block_on(store.charge(part(5, 6), &[], 1000, NOW, late)).unwrap(), 6);
    assert_eq!(place.database.number("SELECT last_seen FROM networks"), NOW);
    assert_eq!(runtime.block_on(store.expire(Aged::Journals, Outdated::Before(NOW + 1))).unwrap().unwrap().rows, 1);
}

fn a_trigger_of_somebody_elses_refuses_its_statement_alone(place: &Place) {
    let mut store = place.open();
    for event in ["INSERT", "UPDATE"] {
        let of = format!("TRIGGER refuse_{event} BEFORE {event} ON ratelimits FOR EACH ROW");
        place.database.execute(&match place.driver().as_str() {
            "sqlite" => {
                format!("CREATE {of} WHEN NEW.sender = 'evil' BEGIN SELECT RAISE(ABORT, 'suspended'); END")
            }
            "postgres" => format!(
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF NEW.sender = 'evil' THEN RAISE EXCEPTION 'suspended'; END IF; RETURN NEW; END $$; \
                 CREATE {of} EXECUTE FUNCTION refuse()"
            ),
            _ => format!(
                "CREATE {of} IF NEW.sender = 'evil' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'suspended'; END IF"
            ),
        });
    }
    let refused = store.try_settle(&[sum("bob", 1, 1), sum("evil", 1, 1)], vec![]);
    assert!(matches!(&refused, Err(Failure::Refused(words)) if words.contains("suspended")), "{refused:?}");
    assert_eq!(place.database.rows("ratelimits"), 0);
    assert!(store.settle(&[sum("bob", 1, 1)])[0].is_some(), "the connection is still good");
}

fn a_check_of_somebody_elses_refuses_its_statement_alone(place: &Place) {
    if place.is_sqlite() {
        return; // It adds no CHECK to a table that is there.
    }
    let mut store = place.open();
    place.database.execute("ALTER TABLE ratelimits ADD CONSTRAINT not_evil CHECK (sender <> 'evil')");
    let refused = store.try_settle(&[sum("evil", 1, 1)], vec![]);
    assert!(matches!(refused, Err(Failure::Refused(_))), "{refused:?}");
}

fn looking_changes_nothing(place: &Place) {
    let mut store = place.open();
    store.settle(&[sum("alice", 1, 2)]);
    let rows = store.settle(&[look("alice"), sum("bob", 1, 1), look("carol")]);
    assert_eq!(rows[0].map(|row| (row.messages, row.recipients)), Some((1, 2)));
    assert!(rows[1].is_some() && rows[2].is_none());
    assert_eq!(place.points("alice"), (1, 2, 1, 2));
    assert_eq!(place.database.rows("ratelimits"), 2);
}

fn a_quota_changed_by_sql_is_read_with_the_next_sum(place: &Place) {
    let mut store = place.open();
    store.settle(&[sum("alice", 1, 1)]);
    for quota in [5, 0, i64::from(UNLIMITED)] {
        place.database.execute(&format!("UPDATE ratelimits SET quota = {quota} WHERE sender = 'alice'"));
        assert_eq!(store.settle(&[sum("alice", 1, 1)])[0].unwrap().quota, u32::try_from(quota).unwrap());
    }
}

fn audit_rows_are_written_with_their_sums_and_cut_to_their_columns(place: &Place) {
    let mut store = place.open();
    let id = store.settle(&[sum("alice", 1, 1)])[0].unwrap().id;
    let wide = "é".repeat(600);
    let too_long = AuditRow {
        queue_id: wide.clone(),
        from: wide.clone(),
        to: wide.clone(),
        client_address: wide.clone(),
        client_name: wide.clone(),
        action: wide.clone(),
        reason: wide,
        blocked: false,
        ..audit_row(id, "alice")
    };
    store.try_settle(&[sum("alice", 1, 1)], vec![audit_row(id, "alice"), too_long]).unwrap();
    let messages = place.database.messages("alice");
    let [first, second] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((first.msgid.as_str(), first.rcpt_count, first.blocked), ("4bXq", 3, true));
    assert_eq!((first.from_addr.as_str(), first.to_addr.as_str()), ("from@example.com", "to@example.org"));
    assert_eq!((first.client_address.as_str(), first.client_name.as_str()), ("2001:db8::25", "client.example.net"));
    assert_eq!((first.action.as_str(), first.reason.as_str()), ("DEFER_IF_PERMIT", "quota 1 reached: 3"));
    let lengths = [&second.msgid, &second.from_addr, &second.client_address, &second.client_name, &second.action];
    assert_eq!(lengths.map(|text| text.chars().count()), [255, 255, 45, 255, 32]);
    let ids = place.database.select(&["ratelimit_id"], "FROM messages");
    assert_eq!(ids, [[id.to_string()], [id.to_string()]]);
}

fn times_are_the_ones_given(place: &Place) {
    let mut store = place.open();
    let id = store.settle(&[sum("alice", 1, 1)])[0].unwrap().id;
    store.try_settle(&[sum("alice", 1, 1)], vec![audit_row(id, "alice")]).unwrap();
    for (column, table) in [("created_at", "messages"), ("created_at", "ratelimits"), ("updated_at", "ratelimits")] {
        let said = place.database.select(&[column], &format!("FROM {table}"));
        assert!(said[0][0].starts_with("2026-09-21 14:13:20"), "{table}.{column}: {said:?}");
    }
}

fn usage_and_networks_add_up_and_are_read_back_from_a_time_on(place: &Place) {
    let mut store = place.open();
    let id = store.settle(&[sum("alice", 1, 1)])[0].unwrap().id;
    let minute = NOW.div_euclid(60);
    let used = |minute, messages| UsageRow { ratelimit_id: id, minute, messages, recipients: 2, bytes: 5_000_000_000 };
    let seen = |network: &str, last_seen| SeenRow { ratelimit_id: id, network: network.into(), last_seen };
    for (minute, network, time) in
        [(minute, "192.0.2.0/24", NOW), (minute, "192.0.2.0/24", NOW - 9), (minute - 60, "2001:db8::/48", NOW - 3600)]
    {
        let writes = Writes { usage: vec![used(minute, 1)], seen: vec![seen(network, time)], ..Writes::default() };
        store.judged_by(Clerk { writes, ..Clerk::default() }, &[look("alice")], NOW).unwrap();
    }
    let mut read = |since| {
        let clerk = Clerk { histories_since: Some(since), ..Clerk::default() };
        let (_, mut read) = store.judged_by(clerk, &[look("alice")], NOW).unwrap();
        assert_eq!(read.rows, [id]);
        read.usage.sort_by_key(|row| row.minute);
        let minutes: Vec<i64> = read.usage.iter().map(|row| row.minute).collect();
        (minutes, read)
    };
    let (minutes, mut all) = read(NOW - 7200);
    assert_eq!(minutes, [minute - 60, minute]);
    assert_eq!(all.usage[1], UsageRow { messages: 2, recipients: 4, bytes: 10_000_000_000, ..used(minute, 0) });
    all.seen.sort_by_key(|seen| -seen.last_seen);
    assert_eq!(all.seen, [seen("192.0.2.0/24", NOW), seen("2001:db8::/48", NOW - 3600)], "never earlier");
    let (minutes, late) = read(NOW - 600);
    assert_eq!((minutes, late.seen.len()), (vec![minute], 1));
}

fn minutes_that_are_kept_together_become_the_last_of_them(place: &Place) {
    let mut store = place.open();
    let rows = store.settle(&[sum("alice", 1, 1), sum("bob", 1, 1)]);
    let (alice, bob) = (rows[0].unwrap().id, rows[1].unwrap().id);
    let used = |id, minute| UsageRow { ratelimit_id: id, minute, messages: 1, recipients: 2, bytes: i64::MAX / 3 };
    // More than are read at once; of bob one an hour.
    let usage: Vec<UsageRow> =
        (600..4600).map(|minute| used(alice, minute)).chain((610..4600).step_by(60).map(|at| used(bob, at))).collect();
    for usage in usage.chunks(500) {
        let writes = Writes { usage: usage.to_vec(), ..Writes::default() };
        store.judged_by(Clerk { writes, ..Clerk::default() }, &[look("alice")], NOW).unwrap();
    }
    for _ in 0..2 {
        let Opened { runtime, store } = &mut store;
        let mut senders = runtime.block_on(store.with_usage(0..4200)).unwrap();
        senders.sort_unstable();
        assert_eq!(senders, [alice, bob]);
        for id in senders {
            let mut next = Some(0);
            while let Some(first) = next {
                let together = |minute: i64| minute.div_euclid(60) * 60..=minute.div_euclid(60) * 60 + 59;
                next = again(|| runtime.block_on(store.coarsen(id, first..4200, together))).unwrap();
            }
        }
        let table = if place.is_mysql() { "`usage`" } else { "usage" };
        let of = |id| format!("FROM {table} WHERE ratelimit_id = {id}");
        let number = |what: &str, rest: &str| place.database.number(&format!("SELECT {what} {rest}"));
        assert_eq!(number("COUNT(*)", &of(alice)), 60 + 400, "60 hours and the minutes after them");
        let sums = place.database.select(&["SUM(messages)", "SUM(recipients)"], &of(alice));
        assert_eq!(sums, [["4000", "8000"]]);
        assert_eq!(number("COUNT(*)", &format!("{} AND minute < 4200 AND minute % 60 <> 59", of(alice))), 0);
        assert_eq!(number("MAX(bytes)", &of(alice)), i64::MAX / 2, "and no further");
        assert_eq!(number("COUNT(*)", &of(bob)), 67);
    }
    let mut read = |coarse| {
        let since = Since { rows: vec![alice, bob], time: 0, coarse, networks: None, learnt: None };
        let Opened { runtime, store } = &mut store;
        let mut usage = runtime.block_on(store.histories(since)).unwrap().usage;
        usage.sort_unstable_by_key(|row| row.minute);
        let of = |id| usage.iter().filter(move |row| row.ratelimit_id == id);
        let minutes = |id| of(id).map(|row| row.minute).collect::<Vec<_>>();
        let messages = of(alice).map(|row| row.messages).sum::<i64>();
        (minutes(alice), messages, minutes(bob))
    };
    let coarse = |most, before| Some(Coarse { most, before });
    let (all_of_alice, _, all_of_bob) = read(None);
    assert_eq!((all_of_alice.len(), all_of_bob.len()), (460, 67));
    assert_eq!(read(coarse(100, (0, 0))), ((4500..4600).collect(), 100, all_of_bob));
    // Minutes that are to be kept together are read together.
    assert_eq!(read(coarse(100, (4560, 2880))).0, (4559..4600).collect::<Vec<_>>());
    let (minutes, messages, _) = read(coarse(460, (4200, 2880)));
    assert_eq!((minutes.get(..3), minutes.len(), messages), (Some(&[1439, 2879, 2939][..]), 2 + 22 + 400, 4000));
}

fn a_sender_from_very_many_networks_hides_nobody_elses(place: &Place) {
    let mut store = place.open();
    let senders = [sum("alice", 1, 1), sum("botnet", 1, 1)];
    let ids: Vec<i64> = store.settle(&senders).iter().map(|row| row.unwrap().id).collect();
    let seen = |id: usize, network: String, last_seen| SeenRow { ratelimit_id: ids[id], network, last_seen };
    let mut all = vec![seen(0, "192.0.2.0/24".into(), NOW - 9)];
    all.extend((0..10_050).map(|number| seen(1, format!("10.{}.{}.0/24", number / 256, number % 256), NOW)));
    // As many in a transaction as a batch may bring, so that none takes as long as a lock.
    for seen in all.chunks(500) {
        let arrival = |seen: &SeenRow| Arrival {
            ratelimit_id: seen.ratelimit_id,
            network: seen.network.clone(),
            first_seen: seen.last_seen - 100,
        };
        let arrived = seen.iter().map(arrival).collect();
        let writes = Writes { seen: seen.to_vec(), arrived, ..Writes::default() };
        store.judged_by(Clerk { writes, ..Clerk::default() }, &senders, NOW).unwrap();
    }
    let networks = |rows: Vec<(i64, &String)>, id: usize| {
        Vec::from_iter(rows.into_iter().filter(|(row, _)| *row == ids[id]).map(|(_, network)| network.clone()))
    };
    let mut read = |arrivals| {
        let learnt = Some(LearntSince { days: 1..=2, arrivals });
        let clerk = Clerk { histories_since: Some(NOW - 60), learnt, ..Clerk::default() };
        let (_, read) = store.judged_by(clerk, &senders, NOW).unwrap();
        let seen = |id| networks(read.seen.iter().map(|seen| (seen.ratelimit_id, &seen.network)).collect(), id);
        let arrived = |id| networks(read.arrived.iter().map(|one| (one.ratelimit_id, &one.network)).collect(), id);
        [0, 1].map(|id| (seen(id), arrived(id)))
    };
    let [alice, botnet] = read(NOW - 100);
    assert_eq!((alice.0.len(), botnet.0.len()), (1, 10_000));
    assert_eq!((alice.1.len(), botnet.1), (0, botnet.0), "of each network that is read it is known whether it is new");
    assert_eq!(read(NOW - 99).map(|(_, arrived)| arrived.len()), [0, 0]);
}

fn several_writers_lose_nothing(place: &Place) {
    place.open();
    const ROUNDS: u32 = 25;
    let senders = ["a", "b", "c", "d", "e"];
    let all: Vec<u32> = thread::scope(|scope| {
        let writer = || {
            let mut store = place.unprepared();
            // What the database asks to try again is tried again, as the committer does.
            let mut settle = || loop {
                match store.try_settle(&senders.map(|sender| sum(sender, 1, 2)), vec![]) {
                    Err(Failure::Transient(_) | Failure::Locked(_)) => {}
                    settled => return settled.unwrap()[0].unwrap().recipients,
                }
            };
            (0..ROUNDS).map(|_| settle()).collect()
        };
        let writers: Vec<_> = (0..4).map(|_| scope.spawn(writer)).collect();
        writers.into_iter().flat_map(|writer| -> Vec<u32> { writer.join().unwrap() }).collect()
    });
    let mut seen = all;
    seen.sort_unstable();
    assert_eq!(seen, (1..=4 * ROUNDS).map(|number| 2 * number).collect::<Vec<_>>(), "each saw a sum of its own");
    for sender in senders {
        assert_eq!(place.points(sender).1, i64::from(8 * ROUNDS));
    }
}

fn a_reset_goes_in_chunks_and_leaves_locked_quotas_and_times(place: &Place) {
    let mut store = place.open();
    let senders: Vec<String> = (0..2500).map(|number| format!("s{number:04}")).collect();
    for slice in senders.chunks(500) {
        let sums: Vec<Sum> = slice.iter().map(|sender| sum(sender, 1, 2)).collect();
        store.settle(&sums);
    }
    place.database.execute(
        "UPDATE ratelimits SET quota = 50, updated_at = created_at WHERE sender = 's0007';
         UPDATE ratelimits SET quota = 70, quota_locked = 1, updated_at = created_at WHERE sender = 's0008'",
    );
    let updated =
        |sender: &str| place.database.select(&["updated_at"], &format!("FROM ratelimits WHERE sender = '{sender}'"));
    let before = updated("s0007");
    assert_eq!(store.chunks(Chunk::Reset), [1000, 1000, 500]);
    assert_eq!(updated("s0007"), before);
    assert_eq!(place.points("s0007"), (0, 0, 1, 2), "the totals stay");
    let quota = |sender| place.database.counters(sender).unwrap().quota;
    assert_eq!((quota("s0007"), quota("s0008")), (1000, 70));
    assert_eq!(store.chunks(Chunk::Reset), [0; 0], "rows that are reset already are not written again");
}

fn old_messages_and_idle_rows_are_deleted(place: &Place) {
    let mut store = place.open();
    let id =
        store.settle(&[sum("<bob@example.com>", 1, 1), sum("[192.0.2.1]", 1, 1), sum("alice", 1, 1)])[2].unwrap().id;
    store.settle(&[sum("[192.0.2.2]", 1, 1)]);
    place
        .database
        .execute("UPDATE ratelimits SET quota_locked = 1, updated_at = created_at WHERE sender = '[192.0.2.2]'");
    for _ in 0..12 {
        let old: Vec<AuditRow> = (0..100).map(|_| audit_row(id, "alice")).collect();
        store.try_settle(&[sum("alice", 1, 1)], old).unwrap();
    }
    store.judged_by(Clerk::default(), &[sum("[192.0.2.1]", 1, 1)], NOW + 100).unwrap();
    let young = Clerk {
        writes: Writes { audit: vec![AuditRow { at: NOW + 100, ..audit_row(id, "alice") }], ..Writes::default() },
        ..Clerk::default()
    };
    store.judged_by(young, &[look("alice")], NOW + 100).unwrap();
    assert_eq!(store.expired(Aged::Messages, Outdated::Before(NOW + 50)), [1000, 200]);
    assert_eq!(place.database.rows("messages"), 1);
    assert_eq!(store.chunks(Chunk::Idle { before: NOW + 50 }), [1]);
    let left = place.database.select(&["sender"], "FROM ratelimits ORDER BY sender");
    assert_eq!(left, [["[192.0.2.1]"], ["[192.0.2.2]"], ["alice"]], "used since, locked, and a login");
}

fn no_statement_of_a_purge_touches_more_than_its_share(place: &Place) {
    let mut store = place.open();
    let senders = ["<a@example.com>", "<b@example.com>", "<back@example.com>", "alice"].map(|sender| sum(sender, 1, 1));
    let ids: Vec<i64> = store.settle(&senders).iter().map(|row| row.unwrap().id).collect();
    let minute = NOW.div_euclid(60);
    // In one second, and many in a minute; a hundred at a time, which no server takes for a lock.
    for (part, (&id, sender)) in (0..11).flat_map(|part| ids.iter().zip(&senders).map(move |of| (part, of))) {
        let hundred = |most: i64| (part * 100..(part + 1) * 100).filter(move |n| *n < most);
        let used = |ago| UsageRow { ratelimit_id: id, minute: minute - ago, messages: 1, recipients: 1, bytes: 0 };
        let seen =
            |n: i64| SeenRow { ratelimit_id: id, network: format!("10.{}.{}.0/24", n / 256, n % 256), last_seen: NOW };
        let writes = Writes {
            audit: hundred(1100).map(|_| audit_row(id, "x")).collect(),
            usage: hundred(600).map(used).collect(),
            seen: hundred(500).map(seen).collect(),
            ..Writes::default()
        };
        store.judged_by(Clerk { writes, ..Clerk::default() }, &[look(&sender.sender)], NOW).unwrap();
    }
    let used = UsageRow { ratelimit_id: ids[2], minute: minute + 10, messages: 1, recipients: 1, bytes: 0 };
    let clerk = Clerk { writes: Writes { usage: vec![used], ..Writes::default() }, ..Clerk::default() };
    store.judged_by(clerk, &senders[2..3], NOW + 600).unwrap();

    // 2,200 messages, 1,200 minutes and 1,000 networks of the two that are idle.
    assert_eq!(store.chunks(Chunk::Idle { before: NOW + 300 }), [0, 0, 0, 0, 2]);
    let left = place.database.select(&["sender"], "FROM ratelimits ORDER BY sender");
    assert_eq!(left, [["<back@example.com>"], ["alice"]]);
    assert_eq!(place.database.rows("messages"), 4400, "they stay in the audit log");
    assert_eq!(place.database.number("SELECT COUNT(*) FROM messages WHERE ratelimit_id IS NULL"), 2200);
    assert_eq!(store.expired(Aged::Usage, Outdated::Before(NOW + 300)), [1000, 200]);
    assert_eq!(store.expired(Aged::Networks, Outdated::Before(NOW + 300)), [1000]);
    let mut deleted = Vec::new();
    while deleted.last() != Some(&0) {
        deleted.push(store.runtime.block_on(store.store.delete_history(ids[2])).unwrap());
    }
    assert_eq!(deleted, [1, 0], "of one who is deleted while sending");
}

fn what_a_wrong_clock_wrote_is_deleted(place: &Place) {
    let mut store = place.open();
    let id = store.settle(&[sum("alice", 1, 1)])[0].unwrap().id;
    let year = NOW + 31_536_000;
    let (hour, minute) = (NOW + 3600, |time: i64| time.div_euclid(60));
    let used = |time| UsageRow { ratelimit_id: id, minute: minute(time), messages: 1, recipients: 1, bytes: 0 };
    let seen = |network: &str, last_seen| SeenRow { ratelimit_id: id, network: network.into(), last_seen };
    let networks = ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"];
    let writes = Writes {
        usage: vec![used(NOW), used(hour), used(year)],
        seen: vec![seen(networks[0], NOW), seen(networks[1], hour), seen(networks[2], year)],
        ..Writes::default()
    };
    store.judged_by(Clerk { writes, ..Clerk::default() }, &[look("alice")], NOW).unwrap();
    for period in [NOW, hour, year] {
        let claim = Claim { sender: "alice".into(), notice: "quota".into(), period, at: period };
        store.runtime.block_on(store.store.claim_notices(&[claim])).unwrap();
    }
    // The network that the wrong clock saw is seen again: now is when it was last seen.
    let writes = Writes { seen: networks.map(|network| seen(network, NOW + 9)).to_vec(), ..Writes::default() };
    store.judged_by(Clerk { writes, ..Clerk::default() }, &[look("alice")], NOW).unwrap();
    let last_seen = place.database.select(&["last_seen"], "FROM networks ORDER BY network");
    assert_eq!(last_seen, [NOW + 9, hour, NOW + 9].map(|time| [time.to_string()]));

    let far = seen("10.0.3.0/24", year);
    let writes = Writes { seen: vec![far], ..Writes::default() };
    store.judged_by(Clerk { writes, ..Clerk::default() }, &[look("alice")], NOW).unwrap();
    for (aged, table) in [(Aged::Usage, "`usage`"), (Aged::Networks, "networks"), (Aged::Notices, "notices")] {
        let rows = || place.database.rows(if place.is_mysql() { table } else { table.trim_matches('`') });
        let before = rows();
        assert_eq!(store.expired(aged, Outdated::After(hour)), [1], "{table}");
        assert_eq!(rows(), before - 1);
    }
}

fn blocks_that_are_over_and_strikes_are_deleted_by_their_age(place: &Place) {
    let mut store = place.open();
    let new = |account: &str, until| NewBlock {
        account: account.into(),
        until,
        action: "HOLD".into(),
        text: String::new(),
        reason: "manual".into(),
        set_by: "root".into(),
        note: r#"it's "5" \ ünknown, [1]"#.into(),
    };
    let Opened { runtime, store: one } = &mut store;
    // Ended by hand, over by itself, over later, for ever; and the one that the second of dan's takes the place of.
    for (account, until) in
        [("alice", None), ("bob", Some(NOW + 10)), ("carol", Some(NOW + 90)), ("dan", None), ("dan", None)]
    {
        runtime.block_on(one.block(&new(account, until), NOW)).unwrap();
    }
    runtime.block_on(one.unblock("alice", "eve", NOW + 20)).unwrap();
    let counting = |store: &mut Opened, now| {
        let blocks = store.runtime.block_on(store.store.blocks(now)).unwrap();
        blocks.into_iter().map(|block| (block.account, block.until, block.note)).collect::<Vec<_>>()
    };
    let [carol, dan] = [("carol", Some(NOW + 90)), ("dan", None)].map(|(account, until)| {
        let NewBlock { account, until, note, .. } = new(account, until);
        (account, until, note)
    });
    assert_eq!(counting(&mut store, NOW + 30), [dan.clone(), carol.clone()]);
    assert_eq!(store.expired(Aged::Blocks, Outdated::Before(NOW + 20)), [2], "bob's, and dan's first");
    assert_eq!(store.expired(Aged::Blocks, Outdated::Before(NOW + 21)), [1], "alice's");
    assert_eq!(counting(&mut store, NOW + 30), [dan, carol]);
    assert_eq!(place.database.rows("blocks"), 2);

    let session = place.database.session();
    for number in 0..1100 {
        session.execute(&format!(
            "INSERT INTO strikes (account, limit_name, struck_at) VALUES ('a{number}', 'quota', {})",
            NOW + number
        ));
    }
    assert_eq!(store.expired(Aged::Strikes, Outdated::Before(NOW + 1050)), [1000, 50]);
    assert_eq!(place.database.rows("strikes"), 50);
}

fn a_second_reset_in_one_second_has_to_wait(place: &Place) {
    let mut store = place.open();
    store.settle(&[sum("alice", 1, 1)]);
    let mut free = |now| store.runtime.block_on(store.store.free("alice", now));
    assert_eq!(free(NOW).unwrap().unwrap().window_from, NOW);
    for _ in 0..3 {
        let refused = free(NOW);
        assert!(matches!(refused, Err(Failure::Transient(_))), "{refused:?}");
    }
    // By a host whose clock is behind, too: daemons notice since it changes, not since it grows.
    for now in [NOW + 1, NOW - 100] {
        assert_eq!(free(now).unwrap().unwrap().window_from, now);
    }
    assert_eq!(store.runtime.block_on(store.store.free("nobody", NOW)).unwrap(), None);
}

fn a_row_typed_with_capitals_is_the_senders(place: &Place) {
    let mut store = place.open();
    let insert = |sender: &str, quota: u32| {
        place.database.execute(&format!(
            "INSERT INTO ratelimits (sender, quota, quota_reset) VALUES ('{sender}', {quota}, {quota})"
        ));
    };
    for (sender, quota) in
        [("Alice@Example.com", 3), ("bob@EXAMPLE.com", 4), ("@Example.Org", 5), ("Carol", 6), ("Dan", 7)]
    {
        insert(sender, quota);
    }
    let of = |sender: &str| Sum { domain: sender.find('@').map(|at| sender[at..].to_owned()), ..sum(sender, 1, 2) };
    let senders = ["alice@example.com", "bob@example.com", "dora@example.org", "new@example.net"].map(of);
    for round in 1..=2 {
        let rows: Vec<Row> = store.settle(&senders).into_iter().flatten().collect();
        let seen: Vec<_> = rows.iter().map(|row| (row.quota, row.messages, row.recipients)).collect();
        assert_eq!(seen, [3, 4, 5, 1000].map(|quota| (quota, round, 2 * round)));
    }
    let Opened { runtime, store } = &mut store;
    let shown = |row: Option<SenderRow>| row.map(|row| (row.sender.to_lowercase(), row.quota));
    assert_eq!(shown(runtime.block_on(store.sender("carol")).unwrap()), Some(("carol".into(), 6)));
    assert_eq!(shown(runtime.block_on(store.free("carol", NOW)).unwrap()), Some(("carol".into(), 6)));
    let change = Change { quota: Some(9), ..Change::default() };
    let (before, after) = runtime.block_on(store.set("carol", change, 1000, NOW)).unwrap();
    assert_eq!((shown(before), shown(after)), (Some(("carol".into(), 6)), Some(("carol".into(), 9))));
    // Both spellings, which only a database to which they are two can hold.
    let both =
        place.database.session().try_execute("INSERT INTO ratelimits (sender, quota) VALUES ('ALICE@example.com', 8)");
    assert_eq!(both.is_ok(), place.is_mysql());
    assert_eq!(place.database.number("SELECT COUNT(*) FROM ratelimits"), 7 + i64::from(place.is_mysql()));
}

fn one_of_many_claims_the_reset(place: &Place) {
    let mut opened = place.open();
    let Opened { runtime, store } = &mut opened;
    assert_eq!(runtime.block_on(store.last_reset(NOW)).unwrap(), None);
    for round in 1..=3i64 {
        let (now, start) = (NOW + 100_000 * round, Barrier::new(6));
        let claims: Vec<bool> = thread::scope(|scope| {
            let claim = || {
                let mut store = place.unprepared();
                start.wait();
                store.runtime.block_on(store.store.claim_reset(now, Some(now - 72_000))).unwrap()
            };
            let claims: Vec<_> = (0..6).map(|_| scope.spawn(claim)).collect();
            claims.into_iter().map(|claim| claim.join().unwrap()).collect()
        });
        assert_eq!(claims.iter().filter(|claim| **claim).count(), 1, "{claims:?}");
        runtime.block_on(store.end_reset(Some(now))).unwrap();
        assert_eq!(runtime.block_on(store.last_reset(now)).unwrap(), Some(now));
    }
    assert!(runtime.block_on(store.claim_reset(NOW, None)).unwrap(), "always");
}

fn a_reset_that_did_not_come_to_its_end_is_done_again(place: &Place) {
    let mut opened = place.open();
    let Opened { runtime, store } = &mut opened;
    let unless = Some(NOW - 3600);
    assert!(runtime.block_on(store.claim_reset(NOW, unless)).unwrap());
    runtime.block_on(store.keep_reset(NOW + 100)).unwrap();
    assert!(!runtime.block_on(store.claim_reset(NOW + 200, unless)).unwrap(), "somebody is at it");
    // Killed there.
    assert!(runtime.block_on(store.claim_reset(NOW + 300, unless)).unwrap());
    assert_eq!(runtime.block_on(store.last_reset(NOW)).unwrap(), None, "not reset yet");
    runtime.block_on(store.end_reset(None)).unwrap();
    assert!(runtime.block_on(store.claim_reset(NOW + 301, unless)).unwrap(), "the last one gave up");
    runtime.block_on(store.end_reset(Some(NOW + 301))).unwrap();
    assert!(!runtime.block_on(store.claim_reset(NOW + 900, unless)).unwrap(), "done");
    // By a host whose clock is a little ahead, and by one whose clock was a year ahead.
    runtime.block_on(store.end_reset(Some(NOW + 1800))).unwrap();
    assert!(!runtime.block_on(store.claim_reset(NOW + 900, unless)).unwrap());
    runtime.block_on(store.end_reset(Some(NOW + 31_536_000))).unwrap();
    assert_eq!(runtime.block_on(store.last_reset(NOW)).unwrap(), None);
    assert!(runtime.block_on(store.claim_reset(NOW + 900, unless)).unwrap());
}

fn migrations_run_once_also_when_several_start_together(place: &Place) {
    let start = Barrier::new(4);
    let ran: Vec<Vec<Step>> = thread::scope(|scope| {
        let migrate = || {
            let mut store = place.unprepared();
            start.wait();
            store.migrate().unwrap()
        };
        let all: Vec<_> = (0..4).map(|_| scope.spawn(migrate)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    // Only migrations have numbers: what a table lacks for a moment, while another process makes it, may be done by any.
    let mut versions: Vec<_> = ran.concat().iter().filter_map(|step| step.version).collect();
    versions.sort_unstable();
    let mut store = place.unprepared();
    let known = store.runtime.block_on(store.store.migrations()).unwrap();
    assert_eq!(versions, known.iter().filter_map(|step| step.version).collect::<Vec<_>>());
    assert!(known.iter().all(|step| step.applied));
    assert_eq!(store.migrate().unwrap(), [], "nothing is left to do");
}

#[test]
fn sqlite_a_migration_is_done_once_it_is_committed() {
    let place = Place::sqlite();
    fs::write(place.scratch.as_ref().unwrap().join("test.db"), "").unwrap();
    place.database.execute(
        "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
         installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, checksum BLOB NOT NULL, \
         execution_time BIGINT NOT NULL)",
    );
    // As another process that is writing: how long it took is noted apart.
    place.database.execute(
        "CREATE TRIGGER busy BEFORE UPDATE ON _sqlx_migrations BEGIN SELECT RAISE(ABORT, 'somebody is writing'); END",
    );
    let mut store = place.unprepared();
    let ran = store.migrate().unwrap();
    let known = store.runtime.block_on(store.store.migrations()).unwrap();
    let versions = |steps: &[Step]| steps.iter().filter_map(|step| step.version).collect::<Vec<_>>();
    assert_eq!(versions(&ran), versions(&known), "each step that was done is said");
}

fn a_migration_that_was_cut_short_is_done_again(place: &Place) {
    let mut store = place.open();
    for step in store.runtime.block_on(store.store.migrations()).unwrap() {
        let version = step.version.unwrap();
        place.database.execute(&format!("UPDATE _sqlx_migrations SET success = FALSE WHERE version = {version}"));
        let listed = store.runtime.block_on(store.store.migrations()).unwrap();
        assert!(listed.iter().all(|step| step.applied == (step.version != Some(version))), "{listed:?}");
        assert_eq!(store.migrate().unwrap(), std::slice::from_ref(&step));
    }
}

fn migrate_lists_does_and_has_nothing_left_to_do(place: &Place) {
    let setup = place.setup();
    let run = |arguments: &[&str]| {
        let output = setup.run("migrate", arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let status = run(&["--status"]);
    assert!(status.lines().count() >= 6 && status.lines().all(|line| line.starts_with("pending  00")), "{status}");
    assert_eq!(run(&[]), status.replace("pending", "done   "));
    assert_eq!(run(&["--status"]), status.replace("pending", "done   "));
    assert_eq!(run(&[]), "Nothing to do: the database is up to date.\n");
}

fn a_reader_writes_nothing(place: &Place) {
    let reading = || {
        let opened = place.unprepared();
        Opened { store: Store::reading(&place.config()), ..opened }
    };
    let mut reader = reading();
    let listed = reader.runtime.block_on(reader.store.migrations()).unwrap();
    assert!(listed.iter().all(|step| !step.applied));
    if let Some(scratch) = &place.scratch {
        assert!(!scratch.join("test.db").exists(), "no file is made");
    } else {
        // Nor a table, or this would fail.
        place.database.execute("CREATE TABLE _sqlx_migrations (id INT)");
        place.database.execute("DROP TABLE _sqlx_migrations");
    }
    drop(place.open());
    let mut reader = reading();
    let refused = reader.runtime.block_on(reader.store.heartbeat(NOW));
    assert!(refused.is_err(), "{refused:?}");
    let listed = reader.runtime.block_on(reader.store.migrations()).unwrap();
    assert!(listed.iter().all(|step| step.applied));
}

#[test]
fn sqlite_a_reader_leaves_the_journal_as_it_is() {
    let place = Place::sqlite();
    let mut made = place.open();
    made.runtime.block_on(made.store.close());
    place.database.execute("PRAGMA journal_mode = DELETE");
    let mut reader = place.unprepared();
    reader.store = Store::reading(&place.config());
    assert!(reader.runtime.block_on(reader.store.last_reset(NOW)).is_ok());
    drop(reader);
    assert_eq!(place.database.select(&["journal_mode"], "FROM pragma_journal_mode"), [["delete"]]);
}

fn a_newer_database_is_refused_with_a_clear_word(place: &Place) {
    let mut store = place.open();
    let columns = "description, success, checksum, execution_time";
    place.database.execute(&format!(
        "INSERT INTO _sqlx_migrations (version, {columns}) SELECT 9001, {columns} FROM _sqlx_migrations WHERE version = 1"
    ));
    assert!(matches!(store.migrate(), Err(MigrateError::Newer(9001, _))));
    let setup = place.setup();
    for command in ["serve", "migrate", "cleanup"] {
        let output = setup.run(command, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("made by a newer policyd-rate-guard"), "{command}: {said}");
    }
}

/// A judge that writes what no database takes: usage of a row that there is not.
fn of_no_row() -> Clerk {
    let used = UsageRow { ratelimit_id: 4711, minute: NOW / 60, messages: 1, recipients: 1, bytes: 0 };
    Clerk { writes: Writes { usage: vec![used], ..Writes::default() }, ..Clerk::default() }
}

fn a_refused_value_writes_nothing_of_its_batch(place: &Place) {
    let mut store = place.open();
    let refused = store.judged_by(of_no_row(), &[sum("alice", 1, 1), sum("bob", 1, 1)], NOW).map(drop);
    assert!(matches!(refused, Err(Failure::Refused(_))), "{refused:?}");
    assert_eq!(place.database.rows("ratelimits"), 0);
    assert!(store.settle(&[sum("alice", 1, 1)])[0].is_some(), "the connection is still good");
    if !place.is_sqlite() {
        let long = "x".repeat(256);
        let refused = store.try_settle(&[sum(&long, 1, 1)], vec![]);
        assert!(matches!(refused, Err(Failure::Refused(_))), "{refused:?}");
    }
}

/// SQLite loses no connection within a COMMIT: its batches are not noted.
fn another_store_knows_which_batch_was_committed<S: Server>() {
    let place = Place::on::<S>();
    let (mut store, mut other) = (place.open(), place.open());
    let mut is_committed = |batch| other.runtime.block_on(other.store.committed(batch)).unwrap();
    assert!(!is_committed(store.store.batch()), "nothing was begun");
    for _ in 0..2 {
        store.settle(&[sum("alice", 1, 1)]);
        let batch = store.store.batch();
        assert!(is_committed(batch) && is_committed(batch), "asking changes nothing");
        assert!(store.judged_by(of_no_row(), &[sum("alice", 1, 1)], NOW).is_err());
        assert!(!is_committed(store.store.batch()));
    }
    assert_eq!(place.points("alice").0, 2);
}

fn a_long_history_is_read_where_other_tasks_go_on(place: &Place) {
    const MINUTES: i64 = 3000;
    let mut store = place.open();
    let id = store.settle(&[sum("alice", 1, 1)])[0].unwrap().id;
    let minute = |back| UsageRow { ratelimit_id: id, minute: NOW / 60 - back, messages: 1, recipients: back, bytes: 2 };
    let usage: Vec<UsageRow> = (0..MINUTES).map(minute).collect();
    let writes = Writes { usage: usage.clone(), ..Writes::default() };
    store.judged_by(Clerk { writes, ..Clerk::default() }, &[look("alice")], NOW).unwrap();
    // As the daemon's.
    store.runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    store.store = Store::new(&place.config());
    let clerk = Clerk { histories_since: Some(0), ..Clerk::default() };
    let (_, mut history) = store.judged_by(clerk, &[look("alice")], NOW).unwrap();
    history.usage.sort_by_key(|row| -row.minute);
    assert_eq!(history.usage, usage);
}

/// Whatever a login holds is a key and no SQL.
fn awkward_keys_are_kept_as_they_are(place: &Place) {
    let mut store = place.open();
    let keys =
        [r"o'neil", r"a\", r"a\'b", r#"say "hi""#, "%_!", "$1 ? :a", "a;b--c", "/*!x*/", "müller", "😀", "a b", "''"];
    let mut sums: Vec<Sum> = keys.iter().map(|key| sum(key, 1, 2)).collect();
    sums.sort_by(|a, b| a.sender.cmp(&b.sender));
    for _ in 0..2 {
        store.settle(&sums);
    }
    for key in keys {
        let row = store.runtime.block_on(store.store.sender(key)).unwrap().unwrap();
        assert_eq!((row.sender.as_str(), row.messages, row.recipients), (key, 2, 4));
    }
    assert_eq!(place.database.rows("ratelimits"), i64::try_from(keys.len()).unwrap());
}

/// What becomes of a transaction is the database's word, also when a lock goes just when the patience with it ends. When that is
/// shows itself: each time the lock goes a little sooner or later, by how the last time ended.
fn a_lock_that_goes_when_patience_ends_loses_and_doubles_nothing<S: Server>() {
    const ENOUGH: i64 = 10;
    let place = Place::on::<S>();
    let mut store = place.open();
    store.settle(&[sum("alice", 1, 1)]);
    let (mut settled, mut given_up) = (1, 0);
    let mut held = LOCK_TIMEOUT;
    for round in 0.. {
        if settled > ENOUGH && given_up > ENOUGH {
            break;
        }
        assert!(round < 200, "{settled} settled and {given_up} given up: the edge is not met");
        let locker = place.database.session();
        locker.execute("BEGIN");
        locker.execute("UPDATE ratelimits SET quota_reset = 7 WHERE sender = 'alice'");
        let id = store.settle(&[look("alice")])[0].unwrap().id;
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(held);
                locker.execute("COMMIT");
            });
            match store.settle_once(&[sum("alice", 1, 1)], &[audit_row(id, "alice")]) {
                Ok(_) => {
                    settled += 1;
                    held += Duration::from_millis(1);
                }
                // MySQL ends a session that it interrupts just when it waits for the next statement (4031).
                Err(Failure::Locked(_) | Failure::Away(_)) => {
                    given_up += 1;
                    held = held.saturating_sub(Duration::from_millis(1));
                }
                failed => panic!("{failed:?}"),
            }
        });
        assert_eq!(place.points("alice").0, settled);
        assert_eq!(place.database.rows("messages"), settled - 1);
    }
}

fn a_table_that_a_backup_lacks_is_made_anew(place: &Place) {
    let mut store = place.open();
    let known = store.runtime.block_on(store.store.migrations()).unwrap();
    for step in known.into_iter().filter(|step| step.name != "ratelimits") {
        let name = step.name.replace(' ', "_");
        let table = if name == "usage" && place.is_mysql() { "`usage`" } else { &*name };
        place.database.execute(&format!("DROP TABLE {table}"));
        let listed = store.runtime.block_on(store.store.migrations()).unwrap();
        let pending: Vec<&Step> = listed.iter().filter(|step| !step.applied).collect();
        assert_eq!(pending, [&Step { applied: false, ..step.clone() }]);
        assert_eq!(store.migrate().unwrap(), std::slice::from_ref(&step));
        assert_eq!(place.database.rows(table), 0);
    }
    assert_eq!(store.migrate().unwrap(), []);
    assert!(store.settle(&[sum("alice", 1, 1)])[0].is_some());
}

#[test]
fn sqlite_an_older_versions_index_by_sender_is_exchanged_at_the_start_unless_that_takes_long() {
    for (last, at_start) in [(2, true), (300_000, false)] {
        let place = Place::sqlite();
        fs::File::create(place.scratch.as_ref().unwrap().join("test.db")).unwrap();
        place.database.execute(include_str!("../../migrations/sqlite/0001_ratelimits.sql"));
        place.database.execute(include_str!("../../migrations/sqlite/0002_messages.sql"));
        place.database.execute("INSERT INTO ratelimits (id, sender) VALUES (7, 'alice'), (8, 'bob')");
        place.database.execute(&format!(
            "INSERT INTO messages (id, ratelimit_id, sender, rcpt_count, blocked) \
             VALUES (1, 7, 'alice', 1, 0), ({last}, 7, 'alice', 1, 1)"
        ));
        let indexes = || {
            let rows = "FROM pragma_index_list('messages') ORDER BY name";
            let indexes = place.database.select(&["name"], rows).concat();
            (indexes, place.database.number("SELECT COUNT(*) FROM pragma_foreign_key_list('messages')"))
        };
        let old = (vec!["messages_created_at_index".to_owned(), "messages_ratelimit_id_index".to_owned()], 1);
        let new = (vec!["messages_blocked_index".to_owned(), "messages_created_at_index".to_owned()], 0);
        assert_eq!(indexes(), old);
        let mut store = place.unprepared();
        store.runtime.block_on(store.store.migrate(false, NOW)).unwrap();
        assert_eq!(indexes(), if at_start { new.clone() } else { old });
        store.settle(&[sum("alice", 1, 1)]);
        store.runtime.block_on(store.store.migrate(true, NOW)).unwrap();
        assert_eq!(indexes(), new);
        assert!(store.runtime.block_on(store.store.migrate(true, NOW)).unwrap().is_empty());

        store.settle(&[sum("alice", 1, 1)]);
        let parted = store.runtime.block_on(store.store.part_messages(7, false, 0)).unwrap().unwrap();
        assert_eq!((parted.rows, parted.last), (1, last), "the refused one");
        assert_eq!(store.runtime.block_on(store.store.part_messages(7, false, parted.last)).unwrap(), None);
        store.runtime.block_on(store.store.delete_sender(7)).unwrap();
        assert_eq!(place.database.rows("messages"), 2);
        assert!(store.settle(&[sum("carol", 1, 1)])[0].unwrap().id > 8, "nobody else gets the number");
        assert_eq!(place.database.select(&["integrity_check"], "FROM pragma_integrity_check"), [["ok"]]);
    }
}

#[test]
fn sqlite_a_step_that_fails_within_its_transaction_leaves_neither_that_nor_the_lock_behind() {
    const REFERENCE: &str = "REFERENCES ratelimits (id) ON DELETE SET NULL ON UPDATE CASCADE";
    let place = Place::sqlite();
    fs::File::create(place.scratch.as_ref().unwrap().join("test.db")).unwrap();
    place.database.execute(include_str!("../../migrations/sqlite/0001_ratelimits.sql"));
    // As a hand may have written it: without the reference, the rest of the constraint is none.
    let messages = include_str!("../../migrations/sqlite/0002_messages.sql").replace(REFERENCE, "");
    let by_hand = messages.replace("\n);", &format!(",\n    FOREIGN KEY (ratelimit_id) {REFERENCE}\n);"));
    place.database.execute(&by_hand);
    let mut store = place.unprepared();
    let error = store.runtime.block_on(store.store.migrate(false, NOW)).unwrap_err();
    assert!(error.to_string().contains("messages_ratelimit_id_index failed"), "{error}");
    assert_eq!(place.database.number("SELECT COUNT(*) FROM meta WHERE name = 'migrating'"), 0, "others need not wait");
    place.database.execute("INSERT INTO ratelimits (sender) VALUES ('alice')");
    assert_eq!(place.database.number("SELECT COUNT(*) FROM pragma_foreign_key_list('messages')"), 1);
}

#[test]
fn sqlite_any_number_of_rows_goes_with_few_statements() {
    let place = Place::sqlite();
    let mut store = place.open();
    for number in [1, 2, 3, 5, 8, 63, 64, 65, 127, 200] {
        let sums: Vec<Sum> = (0..number).map(|place| sum(&format!("s{place:03}"), 1, 2)).collect();
        let rows = store.settle(&sums);
        let ids: HashSet<i64> = rows.iter().map(|row| row.unwrap().id).collect();
        assert_eq!(ids.len(), number);
        let audit: Vec<AuditRow> = ids.iter().map(|id| audit_row(*id, "x")).collect();
        let before = place.database.rows("messages");
        store.try_settle(&sums, audit).unwrap();
        assert_eq!(place.database.rows("messages") - before, number as i64);
    }
    assert_eq!(place.points("s000"), (20, 40, 20, 40));
    assert_eq!(place.points("s199"), (2, 4, 2, 4));
    let times = place.database.select(&["created_at", "updated_at"], "FROM ratelimits WHERE sender = 's000'");
    let expected = place.database.select(&[&format!("datetime({NOW}, 'unixepoch')")], "").concat();
    assert_eq!(times, [[expected[0].clone(), expected[0].clone()]]);
}

#[test]
fn sqlite_strikes_of_many_at_once_make_no_long_transaction() {
    let place = Place::sqlite();
    let mut store = place.open();
    let struck = |number| {
        let account = format!("s{number:02}");
        Struck { account, limit: "quota".to_owned(), at: NOW, window_from: NOW - 60, forgotten: NOW - 60 }
    };
    for (from, noted) in [(0, 8), (8, 16), (16, 20)] {
        let strikes = Strikes::parse("2 in 1h BLOCK").unwrap();
        let writes = Writes { struck: (from..20).map(struck).collect(), strikes, ..Writes::default() };
        let clerk = Clerk { writes, ..Clerk::default() };
        store.judged_by(clerk, &[sum("s00", 1, 1)], NOW).unwrap();
        assert_eq!(place.database.rows("strikes"), noted);
    }
    assert_eq!(place.database.rows("blocks"), 0);
}

#[test]
fn sqlite_a_file_that_was_removed_or_replaced_is_left() {
    let place = Place::sqlite();
    let file = |end: &str| place.scratch.as_ref().unwrap().join(&format!("test.db{end}"));
    let mut daemon = place.open();
    daemon.settle(&[sum("alice", 1, 1)]);
    place.database.execute("PRAGMA wal_checkpoint(TRUNCATE)");
    fs::copy(file(""), file(".backup")).unwrap();
    daemon.settle(&[sum("alice", 1, 1)]);
    assert!(file("-wal").metadata().unwrap().len() > 0);

    // A backup is put in its place, while the log of what was there is not in any database yet.
    fs::rename(file(".backup"), file("")).unwrap();
    assert_eq!(daemon.settle(&[sum("alice", 1, 1)])[0].unwrap().messages, 2);
    assert_eq!(place.points("alice").0, 2, "what others see");

    for end in ["", "-wal", "-shm"] {
        fs::remove_file(file(end)).unwrap();
    }
    assert!(daemon.try_settle(&[sum("alice", 1, 1)], vec![]).is_err(), "there are no tables");
    daemon.migrate().unwrap();
    assert_eq!(daemon.settle(&[sum("alice", 1, 1)])[0].unwrap().messages, 1);
    assert_eq!(place.points("alice").0, 1);
    drop(daemon);
    assert_eq!(place.points("alice").0, 1, "the end of the connection takes nothing away");
}

#[test]
fn sqlite_the_log_is_written_back_and_cut_once_nobody_reads_what_was_there_before() {
    const LONG: u64 = 70 << 20;
    let place = Place::sqlite();
    let length = |end: &str| place.scratch.as_ref().unwrap().join(&format!("test.db{end}")).metadata().unwrap().len();
    let mut daemon = place.open();
    let reader = place.database.session();
    reader.execute("BEGIN");
    reader.number("SELECT COUNT(*) FROM ratelimits");
    let writer = place.database.session();
    writer.execute("PRAGMA wal_autocheckpoint = 0");
    writer.execute("CREATE TABLE large (bytes BLOB)");
    writer.execute(&format!("INSERT INTO large VALUES (zeroblob({LONG}))"));
    for number in 1..=5 {
        assert_eq!(daemon.settle(&[sum("alice", 1, 1)])[0].unwrap().messages, number);
    }
    assert!(length("") < LONG && length("-wal") > LONG, "what is read is not written over");

    reader.execute("COMMIT");
    wait::until(Duration::from_secs(60), "the log is cut", || {
        daemon.settle(&[sum("alice", 1, 1)]);
        // Which gives the connection that writes it back its turn.
        daemon.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(10)).await });
        (length("-wal") < LONG).then_some(())
    });
    assert!(length("") > LONG, "it was not lost");
    assert_eq!(place.database.number("SELECT length(bytes) FROM large"), LONG as i64);
}

fn a_new_sender_inherits_nothing_from_a_truncated_table<S: Server>() {
    let place = Place::on::<S>();
    let mut store = place.open();
    let id = store.settle(&[sum("alice", 1, 1)])[0].unwrap().id;
    let used = UsageRow { ratelimit_id: id, minute: NOW / 60, messages: 1, recipients: 9, bytes: 0 };
    let seen = SeenRow { ratelimit_id: id, network: "192.0.2.0/24".into(), last_seen: NOW };
    let writes = Writes { usage: vec![used], seen: vec![seen], ..Writes::default() };
    store.judged_by(Clerk { writes, ..Clerk::default() }, &[look("alice")], NOW).unwrap();
    place.database.execute("SET foreign_key_checks = 0; TRUNCATE ratelimits; SET foreign_key_checks = 1");
    let clerk = Clerk { histories_since: Some(NOW - 3600), ..Clerk::default() };
    let (rows, history) = store.judged_by(clerk, &[sum("bob", 1, 1)], NOW).unwrap();
    assert_eq!((rows[0].unwrap().id, history.usage.len(), history.seen.len()), (id, 0, 0));
}

fn tables_of_bytes_are_read<S: Server>() {
    let place = Place::on::<S>();
    place.open();
    place.database.execute(
        "ALTER TABLE ratelimits MODIFY sender VARBINARY(255) NOT NULL; ALTER TABLE messages CONVERT TO CHARACTER SET binary",
    );
    let mut store = place.unprepared();
    let id = store.settle(&[sum("alice", 1, 1)])[0].unwrap().id;
    store.try_settle(&[sum("alice", 1, 1), sum("jürgen", 1, 1)], vec![audit_row(id, "пётр")]).unwrap();
    let Opened { runtime, store } = &mut store;
    assert_eq!(runtime.block_on(store.sender("alice")).unwrap().unwrap().sender, "alice");
    assert_eq!(runtime.block_on(store.blocked(id, 9)).unwrap()[0].reason, "quota 1 reached: 3");
    assert_eq!(runtime.block_on(store.refusals(0, 9)).unwrap().last[0].sender, "????");
}

#[test]
fn postgres_a_character_that_a_database_cannot_hold_spoils_nothing() {
    for encoding in ["LATIN1", "WIN1252", "SQL_ASCII"] {
        let words = format!("ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        let place = Place { database: Postgres::shared().database_with(&words), scratch: None };
        let mut store = place.open();
        let logins = ["plain", "jürgen", "пётр", "иван", "🦀"];
        let id = store.settle(&[sum("plain", 1, 1)])[0].unwrap().id;
        let rows = store.try_settle(&logins.map(|login| sum(login, 1, 1)), vec![audit_row(id, "пётр🦀")]).unwrap();
        let ids: HashSet<i64> = rows.iter().map(|row| row.unwrap().id).collect();
        assert_eq!(ids.len(), logins.len(), "{encoding}: each has a row of its own");
        assert_eq!(place.database.rows("messages"), 1);
    }
}

#[test]
fn postgres_compiles_no_statement() {
    let place = Place { database: Postgres::shared().database(), scratch: None };
    let mut store = place.open();
    place.database.execute(
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN NEW.client_name = current_setting('jit'); RETURN NEW; END $$; \
         CREATE TRIGGER noted BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION noted()",
    );
    let id = store.settle(&[sum("alice", 1, 1)])[0].unwrap().id;
    store.try_settle(&[sum("alice", 1, 1)], vec![audit_row(id, "alice")]).unwrap();
    assert_eq!(place.database.select(&["client_name"], "FROM messages"), [["off"]]);
}

/// Gives the suite to each database; the Makefile tells the tests that need a server by the modules' names.
macro_rules! on_every_database {
    ($($test:ident)*) => {
        mod sqlite {
            $(#[test] fn $test() { super::$test(&super::Place::sqlite()); })*
        }
        mod on_a_server {
            use super::{Place, Server};

            $(fn $test<S: Server>() { super::$test(&Place::on::<S>()); })*
            crate::on_each_server! { $($test)* }
        }
    };
}

on_every_database! {
    a_first_mail_makes_a_row_with_the_default_quota
    a_part_of_a_journal_is_charged_once_and_at_its_time
    sums_are_added_and_rows_read_in_the_order_of_the_sums
    counters_stay_at_their_end
    sums_of_bytes_stay_at_their_end
    a_trigger_of_somebody_elses_refuses_its_statement_alone
    a_check_of_somebody_elses_refuses_its_statement_alone
    looking_changes_nothing
    a_quota_changed_by_sql_is_read_with_the_next_sum
    audit_rows_are_written_with_their_sums_and_cut_to_their_columns
    times_are_the_ones_given
    usage_and_networks_add_up_and_are_read_back_from_a_time_on
    minutes_that_are_kept_together_become_the_last_of_them
    a_sender_from_very_many_networks_hides_nobody_elses
    several_writers_lose_nothing
    a_reset_goes_in_chunks_and_leaves_locked_quotas_and_times
    old_messages_and_idle_rows_are_deleted
    no_statement_of_a_purge_touches_more_than_its_share
    what_a_wrong_clock_wrote_is_deleted
    blocks_that_are_over_and_strikes_are_deleted_by_their_age
    a_second_reset_in_one_second_has_to_wait
    a_row_typed_with_capitals_is_the_senders
    one_of_many_claims_the_reset
    a_reset_that_did_not_come_to_its_end_is_done_again
    migrations_run_once_also_when_several_start_together
    a_migration_that_was_cut_short_is_done_again
    migrate_lists_does_and_has_nothing_left_to_do
    a_reader_writes_nothing
    a_newer_database_is_refused_with_a_clear_word
    a_table_that_a_backup_lacks_is_made_anew
    a_refused_value_writes_nothing_of_its_batch
    a_long_history_is_read_where_other_tasks_go_on
    awkward_keys_are_kept_as_they_are
}

/// `migrate` builds an index under it, for minutes on a large table.
fn tables_that_are_complete_wait_for_nobodys_migration<S: Server>() {
    let place = Place::on::<S>();
    let mut store = place.open();
    let session = place.database.session();
    assert_eq!(session.number("SELECT GET_LOCK(CONCAT('policyd-rate-guard ', CRC32(DATABASE())), 1)"), 1);
    let Opened { runtime, store } = &mut store;
    let migrated = async { tokio::time::timeout(Duration::from_secs(30), store.migrate(false, NOW)).await };
    assert!(runtime.block_on(migrated).expect("no wait for the lock").unwrap().is_empty());
}

mod on_mariadb_and_mysql {
    use super::{
        a_new_sender_inherits_nothing_from_a_truncated_table, tables_of_bytes_are_read,
        tables_that_are_complete_wait_for_nobodys_migration,
    };

    crate::on_mariadb_and_mysql! {
        a_new_sender_inherits_nothing_from_a_truncated_table
        tables_of_bytes_are_read
        tables_that_are_complete_wait_for_nobodys_migration
    }
}

// SQLite has no locks of rows.
crate::on_each_server! {
    a_lock_that_goes_when_patience_ends_loses_and_doubles_nothing
    another_store_knows_which_batch_was_committed
}
