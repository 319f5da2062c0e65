//! `cleanup`: resets the counters and deletes what is older than its retention, while mail goes on.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{database, print, print_json};
use crate::cli;
use crate::commit::breaker;
use crate::config::{Config, Sources};
use crate::exit::{Exit, Failed};
use crate::store::maintenance::Chunk;
use crate::store::{Failure, Store};

const DAY: i64 = 24 * 60 * 60;
/// A row of somebody without a login goes when it has not been used for so long.
const IDLE: i64 = 7 * DAY;
/// How often a step that the database asks to try again is tried.
const TRIES: usize = 50;

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// None if the counters were reset recently enough.
    senders_reset: Option<u64>,
    messages_deleted: u64,
    idle_rows_deleted: u64,
}

pub fn run(sources: &Sources, options: &cli::Cleanup) -> Result<Exit, Failed> {
    let report = database::with_store(sources, async |config, mut store| {
        let place = store.place();
        let report = match store.migrate(false).await {
            Ok(_) => {
                let within = options.unless_within;
                clean(&mut store, &config, within)
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
            "{reset}; {} messages deleted; {} idle rows deleted\n",
            report.messages_deleted, report.idle_rows_deleted
        ))?;
    }
    Ok(Exit::Ok)
}

async fn clean(store: &mut Store, config: &Config, unless_within: Option<Duration>) -> Result<Report, Failure> {
    let now = breaker::now();
    let mut report = Report::default();
    let before = i64::try_from(unless_within.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
    let claimed = store.claim_reset(now, now.saturating_sub(before), unless_within.is_none()).await?;
    if let Some(previous) = claimed {
        match in_chunks(store, "senders reset", Chunk::Reset).await {
            Ok(count) => report.senders_reset = Some(count),
            Err(error) => {
                // Another host's timer, or the next run, is to do what this one could not.
                if let Err(error) = store.unclaim_reset(previous).await {
                    log::debug!("taking the reset back: {error}");
                }
                return Err(error);
            }
        }
    }
    if config.audit.message_retention > 0 {
        let before = now - i64::from(config.audit.message_retention) * DAY;
        report.messages_deleted = in_chunks(store, "messages deleted", Chunk::Messages { before }).await?;
    }
    report.idle_rows_deleted = in_chunks(store, "idle rows deleted", Chunk::Idle { before: now - IDLE }).await?;
    Ok(report)
}

/// Repeats a piece of work until nothing is left of it, and rests as long as it worked: whoever sends mail meanwhile finds
/// the database free half of the time.
async fn in_chunks(store: &mut Store, what: &str, chunk: Chunk) -> Result<u64, Failure> {
    let show = std::io::stderr().is_terminal();
    let (mut done, mut tries, mut after) = (0, 0, 0);
    loop {
        let began = Instant::now();
        match store.chunk(chunk, after).await {
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
