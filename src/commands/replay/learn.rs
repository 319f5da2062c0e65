//! `replay --learn`: teaches the database what is usual for each sender, from past mail.

use std::time::Instant;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use serde_json::{Value, json};

use super::bar::Bar;
use super::coverage::Coverage;
use super::past::Past;
use crate::account::domain_key;
use crate::cli;
use crate::clock;
use crate::commands::database;
use crate::commands::output::{print, print_json};
use crate::commit::days::BESIDE_MAIL;
use crate::commit::learning::{self, Learning};
use crate::commit::standings::learnt_since;
use crate::config::{self, Config, Sources};
use crate::exit::{Exit, Failed};
use crate::limiter::moment;
use crate::limiter::usual;
use crate::replay::files::Opened;
use crate::replay::intake::Intake;
use crate::replay::learn::{Gap, Lesson, Lessons};
use crate::store::Store;
use crate::store::learn::Taught;

/// Senders in one transaction.
const AT_A_TIME: usize = 50;

/// What was learnt, and from what.
struct Report {
    coverage: Coverage,
    span: Option<(i64, i64)>,
    messages: u64,
    recipients: u64,
    /// Requests that were held or refused at the time.
    stopped: u64,
    nobody: u64,
    listed: u64,
    too_old: u64,
    /// Why nothing was learnt: what is known would have a gap.
    gap: Option<Gap>,
    /// None if nothing was.
    noted: Option<Noted>,
    /// What learns among LIMITS, and only warns.
    learning: Vec<Learning>,
    /// How many of LIMITS learn.
    limits: usize,
    zone: TimeZone,
}

/// What was noted in the database.
#[derive(Default)]
struct Noted {
    senders: usize,
    days: usize,
    networks: usize,
    /// Days of senders that are not usual, since a block for reason `compromised` was set on them or on the next.
    compromised: usize,
}

pub fn run(sources: &Sources, opened: Vec<Opened>, options: &cli::Replay) -> Result<Exit, Failed> {
    let report = database::with_tables(sources, async |config, store| learn(config, store, opened, options).await)?;
    if options.output.json {
        print_json(&report.json())?;
    } else {
        print(&report.shown())?;
    }
    Ok(if report.noted.is_some() { Exit::Ok } else { Exit::Findings })
}

async fn learn(
    config: &Config,
    store: &mut Store,
    opened: Vec<Opened>,
    options: &cli::Replay,
) -> Result<Report, Failed> {
    let now = clock::now();
    let zone = TimeZone::system();
    let lists = config::load_lists(config).map_err(|error| Failed::new(Exit::Config, error))?;
    let terms = config.terms(lists, zone.clone());
    let (policy, limit_by) = (terms.policy.clone(), terms.accounts.limit_by.clone());
    let (mut past, mut intake) = (Past::read(opened, &zone, false, options)?, Intake::new(terms));
    let days = *usual::days(now).start() - 1..=usual::today(now);
    let compromised = database::insist(store, async |store| store.compromised(days.clone()).await).await?;
    let compromised = compromised.into_iter().map(|(account, day)| (account.to_lowercase(), day)).collect();
    let (mut lessons, mut stopped) = (Lessons::new(now, compromised), 0);
    while let Some(messages) = past.next_messages() {
        for (at, asked) in &messages {
            if asked.stopped {
                stopped += 1;
            } else if let Some(charged) = intake.take(*at, asked)
                && !lessons.add(&charged)
            {
                let why = "there is more mail than can be learnt at once, and nothing was: --since and --until take a part of it. \
                           Parts may be taught one after the other, the latest first";
                return Err(Failed::new(Exit::Software, why));
            }
        }
    }
    let (counts, gaps) = past.end()?;
    let coverage = Coverage { counts, gaps, limit_by };
    let known = database::insist(store, async |store| store.learnt_since(&learnt_since(now)).await).await?;
    let mut report = Report {
        span: lessons.span,
        messages: lessons.messages,
        recipients: lessons.recipients,
        stopped,
        nobody: intake.nobody,
        listed: intake.listed,
        too_old: lessons.too_old,
        gap: lessons.gap(known.first_day),
        noted: None,
        learning: Vec::new(),
        limits: policy.limits.iter().filter(|limit| limit.learns()).count(),
        coverage,
        zone,
    };
    if let Some((first, last)) = report.span.filter(|_| report.is_whole()) {
        report.noted = Some(note(store, lessons, config.quota.default, now).await?);
        database::insist(store, async |store| store.knows_networks(first, last, now).await).await?;
    }
    report.learning = database::insist(store, async |store| learning::of(store, &policy, now).await).await?;
    Ok(report)
}

