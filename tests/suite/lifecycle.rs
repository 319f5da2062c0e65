//! Starting, changing and ending the daemon while mail goes on: signals, settings, sockets, and what others may see of it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::client::{ACCEPTED, BLOCKED, Client, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::database::Database;
use crate::support::load::Load;
use crate::support::port::Port;
use crate::support::process;
use crate::support::scratch::{Account, Scratch};
use crate::support::stream::Address;
use crate::support::wait;

const ALICE: &str = "alice@example.com";
/// What a stopping daemon may take beyond DECISION_TIMEOUT, with room for a loaded machine.
const DRAIN: Duration = Duration::from_secs(5);

/// What a command said on standard error.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

mod the_end {
    use super::*;

    /// Every request that is answered was counted, and every request that was counted is answered.
    fn ends_in_order_under_load(signal: Signal) {
        let mut daemon = Setup::sqlite().setting("QUOTA", "unlimited").setting("LOG_LEVEL", "ERROR").start();
        let address = daemon.unix_address();
        let load = Load::default();
        load.run(
            &address,
            32,
            100_000,
            || Request::data(ALICE, 1),
            || {
                wait::until(DRAIN, "1,000 answers", || (load.answered() >= 1000).then_some(()));
                let begun = Instant::now();
                daemon.signal(signal);
                assert_eq!(daemon.wait().code(), Some(0));
                assert!(begun.elapsed() < DRAIN, "{:?}", begun.elapsed());
            },
        );
        let counted = daemon.database().counters(ALICE).unwrap().rcpt_counter;
        assert_eq!((counted as u64, load.accepted()), (load.answered(), load.answered()));
        assert!(!daemon.setup().unix_path().exists());
    }

    #[test]
    fn sigterm_ends_the_daemon_with_all_that_was_asked_answered_and_counted() {
        ends_in_order_under_load(Signal::SIGTERM);
    }

    #[test]
    fn sigint_ends_it_as_sigterm_does() {
        ends_in_order_under_load(Signal::SIGINT);
    }

    #[test]
    fn a_service_manager_that_does_not_read_holds_up_neither_mail_nor_signals() {
        // While it is asked, the committer's heartbeat comes every half second. A transaction may take twice as long.
        let mut daemon = Setup::sqlite().setting("QUOTA", "2").environment("WATCHDOG_USEC", "4000000").start();
        let mut client = daemon.connect();
        assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
        daemon.jam_notifications();
        daemon.change_setting("QUOTA_STEPS", "1x HOLD");
        daemon.signal(Signal::SIGHUP);
        daemon.await_log("the settings were read again");
        // Asked all the while, so that the daemon has run when its heartbeats were due.
        let begun = Instant::now();
        for sender in 0.. {
            assert_eq!(client.ask(&Request::data(&format!("sender{sender}@example.com"), 1)), ACCEPTED);
            if begun.elapsed() > Duration::from_millis(1200) {
                break;
            }
        }
        assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
        assert!(client.ask(&Request::data(ALICE, 1)).starts_with("HOLD"), "it is counted, and by the new terms");
        let begun = Instant::now();
        assert_eq!(daemon.term().code(), Some(0));
        assert!(begun.elapsed() < DRAIN, "{:?}", begun.elapsed());
    }

    #[test]
    fn what_was_sent_before_the_signal_is_answered_also_on_a_connection_just_made() {
        let mut daemon = Setup::sqlite().start();
        let mut known = daemon.connect();
        assert_eq!(known.ask(&Request::data(ALICE, 1)), ACCEPTED);
        // Frozen, so that all of it waits at once: requests, a connection, the signal.
        daemon.stop();
        let mut new = daemon.connect_tcp();
        known.send(&Request::data(ALICE, 1));
        new.send(&Request::data(ALICE, 1));
        daemon.signal(Signal::SIGTERM);
        daemon.cont();
        assert_eq!([known.reply(), new.reply()], [ACCEPTED, ACCEPTED]);
        assert_eq!(daemon.wait().code(), Some(0));
        assert_eq!(daemon.database().counters(ALICE).unwrap().rcpt_counter, 3);
    }

