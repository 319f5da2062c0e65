//! `sender show`: everything about a sender. Each limit with what is used, what is allowed, and when there is room again; the
//! last day hour by hour; what happened to it, in the order of time; the last messages that were held or refused, and why.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::named;
use crate::cli;
use crate::clock;
use crate::commands::database;
use crate::commands::output::{print, print_json};
use crate::commands::table::{self, Screen, clean, table};
use crate::config::Sources;
use crate::exit::{Exit, Failed};
use crate::limiter::decide::Policy;
use crate::limiter::moment;
use crate::limiter::terms::Terms;
use crate::status::about::{self, About, AboutJson};
use crate::status::story::{self, Line, LineJson};
use crate::status::words;
use crate::store::queued::State;
use crate::store::report::Part;

/// What `sender show --json` prints.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    about: AboutJson,
    /// What happened, the last of it; the latest last.
    story: Vec<LineJson>,
}

pub fn run(sources: &Sources, options: &cli::SenderName) -> Result<Exit, Failed> {
    let now = clock::now();
    let (shown, story, Terms { policy, message_log, .. }) = database::with_tables(sources, async |config, store| {
        let terms = database::terms(config);
        let name = &options.name;
        let row = match named::row(config, store, name).await {
            Err(failed) if failed.exit == Exit::NoUser => {
                let key = named::key(config, name)?;
                let failed = match named::block_that_remains(config, store, &key).await? {
                    Some(block) => failed.and(&table::clean(&words::blocked(&block, &terms.policy.zone))),
                    None => failed,
                };
                return Err(match terms.listed(&key, now) {
                    Some(listed) => failed.and(&words::on_list(&listed)),
                    None => failed,
                });
            }
            row => row?,
        };
        let shown = database::insist(store, async |store| about::read(store, &terms, &row, now).await).await?;
        let story = database::insist(store, async |store| story::read(store, &shown, now).await).await?;
        Ok((shown, story, terms))
    })?;
    if options.output.json {
        let story = story.iter().map(LineJson::from).collect();
        print_json(&Shown { about: AboutJson::new(&shown, &policy), story })?;
    } else {
        print(&told(&shown, &story, &policy, message_log, Screen::of_process()))?;
    }
    Ok(Exit::Ok)
}

fn told(shown: &About, story: &[Line], policy: &Policy, logs: bool, screen: Option<Screen>) -> String {
    let About { row, explained, hours, blocked, .. } = shown;
    let zone = &policy.zone;
    let mut text = format!("{}\n", clean(&row.sender));
    for (name, value) in words::facts(shown, policy) {
        text.push_str(&format!("  {name:<10} {}\n", clean(&value)));
    }
    if row.sender.starts_with('@') {
        return text + &in_order_of_time(story, zone);
    }
    let limits = explained.iter().map(|one| {
        [
            one.limit.clone(),
            one.per.clone(),
            if one.per == "message" { String::new() } else { one.used.to_string() },
            one.allowed.map_or_else(|| "unlimited".to_owned(), |allowed| allowed.to_string()),
            one.action.as_ref().map_or_else(|| "NOTIFY".to_owned(), |action| clean(&action.to_string())),
            match (one.exceeded, one.free_at) {
                (false, _) => String::new(),
                (true, Some(at)) => moment::with_offset(at, zone).unwrap_or_default(),
                (true, None) => "never".to_owned(),
            },
        ]
    });
    let limits = table(["LIMIT", "PER", ">USED", ">ALLOWED", "BEYOND IT", "FREE AGAIN"], limits);
    text.push_str(&format!("\n{limits}\nRecipients let through, hour by hour\n"));
    let recipients = |part: &Part| part.recipients.max(0).cast_unsigned();
    let most = hours.iter().map(|(_, part)| recipients(part)).max().unwrap_or(0);
    for (at, part) in hours {
        let clock = Timestamp::from_second(*at).map(|at| at.to_zoned(zone.clone()).strftime("%H:%M").to_string());
        let bar = screen.map(|screen| {
            let width = screen.width.saturating_sub(20).clamp(10, 100);
            table::bar(recipients(part), most, width, screen.unicode)
        });
        let line = format!("  {}  {:>9}  {}", clock.unwrap_or_default(), part.recipients, bar.unwrap_or_default());
        text.push_str(&format!("{}\n", line.trim_end()));
    }
    text.push_str(&in_order_of_time(story, zone));
    if !logs {
        text.push_str("\nMESSAGE_LOG is off: what was blocked is known from the log only.\n");
    } else if blocked.is_empty() {
        text.push_str("\nNothing was recently held or refused.\n");
    } else {
        let last = blocked.iter().map(|one| {
            let [id, action, client, reason] =
                [&one.queue_id, &one.action, &one.client_address, &one.reason].map(|text| clean(text));
            let action = match one.state {
                State::Released | State::Deleted => format!("{action}, {}", one.state.word()),
                State::Untouched | State::Held => action,
            };
            [moment::local(one.at, zone), id, one.recipients.to_string(), action, client, reason]
        });
        text.push_str(&format!("\n{}", table(["BLOCKED AT", "QUEUE ID", ">RCPTS", "ACTION", "CLIENT", "WHY"], last)));
    }
    text
}

/// What happened, as a table; nothing if nothing did.
fn in_order_of_time(story: &[Line], zone: &TimeZone) -> String {
    if story.is_empty() {
        return String::new();
    }
    let rows = story.iter().map(|line| {
        let [at, until] = [line.at, line.until].map(|at| moment::local(at, zone));
        let until = if until == at { String::new() } else { until };
        let [messages, recipients] = match line.messages {
            0 => Default::default(),
            messages => [messages.to_string(), line.recipients.to_string()],
        };
        [at, until, line.what.words().to_owned(), messages, recipients, clean(&line.why)]
    });
    format!("\nWhat happened\n{}", table(["WHEN", "UNTIL", "WHAT", ">MESSAGES", ">RCPTS", "WHY"], rows))
}
