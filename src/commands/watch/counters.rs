//! Asks the counters for its counters again and again.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::screen::figures::Progress;
use crate::commands::scrape;
use crate::config::Endpoint;
use crate::telemetry::counters::Counters;

/// The counters's counters, or why it did not answer.
pub type Answered = Result<Box<Progress>, String>;

/// Asks until the receiver of the answers is gone.
pub async fn ask(address: Endpoint, interval: Duration, answers: mpsc::Sender<Answered>) {
    let agent = scrape::agent();
    let mut earlier: Option<(Counters, Instant)> = None;
    loop {
        let (agent, address) = (agent.clone(), address.clone());
        let asked =
            tokio::task::spawn_blocking(move || scrape::read(&agent, &address).map(|told| (told, Instant::now())));
        let told = match asked.await.unwrap_or_else(|error| Err(error.to_string())) {
            Err(why) => Err(why),
            Ok((counters, at)) => {
                let before =
                    earlier.as_ref().map(|(counters, then)| (counters, at.duration_since(*then).as_secs_f64()));
                let told = Progress::new(counters.clone(), before);
                earlier = Some((counters, at));
                Ok(Box::new(told))
            }
        };
        if answers.send(told).await.is_err() {
            return;
        }
        tokio::time::sleep(interval).await;
    }
}
