//! `sender list`: senders in a table, with what they have used.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::cli;
use crate::cli::SenderOrder;
use crate::clock;
use crate::commands::database;
use crate::commands::output::{print, print_json};
use crate::commands::table::{clean, table};
use crate::commit::blocks;
use crate::config::Sources;
use crate::exit::{Exit, Failed};
use crate::limiter::blocks::{Blocks, action};
use crate::limiter::explain::{explain, quota_used};
use crate::limiter::moment;
use crate::limiter::terms::Terms;
use crate::policy::duration;
use crate::policy::quota::{self, UNLIMITED};
use crate::status::about::{BlockJson, ListedJson, Row};
use crate::status::collector::everybody;
use crate::status::snapshot::Next;
use crate::status::standing;
use crate::store::Store;
use crate::store::blocks::BlockRow;
use crate::store::senders::{Listing, Order, SenderRow};

/// Histories read at a time: some 150,000 minutes at the most.
const AT_A_TIME: usize = 100;
/// The most senders that are checked for being blocked.
const CANDIDATES: u32 = 10_000;

/// A sender, or a name that is blocked and has no row.
#[derive(Serialize)]
#[serde(untagged)]
enum Name {
    Row(Row),
    Blocked { sender: String },
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    name: Name,
    /// What is used of the quota in the present window: messages or recipients, the greater.
    used: u64,
    /// What Postfix would be told of the next message, if it would be held or refused.
    blocked: Option<String>,
    /// The entry of a list that is about all mail of this sender.
    listed: Option<ListedJson>,
    /// The block that decides, unless the list is stricter.
    block: Option<BlockJson>,
    /// With --blocked: how many of its messages are held, as far as this program knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<i64>,
}

/// A line, and what the table needs of it.
struct Shown {
    line: Line,
    row: Option<SenderRow>,
    block: Option<BlockRow>,
}

pub fn run(sources: &Sources, options: &cli::SenderList) -> Result<Exit, Failed> {
    let lines = database::with_tables(sources, async |config, store| {
        let terms = database::terms(config);
        let now = clock::now();
        let rows = database::insist(store, async |store| store.blocks(now).await).await?;
        let blocks = Blocked::new(rows, &terms);
        if options.blocked {
            blocked(store, &terms, blocks, options, now).await
        } else {
            all(store, &terms, &blocks, options, now).await
        }
    })?;
    if options.output.json {
        print_json(&lines.into_iter().map(|shown| shown.line).collect::<Vec<_>>())?;
        return Ok(Exit::Ok);
    }
    if lines.is_empty() {
        print(if options.blocked { "No sender is blocked.\n" } else { "There are no senders.\n" })?;
        return Ok(Exit::Ok);
    }
    print(&told(&lines, options.blocked, &TimeZone::system()))?;
    Ok(Exit::Ok)
}

/// The blocks that are not over: their rows, and which of them decides.
struct Blocked {
    rows: HashMap<i64, BlockRow>,
    blocks: Blocks,
}

impl Blocked {
    fn new(rows: Vec<BlockRow>, terms: &Terms) -> Blocked {
        let blocks = Blocks::new(rows.iter().cloned().map(blocks::block), &terms.accounts);
        Blocked { rows: rows.into_iter().map(|row| (row.id, row)).collect(), blocks }
    }

    fn of(&self, account: &str, now: i64) -> Option<&BlockRow> {
        self.rows.get(&self.blocks.of(account, now)?.id)
    }
}

