//! What the daemon does when something it needs is not there: mail goes on, in time, and only for whom it must.
//!
//! Each reason for an answer in doubt is provoked here or, where it takes a database server with row locks and a network in
//! between, in database_failures.rs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use policyd_rate_guard::config::{self, Config, Sources};
use policyd_rate_guard::limiter::terms::Terms;
use policyd_rate_guard::notify::Notifier;
use policyd_rate_guard::policy::lists::Lists;

use crate::support::client::{ACCEPTED, BLOCKED, Client, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::process::run;
use crate::support::root;
use crate::support::wait;

const ALICE: &str = "alice@example.com";
/// ACTION_ON_ERROR in these tests, so that it is told from an answer to good mail.
const IN_DOUBT: &str = "DEFER in doubt";
/// DECISION_TIMEOUT by default and in these tests.
const DECISION_TIMEOUT: Duration = Duration::from_secs(2);
/// What a loaded machine may add. Less than DECISION_TIMEOUT, so that who waited for the database is told from who did not.
const LEEWAY: Duration = Duration::from_millis(1800);
/// How long it may take until the daemon has found that something is mended.
const RECOVERY: Duration = Duration::from_secs(20);

/// How long a start waits for its database.
const START_TIMEOUT: Duration = Duration::from_secs(1);

const BREAKER_OPENS: &str = "Mail goes on; until the database is back";
const BREAKER_CLOSES: &str = " is back after ";

fn setup() -> Setup {
    Setup::sqlite().setting("DECISION_TIMEOUT", "2s")
}

/// Asks, and fails the test when the answer takes longer than `limit`.
fn ask_within(limit: Duration, client: &mut Client, request: &Request) -> String {
    let begun = Instant::now();
    let action = client.ask(request);
    assert!(begun.elapsed() < limit, "answered after {:?}", begun.elapsed());
    action
}

/// Ends the daemon and expects its tally of answers in doubt.
fn ends_with_doubts(mut daemon: Daemon, doubts: &str) {
    assert_eq!(daemon.term().code(), Some(0));
    let log = daemon.log();
    assert!(log.contains(&format!("; let through in doubt: {doubts}\n")), "{log}");
}

/// Waits until the daemon counts in the database again, and checks that it told the outage and its end once.
fn recovers(daemon: &mut Daemon, client: &mut Client, sender: &str) {
    daemon.await_log(BREAKER_CLOSES);
    let before = daemon.database().counters(sender).map_or(0, |row| row.rcpt_counter);
    client.ask(&Request::data(sender, 1));
    assert_eq!(daemon.database().counters(sender).unwrap().rcpt_counter, before + 1);
    let log = daemon.log();
    for line in [BREAKER_OPENS, BREAKER_CLOSES] {
        assert_eq!(log.matches(line).count(), 1, "{line}");
    }
    assert!(!log.contains("sqlx"), "the driver has its own opinion on slow statements");
}

/// The configuration with these settings and no file.
fn config<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Config {
    let sources = Sources { search: Vec::new(), ..Sources::new(None, settings, false) };
    config::load(&sources).unwrap().config
}

fn terms(config: &Config) -> Terms {
    config.terms(Lists::default(), TimeZone::UTC)
}

mod reasons {
    use super::*;

    use std::sync::Arc;

    use policyd_rate_guard::commit::queue::{Queue, queue};
    use policyd_rate_guard::limiter::blocks::{Block, Blocks};
    use policyd_rate_guard::limiter::verdict::FailOpen;
    use policyd_rate_guard::protocol::reply::Action;
    use policyd_rate_guard::protocol::request::{Event, Parser};
    use policyd_rate_guard::server::answer::Answerer;
    use tokio::sync::watch;

    #[test]
    fn nonsense_is_what_no_one_can_make_sense_of() {
        let daemon = Setup::sqlite().setting("ACTION_ON_ERROR", IN_DOUBT).start();
        let mut client = daemon.connect();
        for _ in 0..3 {
            assert_eq!(client.ask(&Request::data(ALICE, 1).recipient_count("many")), IN_DOUBT);
        }
        ends_with_doubts(daemon, "nonsense 3");
    }

    #[test]
    fn deadline_is_an_answer_that_cannot_wait_for_the_database() {
        let daemon = Setup::sqlite().setting("ACTION_ON_ERROR", IN_DOUBT).setting("DECISION_TIMEOUT", "50ms").start();
        let holder = daemon.database().session();
        holder.execute("BEGIN EXCLUSIVE");
        let mut client = daemon.connect();
        assert_eq!(ask_within(LEEWAY, &mut client, &Request::data(ALICE, 1)), IN_DOUBT);
        holder.execute("COMMIT");
        ends_with_doubts(daemon, "deadline 1");
    }

    #[test]
    fn refused_is_a_value_that_the_database_does_not_take_and_harms_nobody_else() {
        const POISON: &str = "poison@example.com";
        let mut daemon = Setup::sqlite().setting("ACTION_ON_ERROR", IN_DOUBT).start();
        daemon.database().execute(&format!(
            "CREATE TRIGGER poison BEFORE INSERT ON ratelimits WHEN NEW.sender = '{POISON}'
                BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        ));
        let mut clients: Vec<Client> = (0..32).map(|_| daemon.connect()).collect();
        for _ in 0..3 {
            // While somebody else writes, all of them come together in one batch.
            let holder = daemon.database().session();
            holder.execute("BEGIN IMMEDIATE");
            for (number, client) in clients.iter_mut().enumerate() {
                let sender = if number % 8 == 5 { POISON } else { &format!("sender{number}@example.com") };
                client.send(&Request::data(sender, 1));
            }
            holder.execute("COMMIT");
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.reply(), if number % 8 == 5 { IN_DOUBT } else { ACCEPTED });
            }
        }
        assert_eq!(daemon.database().number("SELECT COUNT(*) FROM ratelimits WHERE rcpt_counter = 3"), 28);
        assert_eq!((daemon.database().rows("ratelimits"), daemon.database().rows("messages")), (28, 28 * 3));
        daemon.await_log(&format!("{POISON}: answered with ACTION_ON_ERROR without being counted for certain"));
        let log = daemon.log();
        assert!(log.contains(&format!("{POISON}: the database refuses a value: not this one")), "{log}");
        assert!(!log.contains(BREAKER_OPENS), "{log}");
        ends_with_doubts(daemon, "refused 12");
    }

    /// Where each reason is provoked. A new one does not compile before it has its test.
    #[test]
    fn each_has_a_test() {
        for reason in FailOpen::ALL {
            let (file, test) = match reason {
                FailOpen::Nonsense => ("failures", "nonsense_is_what_no_one_can_make_sense_of"),
                FailOpen::Deadline => ("failures", "deadline_is_an_answer_that_cannot_wait_for_the_database"),
                FailOpen::QueueFull => ("failures", "queue_full_is_answered_at_once_and_stopping_too"),
                FailOpen::Locked => ("database_failures", "only_alice_is_let_through_in_doubt"),
                FailOpen::Refused => {
                    ("failures", "refused_is_a_value_that_the_database_does_not_take_and_harms_nobody_else")
                }
                FailOpen::Contended => ("database_failures", "contended_is_who_was_tried_again_in_vain"),
                FailOpen::CommitUnknown => ("database_failures", "an_unknown_outcome_of_commit_is_never_tried_again"),
                FailOpen::Stopping => ("failures", "queue_full_is_answered_at_once_and_stopping_too"),
            };
            let text = fs::read_to_string(format!("{}/tests/suite/{file}.rs", env!("CARGO_MANIFEST_DIR"))).unwrap();
            let body = text.split(&format!("fn {test}")).nth(1).and_then(|rest| rest.split("\n}").next());
            assert!(body.is_some_and(|body| body.contains(reason.name())), "{file}: {test} names {}", reason.name());
        }
    }

    /// Answers in front of a queue for one charge, with a committer that does nothing.
    fn answerer(queue: Queue) -> Answerer {
        answerer_with(queue, None)
    }

    /// The same, which knows a block.
    fn answerer_with(queue: Queue, block: Option<Block>) -> Answerer {
        let environment = [("ACTION_ON_ERROR", IN_DOUBT), ("DB_DATABASE", ":memory:")];
        let terms = terms(&config(environment));
        let (_, blocks) = watch::channel(Arc::new(Blocks::new(block, &terms.accounts)));
        let (_, terms) = watch::channel(Arc::new(terms));
        Answerer::new(queue, terms, blocks, Arc::default(), Notifier::silent(Arc::default()))
    }

    async fn ask(answerer: &Answerer) -> String {
        ask_for(answerer, &Request::data(ALICE, 1)).await
    }

    async fn ask_for(answerer: &Answerer, request: &Request) -> String {
        match Parser::default().feed(&request.to_bytes()).1 {
            Some(Event::Request(request)) => answerer.answer(request).await.action.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn queue_full_is_answered_at_once_and_stopping_too() {
        let (queue, waiting) = queue(1);
        let answerer = answerer(queue);
        let begun = tokio::time::Instant::now();
        assert_eq!(ask(&answerer).await, IN_DOUBT);
        assert_eq!(begun.elapsed(), DECISION_TIMEOUT, "it waits for its verdict, and not longer");
        assert_eq!(ask(&answerer).await, IN_DOUBT);
        drop(waiting);
        assert_eq!(ask(&answerer).await, IN_DOUBT);
        assert_eq!(begun.elapsed(), DECISION_TIMEOUT);
        let tally = answerer.metrics.counters().to_string();
        assert!(tally.ends_with("in doubt: deadline 1, queue_full 1, stopping 1"), "{tally}");
    }

    #[tokio::test]
    async fn a_known_block_decides_what_is_in_doubt_and_a_dry_run_is_not_counted() {
        let (queue, waiting) = queue(1);
        drop(waiting);
        let (account, action, reason) = (ALICE.to_owned(), Action::hold("stopped"), "manual".to_owned());
        let answerer = answerer_with(queue, Some(Block { id: 1, account, since: 0, until: None, action, reason }));
        for (request, counted) in
            [(Request::data(ALICE, 1).with("policyd_rate_guard_dry_run", "yes"), 0), (Request::data(ALICE, 1), 1)]
        {
            assert_eq!(ask_for(&answerer, &request).await, "HOLD stopped");
            assert_eq!(answerer.metrics.counters().from_memory, counted);
        }
        assert!(answerer.metrics.counters().fail_open.is_empty());
    }
}

mod outages {
    use super::*;

    #[test]
    fn a_locked_database_delays_one_answer_and_then_each_sender_has_its_quota_in_memory() {
        let mut daemon = setup().setting("QUOTA", "6").setting("ACTION_ON_ERROR", IN_DOUBT).start();
        let mut client = daemon.connect();
        assert_eq!(client.ask(&Request::data(ALICE, 3)), ACCEPTED);
        let holder = daemon.database().session();
        holder.execute("BEGIN EXCLUSIVE");

        let first = Request::data(ALICE, 1);
        assert_eq!(
            ask_within(DECISION_TIMEOUT + LEEWAY, &mut client, &first),
            ACCEPTED,
            "in memory, after what was last known"
        );
        assert_eq!(ask_within(LEEWAY, &mut client, &Request::data(ALICE, 2)), ACCEPTED);
        assert_eq!(ask_within(LEEWAY, &mut client, &Request::data(ALICE, 1)), BLOCKED);
        assert_eq!(ask_within(LEEWAY, &mut client, &Request::data("bob@example.com", 1)), ACCEPTED);
        assert_eq!(ask_within(LEEWAY, &mut client, &first), ACCEPTED, "a repeat is a repeat in memory too");
        // The first attempt to get the database back fails for a reason of its own, the next ones for the same.
        daemon.await_log("Trying again until it works");
        assert_eq!(ask_within(LEEWAY, &mut daemon.connect(), &Request::data(ALICE, 1)), BLOCKED);

        holder.execute("COMMIT");
        recovers(&mut daemon, &mut client, ALICE);
        assert_eq!(daemon.database().counters(ALICE).unwrap().rcpt_counter, 9, "what was answered meanwhile is in it");
        daemon.term();
        let log = daemon.log();
        assert!(log.contains("5 requests were judged from memory"), "{log}");
        assert!(
            log.contains("curr_count=7/6, status=BLOCKED (QUOTA_LIMIT_REACHED), reason=\"counted in memory\""),
            "{log}"
        );
    }

    #[test]
    fn a_short_lock_only_delays_and_nothing_is_lost() {
        let daemon = Setup::sqlite().start();
        let mut client = daemon.connect();
        client.ask(&Request::data(ALICE, 1));
        let holder = daemon.database().session();
        holder.execute("BEGIN EXCLUSIVE");
        client.send(&Request::data(ALICE, 1));
        assert!(client.is_silent_for(Duration::from_millis(100)));
        holder.execute("COMMIT");
        assert_eq!(client.reply(), ACCEPTED);
        assert_eq!(daemon.database().counters(ALICE).unwrap().rcpt_counter, 2);
        assert!(!daemon.log().contains(BREAKER_OPENS));
    }

    #[test]
    fn a_folder_that_cannot_be_written_at_the_start_is_used_as_soon_as_it_can() {
        let setup = setup().setting("QUOTA", "1");
        let folder = setup.folder().join("closed");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o555)).unwrap();
        let file = folder.join("guard.db");
        let mut daemon = setup.on_file(&file).start_without_tables();
        assert!(daemon.ready_after() < START_TIMEOUT + LEEWAY, "mail does not wait: {:?}", daemon.ready_after());
        let mut client = daemon.connect();
        assert_eq!(ask_within(LEEWAY, &mut client, &Request::data(ALICE, 1)), ACCEPTED);
        assert_eq!(ask_within(LEEWAY, &mut client, &Request::data(ALICE, 1)), BLOCKED);
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        recovers(&mut daemon, &mut client, ALICE);
    }

    /// A file system of half a megabyte, for as long as it lives.
    struct SmallDisk<'a>(&'a Path);

    impl SmallDisk<'_> {
        fn mount(folder: &Path) -> SmallDisk<'_> {
            fs::create_dir(folder).unwrap();
            run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs"]).arg(folder));
            SmallDisk(folder)
        }
    }

    impl Drop for SmallDisk<'_> {
        fn drop(&mut self) {
            // Lazily: the daemon may have files open when a test fails.
            run(Command::new("umount").arg("--lazy").arg(self.0));
        }
    }

    #[test]
    fn a_full_disk_stops_no_mail_and_counting_goes_on_when_there_is_room() {
        if !root::is_root("a_full_disk_stops_no_mail_and_counting_goes_on_when_there_is_room") {
            return;
        }
        let setup = setup().setting("QUOTA", "2").setting("ACTION_ON_ERROR", IN_DOUBT);
        let folder = setup.folder().join("disk");
        let _disk = SmallDisk::mount(&folder);
        let mut daemon = setup.on_file(&folder.join("guard.db")).start();
        let mut client = daemon.connect();
        assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);

        let ballast = folder.join("ballast");
        let written = fs::write(&ballast, vec![0; 2 << 20]);
        assert!(written.is_err(), "the disk holds more than it should");
        // The log before the database reuses its pages, so the first few may still find room.
        let outage = wait::until(RECOVERY, "the database is given up", || {
            let action = ask_within(DECISION_TIMEOUT + LEEWAY, &mut client, &Request::data("bob@example.com", 2));
            assert!([ACCEPTED, BLOCKED].contains(&&*action), "{action}");
            daemon.log().contains(BREAKER_OPENS).then(|| daemon.log())
        });
        assert!(outage.contains("full"), "{outage}");
        assert_eq!(ask_within(LEEWAY, &mut client, &Request::data("carol@example.com", 2)), ACCEPTED);
        assert_eq!(ask_within(LEEWAY, &mut client, &Request::data("carol@example.com", 1)), BLOCKED);

        fs::remove_file(&ballast).unwrap();
        recovers(&mut daemon, &mut client, ALICE);
    }
}

