//! The first lines: the program, the pace, the daemon, the database, the last day.

use std::time::Duration;

use ratatui::text::Line;

use super::super::figures::{Contact, Own};
use super::super::look::Tone;
use super::row::Row;
use super::view::{View, clock};
use crate::commands::table::sparkline;
use crate::commands::text::{self, number, rate, safe};
use crate::commands::watch::database::REST;
use crate::policy::duration;

/// The width of the names at the left.
const NAMES: usize = 11;

/// Returns at most `most` lines, the most important ones: problems first.
pub fn lines(view: &View<'_>, width: usize, most: usize) -> Vec<Line<'static>> {
    let mut rows = vec![(0, name(view, width)), (3, pace(view, width)), daemon(view, width), database(view, width)];
    rows.extend(day(view, width).map(|row| (5, row)));
    rows.extend(doubt(view, width).map(|row| (2, row)));
    let mut ranks: Vec<u8> = rows.iter().map(|(rank, _)| *rank).collect();
    ranks.sort_unstable();
    let last = ranks.get(most.max(1) - 1).copied().unwrap_or(u8::MAX);
    let mut lines: Vec<Line> = rows.into_iter().filter(|(rank, _)| *rank <= last).map(|(_, row)| row.line()).collect();
    lines.truncate(most.max(1));
    lines
}

fn named(view: &View<'_>, width: usize, name: &str) -> Row {
    let mut row = Row::new(view.look, width);
    // Each part begins with two blanks.
    row.add(Tone::Faint, &text::left(name, NAMES - 2, view.look.unicode));
    row
}

/// The program, the database's place, and the time of the figures.
fn name(view: &View<'_>, width: usize) -> Row {
    let mut row = Row::new(view.look, width);
    row.add(Tone::Strong, "policyd-rate-guard");
    let (tone, time) = match &view.figures.snapshot {
        None => (Tone::Faint, clock(view.now, &view.policy.zone)),
        Some(snapshot) => {
            let old = view.now.saturating_sub(snapshot.at);
            let usual = duration::seconds(usual(view)).saturating_mul(2).saturating_add(3);
            let time = clock(snapshot.at, &view.policy.zone);
            match old > usual {
                true if width < 60 => (Tone::Bad, format!("{} old", text::age(old))),
                true => (Tone::Bad, format!("figures of {time}, {} old", text::age(old))),
                false => (Tone::Faint, time),
            }
        }
    };
    let place = safe(&view.figures.place, view.look.unicode);
    let room = row.room().saturating_sub(text::width(&time) + 4);
    row.part(Tone::Faint, &text::shortened(&place, room, view.look.unicode));
    row.part_at_end(tone, &time);
    row
}

/// Returns the usual time between two looks.
fn usual(view: &View<'_>) -> Duration {
    match view.figures.database {
        Contact::Up(took) => view.interval.max(took * REST) + took,
        _ => view.interval,
    }
}

fn pace(view: &View<'_>, width: usize) -> Row {
    let mut row = named(view, width, "pace");
    match view.figures.paces.now() {
        None => row.part(Tone::Plain, "not known yet"),
        Some(pace) => {
            row.part(Tone::Strong, &format!("{} messages/min", rate(pace.messages)));
            row.part(Tone::Plain, &format!("{} recipients/min let through", rate(pace.recipients)));
            let room = row.room().saturating_sub(4).min(60);
            if room >= 10 {
                let mut past: Vec<u64> = view.figures.paces.past().rev().take(room).collect();
                past.reverse();
                row.part_at_end(Tone::Good, &sparkline(&past, view.look.unicode));
            }
        }
    }
    row
}

/// The daemon's counters, and the rank of this line.
fn daemon(view: &View<'_>, width: usize) -> (u8, Row) {
    let mut row = named(view, width, "decisions");
    match &view.figures.daemon {
        Own::NotAsked => {
            let text = "not known; METRICS_LISTEN=127.0.0.1:9464 in the settings tells them";
            row.rest(Tone::Plain, text);
            (6, row)
        }
        Own::Asked { contact: Contact::Asking, .. } => {
            row.part(Tone::Plain, "not known yet");
            (4, row)
        }
        Own::Asked { address, contact: Contact::Away { since, why }, .. } => {
            let since = clock(*since, &view.policy.zone);
            let why = safe(why, view.look.unicode);
            let text = format!("NOT KNOWN since {since}: {address}: {why}");
            row.rest(Tone::Bad, &text);
            (1, row)
        }
        Own::Asked { told: None, .. } => (4, row),
        Own::Asked { told: Some(told), .. } => {
            match &told.rate {
                None => row.part(Tone::Plain, "rate not known yet"),
                Some(of) => {
                    row.part(Tone::Strong, &format!("{}/s", rate(of.decisions)));
                    for (action, per_second) in &told.actions {
                        let tone = if *action == "pass" { Tone::Good } else { Tone::Warning };
                        row.part(tone, &format!("{} {}/s", safe(action, view.look.unicode), rate(*per_second)));
                    }
                    if let Some(seconds) = of.decision {
                        row.part(Tone::Plain, &format!("{} each", short(seconds)));
                    }
                }
            }
            let counters = &told.counters;
            row.part(Tone::Plain, &format!("queue {}", number(counters.queue_depth)));
            let connections = match counters.connections_limit {
                0 => format!("{} connections", number(counters.connections)),
                limit => format!("{} of {} connections", number(counters.connections), number(limit)),
            };
            row.part(Tone::Plain, &connections);
            (4, row)
        }
    }
}

/// Whether the database answers, here and for the daemon; and the rank of this line.
fn database(view: &View<'_>, width: usize) -> (u8, Row) {
    let mut row = named(view, width, "database");
    let told = match &view.figures.daemon {
        Own::Asked { told: Some(told), contact: Contact::Up(_), .. } => Some(told),
        _ => None,
    };
    let away_for_daemon = told.is_some_and(|told| !told.counters.database_up);
    if away_for_daemon {
        row.part(Tone::Bad, "AWAY for the daemon, which counts in memory");
    }
    let rank = match &view.figures.database {
        Contact::Asking => {
            row.part(Tone::Plain, "no answer yet");
            4
        }
        Contact::Up(took) => {
            row.part(Tone::Good, &format!("answers in {}", short(took.as_secs_f64())));
            if away_for_daemon { 1 } else { 4 }
        }
        Contact::Away { since, why } => {
            let since = clock(*since, &view.policy.zone);
            let text = format!("AWAY since {since}, asking again: {}", safe(why, view.look.unicode));
            row.rest(Tone::Bad, &text);
            1
        }
    };
    if let Some(seconds) = told.and_then(|told| told.rate.as_ref()).and_then(|of| of.transaction) {
        row.part(Tone::Plain, &format!("{} a transaction", short(seconds)));
    }
    if let Some(told) = told.filter(|told| told.counters.from_memory > 0) {
        row.part(Tone::Warning, &format!("{} counted in memory so far", number(told.counters.from_memory)));
    }
    if let Some(told) = told.filter(|told| told.counters.journal_requests > 0) {
        row.part(Tone::Warning, &format!("{} of them to be charged", number(told.counters.journal_requests)));
    }
    (rank, row)
}

/// Totals of the last day.
fn day(view: &View<'_>, width: usize) -> Option<Row> {
    let snapshot = view.figures.snapshot.as_ref()?;
    let mut row = named(view, width, "24 hours");
    if snapshot.refused.known {
        let [blocked, held] = [snapshot.refused.blocked, snapshot.refused.held].map(|sum| sum.max(0).cast_unsigned());
        let tone = if blocked > 0 { Tone::Warning } else { Tone::Plain };
        let held = if held > 0 { format!(", {} of them held", number(held)) } else { String::new() };
        // Of the audit log, only the newest messages are read.
        let day = view.now.saturating_sub(24 * 3600 - 120);
        let since = match snapshot.refused.from > day {
            true => format!(" since {}", clock(snapshot.refused.from, &view.policy.zone)),
            false => String::new(),
        };
        row.part(tone, &format!("{} blocked{held}{since}", number(blocked)));
    }
    let totals = &snapshot.totals;
    let [recipients, senders, messages] =
        [totals.recipients, totals.active, totals.messages].map(|total| number(total.max(0).cast_unsigned()));
    let whole = format!("{recipients} recipients, {messages} messages, {senders} senders let through");
    if row.room() >= text::width(&whole) + 2 {
        row.part(Tone::Plain, &whole);
    } else {
        row.part(Tone::Plain, &format!("{recipients} recipients of {senders} senders"));
    }
    Some(row)
}

/// What was answered with ACTION_ON_ERROR since the daemon's start, if anything was.
fn doubt(view: &View<'_>, width: usize) -> Option<Row> {
    let Own::Asked { told: Some(told), .. } = &view.figures.daemon else { return None };
    let counters = &told.counters;
    if counters.fail_open.is_empty() {
        return None;
    }
    let mut row = named(view, width, "in doubt");
    row.part(Tone::Bad, "let through without a verdict");
    for (reason, count) in &counters.fail_open {
        row.part(Tone::Bad, &format!("{} {}", safe(reason, view.look.unicode), number(*count)));
    }
    Some(row)
}

/// A duration in seconds, for people.
fn short(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}
