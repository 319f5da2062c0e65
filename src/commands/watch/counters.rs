//! Asks the daemon for its counters again and again.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::News;
use super::screen::figures::Counters;
use crate::commands::scrape;
use crate::config::Endpoint;
use crate::status::daemon::Daemon;

/// Asks until the receiver of the news is gone.
pub async fn ask(address: Endpoint, interval: Duration, news: mpsc::Sender<News>) {
    let agent = scrape::agent();
    let mut earlier: Option<(Daemon, Instant)> = None;
    loop {
        let (agent, address) = (agent.clone(), address.clone());
        let asked =
            tokio::task::spawn_blocking(move || scrape::read(&agent, &address).map(|told| (told, Instant::now())));
        let told = match asked.await.unwrap_or_else(|error| Err(error.to_string())) {
            Err(why) => Err(why),
            Ok((daemon, at)) => {
                let before = earlier.as_ref().map(|(daemon, then)| (daemon, at.duration_since(*then).as_secs_f64()));
                let told = Counters::new(daemon.clone(), before);
                earlier = Some((daemon, at));
                Ok(Box::new(told))
            }
        };
        if news.send(News::Daemon(told)).await.is_err() {
            return;
        }
        tokio::time::sleep(interval).await;
    }
}
