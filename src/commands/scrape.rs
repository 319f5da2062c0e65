//! Reads the daemon's counters over HTTP at METRICS_LISTEN.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ureq::Agent;

use crate::config::Endpoint;
use crate::status::daemon::Daemon;

/// For one answer, from connecting on.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The most bytes of an answer: the daemon's is a tenth of that.
const MAX_ANSWER: u64 = 256 * 1024;
/// The most bytes of an answer's head.
const MAX_HEAD: usize = 16 * 1024;

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

/// With which to ask. No proxy of the environment's: this stays on the host.
pub fn agent() -> Agent {
    Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .max_redirects(0)
        .http_status_as_error(false)
        .max_response_header_size(MAX_HEAD)
        .proxy(None)
        .build()
        .new_agent()
}

/// The counters as they are now.
///
/// # Errors
/// In words: who answers there, if anybody.
pub fn read(agent: &Agent, address: &Endpoint) -> Result<Daemon, String> {
    let mut response = agent.get(format!("http://{address}/metrics")).call().map_err(|error| why(&error))?;
    if response.status() != 200 {
        return Err(format!("what answers there says {}", response.status().as_u16()));
    }
    let text = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string().map_err(|error| why(&error))?;
    Daemon::read(&text).ok_or_else(|| "what answers there is not this daemon".to_owned())
}

fn why(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::ConnectionFailed => "connection refused".to_owned(),
        other => other.to_string(),
    }
}
