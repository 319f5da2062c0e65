//! `watch` and `top` in a real terminal: what they show of a daemon under load, what keys do, and that the terminal is left as
//! it was.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::support::daemon::{Daemon, Setup};
use crate::support::own_process;
use crate::support::proxy::Proxy;
use crate::support::server::Server;
use crate::support::stream::Address;
use crate::support::terminal::Terminal;
use crate::support::traffic::{Traffic, senders};
use nix::sys::signal::Signal;
use policyd_rate_guard::commands::watch::terminal::Terminal as Taken;

const BLOCKED: &str = "blocked@example.com";

/// A daemon whose counters can be asked for, and which soon blocks one sender.
fn started(setup: Setup) -> Daemon {
    let setup = setup
        .setting("QUOTA", "100000")
        .setting("QUOTA_WINDOW", "24h")
        .setting("QUOTA_STEPS", "1x HOLD quota exceeded")
        .setting("LIMITS", "5000 recipients/5m DEFER slow down")
        .with_metrics();
    let daemon = setup.start();
    let output = daemon.setup().run("sender", &["set", BLOCKED, "--quota", "7"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    daemon
}

/// Many connections that ask, one of them for the sender who is soon blocked.
fn load(daemon: &Daemon) -> Traffic {
    let mut names = senders(63);
    names.push(BLOCKED.to_owned());
    let traffic = Traffic::start(&daemon.unix_address(), &names, Duration::from_millis(20));
    traffic.await_answers(64 * 8);
    traffic
}

/// Runs `watch` in a terminal, whose state before is in the file `before`.
fn watch(terminal: &Terminal, setup: &Setup, options: &str) {
    let command = setup.typed(&format!("watch --interval 1s {options}"));
    terminal.line(&format!("stty -a >before; {command}; echo ended=$?; stty -a >after"));
}

/// Waits until `watch` has ended, and checks that the terminal is as it was.
fn has_given_back(terminal: &Terminal, status: &str) -> String {
    let end = format!("ended={status}\n");
    let screen = terminal.wait_for("the shell goes on", |screen| {
        screen.contains(&end) && screen.trim_end().ends_with('$') && terminal.file("after").exists()
    });
    assert_eq!(terminal.modes(), (false, true), "the screen before it is back, and the cursor:\n{screen}");
    // The first line has the size.
    let modes = |name: &str| {
        let told = fs::read_to_string(terminal.file(name)).unwrap();
        told.split_once('\n').unwrap().1.to_owned()
    };
    assert_eq!(modes("after"), modes("before"));
    fs::remove_file(terminal.file("after")).unwrap();
    screen
}

/// The line of a sender in a list.
fn line<'a>(screen: &'a str, name: &str) -> Option<&'a str> {
    // Below the list there are refusals, with the name at another place.
    screen.lines().find(|line| line.chars().skip(2).collect::<String>().starts_with(name))
}

/// The number before these words.
fn number(screen: &str, words: &str) -> Option<f64> {
    let before = screen.split_once(words)?.0;
    before.rsplit(' ').next()?.replace(',', "").parse().ok()
}

/// The colours among escape sequences, by their numbers.
fn colours(seen: &str) -> BTreeSet<&str> {
    let sequences = seen.split("\u{1b}[").skip(1).filter_map(|rest| Some(rest.split_once('m')?.0));
    // 39 and 49 are the terminal's own; 30 to 48 and 90 to 107 are colours.
    let is_colour = |sequence: &&str| {
        let number: u32 = sequence.split(';').next().unwrap_or_default().parse().unwrap_or(0);
        matches!(number, 30..=38 | 40..=48 | 90..=107)
    };
    sequences.filter(is_colour).collect()
}