    #[test]
    fn a_message_asked_about_before_a_restart_and_after_it_is_counted_once() {
        let mut daemon = Setup::sqlite().setting("QUOTA", "3").setting("QUOTA_WINDOW", "24h").start();
        let asked = |daemon: &Daemon, instance: &str| {
            let mut client = daemon.connect();
            let data = client.ask(&Request::data(ALICE, 3).instance(instance));
            let content = client.ask(&Request::end_of_message(ALICE, 3, 99).instance(instance));
            (data, content)
        };
        let file = daemon.setup().folder().join("asked.jsonl");
        assert_eq!(daemon.connect().ask(&Request::data(ALICE, 3).instance("a.1")), ACCEPTED);
        for _ in 0..2 {
            assert_eq!(daemon.term().code(), Some(0));
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            daemon.start_again();
            assert!(!file.exists(), "it is read once");
            assert_eq!(asked(&daemon, "a.1"), (ACCEPTED.to_owned(), ACCEPTED.to_owned()));
            assert_eq!(daemon.database().counters(ALICE).unwrap().rcpt_counter, 3);
        }
        assert_eq!(asked(&daemon, "a.2").0, BLOCKED);
        // What a crash leaves, or somebody, is no reason not to start.
        daemon.kill9();
        fs::write(&file, "{}").unwrap();
        daemon.start_again();
        daemon.await_log("What is asked about again after this restart is counted again");
        assert_eq!(asked(&daemon, "a.1").0, BLOCKED);
    }

    #[test]
    fn idle_connections_are_closed_at_once() {
        let mut daemon = Setup::sqlite().start();
        let mut idle: Vec<Client> = (0..50).map(|_| daemon.connect()).collect();
        assert_eq!(idle[0].ask(&Request::data(ALICE, 1)), ACCEPTED);
        let begun = Instant::now();
        assert_eq!(daemon.term().code(), Some(0));
        assert!(begun.elapsed() < DRAIN / 2, "{:?}", begun.elapsed());
        assert!(idle.iter_mut().all(|client| client.is_closed_within(DRAIN)));
    }

    #[test]
    fn nobody_is_let_in_who_would_not_be_answered() {
        let mut daemon = Setup::sqlite().start();
        let mut half = daemon.connect();
        half.send_raw(b"request=smtpd_access_policy\n");
        daemon.signal(Signal::SIGTERM);
        // Postfix that is refused asks again at once; one that is let in waits for an answer.
        let tcp = Address::Tcp(daemon.setup().tcp_address());
        for address in [daemon.unix_address(), tcp] {
            wait::until(DRAIN, "nobody is let in", || Client::try_connect(&address).is_err().then_some(()));
        }
        half.send(&Request::data(ALICE, 1));
        assert_eq!(half.reply(), ACCEPTED, "the daemon was still there");
        assert_eq!(daemon.wait().code(), Some(0));
    }

    #[test]
    fn clients_that_never_end_a_request_or_read_a_reply_delay_the_end_for_a_bounded_time() {
        let mut daemon = Setup::sqlite().setting("DECISION_TIMEOUT", "100ms").start();
        let (mut half, mut deaf) = (daemon.connect(), daemon.connect());
        assert_eq!(half.ask(&Request::data(ALICE, 1)), ACCEPTED);
        half.send_raw(b"request=smtpd_access_policy\n");
        // This one asks until nothing more is taken, and reads no reply.
        deaf.set_limit(Duration::from_millis(100));
        while deaf.try_send_raw(&b"\n".repeat(1000)).is_ok() {}
        let begun = Instant::now();
        assert_eq!(daemon.term().code(), Some(0));
        assert!(begun.elapsed() < DRAIN, "{:?}", begun.elapsed());
        let log = daemon.log();
        assert!(log.contains("2 connections did not end within 2.1s"), "{log}");
        assert!(
            !log.contains("did not end in time") && !log.contains("not delivered"),
            "all else ended in order: {log}"
        );
    }
}

mod reload {
    use super::*;

    /// A quota is copied into a sender's row: whoever changes QUOTA and wonders is told.
    #[test]
    fn a_changed_quota_tells_whom_it_leaves_as_they_are() {
        let mut daemon = Setup::sqlite().setting("QUOTA", "5").start();
        daemon.connect().ask(&Request::data(ALICE, 1));
        assert!(!daemon.log().contains("is for new senders"), "{}", daemon.log());
        daemon.change_setting("QUOTA", "7");
        daemon.hup();
        daemon.await_log("QUOTA=7 is for new senders; 1 have another quota, 1 of them 5");
    }

