//! The servers that the database may be on, and which of them is used.
//!
//! Where the settings name several, they are tried in order, beginning with the one that was used last; the first that takes
//! writes is used. After a minute it goes back to the first of all, as soon as that one takes writes again. A name that stands
//! for several addresses is as many servers.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio_util::task::AbortOnDropHandle;

use super::connection::{Connection, Options};
use super::dialect::Session;
use super::failure::Failure;
use crate::config;

/// How long one of several servers may take to let us in and to say whether it takes writes, beside [`ROUND_TRIPS`]. Doubled
/// while all of them are late: where one is silent and others answer, it is not the way there that is long.
const PATIENCE: Duration = Duration::from_millis(300);
/// What a connection takes, TLS included.
const ROUND_TRIPS: u32 = 10;
const MAX_PATIENCE: Duration = Duration::from_secs(2);
/// Before the first server is tried again while another one is used.
const BACK_AFTER: Duration = Duration::from_secs(60);

pub struct Servers {
    /// As the settings name them.
    named: Vec<Options>,
    /// Is used, or is tried first.
    current: Options,
    /// Whether a connection was made when that was last tried.
    is_used: bool,
    /// Said nothing when it was last asked: others are tried before it.
    is_silent: bool,
    are_several: bool,
    patience: Duration,
    /// When the first server was tried last; None while it is the one that is used.
    first_tried: Option<Instant>,
    /// An attempt at the first server that is under way.
    attempt: Option<AbortOnDropHandle<Option<(Options, Connection, Session)>>>,
}

impl Servers {
    /// Those of the settings; `reading` for connections that only read, and make no file.
    pub fn new(database: &config::Database, reading: bool) -> Servers {
        let places = database.places();
        let named: Vec<Options> = places.iter().map(|place| Options::new(database, place, reading)).collect();
        let nowhere = || Options::new(database, &config::Place::default(), reading);
        Servers {
            current: named.first().cloned().unwrap_or_else(nowhere),
            are_several: named.len() > 1,
            named,
            is_used: false,
            is_silent: false,
            patience: PATIENCE,
            first_tried: None,
            attempt: None,
        }
    }

    /// The one that is used, or is tried first.
    pub fn current(&self) -> &Options {
        &self.current
    }

    /// Where the database is, in words: the server that is used, or all that were tried.
    pub fn place(&self) -> String {
        let database = self.current.database();
        if self.is_used || !self.are_several {
            return format!("{database} {}", self.current.host());
        }
        let hosts: Vec<String> = self.named.iter().map(Options::host).collect();
        format!("{database} {}", hosts.join(", "))
    }

    /// Whether there is another one to turn to.
    pub fn are_several(&self) -> bool {
        self.are_several
    }

    /// Notes that the current server does not answer. Others are tried before it.
    pub fn avoid_current(&mut self) {
        self.is_silent = true;
    }

    /// Connects with the first that takes writes. A lone server is given all the time there is, and used as it is.
    pub async fn connect(&mut self, reading: bool) -> Result<(Connection, Session), Failure> {
        let mut servers = by_address(&self.named, self.patience).await;
        self.are_several = servers.len() > 1;
        if let [server] = servers.as_slice() {
            self.current = server.clone();
            return self.current.connect(reading).await;
        }
        (self.attempt, self.is_used) = (None, false);
        let first = servers.first().map(Options::host);
        let current = servers.iter().position(|server| server.host() == self.current.host());
        let from = current.map_or(0, |current| current + usize::from(self.is_silent));
        let count = servers.len();
        servers.rotate_left(from % count);
        let mut reasons = Vec::new();
        let mut all_late = true;
        for server in servers {
            let host = server.host();
            // Whoever gives up on this attempt gives up on this server.
            (self.current, self.is_silent) = (server, false);
            let reason = match tokio::time::timeout(self.patience, self.current.connect(reading)).await {
                Ok(Ok((connection, session))) if session.takes_writes => {
                    self.patience = PATIENCE + session.round_trip * ROUND_TRIPS;
                    self.is_used = true;
                    self.first_tried = (first.as_ref() != Some(&host)).then(Instant::now);
                    return Ok((connection, session));
                }
                Ok(Ok(_)) => "takes no writes".to_owned(),
                Ok(Err(failure)) => failure.words().to_owned(),
                Err(_) => {
                    reasons.push(format!("{host}: no answer within {} ms", self.patience.as_millis()));
                    continue;
                }
            };
            all_late = false;
            reasons.push(format!("{host}: {reason}"));
        }
        if all_late {
            self.patience = (self.patience * 2).min(MAX_PATIENCE);
        }
        Err(Failure::Away(format!("none of {count} servers can be used: {}", reasons.join("; "))))
    }

    /// A connection with the first server, if another one is used and the first takes writes again. Looks now and then, and
    /// waits for nothing.
    pub async fn back_to_first(&mut self, reading: bool) -> Option<(Connection, Session)> {
        let tried = self.first_tried?;
        if let Some(attempt) = self.attempt.take_if(|attempt| attempt.is_finished()) {
            let (server, connection, session) = attempt.await.ok()??;
            (self.current, self.first_tried) = (server, None);
            return Some((connection, session));
        }
        if self.attempt.is_none() && tried.elapsed() >= BACK_AFTER {
            let attempt = try_first(self.named.first()?.clone(), self.patience, reading);
            self.attempt = Some(AbortOnDropHandle::new(tokio::spawn(attempt)));
            self.first_tried = Some(Instant::now());
        }
        None
    }
}

async fn try_first(first: Options, patience: Duration, reading: bool) -> Option<(Options, Connection, Session)> {
    let first = by_address(&[first], patience).await.into_iter().next()?;
    let (connection, session) = tokio::time::timeout(patience, first.connect(reading)).await.ok()?.ok()?;
    session.takes_writes.then_some((first, connection, session))
}

/// The same servers, each by all of its addresses where its name has several.
async fn by_address(named: &[Options], patience: Duration) -> Vec<Options> {
    let mut servers = Vec::with_capacity(named.len());
    for server in named {
        let addresses = match server.name() {
            Some(name) => tokio::time::timeout(patience, addresses(name)).await.unwrap_or_default(),
            None => Vec::new(),
        };
        match addresses.len() {
            // One that is not found is an error of the connection's.
            0 | 1 => servers.push(server.clone()),
            _ => servers.extend(addresses.into_iter().map(|address| server.at(address))),
        }
    }
    servers
}

/// The addresses of a name, in the resolver's order. None of a name of this machine, which is one server.
async fn addresses(name: &str) -> Vec<IpAddr> {
    let found = tokio::net::lookup_host((name, 0)).await.map(|found| found.map(|address| address.ip()).collect());
    let mut found: Vec<IpAddr> = found.unwrap_or_default();
    let mut seen = HashSet::new();
    found.retain(|address| seen.insert(*address));
    if found.iter().all(IpAddr::is_loopback) { Vec::new() } else { found }
}