#[test]
fn a_screen_of_80_by_24_shows_what_happens_under_load_and_heeds_keys() {
    let daemon = started(Setup::sqlite());
    let traffic = load(&daemon);
    let terminal = Terminal::open(80, 24, &[]);
    watch(&terminal, daemon.setup(), "");
    let screen = terminal.wait_for("the load", |screen| {
        number(screen, "/s  ").is_some_and(|rate| rate > 10.0)
            && number(screen, " messages/min").is_some_and(|rate| rate > 10.0)
            && line(screen, BLOCKED).is_some_and(|line| line.contains("HOLD") && line.contains('%'))
    });
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    assert_eq!(terminal.modes(), (true, false));
    assert!(line(&screen, BLOCKED).unwrap().contains("██████"), "its bar is full:\n{screen}");
    assert!(line(&screen, "sender0").unwrap().contains("▏"), "a small share is seen:\n{screen}");
    assert!(screen.contains("database   answers in "), "{screen}");
    assert!(screen.contains("1 blocked now") && screen.contains("64 of 64"), "{screen}");
    let (_, refusals) = screen.split_once("Recently held or refused").unwrap();
    assert!(refusals.contains(" HOLD    blocked@example.com ") && refusals.contains("x 1x quota 7: "), "{screen}");

    terminal.text("S");
    terminal.wait_for("the order of names", |screen| {
        let names: Vec<&str> = screen.lines().skip(7).filter_map(|line| line.get(2..)?.split(' ').next()).collect();
        screen.contains("Senders by name in 24h ")
            && names.starts_with(&["sender00@example.com", "sender01@example.com"])
    });
    terminal.text("ss");
    terminal.wait_for("another order", |screen| screen.contains("Senders by recipients in 24h"));
    terminal.key("BTab");
    terminal.wait_for("the order before", |screen| screen.contains("Senders by share of quota in 24h"));
    terminal.text("/SENDER61");
    terminal.wait_for("who is like that", |screen| screen.contains("/SENDER61_") && line(screen, BLOCKED).is_none());
    terminal.key("Enter");
    terminal.wait_for("the filter is kept", |screen| screen.contains("with SENDER61") && screen.contains("1 of 64"));
    // Together with the next key it would be another one: Alt and that.
    terminal.key("Escape");
    terminal.wait_for("all of them", |screen| screen.contains("in 24h ── 64 of 64"));
    terminal.text("b");
    terminal.wait_for("who is blocked", |screen| {
        screen.contains("only blocked ones") && line(screen, BLOCKED).is_some() && line(screen, "sender").is_none()
    });
    terminal.key("Enter");
    let screen = terminal.wait_for("all about him", |screen| {
        screen.contains("── blocked@example.com ──") && screen.contains("next mail  HOLD (1x quota 7); free again 20")
    });
    assert!(screen.contains("5000 recipients/5m") && screen.contains("exceeded; free again 20"), "{screen}");
    assert!(screen.contains("hour by hour ── at most ") && screen.contains('█'), "{screen}");
    terminal.key("End");
    terminal.wait_for("his last messages", |screen| {
        screen.contains("── Recently held or refused ──") && screen.contains(" HOLD         1 ")
    });
    terminal.text("?");
    terminal.wait_for("the help", |screen| screen.contains("── Keys ──") && screen.contains("quit"));
    terminal.text("x");
    terminal.wait_for("his page again", |screen| {
        screen.contains("── blocked@example.com ──") || screen.contains("Esc back")
    });
    terminal.key("Escape");
    terminal.wait_for("the list", |screen| screen.contains("only blocked ones"));
    terminal.text("q");
    has_given_back(&terminal, "0");
    let held = traffic.stop().into_iter().filter(|answered| answered.action.starts_with("HOLD")).count();
    assert!(held > 0);
}

