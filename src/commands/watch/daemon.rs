//! Asks the daemon for its counters, again and again.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Report;
use super::screen::figures::Counters;
use crate::commands::daemon;
use crate::config::Endpoint;
use crate::status::daemon::Daemon;

/// Until nobody wants the reports.
pub async fn ask(address: Endpoint, interval: Duration, reports: mpsc::Sender<Report>) {
    let agent = daemon::agent();
    let mut earlier: Option<(Daemon, Instant)> = None;
    loop {
        let (agent, address) = (agent.clone(), address.clone());
        let asked =
            tokio::task::spawn_blocking(move || daemon::read(&agent, &address).map(|told| (told, Instant::now())));
        let told = match asked.await.unwrap_or_else(|error| Err(error.to_string())) {
            Err(why) => Err(why),
            Ok((daemon, at)) => {
                let before = earlier.as_ref().map(|(daemon, then)| (daemon, at.duration_since(*then).as_secs_f64()));
                let told = Counters::new(daemon.clone(), before);
                earlier = Some((daemon, at));
                Ok(Box::new(told))
            }
        };
        if reports.send(Report::Daemon(told)).await.is_err() {
            return;
        }
        tokio::time::sleep(interval).await;
    }
}
