//! Asks the daemon for its counters, over HTTP at METRICS_LISTEN.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use ureq::Agent;

use super::Report;
use super::screen::figures::Told;
use crate::config::Endpoint;
use crate::status::daemon::Daemon;

/// For one answer, from connecting on.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most bytes of an answer: the daemon's is a tenth of that.
const MOST: u64 = 256 * 1024;
/// The most bytes of an answer's head.
const MOST_HEAD: usize = 16 * 1024;

/// Where the daemon is asked: as near as it listens.
pub fn address(listens: &Endpoint) -> Endpoint {
    let mut nearest = listens.clone();
    if let Endpoint::Address(address) = &mut nearest
        && address.ip().is_unspecified()
    {
        let is_ipv4 = address.is_ipv4();
        address.set_ip(if is_ipv4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    nearest
}

/// Asks again and again, until nobody wants the reports.
pub async fn ask(address: Endpoint, interval: Duration, reports: mpsc::Sender<Report>) {
    // No proxy of the environment's: this stays on the host.
    let agent = Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .max_redirects(0)
        .http_status_as_error(false)
        .max_response_header_size(MOST_HEAD)
        .proxy(None)
        .build()
        .new_agent();
    let mut earlier: Option<(Daemon, Instant)> = None;
    loop {
        let (agent, address) = (agent.clone(), address.clone());
        let asked = tokio::task::spawn_blocking(move || once(&agent, &address));
        let told = match asked.await.unwrap_or_else(|error| Err(error.to_string())) {
            Err(why) => Err(why),
            Ok((daemon, at)) => {
                let before = earlier.as_ref().map(|(daemon, then)| (daemon, at.duration_since(*then).as_secs_f64()));
                let told = Told::new(daemon.clone(), before);
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

/// The counters, and when they were told.
fn once(agent: &Agent, address: &Endpoint) -> Result<(Daemon, Instant), String> {
    let mut response = agent.get(format!("http://{address}/metrics")).call().map_err(|error| why(&error))?;
    let at = Instant::now();
    if response.status() != 200 {
        return Err(format!("what answers there says {}", response.status().as_u16()));
    }
    let text = response.body_mut().with_config().limit(MOST).read_to_string().map_err(|error| why(&error))?;
    Daemon::read(&text).map(|daemon| (daemon, at)).ok_or_else(|| "what answers there is not this daemon".to_owned())
}

fn why(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::ConnectionFailed => "connection refused".to_owned(),
        other => other.to_string(),
    }
}