    #[test]
    fn sighup_applies_quota_text_and_action_to_the_next_request_on_an_open_connection() {
        let mut daemon = Setup::sqlite().setting("QUOTA", "1").start();
        let mut client = daemon.connect();
        assert_eq!(client.ask(&Request::data(ALICE, 2)), BLOCKED);
        daemon.change_setting("QUOTA", "3");
        daemon.change_setting("ACTION_TEXT_BLOCKED", "Call the help desk.");
        daemon.change_setting("ACTION_ACCEPTED", "OK");
        daemon.change_setting("MESSAGE_LOG", "False");
        daemon.hup();
        assert_eq!(client.ask(&Request::data(ALICE, 1)), "DEFER_IF_PERMIT Call the help desk.");
        assert_eq!(client.ask(&Request::data("bob@example.com", 3)), "OK");
        assert_eq!(client.ask(&Request::data("bob@example.com", 1)), "DEFER_IF_PERMIT Call the help desk.");
        assert_eq!(daemon.database().counters("bob@example.com").unwrap().quota, 3);
        assert_eq!(daemon.database().rows("messages"), 1, "the one before the reload");
    }

    #[test]
    fn sighup_drops_no_connection_and_loses_no_request_under_load() {
        let mut daemon = Setup::sqlite().setting("QUOTA", "unlimited").setting("LOG_LEVEL", "ERROR").start();
        let address = daemon.unix_address();
        let load = Load::default();
        load.run(&address, 16, 250, || Request::data(ALICE, 1), || (0..5).for_each(|_| daemon.hup()));
        assert_eq!((load.answered(), load.accepted()), (4000, 4000));
        assert_eq!(daemon.database().counters(ALICE).unwrap().rcpt_counter, 4000);
    }

    #[test]
    fn a_bad_new_file_is_reported_and_the_old_settings_stay() {
        let mut daemon = Setup::sqlite().setting("QUOTA", "1").start();
        let mut client = daemon.connect();
        daemon.change_setting("ACTION_TEXT_BLOCKED", "Not yet.");
        daemon.change_setting("QUOTA", "many");
        daemon.change_setting("LOG_LEVEL", "loud");
        daemon.hup();
        daemon.await_log("the old ones stay in effect");
        let log = daemon.log();
        assert!(log.contains("QUOTA=many: must be a whole number"), "{log}");
        assert!(log.contains("LOG_LEVEL=loud: must be"), "{log}");
        assert_eq!(client.ask(&Request::data(ALICE, 2)), BLOCKED);
        daemon.change_setting("QUOTA", "5");
        daemon.change_setting("LOG_LEVEL", "INFO");
        daemon.hup();
        assert_eq!(client.ask(&Request::data(ALICE, 1)), "DEFER_IF_PERMIT Not yet.", "good settings apply again");
    }

    #[test]
    fn what_needs_a_restart_is_named_and_stays() {
        let mut daemon = Setup::sqlite().start();
        let mut client = daemon.connect();
        let elsewhere = daemon.setup().folder().join("elsewhere.db");
        daemon.change_setting("DB_DATABASE", &elsewhere.display().to_string());
        daemon.change_setting("SOCKET", "127.0.0.1,1");
        daemon.change_setting("SOCKET_MODE", "0600");
        daemon.hup();
        daemon.await_log("DB_DATABASE, SOCKET, SOCKET_MODE: changed, but takes effect only after a restart");
        assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
        assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), ACCEPTED);
        assert_eq!(daemon.database().counters(ALICE).unwrap().rcpt_counter, 2);
        assert!(!elsewhere.exists());
    }

    #[test]
    fn a_log_file_that_cannot_be_opened_stops_no_answer_and_is_tried_again_on_reload() {
        let setup = Setup::sqlite();
        let path = setup.folder().join("missing/guard.log");
        let mut daemon = setup.setting("LOG_FILE", &path.display().to_string()).start();
        daemon.await_log(&format!("cannot open the log file {}", path.display()));
        let mut client = daemon.connect();
        assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
        let folder = path.parent().unwrap();
        fs::create_dir(folder).unwrap();
        // Started as root, the daemon is somebody else by now.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
        daemon.hup();
        daemon.await_log("the settings were read again");
        client.ask(&Request::data("after@example.com", 1));
        wait::until(DRAIN, "lines are in the file", || {
            fs::read_to_string(&path).is_ok_and(|log| log.contains("after@example.com")).then_some(())
        });
    }

    #[test]
    fn sigusr1_reopens_the_log_file_after_it_was_renamed() {
        let setup = Setup::sqlite();
        let (path, rotated) = (setup.folder().join("guard.log"), setup.folder().join("guard.log.1"));
        let daemon = setup.setting("LOG_FILE", &path.display().to_string()).start();
        let mut client = daemon.connect();
        client.ask(&Request::data("before@example.com", 1));
        let holds = |path: &std::path::Path, text: &str| fs::read_to_string(path).is_ok_and(|log| log.contains(text));
        wait::until(DRAIN, "the line is in the file", || holds(&path, "before@example.com").then_some(()));
        fs::rename(&path, &rotated).unwrap();
        client.ask(&Request::data("between@example.com", 1));
        daemon.usr1();
        wait::until(DRAIN, "the file is made anew", || path.exists().then_some(()));
        client.ask(&Request::data("after@example.com", 1));
        wait::until(DRAIN, "lines are in the new file", || holds(&path, "after@example.com").then_some(()));
        assert!(holds(&rotated, "before@example.com") && !holds(&rotated, "after@example.com"));
        assert!(holds(&rotated, "between@example.com") || holds(&path, "between@example.com"), "no line is lost");
    }
}

