//! Days are made of minutes when they are over: the highest sums of each sender, see [`usual`]. In the background, since nothing
//! needs a day before the one after it is over, too. Whoever does it, and however often, comes to the same: it is made of what
//! all daemons have written.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::limiter::usual::{self, Record};
use crate::store::days::DayRow;
use crate::store::{Failure, Store};

/// Senders whose minutes are read at once, 2,880 of each at the most.
const SENDERS: usize = 16;
/// The database is the mail's: a step rests so many times as long as it took.
pub const BESIDE_MAIL: u32 = 4;
/// For one step.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Makes the days that are over at `now`, in Unix seconds, and were not made before. Each step rests `rest` times as long as
/// it took.
pub async fn make(store: &mut Store, now: i64, rest: u32) -> Result<(), Failure> {
    let ended = usual::ended(now);
    let first = *usual::days(now).start();
    let made_until = in_time(store, async |store| store.days_made_until().await).await?;
    for day in made_until.unwrap_or(first).max(first)..ended {
        make_one(store, day, rest).await?;
    }
    if made_until != Some(ended) {
        in_time(store, async |store| store.set_days_made_until(ended).await).await?;
    }
    Ok(())
}

async fn make_one(store: &mut Store, day: i64, rest: u32) -> Result<(), Failure> {
    let minutes = usual::first_minute_of(day)..usual::first_minute_of(day + 1);
    let mut senders = in_time(store, async |store| store.with_usage(minutes.clone()).await).await?;
    let compromised = in_time(store, async |store| store.found_compromised(minutes.clone()).await).await?;
    let compromised: HashSet<i64> = compromised.into_iter().collect();
    senders.retain(|sender| !compromised.contains(sender));
    // The windows that end in it begin the day before.
    let minutes = usual::first_minute_of(day - 1)..minutes.end;
    for senders in senders.chunks(SENDERS) {
        let began = Instant::now();
        let minutes = minutes.clone();
        in_time(store, async |store| {
            let went_through = store.went_through(senders, minutes.clone()).await?;
            let days: Vec<DayRow> = went_through
                .chunk_by(|(one, ..), (other, ..)| one == other)
                .filter_map(|of_sender| {
                    let mut record = Record::default();
                    of_sender.iter().for_each(|(_, minute, sums)| record.add(*minute, *sums));
                    let day = record.days().find(|made| made.day == day)?;
                    Some(DayRow { ratelimit_id: of_sender.first()?.0, day: *day })
                })
                .collect();
            store.note_days(&days).await
        })
        .await?;
        if rest > 0 {
            tokio::time::sleep(began.elapsed() * rest).await;
        }
    }
    Ok(())
}

async fn in_time<T>(store: &mut Store, step: impl AsyncFnOnce(&mut Store) -> Result<T, Failure>) -> Result<T, Failure> {
    match tokio::time::timeout(TIMEOUT, step(store)).await {
        Ok(done) => done,
        Err(_) => {
            store.abandon();
            Err(Failure::Away(format!("no answer within {} s", TIMEOUT.as_secs())))
        }
    }
}
