//! Figures with a bound of their own: answers that must come in time, memory that must not grow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::ensure;

use crate::load::{Load, Traffic, sender};
use crate::report::Bound;
use crate::servers::{Server, plain};
use crate::support::client::{Client, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::tables;

/// Between two requests without a login.
const PACE: Duration = Duration::from_millis(1);

/// Eighty senders that sent in every minute of a month, as cron jobs do, and that send at the same moment to a daemon that
/// has just started and knows nothing of them: how long the slowest waits, and the slowest of those without a login.
pub fn month(setup: fn() -> Setup) -> anyhow::Result<[Bound; 2]> {
    const SENDERS: usize = 80;
    const DAYS: u64 = 31;
    const TIMES: usize = 3;
    let senders: Vec<String> = (0..SENDERS).map(sender).collect();
    let mut daemon = plain(setup()).setting("QUOTA_WINDOW", "31d").start();
    daemon.term();
    eprintln!("filling tables with {DAYS} days of {SENDERS} senders");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    tables::fill_days(daemon.database(), &senders, DAYS, DAYS * 24 * 60, now);
    let mut slowest = [Duration::ZERO; 2];
    for time in 1..=TIMES {
        eprintln!("{SENDERS} senders at once, {time} of {TIMES}");
        daemon.start_again();
        // Once from the database, once from memory.
        for _ in 0..2 {
            let waited = together(&daemon, &senders);
            slowest = [slowest[0].max(waited[0]), slowest[1].max(waited[1])];
        }
        daemon.term();
    }
    ensure!(!daemon.log().contains("Mail goes on"), "the database was taken for dead: {}", daemon.log());
    let bound = |what: &str, measured: Duration, aim| Bound {
        what: what.to_owned(),
        unit: "ms",
        measured: measured.as_secs_f64() * 1e3,
        aim,
    };
    Ok([
        bound("80 senders with a month of every minute at once, the slowest answer", slowest[0], 300.0),
        bound("the same, the slowest answer to a request without a login", slowest[1], 20.0),
    ])
}

/// Has all senders ask at the same moment. Returns the longest that one of them waited, and one without a login meanwhile.
fn together(daemon: &Daemon, senders: &[String]) -> [Duration; 2] {
    let start = Barrier::new(senders.len());
    let answered = AtomicBool::new(false);
    let timed = |client: &mut Client, request: &Request| {
        let asked = Instant::now();
        assert_eq!(client.ask(request), "DUNNO");
        asked.elapsed()
    };
    thread::scope(|scope| {
        let strangers = scope.spawn(|| {
            let (mut client, mut longest) = (daemon.connect(), Duration::ZERO);
            while !answered.load(Ordering::Relaxed) {
                longest = longest.max(timed(&mut client, &Request::data("", 1)));
                thread::sleep(PACE);
            }
            longest
        });
        let asking: Vec<_> = senders
            .iter()
            .map(|sender| {
                let (mut client, start) = (daemon.connect(), &start);
                scope.spawn(move || {
                    start.wait();
                    timed(&mut client, &Request::data(sender, 1))
                })
            })
            .collect();
        let longest = asking.into_iter().map(|one| one.join().expect("a sender")).max().unwrap_or_default();
        answered.store(true, Ordering::Relaxed);
        [longest, strangers.join().expect("those without a login")]
    })
}

/// Half a million senders seen, under ten limits with windows of up to a month: resident memory.
pub fn crowd(load: &Load, setup: fn() -> Setup) -> anyhow::Result<Bound> {
    const SENDERS: usize = 500_000;
    const TEN: &str = "4G bytes/31d; 900000000 recipients/1m; 900000000 recipients/5m; 900000000 recipients/1h; \
         900000000 recipients/31d; 900000000 messages/10m; 900000000 messages/7d; 1000 networks/24h; \
         1000 recipients/message; 100% recipients/10m";
    let setup = plain(setup()).setting("QUOTA_WINDOW", "31d").setting("LIMITS", TEN);
    let mut server = Server::daemon("half a million senders", setup);
    eprintln!("{SENDERS} senders");
    let traffic = Arc::new(Traffic::by(&(0..SENDERS).map(sender).collect::<Vec<_>>()));
    while server.replies() < 2 * SENDERS as u64 {
        server.load(load, &traffic, 64, Duration::from_secs(2))?;
    }
    Ok(Bound {
        what: format!("{SENDERS} senders seen, ten limits, windows of a month: resident memory"),
        unit: "MB",
        measured: server.resident()?,
        aim: 200.0,
    })
}
