//! Opens METRICS_LISTEN, as soon as that can be done.
//!
//! Mail is limited also while this cannot be opened or a name server does not answer: a failure is logged, and tried again.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::TcpListener;

use crate::config::{Endpoint, IN_THE_OPEN};

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(5);

/// What is listened on, and what is wrong with the rest.
#[derive(Debug)]
pub struct Opener {
    endpoint: Endpoint,
    open: HashSet<SocketAddr>,
    /// Those of them that were warned about since names are shown.
    in_the_open: HashSet<SocketAddr>,
    /// The problem that was told last.
    told: String,
}

/// What one attempt left to be done.
#[derive(Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    /// Another attempt may succeed.
    Later(String),
    /// It would fail again.
    Never(String),
}

impl Opener {
    pub fn new(endpoint: Endpoint) -> Opener {
        Opener { endpoint, open: HashSet::new(), in_the_open: HashSet::new(), told: String::new() }
    }

    /// One attempt to open what is not open yet. Returns what was opened, and whether there is to be another attempt.
    pub async fn attempt(&mut self) -> (Vec<TcpListener>, bool) {
        let (opened, rest) = self.open_all().await;
        for address in opened.iter().filter_map(|listener| listener.local_addr().ok()) {
            log::info!("the page is on http://{address}/, metrics are on http://{address}/metrics");
        }
        let (problem, again) = match rest {
            Rest::Nothing => return (opened, false),
            Rest::Later(problem) => {
                (format!("{problem}; mail goes on without the page, and this is tried again"), true)
            }
            Rest::Never(problem) => (format!("{problem}; mail goes on without the page"), false),
        };
        if problem != self.told {
            log::error!("METRICS_LISTEN: {problem}");
            self.told = problem;
        }
        (opened, again)
    }

    /// Says where others than this machine's users may read names, once for as long as `shows_names`: STATUS_TOKEN is set.
    pub fn warn_of_the_open(&mut self, shows_names: bool) {
        if !shows_names {
            self.in_the_open.clear();
            return;
        }
        for address in self.open.iter().filter(|address| is_news_that_others_reach(**address, &self.endpoint)) {
            if self.in_the_open.insert(*address) {
                log::warn!("METRICS_LISTEN={}: {address} {IN_THE_OPEN}", self.endpoint);
            }
        }
    }

    /// Waits until it is time for another attempt.
    pub async fn pause() {
        tokio::time::sleep(PAUSE).await;
    }

    async fn open_all(&mut self) -> (Vec<TcpListener>, Rest) {
        let endpoint = self.endpoint.clone();
        // Name servers may take their time.
        let found =
            tokio::task::spawn_blocking(move || endpoint.look_up()).await.unwrap_or_else(|error| Err(error.into()));
        let addresses = match found {
            Ok(addresses) => addresses,
            Err(error) => return (Vec::new(), Rest::Later(format!("{} has no address: {error}", self.endpoint))),
        };
        let (mut opened, mut failed) = (Vec::new(), Vec::new());
        for address in addresses {
            if self.open.contains(&address) {
                continue;
            }
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    self.open.insert(address);
                    opened.push(listener);
                }
                Err(error) => failed.push((address, error)),
            }
        }
        (opened, rest(failed, !self.open.is_empty()))
    }
}

/// Of an address that was written it was said when it was read; what a name stands for is known only here.
fn is_news_that_others_reach(address: SocketAddr, written: &Endpoint) -> bool {
    written.name().is_some() && !address.ip().is_loopback()
}

/// What remains to be done about addresses that could not be opened.
fn rest(mut failed: Vec<(SocketAddr, io::Error)>, is_any_open: bool) -> Rest {
    if is_any_open {
        // `localhost` often means `::1` too where IPv6 is switched off.
        failed.retain(|(_, error)| !is_no_address_of_ours(error));
    }
    // Name servers change the order: the same trouble is to be told in the same words.
    failed.sort_by_key(|(address, _)| *address);
    match failed.first() {
        None => Rest::Nothing,
        Some((address, error)) if error.kind() == io::ErrorKind::PermissionDenied => Rest::Never(format!(
            "cannot listen on {address}: {error}: this is opened without root's rights; take a port above 1023, and restart"
        )),
        Some((address, error)) => Rest::Later(format!("cannot listen on {address}: {error}")),
    }
}

fn is_no_address_of_ours(error: &io::Error) -> bool {
    let error = error.raw_os_error().map(Errno::from_raw);
    matches!(error, Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_host_has_not_is_not_missed_where_another_address_of_the_name_is_open() {
        let failed = |error: Errno| vec![("[::1]:9464".parse().unwrap(), io::Error::from(error))];
        assert_eq!(rest(failed(Errno::EADDRNOTAVAIL), true), Rest::Nothing);
        assert!(matches!(rest(failed(Errno::EADDRNOTAVAIL), false), Rest::Later(_)));
        assert!(matches!(rest(failed(Errno::EADDRINUSE), true), Rest::Later(_)));
        assert!(matches!(rest(failed(Errno::EACCES), false), Rest::Never(_)));
        assert_eq!(rest(Vec::new(), true), Rest::Nothing);
    }

    #[test]
    fn it_is_said_of_a_name_when_others_reach_it() {
        let (here, anywhere) = ("127.0.0.1:9464".parse().unwrap(), "192.0.2.7:9464".parse().unwrap());
        let name = Endpoint::Name("status.example.com".to_owned(), 9464);
        assert!(is_news_that_others_reach(anywhere, &name) && !is_news_that_others_reach(here, &name));
        assert!(!is_news_that_others_reach(anywhere, &Endpoint::Address(anywhere)));
    }

    #[test]
    fn the_same_trouble_has_the_same_words_in_whatever_order_the_addresses_come() {
        let failed = |addresses: [&str; 2]| {
            addresses.map(|address| (address.parse().unwrap(), io::Error::from(Errno::EADDRINUSE))).into()
        };
        let (one, other) = ("192.0.2.1:9464", "192.0.2.2:9464");
        assert_eq!(rest(failed([one, other]), false), rest(failed([other, one]), false));
    }
}