mod sockets {
    use super::*;

    #[test]
    fn tcp_over_ipv4_and_ipv6_and_unix_sockets_are_served_at_once() {
        let setup = Setup::sqlite();
        let held = Port::free();
        let (port, second) = (held.number(), setup.folder().join("new/folder/policy"));
        let sockets = format!(
            "{} unix:{} inet:{} [::1],{port}",
            setup.unix_path().display(),
            second.display(),
            setup.tcp_address()
        );
        // A missing parent is made where the one above it is; deeper ones are the operator's.
        fs::create_dir(setup.folder().join("new")).unwrap();
        let daemon = setup.setting("SOCKET", &sockets).start();
        let clients = [
            daemon.connect(),
            Client::unix(&second),
            daemon.connect_tcp(),
            Client::tcp(std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port))),
        ];
        for (number, mut client) in clients.into_iter().enumerate() {
            assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED, "socket {number}");
        }
        assert_eq!(daemon.database().counters(ALICE).unwrap().rcpt_counter, 4);
    }

    #[test]
    fn a_unix_socket_has_its_mode_and_is_removed_at_the_end() {
        for (setting, mode) in [(None, 0o660), (Some("0600"), 0o600), (Some("0666"), 0o666)] {
            let setup = Setup::sqlite();
            let setup = match setting {
                Some(setting) => setup.setting("SOCKET_MODE", setting),
                None => setup,
            };
            let mut daemon = setup.start();
            let path = daemon.setup().unix_path();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
            daemon.term();
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_new_database_is_not_for_everybody_and_a_stricter_umask_is_kept() {
        for (umask, mode) in [("022", 0o640), ("077", 0o600)] {
            let shell = format!("umask {umask}; exec \"$@\"");
            let daemon = Setup::sqlite().through(["sh", "-c", &shell, "sh"]).start();
            let file = daemon.setup().folder().join("policyd-rate-guard.db");
            assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, mode, "{umask}");
        }
    }

    #[test]
    fn the_socket_of_a_dead_process_is_replaced() {
        let setup = Setup::sqlite();
        drop(UnixListener::bind(setup.unix_path()).unwrap());
        let mut daemon = setup.start();
        assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), ACCEPTED);
        daemon.kill9();
        assert!(daemon.setup().unix_path().exists());
        daemon.start_again();
        assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), ACCEPTED);
    }

    #[test]
    fn a_living_daemons_socket_is_left_alone() {
        let daemon = Setup::sqlite().start();
        let path = daemon.setup().unix_path();
        let output = Setup::sqlite().setting("SOCKET", &path.display().to_string()).run("serve", &[]);
        assert_eq!(output.status.code(), Some(71), "{}", said(&output));
        assert!(said(&output).contains(&path.display().to_string()), "{}", said(&output));
        assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), ACCEPTED);

        let port = daemon.setup().tcp_address();
        let output = Setup::sqlite().setting("SOCKET", &format!("inet:{port}")).run("serve", &[]);
        assert_eq!(output.status.code(), Some(71), "{}", said(&output));
        assert!(said(&output).contains(&port.to_string()), "{}", said(&output));
    }

    #[test]
    fn a_regular_file_in_the_sockets_place_is_never_removed() {
        let setup = Setup::sqlite();
        fs::write(setup.unix_path(), "precious").unwrap();
        let output = setup.run("serve", &[]);
        assert_eq!(output.status.code(), Some(71), "{}", said(&output));
        assert!(said(&output).contains("regular file"), "{}", said(&output));
        assert_eq!(fs::read_to_string(setup.unix_path()).unwrap(), "precious");
    }

    #[test]
    fn what_others_put_in_the_sockets_place_meanwhile_is_not_removed_at_the_end() {
        let mut daemon = Setup::sqlite().start();
        let path = daemon.setup().unix_path();
        fs::remove_file(&path).unwrap();
        let _successor = UnixListener::bind(&path).unwrap();
        daemon.term();
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    }

    /// A daemon with slots for so many connections: 64 descriptors are kept for other things.
    fn with_slots(setup: Setup, slots: u32) -> Daemon {
        setup.through(["prlimit".to_owned(), format!("--nofile={0}:{0}", 64 + slots)]).start()
    }

    #[test]
    fn where_all_slots_are_taken_the_connection_that_was_idle_longest_goes() {
        let mut daemon = with_slots(Setup::sqlite(), 8);
        let mut clients: Vec<Client> = (0..8).map(|_| daemon.connect()).collect();
        for client in &mut clients {
            assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
        }
        let newcomers = [daemon.connect(), daemon.connect_tcp()].map(|mut client| {
            assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED, "whoever comes is served, on every socket");
            client
        });
        for client in &mut clients[..2] {
            assert!(client.is_closed_within(DRAIN), "two for two, those that asked first");
        }
        for client in &mut clients[2..] {
            assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED, "no other was closed");
        }
        drop(newcomers);
        daemon.await_log("all 8 connections are in use, most of them by user id");
    }

    #[test]
    fn a_crowd_that_asks_nothing_or_half_a_request_or_reads_no_reply_keeps_nobody_out() {
        let half = |client: &mut Client| client.send_raw(b"request=smtpd_access_policy\n");
        let greedy = |client: &mut Client| {
            client.set_limit(Duration::from_millis(1));
            while client.try_send_raw(&b"\n".repeat(1000)).is_ok() {}
        };
        for crowd in [|_: &mut Client| {}, half, greedy] {
            let daemon = with_slots(Setup::sqlite(), 8);
            let held: Vec<Client> = (0..12)
                .map(|_| {
                    let mut client = daemon.connect_tcp();
                    crowd(&mut client);
                    client
                })
                .collect();
            let began = Instant::now();
            for mut client in [daemon.connect_tcp(), daemon.connect()] {
                assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
            }
            // A request that was begun, and a reply that is not read, keep their connection for ten seconds.
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            drop(held);
        }
    }

    #[test]
    fn an_address_that_holds_most_loses_its_own_connections_however_often_it_asks() {
        let daemon = with_slots(Setup::sqlite().setting("QUOTA", "unlimited"), 12);
        let mut quiet = [daemon.connect_tcp(), daemon.connect_tcp()];
        for client in &mut quiet {
            assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
        }
        let stranger = || Client::tcp_from([127, 0, 0, 2].into(), daemon.setup().tcp_address());
        let mut crowd: Vec<Client> = Vec::new();
        for _ in 0..30 {
            crowd.push(stranger());
            crowd.retain_mut(|client| client.try_ask(&Request::data("mallory@example.com", 1)).is_ok());
        }
        assert!(crowd.len() <= 10, "{}", crowd.len());
        for client in &mut quiet {
            assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED, "a host with few connections keeps them");
        }
    }

    #[test]
    fn of_a_full_daemon_only_connections_are_said_to_be_cut_off() {
        let mut daemon = with_slots(Setup::sqlite().setting("DECISION_TIMEOUT", "100ms"), 2);
        let begun = |mut client: Client| {
            assert_eq!(client.ask(&Request::data(ALICE, 1)), ACCEPTED);
            client.send_raw(b"request=smtpd_access_policy\n");
            client
        };
        let _clients = [begun(daemon.connect()), begun(daemon.connect_tcp())];
        assert_eq!(daemon.term().code(), Some(0));
        daemon.await_log(" 2 connections did not end within 2.1s and were cut off");
    }

    #[test]
    fn a_daemon_that_gets_no_descriptor_lives_on_and_answers_again() {
        let mut daemon = Setup::sqlite().start();
        let mut before = daemon.connect();
        assert_eq!(before.ask(&Request::data(ALICE, 1)), ACCEPTED);
        let limit = |descriptors: &str| {
            let pid = daemon.id().to_string();
            // The kernel lets the same user do this, or who has more than root's usual rights in a container.
            let mut prlimit = process::program("prlimit", &[], Account::when_root("nobody").as_ref());
            process::run(prlimit.args(["--pid", &pid, &format!("--nofile={descriptors}:")]));
        };
        limit("3");
        let mut new = daemon.connect();
        new.send(&Request::data(ALICE, 1));
        assert_eq!(before.ask(&Request::data(ALICE, 1)), ACCEPTED, "who is connected is served");
        assert!(new.is_silent_for(Duration::from_millis(20)));
        limit("1024");
        assert_eq!(new.reply(), ACCEPTED);
        daemon.await_log("cannot accept a connection");
    }
}

