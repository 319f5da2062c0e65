//! `top`: the senders that sent most. On a terminal with bars and the time in parts, as wide as it is; elsewhere plain columns.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::database;
use super::output::{print, print_json};
use super::table::{Screen, bar, clean, sparkline, table};
use super::text::{left, width};
use crate::cli;
use crate::cli::TopBy;
use crate::clock;
use crate::config::Sources;
use crate::exit::{Exit, Failed};
use crate::limiter::moment;
use crate::limiter::window::minute_of;
use crate::policy::duration;
use crate::policy::limit::Measure;
use crate::status::collector::by_sender;
use crate::store::report::{By, Part, Top, Totals};

/// Parts of the time in a sparkline.
const PARTS: usize = 24;
/// From this width on there is room for all parts.
const WIDE: usize = 110;

/// What is shown.
struct Shown {
    tops: Vec<Top>,
    totals: Totals,
    parts: HashMap<i64, Vec<u64>>,
    since: i64,
    by: TopBy,
    /// What is not known, and why.
    notes: Vec<&'static str>,
}

pub fn run(sources: &Sources, options: &cli::Top) -> Result<Exit, Failed> {
    let by = match options.by {
        TopBy::Recipients => By::Recipients,
        TopBy::Messages => By::Messages,
        TopBy::Blocked => By::Blocked,
        TopBy::Networks => By::Networks,
    };
    let seconds = duration::seconds(options.since).max(60);
    // MySQL knows no time before 1970.
    let since = clock::now().saturating_sub(seconds).max(0);
    let shown = database::with_tables(sources, async |config, store| {
        let (tops, totals, parts) = database::insist(store, async |store| {
            let tops = store.top(by, since, options.number).await?;
            let ids: Vec<i64> = tops.iter().map(|top| top.id).collect();
            // The parts are whole minutes, and the last one holds the present minute.
            let minutes = (seconds / 60 / PARTS as i64).max(1);
            let first = minute_of(clock::now()) + 1 - minutes * PARTS as i64;
            let parts = store.parts(&ids, first, minutes).await?;
            Ok((tops, store.totals(since).await?, parts))
        })
        .await?;
        let counts_networks = config.quota.limits.iter().any(|limit| limit.measure == Measure::Networks);
        let mut notes = Vec::new();
        if !config.audit.message_log {
            notes.push("MESSAGE_LOG is off: what was blocked is not known.");
        }
        if options.by == TopBy::Networks && !counts_networks {
            notes.push("LIMITS has no limit on networks, so they are not noted.");
        }
        let number = |part: &Part| if options.by == TopBy::Messages { part.messages } else { part.recipients };
        let parts = by_sender(&parts, PARTS, number);
        Ok(Shown { tops, totals, parts, since, by: options.by, notes })
    })?;
    if options.output.json {
        print_json(&json(&shown))?;
        return Ok(Exit::Ok);
    }
    let zone = TimeZone::system();
    let totals = shown.totals;
    let mut text = format!(
        "Since {} ({}): {} recipients in {} messages of {} senders let through\n",
        moment::local(shown.since, &zone),
        duration::show(options.since),
        totals.recipients,
        totals.messages,
        totals.senders
    );
    for note in &shown.notes {
        text.push_str(&format!("{note}\n"));
    }
    match Screen::of_process() {
        _ if shown.tops.is_empty() => {}
        Some(screen) => text.push_str(&drawn(&shown, screen)),
        None => text.push_str(&plain(&shown)),
    }
    print(&text)?;
    Ok(Exit::Ok)
}

/// The number that a sender is ranked by.
fn ranked(top: &Top, by: TopBy) -> u64 {
    let number = match by {
        TopBy::Recipients => top.recipients,
        TopBy::Messages => top.messages,
        TopBy::Blocked => top.blocked,
        TopBy::Networks => top.networks,
    };
    number.max(0).cast_unsigned()
}

/// The share of a sender's messages that was held or refused.
fn share_blocked(top: &Top) -> String {
    match top.logged {
        0 => String::new(),
        logged => format!("{}%", top.blocked.saturating_mul(100) / logged),
    }
}

fn plain(shown: &Shown) -> String {
    let rows = shown.tops.iter().map(|top| {
        let [recipients, messages, blocked, networks] =
            [top.recipients, top.messages, top.blocked, top.networks].map(|number| number.to_string());
        [clean(&top.sender), recipients, messages, blocked, share_blocked(top), networks]
    });
    table(["SENDER", ">RECIPIENTS", ">MESSAGES", ">BLOCKED", ">SHARE", ">NETWORKS"], rows)
}