/// Notes it all in the database, a few senders at a time, since mail has the first claim on it.
async fn note(store: &mut Store, lessons: Lessons, new_quota: u32, now: i64) -> Result<Noted, Failed> {
    let mut noted = Noted { compromised: lessons.untaught(), ..Noted::default() };
    let (lessons, mut bar) = (lessons.into_sorted(), Bar::new());
    let taught = Vec::from_iter(lessons.into_iter().map(|Lesson { account, days, networks }| {
        noted.days += days.len();
        noted.networks += networks.len();
        Taught {
            domain: domain_key(&account).map(str::to_owned),
            sender: account,
            days,
            networks: networks.into_iter().map(|(network, last)| (network.to_string(), last)).collect(),
        }
    }));
    noted.senders = taught.len();
    for (place, some) in taught.chunks(AT_A_TIME).enumerate() {
        let began = Instant::now();
        database::insist(store, async |store| store.learn(some, new_quota, now).await).await?;
        let done = place * AT_A_TIME;
        bar.show(done as u64, Some(noted.senders as u64), || format!("{done} of {} senders", noted.senders));
        tokio::time::sleep(began.elapsed() * BESIDE_MAIL).await;
    }
    bar.clear();
    Ok(noted)
}

impl Report {
    /// Whether the logs tell enough, and not of a part of the mail only.
    fn is_whole(&self) -> bool {
        self.messages > 0 && !self.coverage.is_incomplete() && self.gap.is_none()
    }

    fn json(&self) -> Value {
        let learning = |one: &Learning| json!({"limit": one.limit, "acts_from": one.acts_from.map(moment::utc)});
        let noted = |noted: &Noted| {
            json!({
                "senders": noted.senders,
                "days": noted.days,
                "networks": noted.networks,
                "compromised_days": noted.compromised,
            })
        };
        let mut hints = self.coverage.hints(self.messages);
        hints.extend(self.own_hints());
        json!({
            "first": self.span.map(|(first, _)| moment::utc(first)),
            "last": self.span.map(|(_, last)| moment::utc(last)),
            "messages": self.messages,
            "recipients": self.recipients,
            "stopped": self.stopped,
            "without_login": self.nobody,
            "listed": self.listed,
            "too_old": self.too_old,
            "learnt": self.noted.as_ref().map(noted),
            "only_warn": self.learning.iter().map(learning).collect::<Vec<_>>(),
            "lines": self.coverage.json(),
            "incomplete": self.coverage.is_incomplete(),
            "hints": hints,
        })
    }

    fn shown(&self) -> String {
        let mut text = String::new();
        if let Some((first, last)) = self.span {
            text.push_str(&format!(
                "From {} to {}: {} messages to {} recipients.\n",
                moment::local(first, &self.zone),
                moment::local(last, &self.zone),
                self.messages,
                self.recipients
            ));
        }
        match &self.noted {
            Some(Noted { senders, days, networks, .. }) => {
                text.push_str(&format!("Learnt: {days} days and {networks} networks of {senders} senders.\n"));
            }
            None => text.push_str("Nothing was learnt.\n"),
        }
        for one in &self.learning {
            text.extend([&one.told(&self.zone), ".\n"]);
        }
        if self.noted.is_some() && self.learning.is_empty() && self.limits > 0 {
            text.push_str("All limits that learn act now. A daemon that runs knows it within ten minutes.\n");
        }
        text.push_str(&self.coverage.shown(self.messages));
        for hint in self.own_hints() {
            text.extend([hint.as_str(), "\n"]);
        }
        text
    }

    fn own_hints(&self) -> Vec<String> {
        let mut hints = Vec::new();
        if let Some(Gap { after, until }) = self.gap {
            let date = |day: i64| {
                Timestamp::from_second(day * 24 * 3600)
                    .map_or(civil::Date::ZERO, |at| at.to_zoned(TimeZone::UTC).date())
            };
            hints.push(format!(
                "Between {} and {} neither these logs nor the database know any mail: what was usual before may not be any more. \
                 Give the logs of that time too.",
                date(after),
                date(until)
            ));
        }
        if self.noted.is_some() && self.limits == 0 {
            hints.push("LIMITS has none that learns yet: what was learnt is kept for 36 days.".to_owned());
        }
        let compromised = self.noted.as_ref().map_or(0, |noted| noted.compromised) as u64;
        let numbers = [
            (self.stopped, "Held, refused or not sent on at the time, and so not usual: {} requests."),
            (
                compromised,
                "Days of senders on which a block for reason compromised was set, or the day before, and so not usual: {}.",
            ),
            (self.too_old, "From before the 35 days that count: {} requests."),
            (self.nobody, "Without a login: {} requests."),
            (self.listed, "Decided by ALLOWLIST or DENYLIST, which count nothing: {} requests."),
        ];
        let noted = numbers.into_iter().filter(|(number, _)| *number > 0);
        hints.extend(noted.map(|(number, hint)| hint.replace("{}", &number.to_string())));
        hints
    }
}
