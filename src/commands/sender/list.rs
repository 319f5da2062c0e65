//! `sender list`: senders in a table, with what they have used.

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::cli;
use crate::cli::SenderOrder;
use crate::clock;
use crate::commands::database;
use crate::commands::output::{print, print_json};
use crate::commands::table::{clean, table};
use crate::config::Sources;
use crate::exit::{Exit, Failed};
use crate::limiter::explain::{explain, quota_used};
use crate::limiter::moment;
use crate::policy::duration;
use crate::policy::quota::{self, UNLIMITED};
use crate::status::about::{ListedJson, Row};
use crate::status::collector::everybody;
use crate::status::snapshot::Next;
use crate::status::standing;
use crate::store::senders::{Listing, Order};

/// Histories read at a time: some 150,000 minutes at the most.
const AT_A_TIME: usize = 100;
/// The most senders that are checked for being blocked.
const CANDIDATES: u32 = 10_000;

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    row: Row,
    /// What is used of the quota in the present window: messages or recipients, the greater.
    used: u64,
    /// What Postfix would be told of the next message, if it would be held or refused.
    blocked: Option<String>,
    /// The entry of a list that is about all mail of this sender.
    listed: Option<ListedJson>,
}

pub fn run(sources: &Sources, options: &cli::SenderList) -> Result<Exit, Failed> {
    let lines = database::with_tables(sources, async |config, store| {
        let terms = database::terms(config);
        let policy = &terms.policy;
        let now = clock::now();
        let longest = policy.longest_window().map_or(24 * 3600, duration::seconds);
        let listing = Listing {
            filter: options.filter.clone(),
            blocked_since: options.blocked.then(|| now.saturating_sub(longest)),
            order: match options.sort {
                SenderOrder::Used => Order::Used,
                SenderOrder::Name => Order::Name,
                SenderOrder::Quota => Order::Quota,
                SenderOrder::Last => Order::LastUsed,
            },
            limit: if options.blocked { CANDIDATES } else { options.limit },
            ..everybody(policy, now)
        };
        let listed = database::insist(store, async |store| store.list(&listing).await).await?;
        let mut lines = Vec::new();
        for listed in listed.chunks(AT_A_TIME) {
            let rows: Vec<_> = listed.iter().map(|listed| &listed.row).collect();
            let standings =
                database::insist(store, async |store| standing::of(store, policy, &rows, now).await).await?;
            for row in rows {
                let Some(standing) = standings.get(&row.id) else { continue };
                // No mail is charged to a domain's row.
                let is_domain = row.sender.starts_with('@');
                let explained = if is_domain { Vec::new() } else { explain(policy, standing, now) };
                let listed = terms.listed(&row.sender, now);
                let blocked = match &listed {
                    Some(listed) if listed.now && !is_domain => Next::of_listed(listed),
                    _ => Next::of(&explained),
                };
                let blocked = blocked.map(|next| next.action);
                if !options.blocked || blocked.is_some() {
                    let used = quota_used(policy, standing, now);
                    let listed = listed.as_ref().map(ListedJson::from);
                    lines.push((Line { row: row.into(), used, blocked, listed }, row.clone()));
                }
            }
            if lines.len() >= options.limit as usize {
                break;
            }
        }
        lines.truncate(options.limit as usize);
        Ok(lines)
    })?;
    if options.output.json {
        print_json(&lines.into_iter().map(|(line, _)| line).collect::<Vec<_>>())?;
        return Ok(Exit::Ok);
    }
    if lines.is_empty() {
        print(if options.blocked { "No sender is blocked.\n" } else { "There are no senders.\n" })?;
        return Ok(Exit::Ok);
    }
    let zone = TimeZone::system();
    let rows = lines.iter().map(|(line, row)| {
        let share = match row.quota {
            0 | UNLIMITED => String::new(),
            quota => format!("{}%", line.used.saturating_mul(100) / u64::from(quota)),
        };
        let mut state: Vec<&str> = Vec::new();
        state.extend(line.blocked.as_deref());
        let listed = line.listed.as_ref().map(|listed| {
            let hours = if listed.now { "" } else { " at other hours" };
            format!("on {}{hours}", listed.list)
        });
        state.extend(listed.as_deref());
        state.extend(row.locked.then_some("locked"));
        let once = row.quota != row.quota_reset && !row.locked;
        state.extend(once.then_some("this period only"));
        let (name, quota, state) = (clean(&row.sender), quota::written(row.quota), state.join(", "));
        if row.sender.starts_with('@') {
            return [name, String::new(), quota, String::new(), String::new(), state];
        }
        [name, line.used.to_string(), quota, share, moment::local(row.updated_at, &zone), state]
    });
    print(&table(["SENDER", ">USED", ">QUOTA", ">", "LAST SENT", "STATE"], rows))?;
    Ok(Exit::Ok)
}
