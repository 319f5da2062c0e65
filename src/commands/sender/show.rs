//! `sender show`: explains a sender. Each limit with what is used, allowed, and when there is room again; the last day hour
//! by hour; the last messages that were held or refused, and why.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::cli;
use crate::commands::table::{self, Align, Screen, Table};
use crate::commands::{database, print, print_json};
use crate::commit::breaker;
use crate::config::{Config, Sources, Window};
use crate::exit::{Exit, Failed};
use crate::limiter::decide::{Policy, shown_time};
use crate::limiter::explain::{Explained, blocking, explain};
use crate::limiter::lists::Lists;
use crate::limiter::terms::Terms;
use crate::status::standing;
use crate::store::report::{Logged, Part};
use crate::store::senders::SenderRow;
use crate::store::{Failure, Store};

const HOURS: i64 = 24;
const DAY: i64 = 24 * 3600;
/// Blocked messages that are shown.
const BLOCKED: u32 = 10;
/// Queue ids that are printed at once.
const HELD: u32 = 100_000;

/// All about a sender.
struct Shown {
    row: SenderRow,
    explained: Vec<Explained>,
    /// What was let through in each of the last hours of the clock, the present one last.
    hours: Vec<(i64, Part)>,
    blocked: Vec<Logged>,
}

pub fn run(sources: &Sources, options: &cli::SenderShow) -> Result<Exit, Failed> {
    let zone = TimeZone::system();
    let now = breaker::now();
    if options.held {
        let ids = database::with_tables(sources, async |config, store| {
            let row = row(config, store, &options.sender.name).await?;
            let since = period_begin(config, store, now).await?;
            database::insist(store, async |store| store.held(row.id, since, HELD).await).await
        })?;
        // What Postfix takes for a queue id, and nothing else: the list is piped into a command of root's.
        let ids = ids.iter().filter(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        print(&ids.map(|id| format!("{id}\n")).collect::<String>())?;
        return Ok(Exit::Ok);
    }
    let (shown, policy, logs) = database::with_tables(sources, async |config, store| {
        let row = row(config, store, &options.sender.name).await?;
        let policy = Terms::new(config, Lists::default(), zone.clone()).policy;
        let shown = database::insist(store, async |store| all_about(store, &policy, &row, now).await).await?;
        Ok((shown, policy, config.audit.message_log))
    })?;
    if options.sender.output.json {
        print_json(&Report::new(&shown, &policy))?;
    } else {
        print(&told(&shown, &policy, logs, Screen::of_process()))?;
    }
    Ok(Exit::Ok)
}

async fn row(config: &Config, store: &mut Store, name: &str) -> Result<SenderRow, Failed> {
    let key = super::key(config, name)?;
    let row = database::insist(store, async |store| store.sender(&key).await).await?;
    row.ok_or_else(|| super::no_such_sender(&key))
}

/// When the present period began: the window's length ago, or with the last reset.
async fn period_begin(config: &Config, store: &mut Store, now: i64) -> Result<i64, Failed> {
    let seconds = |window: Duration| i64::try_from(window.as_secs()).unwrap_or(i64::MAX);
    Ok(match config.quota.window {
        Window::Sliding(window) => now.saturating_sub(seconds(window)),
        Window::Reset => {
            let last = database::insist(store, async |store| store.last_reset().await).await?;
            last.unwrap_or(now - DAY)
        }
    })
}

async fn all_about(store: &mut Store, policy: &Policy, row: &SenderRow, now: i64) -> Result<Shown, Failure> {
    let standings = standing::of(store, policy, &[row], now).await?;
    let is_domain = row.sender.starts_with('@');
    let explained = match standings.get(&row.id) {
        Some(standing) if !is_domain => explain(policy, standing, now),
        _ => Vec::new(),
    };
    let first = first_hour(now, &policy.zone);
    let parts = store.parts(&[row.id], first / 60, 60).await?;
    let hour = |number: i64| {
        let part = parts.iter().find(|part| part.part == number).copied();
        (first + number * 3600, part.unwrap_or(Part { id: row.id, part: number, messages: 0, recipients: 0 }))
    };
    Ok(Shown {
        row: row.clone(),
        explained,
        hours: (0..HOURS).map(hour).collect(),
        blocked: store.blocked(row.id, BLOCKED).await?,
    })
}

/// The begin of the first of the hours that are shown, hours being those of the local clock.
fn first_hour(now: i64, zone: &TimeZone) -> i64 {
    let offset = Timestamp::from_second(now).map_or(0, |at| i64::from(zone.to_offset(at).seconds()));
    (now + offset).div_euclid(3600) * 3600 - offset - (HOURS - 1) * 3600
}

fn told(shown: &Shown, policy: &Policy, logs: bool, screen: Option<Screen>) -> String {
    let Shown { row, explained, hours, blocked } = shown;
    let zone = &policy.zone;
    let mut text = format!("{}\n", table::clean(&row.sender));
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<10} {value}\n"));
    let mut quota = table::quota(row.quota);
    match (row.locked, row.quota == row.quota_reset) {
        (true, _) => quota.push_str(", locked: cleanup leaves it"),
        (false, true) => {}
        (false, false) => quota.push_str(&format!(", until cleanup makes it {}", table::quota(row.quota_reset))),
    }
    line("quota", quota);
    if row.sender.starts_with('@') {
        line("", "the quota that new logins of this domain begin with; nobody is charged to it".to_owned());
        return text;
    }
    line(
        "next mail",
        match blocking(explained) {
            None => policy.accepted.to_string(),
            Some(one) => {
                let action = one.action.as_ref().map(crate::protocol::reply::Action::word).unwrap_or_default();
                let free = one.free_at.and_then(|at| shown_time(at, zone));
                format!("{action} ({}); free again {}", one.limit, free.as_deref().unwrap_or("never"))
            }
        },
    );
    line("in all", format!("{} recipients in {} messages", row.total_recipients, row.total_messages));
    line("last sent", table::local_time(row.updated_at, zone));
    if row.window_from > 0 {
        line("reset", format!("{} by hand", table::local_time(row.window_from, zone)));
    }
    let mut limits = Table::new(&[
        ("LIMIT", Align::Left),
        ("PER", Align::Left),
        ("USED", Align::Right),
        ("ALLOWED", Align::Right),
        ("BEYOND IT", Align::Left),
        ("FREE AGAIN", Align::Left),
    ]);
    for one in explained {
        limits.row(vec![
            one.limit.clone(),
            one.per.clone(),
            if one.per == "message" { String::new() } else { one.used.to_string() },
            one.allowed.map_or_else(|| "unlimited".to_owned(), |allowed| allowed.to_string()),
            one.action.as_ref().map_or_else(|| "NOTIFY".to_owned(), |action| table::clean(&action.to_string())),
            match (one.exceeded, one.free_at) {
                (false, _) => String::new(),
                (true, Some(at)) => shown_time(at, zone).unwrap_or_default(),
                (true, None) => "never".to_owned(),
            },
        ]);
    }
    text.push_str(&format!("\n{}\nRecipients let through, hour by hour\n", limits.show()));
    let most = hours.iter().map(|(_, part)| part.recipients).max().unwrap_or(0);
    let positive = |number: i64| u64::try_from(number).unwrap_or(0);
    for (at, part) in hours {
        let clock = Timestamp::from_second(*at).map(|at| at.to_zoned(zone.clone()).strftime("%H:%M").to_string());
        let bar = screen.map(|screen| {
            let width = screen.width.saturating_sub(20).clamp(10, 100);
            table::bar(positive(part.recipients), positive(most), width, screen)
        });
        let line = format!("  {}  {:>9}  {}", clock.unwrap_or_default(), part.recipients, bar.unwrap_or_default());
        text.push_str(&format!("{}\n", line.trim_end()));
    }
    if !logs {
        text.push_str("\nMESSAGE_LOG is off: what was blocked is in the log alone.\n");
    } else if blocked.is_empty() {
        text.push_str("\nNothing was held or refused of late.\n");
    } else {
        let mut last = Table::new(&[
            ("BLOCKED AT", Align::Left),
            ("QUEUE ID", Align::Left),
            ("RCPTS", Align::Right),
            ("ACTION", Align::Left),
            ("CLIENT", Align::Left),
            ("WHY", Align::Left),
        ]);
        for one in blocked {
            last.row(vec![
                table::local_time(one.at, zone),
                table::clean(&one.queue_id),
                one.recipients.to_string(),
                table::clean(&one.action),
                table::clean(&one.client_address),
                table::clean(&one.reason),
            ]);
        }
        text.push_str(&format!("\n{}", last.show()));
    }
    text
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    row: super::Row,
    /// What the next message to one recipient would be told.
    next: String,
    limits: Vec<LimitReport>,
    hours: Vec<HourReport>,
    blocked: Vec<BlockedReport>,
}

