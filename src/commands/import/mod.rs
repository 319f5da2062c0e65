//! `import`: takes over from another program. Shows what it would do; with --apply it does it. Files are written before
//! privileges are dropped, the database is opened after.

mod cluebringer;
mod counts;
mod events;
mod files;
mod iredapd;
mod merge;
mod policyd;
mod policyd_rate_limit;
mod progress;
mod translation;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::database;
use super::output::{print, print_json};
use super::table::clean;
use crate::account::{AccountRules, LimitBy};
use crate::cli;
use crate::clock;
use crate::config::{Config, Sources, settings};
use crate::exit::{Exit, Failed};
use crate::policy::quota;
use crate::store::foreign::Foreign;
use crate::store::{Store, senders};
use crate::telemetry::decision::escaped;
use counts::Counts;
use events::Summary;
use files::{ChangedFile, Place, Planned};
use merge::Change;
use policyd::Policyd;
use translation::Translation;

#[derive(Serialize)]
struct Takeover {
    /// False if it was only shown.
    applied: bool,
    files: Vec<ChangedFile>,
    events: Option<Summary>,
    counts: Option<Counts>,
    /// Quotas that accounts get, each as `sender list` shows it.
    quotas: Vec<OwnQuota>,
    notes: Vec<String>,
    lost: Vec<String>,
    /// The command that makes a running daemon take the changed settings; None if nothing changes.
    then: Option<&'static str>,
}

#[derive(Serialize)]
struct OwnQuota {
    sender: String,
    quota: String,
}