mod start {
    use super::*;

    #[test]
    fn daemons_that_start_together_on_a_new_sqlite_file_all_come_up_and_count() {
        for _ in 0..3 {
            let place = Scratch::unprivileged();
            let database = Database::sqlite(&place.join("shared.db"));
            let daemons: Vec<Daemon> = thread::scope(|scope| {
                let starting: Vec<_> =
                    (0..3).map(|_| scope.spawn(|| Setup::on(&database).start_without_tables())).collect();
                starting.into_iter().map(|daemon| daemon.join().unwrap()).collect()
            });
            for daemon in &daemons {
                daemon.await_counting();
                assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), ACCEPTED);
                // On a slow machine one may have to begin without the database; nothing else may go wrong.
                let log = daemon.log();
                let errors =
                    log.lines().filter(|line| line.contains(" ERROR ") && !line.contains("no answer within 1 s"));
                assert_eq!(errors.count(), 0, "{log}");
            }
            assert_eq!(database.counters(ALICE).unwrap().rcpt_counter, 3);
        }
    }

    /// A rotation of logs does not ask whether the daemon has started. The settings come from a pipe, so that it has not.
    #[test]
    fn signals_that_come_while_it_starts_are_heard_when_it_has_started() {
        let setup = Setup::sqlite().setting("LOG_LEVEL", "INFO");
        let folder = setup.folder().to_owned();
        let (pipe, pid, settings) = (folder.join("pipe"), folder.join("pid"), folder.join("settings.env"));
        let socket = setup.unix_path();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        let serve = format!("echo $$ > {}; exec \"$0\" --config {} serve", pid.display(), pipe.display());
        thread::spawn(move || {
            let mut starting = fs::File::options().write(true).open(&pipe).unwrap();
            let pid: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
            for signal in [Signal::SIGUSR1, Signal::SIGHUP] {
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
            }
            let settings = fs::read(settings).unwrap();
            starting.write_all(&settings).unwrap();
            drop(starting);
            wait::until(DRAIN, "the settings are read", || socket.exists().then_some(()));
            fs::File::options().write(true).open(&pipe).unwrap().write_all(&settings).unwrap();
        });
        let mut daemon = setup.through(["sh", "-c", &serve]).start_without_tables();
        daemon.await_log("the settings were read again");
    }

    #[test]
    fn bad_settings_stop_it_with_every_error_at_once() {
        let setup = Setup::sqlite()
            .setting("QUOTA", "many")
            .setting("ACTION_ACCEPTED", "REJECT you")
            .setting("DECISION_TIMEOUT", "2")
            .setting("SOCKET_MODE", "rw");
        let output = setup.run("serve", &[]);
        assert_eq!(output.status.code(), Some(78));
        for error in ["QUOTA=many: ", "ACTION_ACCEPTED=REJECT you: ", "DECISION_TIMEOUT=2: ", "SOCKET_MODE=rw: "] {
            let line = said(&output).lines().find(|line| line.contains(error)).map(str::to_owned);
            let line = line.unwrap_or_else(|| panic!("{error} in {}", said(&output)));
            assert!(
                line.contains("settings.env:") && line.contains("must be"),
                "its place, and what is allowed: {line}"
            );
        }
        assert!(!setup.unix_path().exists() && !setup.database().file().unwrap().exists());
    }

    #[test]
    fn without_its_settings_file_it_does_not_start() {
        let setup = Setup::sqlite();
        let program = env!("CARGO_BIN_EXE_policyd-rate-guard");
        let missing = setup.folder().join("missing.env");
        let output = Command::new(program).arg("--config").arg(&missing).arg("serve").output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{}", said(&output));
        assert!(said(&output).contains("missing.env"), "{}", said(&output));
    }

    #[test]
    fn a_database_of_a_newer_version_stops_it() {
        let mut daemon = Setup::sqlite().start();
        daemon.term();
        daemon.database().execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                VALUES (9999, 'future', 1, x'00', 0)",
        );
        let output = daemon.setup().run("serve", &[]);
        assert_eq!(output.status.code(), Some(69), "{}", said(&output));
        assert!(said(&output).contains("made by a newer policyd-rate-guard"), "{}", said(&output));
    }
}

