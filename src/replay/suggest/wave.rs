//! The mail of a stolen account, put into the account's own: how much of it passes.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use super::form::Form;
use super::streams::{Sum, hash};
use super::sweep::{Log, reach};
use super::walk::{Walk, mail};
use super::{MONTH, month};
use crate::limiter::increase::Increase;
use crate::limiter::window::begin_of_minute;
use crate::policy::limit::{Limit, Measure};

/// How long a wave goes on, in minutes.
const MINUTES: i64 = 24 * 60;
/// How many messages, of one recipient each, a fast wave has in a minute.
const FAST: u32 = 60;
/// The minutes between two messages of a slow wave: 20 an hour.
const SLOW: i64 = 3;
/// From so many networks comes [`Wave::Networks`].
const NETWORKS: u32 = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wave {
    /// 60 recipients a minute, from the network that the account last came from.
    Fast,
    /// As many, from 200 networks in turn.
    Networks,
    /// 20 recipients an hour, from the network that the account last came from.
    Slow,
}

pub const WAVES: [Wave; 3] = [Wave::Fast, Wave::Networks, Wave::Slow];

/// Messages of one recipient each, which come one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub messages: u32,
    /// Where they come from, the last at the end.
    pub networks: Vec<IpNet>,
}

impl Group {
    /// Notes all networks but that of the last message, and returns that.
    pub fn arrive(&self, walk: &mut Walk, now: i64) -> Option<IpNet> {
        let (last, others) = self.networks.split_last()?;
        others.iter().for_each(|network| walk.standing.history.see(*network, now));
        Some(*last)
    }
}

impl Wave {
    /// Returns the wave's messages in one of its minutes.
    pub fn groups(self, minute: i64, home: Option<IpNet>) -> Vec<Group> {
        let from_home = |messages| vec![Group { messages, networks: home.into_iter().collect() }];
        match self {
            Wave::Fast => from_home(FAST),
            Wave::Slow if minute % SLOW == 0 => from_home(1),
            Wave::Slow => Vec::new(),
            Wave::Networks => {
                let first = u32::try_from(minute).unwrap_or(0).saturating_mul(FAST);
                let networks = Vec::from_iter((first..first.saturating_add(FAST)).map(|nth| place(nth % NETWORKS)));
                // Once it has been through all of them, they are all the same to every limit.
                if first <= NETWORKS {
                    networks.into_iter().map(|network| Group { messages: 1, networks: vec![network] }).collect()
                } else {
                    vec![Group { messages: FAST, networks }]
                }
            }
        }
    }
}

/// One of 256 networks that nobody sends mail from: RFC 2544 has them for benchmarks.
fn place(nth: u32) -> IpNet {
    let address = Ipv4Addr::from(0xc612_0000 | (nth << 8));
    Ipv4Net::new(address, 24).unwrap_or_default().into()
}

/// A wave's place in the mail of an account.
#[derive(Debug, Clone)]
pub struct Begin<'a> {
    /// The account before it.
    pub walk: Walk,
    /// Its own mail from then on.
    pub later: &'a [Sum],
    /// In Unix seconds, a whole minute.
    pub at: i64,
    /// The network that the account last came from.
    pub home: Option<IpNet>,
}

/// Returns when waves begin in the mail of an account: at a random time in each of its months, once limits that learn act. Of all
/// sender-months a part is taken: `part` of 2^32.
pub fn begins(account: &str, sums: &[Sum], log: Log, seed: u64, part: u64) -> Vec<i64> {
    let earliest = log.acts_from().unwrap_or(log.begin);
    let mut months = Vec::from_iter(sums.iter().map(|sum| month(log.begin, sum.at())));
    months.dedup();
    let drawn = months.into_iter().filter_map(|month| {
        let mut random = fastrand::Rng::with_seed(hash((seed, account, month)));
        let chosen = u64::from(random.u32(..)) < part;
        let begin = log.begin.saturating_add(MONTH.saturating_mul(month.into()));
        let (first, last) = (begin.max(earliest), begin.saturating_add(MONTH - 1).min(log.end));
        (chosen && first <= last).then(|| begin_of_minute(random.i64(first..=last)))
    });
    drawn.collect()
}

/// Goes through the mail of an account up to a time in Unix seconds.
pub fn begin(mut walk: Walk, sums: &[Sum], at: i64, mut add: impl FnMut(&mut Walk, &Sum)) -> Begin<'_> {
    let (before, later) = sums.split_at(sums.partition_point(|sum| sum.at() < at));
    before.iter().for_each(|sum| add(&mut walk, sum));
    let home = before.iter().rev().chain(later).find_map(|sum| sum.network);
    Begin { walk, later, at, home }
}

/// Walks through the minutes of a wave, with the account's own mail between.
pub fn each_minute(
    wave: Wave,
    begin: Begin<'_>,
    mut own: impl FnMut(&mut Walk, &Sum),
    mut put: impl FnMut(&mut Walk, &Group, i64),
) {
    let Begin { mut walk, later, at, home } = begin;
    let mut later = later.iter().peekable();
    for minute in 0..MINUTES {
        let now = at.saturating_add(minute * 60);
        for group in wave.groups(minute, home) {
            while let Some(sum) = later.next_if(|sum| sum.at() <= now) {
                own(&mut walk, sum);
            }
            put(&mut walk, &group, now);
        }
    }
}

/// A form with the amounts that are tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    pub form: Form,
    pub limits: Vec<Limit>,
}

/// Returns how many recipients of a wave pass, for each limit of each form by itself: see [`super::sweep`].
pub fn passed(wave: Wave, begin: Begin<'_>, attempts: &[Attempt]) -> Vec<u32> {
    let reach = reach();
    let mut passed = vec![0; attempts.iter().map(|attempt| attempt.limits.len()).sum()];
    let own = |walk: &mut Walk, sum: &Sum| {
        walk.pass_to(sum.at(), &reach);
        walk.add(sum.network, mail(sum), sum.at());
    };
    each_minute(wave, begin, own, |walk, group, now| {
        walk.pass_to(now, &reach);
        let network = group.arrive(walk, now);
        let is_new = walk.see(network, now);
        let mut passed = passed.iter_mut();
        for Attempt { form, limits } in attempts {
            let used = walk.standing.history.used(form.measure, form.window, now);
            for (limit, passed) in limits.iter().zip(&mut passed) {
                let allowed = walk.standing.allowed(limit).unwrap_or(u64::MAX);
                let room = match form.measure {
                    _ if walk.standing.only_warns(limit, now) => group.messages,
                    measure if measure.is_from_new_networks() && !is_new => group.messages,
                    Measure::Networks => {
                        if used <= allowed {
                            group.messages
                        } else {
                            0
                        }
                    }
                    _ => u32::try_from(allowed.saturating_sub(used)).unwrap_or(u32::MAX),
                };
                *passed += room.min(group.messages);
            }
        }
        let mail = Increase { messages: group.messages, recipients: group.messages, bytes: 0 };
        walk.put(mail, is_new, now);
    });
    passed
}