/// Reads another program's file.
fn read(path: &Path, whose: &str) -> Result<String, Failed> {
    let bytes = fs::read(path).map_err(|error| {
        Failed::new(Exit::IoError, format_args!("cannot read {whose}'s settings in {}: {error}", path.display()))
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub fn policyd_rate_limit(sources: &Sources, options: &cli::ImportPolicydRateLimit) -> Result<Exit, Failed> {
    let from = &options.config;
    let translation = policyd_rate_limit::translate(&read(from, "policyd-rate-limit")?)
        .map_err(|error| Failed::new(Exit::Config, format_args!("{}: {error}", from.display())))?;
    take_over(sources, &options.takeover, None, translation)
}

pub fn iredapd(sources: &Sources, options: &cli::ImportIredapd) -> Result<Exit, Failed> {
    let from = &options.config;
    let database = iredapd::database(&read(from, "iRedAPD")?)
        .map_err(|error| Failed::new(Exit::Config, format_args!("{}: {error}", from.display())))?;
    let (throttle, tracking) = database::run_alone(async {
        let mut foreign = Foreign::connect(&database).await?;
        let throttle = foreign.rows(&iredapd::THROTTLE, "throttle ORDER BY id").await?;
        let tracking = foreign.rows(&iredapd::TRACKING, "throttle_tracking ORDER BY tid, account").await?;
        foreign.close().await;
        Ok((throttle, tracking))
    })?;
    let translation = iredapd::translate(&throttle, &tracking, clock::now());
    let counts = options.counts.then_some("iredapd_counts");
    take_over(sources, &options.takeover, counts, translation)
}

pub fn cluebringer(sources: &Sources, options: &cli::ImportCluebringer) -> Result<Exit, Failed> {
    let from = &options.config;
    let cluebringer::Place { database, prefix } = cluebringer::place(&read(from, "cluebringer")?)
        .map_err(|error| Failed::new(Exit::Config, format_args!("{}: {error}", from.display())))?;
    let tables = database::run_alone(async {
        let mut foreign = Foreign::connect(&database).await?;
        let mut rows =
            async |query: cluebringer::Query| foreign.rows(query.columns, &query.from.replace('@', &prefix)).await;
        let tables = cluebringer::Tables {
            quotas: rows(cluebringer::QUOTAS).await?,
            limits: rows(cluebringer::LIMITS).await?,
            members: rows(cluebringer::MEMBERS).await?,
            groups: rows(cluebringer::GROUPS).await?,
            tracking: rows(cluebringer::TRACKING).await?,
        };
        foreign.close().await;
        Ok(tables)
    })?;
    let translation = cluebringer::translate(&tables, clock::now());
    let counts = options.counts.then_some("cluebringer_counts");
    take_over(sources, &options.takeover, counts, translation)
}

/// Shows what another program's settings come to, or does it. `counts` is where `meta` says how far its counts are taken over; None
/// if they are not to be.
fn take_over(
    sources: &Sources,
    options: &cli::TakeOver,
    counts: Option<&'static str>,
    translation: Translation,
) -> Result<Exit, Failed> {
    let place = Place::new(options.into.clone())?;
    let existing = place.read()?;
    let (settings, then) = settings_file(place, &existing, &translation.settings)?;
    let mut report = Takeover {
        applied: options.apply,
        files: vec![settings.changed()],
        events: None,
        counts: counts.map(|_| Counts::of(&translation.counts)),
        quotas: Vec::new(),
        notes: translation.notes,
        lost: translation.lost,
        then,
    };
    let quotas = translation.quotas;
    report.quotas = quotas
        .iter()
        .map(|(sender, quota)| OwnQuota { sender: sender.clone(), quota: quota::written(*quota) })
        .collect();
    if options.apply {
        if !settings.changes.is_empty() {
            settings.write(files::readers(&settings.place))?;
        }
        if !quotas.is_empty() || counts.is_some() {
            let ours = Sources { explicit: Some(options.into.clone()), ..sources.clone() };
            report.counts = database::with_tables(&ours, async |config, store| {
                set_quotas(config, store, &quotas).await?;
                match counts {
                    Some(name) => counts::take_over(config, store, name, &translation.counts).await.map(Some),
                    None => Ok(None),
                }
            })?;
        }
    }
    show(&report, &options.output)?;
    Ok(if report.lost.is_empty() { Exit::Ok } else { Exit::Findings })
}

/// As `sender set` does it: a row that is there keeps its counters.
async fn set_quotas(config: &Config, store: &mut Store, quotas: &[(String, u32)]) -> Result<(), Failed> {
    for (key, quota) in quotas {
        let change = senders::Change { quota: Some(*quota), once: false, locked: None };
        let set = async |store: &mut Store| store.set(key, change, config.quota.default, clock::now()).await;
        database::insist(store, set).await?;
    }
    Ok(())
}

pub fn policyd(sources: &Sources, options: &cli::ImportPolicyd) -> Result<Exit, Failed> {
    // `--config` after the command names policyd's file and hides the option of all commands, which may have been meant.
    let (from, into) = (&options.config, options.into.as_path());
    let data_error = |message: String| Failed::new(Exit::Config, format_args!("{}: {message}", from.display()));
    let text = read(from, "policyd")?;
    if let Some(name) = one_of_ours(&text) {
        let why = format!("has {name}, so it is our settings file; here --config names policyd's, and --into ours");
        return Err(Failed::new(Exit::Usage, format_args!("{} {why}", from.display())));
    }
    let mut policyd = Policyd::parse(&text);
    let Plan { files: planned, then } = plan(&mut policyd, into, data_error)?;
    let place = options.events.then(|| policyd.place()).transpose().map_err(data_error)?;
    let mut report = Takeover {
        applied: options.apply,
        files: planned.iter().map(Planned::changed).collect(),
        events: None,
        counts: None,
        quotas: Vec::new(),
        notes: policyd.notes,
        lost: Vec::new(),
        then,
    };
    if !options.apply {
        if let Some(place) = place {
            // Settings that are still to be written name no USER: the usual one then.
            let explicit = into.exists().then(|| into.to_owned());
            database::become_user(&database::load(&Sources { explicit, search: Vec::new(), ..sources.clone() })?)?;
            report.events = Some(events::count(&place)?);
        }
        show(&report, &options.output)?;
        return Ok(Exit::Ok);
    }
    let group = planned.first().and_then(|settings| files::readers(&settings.place));
    // The lists first: the settings name them.
    for file in planned.iter().rev().filter(|file| !file.changes.is_empty()) {
        file.write(group)?;
    }
    if let Some(place) = place {
        report.events = Some(database::with_tables(
            &Sources { explicit: Some(into.to_owned()), ..sources.clone() },
            async |config, store| events::take_over(config, store, &place).await,
        )?);
    }
    show(&report, &options.output)?;
    Ok(Exit::Ok)
}

/// The first of our settings in a text, if it has any. policyd's are all in lower case.
fn one_of_ours(text: &str) -> Option<&'static str> {
    let mut names = text.lines().filter_map(|line| Some(line.split_once('=')?.0.trim()));
    names.find_map(|name| settings::all().find(|setting| setting.name == name)).map(|setting| setting.name)
}

/// What is to be done.
struct Plan {
    /// What is to be written: the settings first, then the lists.
    files: Vec<Planned>,
    /// The command that applies it.
    then: Option<&'static str>,
}

fn plan(policyd: &mut Policyd, into: &Path, data_error: impl Fn(String) -> Failed) -> Result<Plan, Failed> {
    let settings_file_place = Place::new(into.to_owned())?;
    let existing = settings_file_place.read()?;
    let in_ours = |error: String| Failed::new(Exit::Config, format_args!("{}: {error}", into.display()));
    let known = merge::values(&existing).map_err(in_ours)?;
    let mut settings = policyd.settings().map_err(data_error)?;
    let chosen = ["DB_HOST", "DB_SOCKET", "DB_USER", "DB_DATABASE"];
    match chosen.iter().find(|name| known.contains_key(**name)) {
        Some(name) => policyd.notes.push(format!("{} has {name}: the database that it names is kept", into.display())),
        None => settings.extend(policyd.database()),
    }
    let subject = AccountRules { limit_by: vec![LimitBy::SaslUsername], login_domain: None, strip_domain: true };
    let (allow, deny) = policyd.lists(&subject);
    let folder = into.parent().unwrap_or(Path::new(""));
    let mut lists = Vec::new();
    for (name, file, lines) in [("ALLOWLIST", "allowlist", allow), ("DENYLIST", "denylist", deny)] {
        if lines.is_empty() {
            continue;
        }
        let path = known.get(name).map_or_else(|| folder.join(file), PathBuf::from);
        if !known.contains_key(name) {
            settings.push((name, path.display().to_string()));
        }
        lists.push(Planned::list(Place::new(path)?, &lines)?);
    }
    let (file, then) = settings_file(settings_file_place, &existing, &settings)?;
    let then = then.or_else(|| lists.iter().any(|list| !list.changes.is_empty()).then_some(RELOAD));
    Ok(Plan { files: std::iter::once(file).chain(lists).collect(), then })
}

const RELOAD: &str = "systemctl reload policyd-rate-guard.service";
const RESTART: &str = "systemctl restart policyd-rate-guard.service";

/// Returns our settings file with these settings, and the command that applies them; None if they are there already.
fn settings_file(
    place: Place,
    existing: &str,
    settings: &[(&'static str, String)],
) -> Result<(Planned, Option<&'static str>), Failed> {
    let in_ours = |error: String| Failed::new(Exit::Config, format_args!("{}: {error}", place.path.display()));
    let merged = merge::merge(existing, settings).map_err(in_ours)?;
    let changes = merged.changes.iter().map(|change| {
        let secret = settings::find(&change.name).is_none_or(|setting| setting.secret);
        let shown = |value: &str| if secret { "(secret)".to_owned() } else { value.to_owned() };
        match &change.old {
            None => format!("{}={}", change.name, shown(&change.new)),
            Some(old) => format!("{}={} (was {})", change.name, shown(&change.new), shown(old)),
        }
    });
    let changes: Vec<String> = changes.collect();
    // The package has started the daemon, on the settings of before.
    let restart = |change: &Change| settings::find(&change.name).is_none_or(|setting| !setting.reload);
    let then = match changes.is_empty() {
        true => None,
        false if merged.changes.iter().any(restart) => Some(RESTART),
        false => Some(RELOAD),
    };
    Ok((Planned { place, text: merged.text, changes, is_settings: true }, then))
}

fn show(report: &Takeover, output: &cli::Output) -> Result<(), Failed> {
    if output.json {
        return print_json(report);
    }
    let mut text = String::new();
    for file in &report.files {
        let verb = if report.applied { "changed" } else { "to be changed" };
        if file.changes.is_empty() {
            text.push_str(&format!("{}: nothing to do\n", file.path.display()));
        } else {
            text.push_str(&format!("{}: {verb}\n", file.path.display()));
            file.changes.iter().for_each(|change| text.push_str(&format!("    {}\n", clean(&change.to_string()))));
        }
    }
    if let Some(events) = &report.events {
        let verb = if report.applied { "taken over" } else { "to be taken over" };
        text.push_str(&format!(
            "{} recipients in {} messages of {} logins {verb}\n",
            events.recipients, events.messages, events.logins
        ));
    }
    if let Some(Counts { senders, recipients }) = &report.counts {
        let verb = if report.applied { "taken over" } else { "to be taken over, once" };
        text.push_str(&format!("Counts of {senders} senders, {recipients} recipients: {verb}\n"));
    }
    for OwnQuota { sender, quota } in &report.quotas {
        text.push_str(&format!("Quota of {}: {quota}\n", escaped(sender)));
    }
    for note in &report.notes {
        text.push_str(&format!("Note: {}\n", clean(note)));
    }
    for lost in &report.lost {
        text.push_str(&format!("Cannot be taken over: {}\n", clean(lost)));
    }
    if let Some(then) = report.then.filter(|_| report.applied) {
        text.push_str(&format!("They take effect with: {then}\n"));
    }
    if !report.applied {
        text.push_str("Nothing was changed; --apply does it.\n");
    }
    print(&text)
}