/// The senders whose mail is held or refused: first what is blocked, those set last first, then by quota and limits.
async fn blocked(
    store: &mut Store,
    terms: &Terms,
    blocks: Blocked,
    options: &cli::SenderList,
    now: i64,
) -> Result<Vec<Shown>, Failed> {
    let mut rows: Vec<&BlockRow> = blocks.rows.values().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.id));
    let filter = options.filter.as_deref().unwrap_or_default().to_lowercase();
    let mut lines = Vec::new();
    for block in rows.into_iter().filter(|row| row.account.contains(&filter)).take(options.limit as usize) {
        let row = database::insist(store, async |store| store.sender(&block.account).await).await?;
        let shown = match row {
            Some(row) => lines_of(store, terms, &blocks, &[row], now).await?.pop(),
            None => None,
        };
        let nobody = || Line {
            name: Name::Blocked { sender: block.account.clone() },
            used: 0,
            blocked: None,
            listed: None,
            block: None,
            held: None,
        };
        let (line, row) = shown.map_or_else(|| (nobody(), None), |shown| (shown.line, shown.row));
        let action = action(&block.action, &block.text).word();
        let line = Line { blocked: Some(action), block: Some(block.into()), ..line };
        lines.push(Shown { line, row, block: Some(block.clone()) });
    }
    let longest = terms.policy.longest_window().map_or(24 * 3600, duration::seconds);
    let listing =
        Listing { blocked_since: Some(now.saturating_sub(longest)), limit: CANDIDATES, ..listing(terms, options, now) };
    let listed = database::insist(store, async |store| store.list(&listing).await).await?;
    for listed in listed.chunks(AT_A_TIME) {
        let rows: Vec<SenderRow> = listed.iter().map(|listed| listed.row.clone()).collect();
        let found = lines_of(store, terms, &blocks, &rows, now).await?;
        let own = |shown: &Shown| {
            let account = shown.row.as_ref().map(|row| &row.sender);
            shown.block.as_ref().map(|block| &block.account) != account
        };
        lines.extend(found.into_iter().filter(|shown| shown.line.blocked.is_some() && own(shown)));
        if lines.len() >= options.limit as usize {
            break;
        }
    }
    lines.truncate(options.limit as usize);
    let ids: Vec<i64> = lines.iter().filter_map(|shown| Some(shown.row.as_ref()?.id)).collect();
    let held = database::insist(store, async |store| store.held_of(&ids).await).await?;
    for shown in &mut lines {
        let id = shown.row.as_ref().map(|row| row.id);
        shown.line.held = Some(id.and_then(|id| held.get(&id).copied()).unwrap_or(0));
    }
    Ok(lines)
}

async fn all(
    store: &mut Store,
    terms: &Terms,
    blocks: &Blocked,
    options: &cli::SenderList,
    now: i64,
) -> Result<Vec<Shown>, Failed> {
    let listing = listing(terms, options, now);
    let listed = database::insist(store, async |store| store.list(&listing).await).await?;
    let mut lines = Vec::new();
    for listed in listed.chunks(AT_A_TIME) {
        let rows: Vec<SenderRow> = listed.iter().map(|listed| listed.row.clone()).collect();
        lines.extend(lines_of(store, terms, blocks, &rows, now).await?);
    }
    Ok(lines)
}

fn listing(terms: &Terms, options: &cli::SenderList, now: i64) -> Listing {
    Listing {
        filter: options.filter.clone(),
        order: match options.sort {
            SenderOrder::Used => Order::Used,
            SenderOrder::Name => Order::Name,
            SenderOrder::Quota => Order::Quota,
            SenderOrder::Last => Order::LastUsed,
        },
        limit: options.limit,
        ..everybody(&terms.policy, now)
    }
}

/// A line for each of these senders.
async fn lines_of(
    store: &mut Store,
    terms: &Terms,
    blocks: &Blocked,
    rows: &[SenderRow],
    now: i64,
) -> Result<Vec<Shown>, Failed> {
    let policy = &terms.policy;
    let of: Vec<&SenderRow> = rows.iter().collect();
    let standings = database::insist(store, async |store| standing::of(store, policy, &of, now).await).await?;
    let line = |row: &SenderRow| {
        let standing = standings.get(&row.id)?;
        // No mail is charged to a domain's row.
        let is_domain = row.sender.starts_with('@');
        let explained = if is_domain { Vec::new() } else { explain(policy, standing, now) };
        let listed = terms.listed(&row.sender, now);
        let deciding = listed.as_ref().filter(|listed| listed.now && !is_domain);
        let stricter = deciding.map(|listed| listed.action.strictness());
        let block = blocks.of(&row.sender, now);
        let block = block.filter(|block| Some(action(&block.action, &block.text).strictness()) >= stricter);
        let blocked = match (block, deciding) {
            (Some(block), _) => Some(action(&block.action, &block.text).word()),
            (None, Some(listed)) => Next::of_listed(listed).map(|next| next.action),
            (None, None) => Next::of(&explained).map(|next| next.action),
        };
        let line = Line {
            name: Name::Row(row.into()),
            used: quota_used(policy, standing, now),
            blocked,
            listed: listed.as_ref().map(ListedJson::from),
            block: block.map(BlockJson::from),
            held: None,
        };
        Some(Shown { line, row: Some(row.clone()), block: block.cloned() })
    };
    Ok(rows.iter().filter_map(line).collect())
}

