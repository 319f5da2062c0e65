//! `cleanup`: resets the counters and deletes what is older than its retention, while mail goes on.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use serde::Serialize;

use super::database;
use super::output::{print, print_json};
use crate::cli::{self, Recent};
use crate::clock;
use crate::commit::days;
use crate::config::{Config, Sources};
use crate::exit::{Exit, Failed};
use crate::limiter::day;
use crate::limiter::{retention, window};
use crate::policy::duration;
use crate::store::maintenance::{Aged, Chunk, Outdated, Worked};
use crate::store::{Failure, Store};

/// How often a step that the database asks to try again is tried.
const TRIES: usize = 50;

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Cleaned {
    /// None if the counters were reset recently enough.
    senders_reset: Option<u64>,
    messages_deleted: u64,
    idle_rows_deleted: u64,
    /// Minutes of history, networks, notices, strikes and blocks that are over.
    history_deleted: u64,
}

pub fn run(sources: &Sources, options: &cli::Cleanup) -> Result<Exit, Failed> {
    let report = database::with_store(sources, async |config, mut store| {
        let place = store.place();
        let report = match store.migrate(false, clock::now()).await {
            Ok(_) => {
                let now = clock::now();
                let unless = options.unless_within.map(|recent| since(recent, now, &TimeZone::system()));
                clean(&mut store, &config, now, unless)
                    .await
                    .map_err(|error| Failed::new(Exit::Unavailable, format_args!("{place}: {error}")))
            }
            Err(error) => Err(database::unusable(&place, &error)),
        };
        store.close().await;
        report
    })?;
    if options.output.json {
        print_json(&report)?;
    } else {
        let reset = match report.senders_reset {
            Some(count) => format!("{count} senders reset"),
            None => "counters were reset recently and stay".to_owned(),
        };
        print(&format!(
            "{reset}; {} messages deleted; {} idle rows deleted; {} rows of history deleted\n",
            report.messages_deleted, report.idle_rows_deleted, report.history_deleted
        ))?;
    }
    Ok(Exit::Ok)
}

/// The time, in seconds since 1970, from which on a reset makes another one needless.
///
/// `today` is for a daily timer: a reset late in the day, of a host that was down at midnight or by hand, does not stand in
/// for the one at the next midnight, which senders are told; and of several hosts' timers, however exact, the first resets.
fn since(recent: Recent, now: i64, zone: &TimeZone) -> i64 {
    match recent {
        Recent::Today => day::began(now, zone),
        Recent::Within(time) => now.saturating_sub(duration::seconds(time)),
    }
}

/// Does it all. Counters that were reset at `unless` or later stay.
async fn clean(store: &mut Store, config: &Config, now: i64, unless: Option<i64>) -> Result<Cleaned, Failure> {
    let mut report = Cleaned::default();
    if store.claim_reset(now, unless).await? {
        let reset = async |store: &mut Store, after| {
            store.keep_reset(clock::now()).await?;
            store.chunk(Chunk::Reset, after).await
        };
        let done = in_chunks(store, "senders reset", reset).await;
        // Only a reset that came to its end is one; another host's timer, or the next run, does what this one could not.
        let ended = store.end_reset(done.is_ok().then_some(now)).await;
        report.senders_reset = Some(done?);
        ended?;
    }
    let retention = config.retention();
    days::make(store, now, days::BESIDE_MAIL).await?;
    if let Some(before) = retention.messages_before(now) {
        let delete = async |store: &mut Store, _| store.expire(Aged::Messages, Outdated::Before(before)).await;
        report.messages_deleted = in_chunks(store, "messages deleted", delete).await?;
    }
    let history = retention.history_before(now);
    let wrong = Outdated::After(window::latest(now));
    for (aged, outdated) in [
        (Aged::Usage, Outdated::Before(history)),
        (Aged::Usage, wrong),
        (Aged::Parts, Outdated::Before(history)),
        (Aged::Parts, wrong),
        (Aged::Networks, Outdated::Before(retention.networks_before(now))),
        (Aged::Networks, wrong),
        (Aged::Arrivals, Outdated::Before(retention::arrivals_before(now))),
        (Aged::Arrivals, wrong),
        (Aged::Days, Outdated::Before(retention::days_before(now))),
        (Aged::Days, wrong),
        (Aged::Notices, Outdated::Before(retention::notices_before(now))),
        (Aged::Notices, wrong),
        // Whatever a clock says: without its row a journal would be charged again.
        (Aged::Journals, Outdated::Before(retention::journals_before(now))),
        // Nor does a clock free anybody: what is blocked until the far future stays so.
        (Aged::Blocks, Outdated::Before(retention::story_before(now))),
        (Aged::Strikes, Outdated::Before(retention::story_before(now))),
        (Aged::Strikes, wrong),
    ] {
        let delete = async |store: &mut Store, _| store.expire(aged, outdated).await;
        report.history_deleted += in_chunks(store, "rows of history deleted", delete).await?;
    }
    let idle = Chunk::Idle { before: retention.idle_before(now) };
    let delete = async |store: &mut Store, after| store.chunk(idle, after).await;
    report.idle_rows_deleted = in_chunks(store, "idle rows deleted", delete).await?;
    Ok(report)
}