mod panics {
    use super::*;

    use std::sync::Arc;

    use policyd_rate_guard::commit::committer::Committer;
    use policyd_rate_guard::commit::queue::queue;
    use policyd_rate_guard::server::answer::Answerer;
    use policyd_rate_guard::server::listener::Network;
    use policyd_rate_guard::slots::Slots;
    use policyd_rate_guard::system::sockets;
    use policyd_rate_guard::telemetry::DECISION;
    use tokio::sync::watch;

    const UNLUCKY: &str = "unlucky@example.com";

    /// Panics in the task of the connection whose decision it is to log.
    struct PanickingLog;

    impl log::Log for PanickingLog {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            let text = record.args().to_string();
            assert!(record.target() != DECISION || !text.contains(UNLUCKY), "a bug in the code of a connection");
        }

        fn flush(&self) {}
    }

    #[test]
    fn a_panic_in_one_connection_harms_no_other() {
        log::set_logger(&PanickingLog).unwrap();
        log::set_max_level(log::LevelFilter::Info);
        let folder = tempfile::tempdir().unwrap();
        let (file, path) = (folder.path().join("guard.db"), folder.path().join("policy"));
        let config = config([("DB_DATABASE", &*file.to_string_lossy()), ("SOCKET", &*path.to_string_lossy())]);
        let bound = sockets::listen(&config.sockets, None).unwrap();

        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (answerer, network, committing) = runtime.block_on(async {
            let (queue, waiting) = queue(64);
            let metrics = Arc::default();
            let (terms, terms_now) = watch::channel(Arc::new(terms(&config)));
            let committer =
                Committer::start(config.database.clone(), None, waiting, terms_now.clone(), Arc::clone(&metrics));
            let committer = committer.await.unwrap();
            let blocks = committer.blocks();
            let committing = tokio::spawn(async move {
                let _terms = terms;
                committer.run().await
            });
            let answerer = Arc::new(Answerer::new(queue, terms_now, blocks, metrics, Notifier::silent(Arc::default())));
            let network = Network::new(answerer.clone(), Slots::new(8));
            bound.into_iter().for_each(|bound| network.listen(bound.listener, bound.name).unwrap());
            (answerer, network, committing)
        });

        let mut others: Vec<Client> = (0..3).map(|_| Client::unix(&path)).collect();
        assert!(others.iter_mut().all(|client| client.ask(&Request::data(ALICE, 1)) == ACCEPTED));
        // More often than there are places: a connection that panics gives its place back.
        for _ in 0..20 {
            let mut unlucky = Client::unix(&path);
            assert_eq!(unlucky.ask(&Request::data(UNLUCKY, 1)), ACCEPTED, "its answer was on its way");
            assert!(unlucky.is_closed_within(RECOVERY));
        }
        assert!(others.iter_mut().all(|client| client.ask(&Request::data(ALICE, 1)) == ACCEPTED));
        assert_eq!(Client::unix(&path).ask(&Request::data(ALICE, 1)), ACCEPTED);
        let tally = answerer.metrics.counters().to_string();
        assert!(tally.contains("connections; 27 accepted, 0 blocked"), "{tally}");
        assert!(!committing.is_finished());
        network.ending.cut.cancel();
        runtime.shutdown_timeout(RECOVERY);
    }
}

#[test]
fn a_hung_daemon_answers_all_that_waited_when_it_goes_on() {
    let daemon = Setup::sqlite().start();
    let mut clients: Vec<Client> = (0..20).map(|_| daemon.connect()).collect();
    assert!(clients.iter_mut().all(|client| client.ask(&Request::data(ALICE, 1)) == ACCEPTED));
    daemon.stop();
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| client.send(&Request::data(ALICE, 1)));
        }
    });
    daemon.cont();
    assert!(clients.iter_mut().all(|client| client.reply() == ACCEPTED));
    assert_eq!(daemon.database().counters(ALICE).unwrap().rcpt_counter, 40);
}
