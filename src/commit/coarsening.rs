//! History beyond the last day or so, kept by the hour: see [`window::kept_together`]. Done in the background, since a decision
//! by a window of 31 days would else read 44,000 minutes of a sender.

use std::time::Duration;

use tokio::time::Instant;

use crate::limiter::window;
use crate::store::{Failure, Store};

/// The database is the mail's: a step rests so many times as long as it took.
const REST: u32 = 4;
/// For one step.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Until which minute it was done, in `meta`.
const DONE: &str = "usage_coarse_before";

/// Does it for what has become old enough at `now`, in Unix seconds. `exact` is how far back minutes are told apart.
pub async fn coarsen(store: &mut Store, exact: Duration, now: i64) -> Result<(), Failure> {
    let coarse = window::coarse_before(now, exact);
    let done = store.meta(DONE).await?.and_then(|text| text.parse::<i64>().ok()).unwrap_or(0).min(coarse.0);
    // What became older than a month since, and what became older than `exact`.
    let days = window::days_before(done).min(coarse.1)..coarse.1;
    for minutes in [days, done.max(coarse.1)..coarse.0] {
        for id in store.with_usage(minutes.clone()).await? {
            let mut next = Some(minutes.start);
            while let Some(first) = next {
                let began = Instant::now();
                let together = |minute| window::kept_together(minute, coarse);
                let step = store.coarsen(id, first..minutes.end, together);
                next = match tokio::time::timeout(TIMEOUT, step).await {
                    Ok(next) => next?,
                    Err(_) => {
                        store.abandon();
                        return Err(Failure::Away(format!("no answer within {} s", TIMEOUT.as_secs())));
                    }
                };
                tokio::time::sleep(began.elapsed() * REST).await;
            }
        }
    }
    store.set_meta(DONE, &coarse.0.to_string()).await
}