mod secrets {
    use super::*;

    const SECRET: &str = "correct-horse-battery-staple";

    /// Each secret there is, on a server that nobody can reach.
    fn with_secrets(setup: Setup) -> Setup {
        setup
            .setting("DB_DRIVER", "mysql")
            .setting("DB_HOST", "127.0.0.1")
            .setting("DB_PORT", "1")
            .setting("DB_USER", "guard")
            .setting("DB_PASSWORD", SECRET)
            .setting("WEBHOOK_SECRET", SECRET)
            .setting("STATUS_TOKEN", SECRET)
            .setting("SENTRY_DSN", &format!("https://{SECRET}@sentry.example.com/1"))
    }

    #[test]
    fn no_secret_is_in_the_log_or_the_process_list() {
        let mut daemon = with_secrets(Setup::sqlite()).setting("LOG_LEVEL", "DEBUG").start_without_tables();
        assert_eq!(daemon.connect().ask(&Request::data(ALICE, 1)), ACCEPTED);
        let line = fs::read_to_string(format!("/proc/{}/cmdline", daemon.id())).unwrap();
        daemon.hup();
        daemon.term();
        assert!(line.contains("serve") && !line.contains(SECRET), "{line}");
        assert!(daemon.log().contains("Mail goes on") && !daemon.log().contains(SECRET), "{}", daemon.log());
    }