#[derive(Serialize)]
struct LimitReport {
    limit: String,
    per: String,
    used: u64,
    /// Null where there is no such limit for this sender.
    allowed: Option<u64>,
    action: String,
    exceeded: bool,
    /// Null where it is not exceeded, and where it always will be.
    free_at: Option<String>,
}

#[derive(Serialize)]
struct HourReport {
    from: String,
    messages: i64,
    recipients: i64,
}

#[derive(Serialize)]
struct BlockedReport {
    at: String,
    queue_id: String,
    recipients: i64,
    from: String,
    client_address: String,
    client_name: String,
    action: String,
    reason: String,
}

impl Report {
    fn new(shown: &Shown, policy: &Policy) -> Report {
        let next = blocking(&shown.explained).and_then(|one| one.action.clone());
        let limit = |one: &Explained| LimitReport {
            limit: one.limit.clone(),
            per: one.per.clone(),
            used: one.used,
            allowed: one.allowed,
            action: one.action.as_ref().map_or_else(|| "NOTIFY".to_owned(), ToString::to_string),
            exceeded: one.exceeded,
            free_at: one.free_at.map(table::utc),
        };
        let hour = |(at, part): &(i64, Part)| HourReport {
            from: table::utc(*at),
            messages: part.messages,
            recipients: part.recipients,
        };
        let blocked = |one: &Logged| BlockedReport {
            at: table::utc(one.at),
            queue_id: one.queue_id.clone(),
            recipients: one.recipients,
            from: one.from.clone(),
            client_address: one.client_address.clone(),
            client_name: one.client_name.clone(),
            action: one.action.clone(),
            reason: one.reason.clone(),
        };
        Report {
            row: (&shown.row).into(),
            next: next.as_ref().unwrap_or(&policy.accepted).to_string(),
            limits: shown.explained.iter().map(limit).collect(),
            hours: shown.hours.iter().map(hour).collect(),
            blocked: shown.blocked.iter().map(blocked).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_those_of_the_local_clock() {
        let now = 1_800_014_400 + 25 * 60; // 2027-01-15 12:25 UTC
        assert_eq!(first_hour(now, &TimeZone::UTC), 1_800_014_400 - 23 * 3600);
        let kathmandu = TimeZone::fixed(jiff::tz::Offset::from_seconds(5 * 3600 + 45 * 60).unwrap());
        // There it is 18:10, and the hour began at 12:15 UTC.
        assert_eq!(first_hour(now, &kathmandu), 1_800_014_400 + 15 * 60 - 23 * 3600);
    }
}