/// A column of numbers: its heading, and what stands in it.
type Column = (&'static str, fn(&Top) -> String);

/// The columns that there is room for; what is ranked by is always among them.
fn columns(by: TopBy, wide: bool) -> Vec<Column> {
    let recipients: Column = ("RCPTS", |top| top.recipients.to_string());
    let messages: Column = ("MSGS", |top| top.messages.to_string());
    let blocked: Column = ("BLOCKED", |top| top.blocked.to_string());
    let share: Column = ("SHARE", share_blocked);
    let networks: Column = ("NETWORKS", |top| top.networks.to_string());
    match by {
        _ if wide => vec![recipients, messages, blocked, share, networks],
        TopBy::Recipients | TopBy::Messages => vec![recipients, messages, blocked],
        TopBy::Blocked => vec![messages, blocked, share],
        TopBy::Networks => vec![recipients, messages, networks],
    }
}

/// The table with bars and sparklines, at most as wide as the screen.
fn drawn(shown: &Shown, screen: Screen) -> String {
    const NUMBER: usize = 8;
    let wide = screen.width >= WIDE;
    let cells = if wide { PARTS } else { PARTS / 2 };
    // Between the columns are two blanks.
    let columns = columns(shown.by, wide);
    let fixed = columns.len() * (NUMBER + 2) + 2 + cells;
    let room = screen.width.saturating_sub(fixed + 2);
    let longest = shown.tops.iter().map(|top| width(&top.sender)).max().unwrap_or(0).max("SENDER".len());
    let name = longest.min((room * 3 / 5).max(16)).min(room.max(1));
    let rest = room.saturating_sub(name);
    let most = shown.tops.iter().map(|top| ranked(top, shown.by)).max().unwrap_or(0);
    let mut text = left("SENDER", name, screen.unicode);
    for (heading, _) in &columns {
        text.push_str(&format!("  {heading:>NUMBER$}"));
    }
    text.push_str("  IN TIME\n");
    for top in &shown.tops {
        let mut line = left(&clean(&top.sender), name, screen.unicode);
        for (_, number) in &columns {
            line.push_str(&format!("  {:>NUMBER$}", number(top)));
        }
        let spark = shown.parts.get(&top.id).cloned().unwrap_or_else(|| vec![0; PARTS]);
        let spark: Vec<u64> = spark.chunks(PARTS / cells).map(|parts| parts.iter().sum()).collect();
        line.push_str("  ");
        line.push_str(&sparkline(&spark, screen.unicode));
        if rest > 0 {
            line.push_str("  ");
            line.push_str(&bar(ranked(top, shown.by), most, rest, screen.unicode));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What `--json` prints. `logged` are the messages in the audit log, `parts` the time since then in equal parts, in the measure
/// that is ranked by (recipients, unless messages).
fn json(shown: &Shown) -> Value {
    let line = |top: &Top| {
        json!({
            "sender": top.sender,
            "recipients": top.recipients,
            "messages": top.messages,
            "blocked": top.blocked,
            "logged": top.logged,
            "networks": top.networks,
            "parts": shown.parts.get(&top.id).cloned().unwrap_or_else(|| vec![0; PARTS]),
        })
    };
    let Totals { senders, messages, recipients } = shown.totals;
    json!({
        "since": moment::utc(shown.since),
        "senders": senders,
        "messages": messages,
        "recipients": recipients,
        "top": shown.tops.iter().map(line).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(senders: usize) -> Shown {
        let top = |number: usize| Top {
            id: number as i64,
            sender: format!("{}{number}@example.com", "somebody".repeat(number)),
            messages: 10,
            recipients: 1_000_000 / (number as i64 + 1),
            logged: 12,
            blocked: 3,
            networks: 2,
        };
        Shown {
            tops: (0..senders).map(top).collect(),
            totals: Totals::default(),
            parts: (0..senders as i64).map(|id| (id, (0..PARTS as u64).collect())).collect(),
            since: 0,
            by: TopBy::Recipients,
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_line_is_never_wider_than_the_screen() {
        for width in [40, 60, 80, 109, 110, 132, 200] {
            for unicode in [false, true] {
                let text = drawn(&shown(6), Screen { width, unicode });
                assert_eq!(text.lines().count(), 7);
                let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
                assert!(widest <= width.max(50), "{widest} of {width}:\n{text}");
                if width >= 80 {
                    assert_eq!(widest, width, "the greatest bar fills the screen:\n{text}");
                }
            }
        }
    }

    #[test]
    fn the_number_that_is_ranked_by_is_seen_on_every_screen() {
        let numbers = |by: TopBy, width: usize| {
            let text = drawn(&Shown { by, ..shown(1) }, Screen { width, unicode: false });
            let words = |line: Option<&str>| line.unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let (heads, line) = (words(text.lines().next()), words(text.lines().nth(1)));
            heads.into_iter().zip(line).skip(1).map(|(head, number)| format!("{head} {number}")).collect::<Vec<_>>()
        };
        assert_eq!(numbers(TopBy::Recipients, 80)[..3], ["RCPTS 1000000", "MSGS 10", "BLOCKED 3"]);
        assert_eq!(numbers(TopBy::Messages, 80)[..3], ["RCPTS 1000000", "MSGS 10", "BLOCKED 3"]);
        assert_eq!(numbers(TopBy::Blocked, 80)[..3], ["MSGS 10", "BLOCKED 3", "SHARE 25%"]);
        assert_eq!(numbers(TopBy::Networks, 80)[..3], ["RCPTS 1000000", "MSGS 10", "NETWORKS 2"]);
        let all = ["RCPTS 1000000", "MSGS 10", "BLOCKED 3", "SHARE 25%", "NETWORKS 2"];
        assert_eq!(numbers(TopBy::Blocked, 120)[..5], all);
    }

    #[test]
    fn a_pipe_gets_plain_columns() {
        let text = plain(&shown(2));
        assert!(text.is_ascii(), "{text}");
        assert_eq!(text.lines().next(), Some("SENDER                 RECIPIENTS  MESSAGES  BLOCKED  SHARE  NETWORKS"));
        assert!(text.lines().nth(1).unwrap().ends_with("1000000        10        3    25%         2"), "{text}");
    }
}
