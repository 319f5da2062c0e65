//! What is done to the history in the background: days are made of minutes, old minutes become hours.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{coarsening, days};
use crate::clock;
use crate::config;
use crate::limiter::decide::Policy;
use crate::limiter::terms::Terms;
use crate::limiter::{usual, window};
use crate::store::{Failure, Store};

/// At the start mail comes first.
const AFTER_START: Duration = Duration::from_secs(60);
/// Between two times that it is done.
const EVERY: Duration = Duration::from_secs(3600);

/// A task that does it. It ends with this.
pub struct Upkeep(JoinHandle<()>);

impl Upkeep {
    pub fn start(settings: config::Database, terms: watch::Receiver<Arc<Terms>>) -> Upkeep {
        Upkeep(tokio::spawn(async move {
            let mut store = Store::new(&settings);
            tokio::time::sleep(AFTER_START).await;
            loop {
                let terms = terms.borrow().clone();
                if let Err(failure) = keep_up(&mut store, &terms.policy, clock::now()).await {
                    log::debug!("keeping up the history: {failure}");
                }
                store.close().await;
                tokio::time::sleep(EVERY).await;
            }
        }))
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep_up(store: &mut Store, policy: &Policy, now: i64) -> Result<(), Failure> {
    days::make(store, now, days::BESIDE_MAIL).await?;
    days::make_of_messages(store, &policy.networks_ignore, now, days::BESIDE_MAIL).await?;
    if policy.tells_new_networks() {
        store.notes_networks(now).await?;
    }
    // Not before days are made of them: that takes minutes.
    if policy.longest_window().is_some_and(|longest| longest > window::EXACT) {
        coarsening::coarsen(store, policy.exact().max(usual::MINUTES_FOR), now).await?;
    }
    Ok(())
}
