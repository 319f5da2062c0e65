//! History beyond the last day or so, kept by the hour: see [`window::kept_together`]. Done in the background, since a decision
//! by a window of 31 days would else read 44,000 minutes of a sender.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock;
use crate::config;
use crate::limiter::terms::Terms;
use crate::limiter::window;
use crate::store::{Failure, Store};

/// Between two times that it is done.
const EVERY: Duration = Duration::from_secs(3600);
/// The database is the mail's: a step rests so many times as long as it took.
const REST: u32 = 4;
/// For one step.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Until which minute it was done, in `meta`.
const DONE: &str = "usage_coarse_before";

/// A task that does it where windows ask for it. It ends with this.
pub struct Coarsening(JoinHandle<()>);

impl Coarsening {
    pub fn start(settings: config::Database, terms: watch::Receiver<Arc<Terms>>) -> Coarsening {
        Coarsening(tokio::spawn(async move {
            let mut store = Store::new(&settings);
            loop {
                let (longest, exact) = {
                    let policy = &terms.borrow().policy;
                    (policy.longest_window().unwrap_or_default(), policy.exact())
                };
                if longest > window::EXACT {
                    if let Err(failure) = coarsen(&mut store, exact).await {
                        log::debug!("keeping history by the hour: {failure}");
                    }
                    store.close().await;
                }
                tokio::time::sleep(EVERY).await;
            }
        }))
    }
}

impl Drop for Coarsening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn coarsen(store: &mut Store, exact: Duration) -> Result<(), Failure> {
    let coarse = window::coarse_before(clock::now(), exact);
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
