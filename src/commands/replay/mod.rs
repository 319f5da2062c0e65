//! `replay`: tries the policy on past mail. Reads logs on a thread of its own, decides on each message as if it came now, and
//! prints which senders would have been held or refused.

mod bar;
mod coverage;
mod learn;
mod past;
mod report;
mod suggest;

use std::collections::HashSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use self::coverage::Coverage;
use self::past::Past;
use self::report::Report;
use super::database;
use super::output::{print, print_if_read, print_json};
use crate::account;
use crate::cli;
use crate::clock;
use crate::config::{self, Config, Sources};
use crate::exit::{Exit, Failed};
use crate::policy::limit::Measure;
use crate::replay::files::{self, Opened};
use crate::replay::judge::{Judged, Outcome, Trial};
use crate::replay::tally::Tally;
use crate::store::senders::{Listing, Order, SenderRow};
use crate::store::{Failure, Store};
use crate::system::privileges;
use crate::telemetry::decision::DecisionLine;

/// The most quotas taken over from the database.
const MAX_QUOTAS: u32 = 1_000_000;

pub fn run(sources: &Sources, options: &cli::Replay) -> Result<Exit, Failed> {
    let now = clock::now();
    // As root, if started as root: USER may not read the mail log. Nothing is read before privileges are dropped.
    let _ = privileges::raise_open_files();
    let opened = options.files.iter().map(|path| files::open(path, now)).collect::<Result<Vec<_>, _>>();
    let opened = opened.map_err(|error| Failed::new(Exit::IoError, error))?;
    if options.suggest {
        return suggest::run(sources, opened, options);
    }
    if options.learn {
        return learn::run(sources, opened, options);
    }
    let report = database::with_store(sources, async |config, _| replay(&config, opened, options).await)?;
    if options.each {
        for hint in report.hints() {
            eprintln!("{hint}");
        }
    } else if options.output.json {
        print_json(&report.json())?;
    } else {
        print(&report.shown(super::table::Screen::of_process()))?;
    }
    Ok(if report.is_whole() { Exit::Ok } else { Exit::Findings })
}

async fn replay(config: &Config, opened: Vec<Opened>, options: &cli::Replay) -> Result<Report, Failed> {
    let zone = TimeZone::system();
    let lists = config::load_lists(config).map_err(|error| Failed::new(Exit::Config, error))?;
    let terms = config.terms(lists, zone.clone());
    let wants_size = terms.policy.limits.iter().any(|limit| limit.measure == Measure::Bytes);
    let limit_by = terms.accounts.limit_by.clone();
    let unusable = |failure: Failure| Failed::new(Exit::Software, format_args!("the scratch database: {failure}"));
    let quotas = if options.quotas { quotas(config).await? } else { Vec::new() };
    let mut trial = Trial::new(terms, config.retention())
        .await
        .map_err(|error| Failed::new(Exit::Software, format_args!("the scratch database: {error}")))?;
    for row in &quotas {
        trial.set_quota(row).await.map_err(unusable)?;
    }
    let mut past = Past::read(opened, &zone, wants_size, options)?;
    let mut tally = Tally::default();
    let mut is_read = true;
    while is_read {
        let messages = past.next_messages();
        let ended = messages.is_none();
        for (at, asked) in messages.into_iter().flatten() {
            trial.ask(at, asked).await.map_err(unusable)?;
        }
        if ended {
            trial.end().await.map_err(unusable)?;
        }
        if options.each {
            past.clear_bar();
        }
        is_read = !ended;
        for judged in trial.judged() {
            // The reader of our output may be gone: `| head`.
            is_read &= !options.each || print_if_read(&each(&judged, &zone))?;
            tally.add(&judged);
        }
    }
    let (counts, gaps) = past.end()?;
    let number = usize::try_from(options.number).unwrap_or(usize::MAX);
    Ok(Report { tally, coverage: Coverage { counts, gaps, limit_by }, number, zone })
}

/// Returns the rows of the configured database whose quota is not QUOTA.
async fn quotas(config: &Config) -> Result<Vec<SenderRow>, Failed> {
    // Trying a policy must not change a table.
    let mut store = Store::reading(&config.database);
    let listing = Listing {
        only: None,
        filter: None,
        blocked_since: None,
        window_since: None,
        order: Order::Name,
        limit: MAX_QUOTAS,
    };
    let listed = database::insist(&mut store, async |store| store.list(&listing).await).await?;
    store.close().await;
    if listed.len() >= MAX_QUOTAS as usize {
        let why =
            format_args!("--quotas: the database has {MAX_QUOTAS} senders or more, and no more can be taken over");
        return Err(Failed::new(Exit::Software, why));
    }
    let domains: HashSet<String> =
        listed.iter().map(|listed| &listed.row.sender).filter(|sender| sender.starts_with('@')).cloned().collect();
    // A new sender has QUOTA anyway, unless there is an `@domain` row.
    let own = |row: &SenderRow| {
        let others = row.quota != config.quota.default || row.quota_reset != config.quota.default;
        others || account::domain_key(&row.sender).is_some_and(|domain| domains.contains(domain))
    };
    Ok(listed.into_iter().map(|listed| listed.row).filter(own).collect())
}

/// Returns the line that the daemon would have written into its log file.
fn each(judged: &Judged, zone: &TimeZone) -> String {
    let asked = &judged.asked;
    let decision = DecisionLine {
        queue_id: &asked.queue_id,
        client_name: &asked.client_name,
        client_address: &asked.client_address,
        sasl_username: &asked.login,
        from: &asked.from,
        to: &asked.to,
        recipient_count: asked.recipients.unwrap_or(0),
        ..DecisionLine::default()
    };
    let at = Timestamp::from_second(judged.at).unwrap_or_default().to_zoned(zone.clone());
    let line = |decision: &DecisionLine<'_>| {
        format!("{} {} {decision}\n", at.strftime("%Y-%m-%dT%H:%M:%S%:z"), decision.level())
    };
    match &judged.outcome {
        Outcome::Nobody => String::new(),
        Outcome::Decided { decision: decided, .. } | Outcome::Again { decision: decided, .. } => {
            line(&decision.decided(decided, &decided.action.word(), false))
        }
        Outcome::Listed(hit, action) => line(&decision.listed(hit.list, &action.word(), &hit.to_string())),
    }
}
