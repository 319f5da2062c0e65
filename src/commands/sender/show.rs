//! `sender show`: explains a sender. Each limit with what is used, allowed, and when there is room again; the last day hour
//! by hour; the last messages that were held or refused, and why.

use jiff::Timestamp;

use crate::cli;
use crate::commands::table::{self, Align, Screen, Table};
use crate::commands::{database, print, print_json};
use crate::config::{Config, Sources};
use crate::exit::{Exit, Failed};
use crate::limiter::decide::Policy;
use crate::limiter::moment;
use crate::limiter::terms::Terms;
use crate::status::about::{self, About, Report};
use crate::status::words;
use crate::store::Store;
use crate::store::senders::SenderRow;
use crate::system::clock;

pub fn run(sources: &Sources, options: &cli::SenderShow) -> Result<Exit, Failed> {
    let now = clock::now();
    let (shown, Terms { policy, message_log, .. }) = database::with_tables(sources, async |config, store| {
        let terms = database::terms(config);
        let row = row(config, &terms, store, &options.sender.name).await?;
        let shown = database::insist(store, async |store| about::read(store, &terms, &row, now).await).await?;
        Ok((shown, terms))
    })?;
    if options.sender.output.json {
        print_json(&Report::new(&shown, &policy))?;
    } else {
        print(&told(&shown, &policy, message_log, Screen::of_process()))?;
    }
    Ok(Exit::Ok)
}

async fn row(config: &Config, terms: &Terms, store: &mut Store, name: &str) -> Result<SenderRow, Failed> {
    let key = super::key(config, name)?;
    let row = database::insist(store, async |store| store.sender(&key).await).await?;
    row.ok_or_else(|| match terms.listed(&key, clock::now()) {
        Some(listed) => super::no_such_sender(&key).and(&words::on_list(&listed)),
        None => super::no_such_sender(&key),
    })
}

fn told(shown: &About, policy: &Policy, logs: bool, screen: Option<Screen>) -> String {
    let About { row, explained, hours, blocked, .. } = shown;
    let zone = &policy.zone;
    let mut text = format!("{}\n", table::clean(&row.sender));
    for (name, value) in words::facts(shown, policy) {
        text.push_str(&format!("  {name:<10} {}\n", table::clean(&value)));
    }
    if row.sender.starts_with('@') {
        return text;
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
                (true, Some(at)) => moment::with_offset(at, zone).unwrap_or_default(),
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
                moment::local(one.at, zone),
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