/// Repeats a piece of work until nothing is left of it, and rests as long as it worked: mail that comes meanwhile finds
/// the database free half of the time.
async fn in_chunks(
    store: &mut Store,
    what: &str,
    mut work: impl AsyncFnMut(&mut Store, i64) -> Result<Option<Worked>, Failure>,
) -> Result<u64, Failure> {
    let show = std::io::stderr().is_terminal();
    let (mut done, mut tries, mut after) = (0, 0, 0);
    loop {
        let began = Instant::now();
        match work(store, after).await {
            Ok(None) => break,
            Ok(Some(worked)) => {
                done += worked.rows;
                after = worked.last;
                tries = 0;
                if show {
                    eprint!("\r{done} {what}");
                }
            }
            Err(Failure::Transient(_) | Failure::Locked(_)) if tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(began.elapsed().clamp(Duration::from_millis(5), Duration::from_secs(1))).await;
    }
    if show && done > 0 {
        eprintln!();
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    /// Runs the timers of some hosts, and gives the times at which counters were reset.
    fn resets(recent: Recent, zone: &str, runs: &[&'static str]) -> Vec<&'static str> {
        let zone = TimeZone::get(zone).unwrap();
        let mut last = i64::MIN;
        let mut resets = Vec::new();
        for &run in runs {
            let now = run.parse::<Timestamp>().unwrap().as_second();
            if last < since(recent, now, &zone) {
                last = now;
                resets.push(run);
            }
        }
        resets
    }

    #[test]
    fn a_late_reset_leaves_the_next_midnight_its_own() {
        // Down over midnight and up at eight; by hand at noon of the second day; two hosts, one of them with a delay.
        let runs = [
            "2026-11-13T23:00:10Z",
            "2026-11-15T07:00:00Z",
            "2026-11-15T23:00:10Z",
            "2026-11-15T23:20:00Z",
            "2026-11-16T11:00:00Z",
            "2026-11-16T23:00:10Z",
        ];
        let [first, late, midnight, _, _, next] = runs;
        assert_eq!(resets(Recent::Today, "Europe/Zurich", &runs), [first, late, midnight, next]);
    }

    #[test]
    fn each_day_has_one_reset_however_long_it_is_and_whenever_its_timer_runs() {
        // 23 hours, and 25; at midnight, at four, and just before midnight.
        for runs in [
            ["2026-03-28T23:00:10Z", "2026-03-29T22:00:10Z", "2026-03-30T22:00:10Z"],
            ["2026-10-24T22:00:10Z", "2026-10-25T23:00:10Z", "2026-10-26T23:00:10Z"],
            ["2026-03-28T03:00:00Z", "2026-03-29T02:00:00Z", "2026-03-30T02:00:00Z"],
            ["2026-10-24T21:59:00Z", "2026-10-25T22:59:00Z", "2026-10-26T22:59:00Z"],
        ] {
            assert_eq!(resets(Recent::Today, "Europe/Zurich", &runs), runs);
        }
    }

    #[test]
    fn a_duration_is_one() {
        let runs = ["2026-11-15T07:00:00Z", "2026-11-15T23:00:10Z", "2026-11-16T03:00:00Z"];
        let twenty_hours = Recent::Within(Duration::from_secs(20 * 3600));
        assert_eq!(
            resets(twenty_hours, "Europe/Zurich", &runs),
            ["2026-11-15T07:00:00Z"],
            "20 hours later to the second it stays"
        );
    }
}