/// The lines as tables: of the blocks, if they are asked for, and of the senders.
fn told(lines: &[Shown], with_blocks: bool, zone: &TimeZone) -> String {
    let of_block = |shown: &&Shown| {
        let account = shown.row.as_ref().map(|row| &row.sender);
        with_blocks && shown.block.as_ref().is_some_and(|block| account.is_none_or(|account| *account == block.account))
    };
    let (blocks, senders): (Vec<&Shown>, Vec<&Shown>) = lines.iter().partition(of_block);
    let mut text = String::new();
    if !blocks.is_empty() {
        let rows = blocks.iter().filter_map(|shown| Some((shown.block.as_ref()?, &shown.line))).map(|(block, line)| {
            let until = block.until.map_or_else(|| "ended by hand".to_owned(), |at| moment::local(at, zone));
            let [account, action, why, by, note] =
                [&block.account, &block.action, &block.reason, &block.set_by, &block.note].map(|text| clean(text));
            let held = if account.starts_with('@') { String::new() } else { line.held.unwrap_or(0).to_string() };
            [account, action, moment::local(block.since, zone), until, held, why, by, note]
        });
        text.push_str(&table(["BLOCKED", "ACTION", "SINCE", "UNTIL", ">HELD", "WHY", "BY", "NOTE"], rows));
    }
    if senders.is_empty() {
        return text;
    }
    if !blocks.is_empty() {
        text.push('\n');
    }
    let rows = senders.iter().filter_map(|shown| {
        let (line, row) = (&shown.line, shown.row.as_ref()?);
        let share = match row.quota {
            0 | UNLIMITED => String::new(),
            quota => format!("{}%", line.used.saturating_mul(100) / u64::from(quota)),
        };
        let mut state: Vec<String> = Vec::new();
        state.extend(line.blocked.as_ref().map(|action| match &shown.block {
            Some(block) => format!("{action}, blocked: {}", block.reason),
            None => action.clone(),
        }));
        state.extend(line.listed.as_ref().map(|listed| {
            let hours = if listed.now { "" } else { " at other hours" };
            format!("on {}{hours}", listed.list)
        }));
        state.extend(row.locked.then(|| "locked".to_owned()));
        let once = row.quota != row.quota_reset && !row.locked;
        state.extend(once.then(|| "this period only".to_owned()));
        let held = line.held.map(|held| held.to_string()).unwrap_or_default();
        let (name, quota, state) = (clean(&row.sender), quota::written(row.quota), clean(&state.join(", ")));
        if row.sender.starts_with('@') {
            return Some([name, String::new(), quota, String::new(), String::new(), String::new(), state]);
        }
        Some([name, line.used.to_string(), quota, share, held, moment::local(row.updated_at, zone), state])
    });
    let rows: Vec<[String; 7]> = rows.collect();
    match with_blocks {
        true => text.push_str(&table(["SENDER", ">USED", ">QUOTA", ">", ">HELD", "LAST SENT", "STATE"], rows)),
        false => {
            let rows = rows
                .into_iter()
                .map(|[name, used, quota, share, _, last, state]| [name, used, quota, share, last, state]);
            text.push_str(&table(["SENDER", ">USED", ">QUOTA", ">", "LAST SENT", "STATE"], rows));
        }
    }
    text
}