#[test]
fn a_screen_of_200_by_50_shows_more_and_follows_the_terminal_s_size() {
    let daemon = started(Setup::sqlite());
    let traffic = load(&daemon);
    let terminal = Terminal::open(200, 50, &[]);
    watch(&terminal, daemon.setup(), "");
    let screen = terminal.wait_for("the load", |screen| {
        number(screen, "/s  ").is_some_and(|rate| rate > 10.0)
            && line(screen, BLOCKED).is_some_and(|line| line.contains("HOLD"))
            && screen.contains("64 of ")
            && screen.contains(" a transaction")
    });
    assert!(
        screen.contains("24 HOURS") && screen.contains(" connections") && screen.contains(" 192.0.2.25 "),
        "{screen}"
    );
    let seen = screen.lines().filter(|line| line.trim_start().starts_with("sender")).count();
    assert!(screen.contains("64 of 64") && seen > 20, "many senders at once:\n{screen}");
    let widest = screen.lines().map(|line| line.chars().count()).max().unwrap();
    assert_eq!(widest, 200, "{screen}");
    terminal.resize(60, 12);
    terminal.wait_for("a small screen", |screen| {
        screen.lines().map(|line| line.chars().count()).max() == Some(60) && line(screen, "blocked@").is_some()
    });
    terminal.resize(30, 5);
    terminal.wait_for("what is wrong", |screen| screen.contains("30x5 is too small; 36x6"));
    terminal.resize(100, 30);
    terminal.wait_for("a screen again", |screen| {
        screen.lines().map(|line| line.chars().count()).max() == Some(100) && line(screen, BLOCKED).is_some()
    });
    terminal.key("Escape");
    has_given_back(&terminal, "0");
    traffic.stop();
}

#[test]
fn colours_come_only_where_they_are_wanted() {
    let daemon = started(Setup::sqlite());
    load(&daemon).stop();
    let seen = |environment: &[(&str, &str)], options: &str| {
        let terminal = Terminal::open(80, 24, environment);
        watch(&terminal, daemon.setup(), options);
        terminal.wait_for("who is blocked", |screen| line(screen, BLOCKED).is_some_and(|line| line.contains("HOLD")));
        let seen = terminal.screen_with_colours();
        terminal.text("q");
        has_given_back(&terminal, "0");
        assert!(seen.contains("\u{1b}[7m"), "the chosen line is seen without colours, too:\n{seen}");
        colours(&seen).len()
    };
    assert!(seen(&[], "") >= 3);
    assert_eq!(seen(&[("NO_COLOR", "1")], ""), 0);
    assert_eq!(seen(&[("CLICOLOR", "0")], ""), 0);
    assert_eq!(seen(&[], "--no-color"), 0);
}

#[test]
fn whatever_ends_it_the_terminal_is_given_back() {
    let daemon = started(Setup::sqlite());
    let terminal = Terminal::open(80, 24, &[]);
    for signal in [Some(Signal::SIGTERM), Some(Signal::SIGHUP), Some(Signal::SIGINT), None] {
        watch(&terminal, daemon.setup(), "");
        terminal.wait_for("the screen", |screen| screen.contains("answers in ") && screen.contains("? help"));
        let status = fs::read_to_string(format!("/proc/{}/status", terminal.child())).unwrap();
        assert!(!status.contains("\nUid:\t0\t"), "it is root no more:\n{status}");
        match signal {
            Some(signal) => terminal.signal_child(signal),
            None => terminal.key("C-c"),
        }
        has_given_back(&terminal, "0");
        terminal.line("clear");
        terminal.wait_for("an empty screen", |screen| screen.trim_end() == "$");
    }
}

#[test]
fn a_panic_gives_the_terminal_back_before_it_says_anything() {
    const TEST: &str = "watch::a_panic_gives_the_terminal_back_before_it_says_anything";
    let Some(command) = own_process::command(TEST, &[]) else {
        let _taken = Taken::take().unwrap();
        panic!("on purpose");
    };
    let words = |word: &std::ffi::OsStr| word.to_str().unwrap().to_owned();
    let mut line: Vec<String> =
        command.get_envs().filter_map(|(name, value)| Some(format!("{}={}", words(name), words(value?)))).collect();
    line.push(words(command.get_program()));
    line.extend(command.get_args().map(words));
    let terminal = Terminal::open(120, 30, &[]);
    terminal.line(&format!("stty -a >before; {}; echo ended=$?; stty -a >after", line.join(" ")));
    let screen = has_given_back(&terminal, "101");
    assert!(screen.contains("watch.rs:") && screen.contains("panicked at"), "{screen}");
}