    #[test]
    fn no_secret_is_in_an_error_about_the_settings() {
        let bad = format!("{SECRET}\u{1}");
        let setup = with_secrets(Setup::sqlite()).setting("QUOTA", "many");
        let setup = setup.setting("SENTRY_DSN", SECRET).setting("WEBHOOK_SECRET", &SECRET.repeat(60));
        let setup = setup.setting("DB_PASSWORD", &bad.repeat(60)).setting("STATUS_TOKEN", &SECRET.repeat(60));
        for (command, arguments) in [("serve", &[][..]), ("check", &[]), ("check", &["--json"]), ("cleanup", &[])] {
            let output = setup.run(command, arguments);
            let all = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
            assert_eq!(output.status.code(), Some(78), "{command}: {all}");
            assert!(all.contains("DB_PASSWORD") && !all.contains(SECRET), "{command}: {all}");
        }
    }

    #[test]
    fn its_memory_and_environment_are_closed_to_other_processes_of_its_user() {
        let setup = Setup::sqlite().environment("DB_PASSWORD", SECRET).environment("DB_DRIVER", "sqlite");
        // Not as root, which would drop its privileges, and thereby close its memory for a while by itself.
        let setup = match Account::when_root("nobody") {
            Some(nobody) => {
                let (uid, gid) = (format!("--reuid={}", nobody.uid), format!("--regid={}", nobody.gid));
                setup.copied().through(["setpriv", &uid, &gid, "--clear-groups"])
            }
            None => setup,
        };
        let daemon = setup.start();
        for file in ["mem", "environ", "fd"] {
            let owner = fs::metadata(format!("/proc/{}/{file}", daemon.id())).unwrap().uid();
            assert_eq!(owner, 0, "{file} is readable for the daemon's user, and so is it in a core dump");
        }
    }
}