#[test]
fn what_is_away_is_said_and_comes_back_by_itself() {
    let mut daemon = started(Setup::sqlite());
    let terminal = Terminal::open(80, 24, &[]);
    let file = daemon.setup().folder().join("policyd-rate-guard.db");
    let hidden = daemon.setup().folder().join("hidden");
    daemon.term();
    fs::rename(&file, &hidden).unwrap();
    watch(&terminal, daemon.setup(), "");
    let screen = terminal.wait_for("both are away", |screen| {
        screen.contains("decisions  NOT KNOWN since ") && screen.contains("database   AWAY since ")
    });
    assert!(!file.exists(), "it makes none:\n{screen}");
    fs::rename(&hidden, &file).unwrap();
    daemon.start_again();
    load(&daemon).stop();
    terminal.wait_for("both are back", |screen| {
        screen.contains("answers in ") && screen.contains("queue 0") && line(screen, BLOCKED).is_some()
    });
    terminal.text("q");
    has_given_back(&terminal, "0");
}

fn keys_do_not_wait<S: Server>() {
    let server = S::shared();
    let proxy = Proxy::tcp(Address::Tcp(server.address()));
    let daemon = started(Setup::on(&server.database().over_tcp(proxy.tcp_address())));
    load(&daemon).stop();
    let terminal = Terminal::open(80, 24, &[]);
    watch(&terminal, daemon.setup(), "");
    terminal.wait_for("who is blocked", |screen| line(screen, BLOCKED).is_some_and(|line| line.contains("HOLD")));
    proxy.freeze();
    terminal.wait_for("old figures", |screen| screen.contains(" s old\n"));
    terminal.text("?");
    terminal.wait_for("the help", |screen| screen.contains("── Keys ──"));
    terminal.text("?/sender0");
    terminal.wait_for("who is like that", |screen| screen.contains("with sender0"));
    terminal.key("Enter");
    terminal.text("q");
    has_given_back(&terminal, "0");
    proxy.resume();
}

crate::on_each_server! { keys_do_not_wait }

#[test]
fn without_a_terminal_it_names_what_else_there_is() {
    let setup = Setup::sqlite();
    for environment in [None, Some("dumb")] {
        let said = match environment {
            None => {
                let output = setup.run("watch", &[]);
                assert_eq!(output.status.code(), Some(64));
                assert!(output.stdout.is_empty());
                String::from_utf8(output.stderr).unwrap()
            }
            Some(name) => {
                let terminal = Terminal::open(80, 24, &[]);
                terminal.line(&format!("TERM={name} {}; echo ended=$?", setup.typed("watch")));
                terminal.wait_for("its end", |screen| screen.contains("ended=64\n"))
            }
        };
        let said = said.replace('\n', "");
        assert!(said.contains("policyd-rate-guard top` or") && said.contains("sender list --json"), "{said}");
    }
    let output = setup.run("watch", &["--interval", "10ms"]);
    assert_eq!(output.status.code(), Some(64), "not a hundred times a second");
}

#[test]
fn top_fills_the_terminal_and_no_more() {
    let daemon = started(Setup::sqlite());
    load(&daemon).stop();
    for width in [80, 200] {
        let terminal = Terminal::open(width, 50, &[]);
        terminal.line(&format!(
            "clear; {} >out; {}; echo ended=$?",
            daemon.setup().typed("top"),
            daemon.setup().typed("top -n 12")
        ));
        let screen = terminal.wait_for("the end", |screen| screen.contains("ended=0\n"));
        let (table, _) = screen.split_once("ended=0").unwrap();
        let lines: Vec<&str> = table.lines().collect();
        let headings = lines.iter().position(|line| line.starts_with("SENDER")).unwrap();
        // A line that is wider is broken, and there are more of them.
        assert_eq!(lines.len(), headings + 1 + 12, "{screen}");
        let widest = lines.iter().map(|line| line.chars().count()).max().unwrap();
        assert_eq!(widest, usize::from(width), "the greatest bar fills the screen:\n{screen}");
        assert_eq!(lines[headings].contains("NETWORKS"), width == 200, "{screen}");
        for line in &lines[headings + 1..] {
            assert!(line.contains('█'), "a bar, or an hour that had most:\n{screen}");
        }
        let piped = fs::read_to_string(terminal.file("out")).unwrap();
        assert!(piped.is_ascii() && piped.contains("@example.com"), "{piped}");
    }
}
