//! A sender in words, for people at a terminal. The caller makes foreign text safe to show.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::about::About;
use crate::commit::learning::Learning;
use crate::limiter::blocks;
use crate::limiter::decide::Policy;
use crate::limiter::explain::blocking;
use crate::limiter::moment;
use crate::limiter::terms::Listed;
use crate::limiter::usual::{self, Day};
use crate::policy::limit::{Amount, Per};
use crate::policy::lists::Which;
use crate::policy::quota;
use crate::protocol::reply::Action;
use crate::store::blocks::BlockRow;
use crate::store::senders::SenderRow;

/// Returns what an entry of a list means for the senders it names.
pub fn on_list(listed: &Listed) -> String {
    let Listed { hit, now, action } = listed;
    let meaning = match hit.list {
        Which::Allow => "its mail is not counted, and no quota or limit stops it".to_owned(),
        Which::Deny => format!("its mail gets {action}, whatever its quota"),
    };
    let hours = if *now { "" } else { " at other hours" };
    format!("{} has {}: {meaning}{hours}", hit.list, hit.entry)
}

/// Returns what a block does and why, since when and until when, and who has set it.
pub fn blocked(block: &BlockRow, zone: &TimeZone) -> String {
    let BlockRow { account, reason, set_by, note, .. } = block;
    let whom = match account.strip_prefix('@') {
        Some(domain) => format!("all logins of {domain} are"),
        None => format!("{account} is"),
    };
    let since = moment::local(block.since, zone);
    let until = block
        .until
        .map_or_else(|| "until somebody ends it".to_owned(), |at| format!("until {}", moment::local(at, zone)));
    let by = if set_by.is_empty() { String::new() } else { format!(", by {set_by}") };
    let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
    format!("{whom} blocked since {since}, {until}: {}; {reason}{by}{note}", blocks::action(&block.action, &block.text))
}

/// Returns how long a sender's quota holds, as an addition to it: empty for its usual quota.
pub fn quota_until(row: &SenderRow) -> String {
    match (row.locked, row.quota == row.quota_reset) {
        (true, _) => ", locked: cleanup leaves it".to_owned(),
        (false, true) => String::new(),
        (false, false) => format!(", until cleanup makes it {}", quota::written(row.quota_reset)),
    }
}

/// Returns what the next message to one recipient would be told, and if a limit holds or refuses it, which one and until when.
pub fn next_mail(about: &About, policy: &Policy) -> String {
    let is_decided = about.deciding_block().is_some() || about.deciding().is_some();
    match blocking(&about.explained).filter(|_| !is_decided) {
        None => about.next(policy).to_string(),
        Some(one) => {
            let action = one.action.as_ref().map(Action::word).unwrap_or_default();
            let free = one.free_at.and_then(|at| moment::with_offset(at, &policy.zone));
            format!("{action} ({}); free again {}", one.limit, free.as_deref().unwrap_or("never"))
        }
    }
}

/// Returns what is usual for a sender, and when that was. None where no limit asks for it.
fn usual(about: &About, policy: &Policy) -> Option<String> {
    let asked = policy.limits.iter().filter(|limit| matches!(limit.amount, Amount::Usual { .. }));
    let told: Vec<String> = asked
        .map(|limit| {
            let Per::Window(window) = limit.per else { return String::new() };
            let of = |day: &Day| day.peaks.of(limit.measure, window).unwrap_or(0);
            let highest = about.days.iter().max_by_key(|day| of(day)).filter(|day| of(day) > 0);
            let Some(day) = highest else { return format!("no {} in the last weeks", limit.measure) };
            let date = Timestamp::from_second(usual::first_minute_of(day.day).saturating_mul(60)).unwrap_or_default();
            format!(
                "{} {} within {}, on {} (UTC)",
                of(day),
                limit.measure,
                limit.per,
                date.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d")
            )
        })
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Returns what is known of a sender as names and texts. An `@domain` row, which is never charged, has fewer.
pub fn facts(about: &About, policy: &Policy) -> Vec<(&'static str, String)> {
    let row = &about.row;
    let zone = &policy.zone;
    let mut facts = vec![("quota", quota::written(row.quota) + &quota_until(row))];
    facts.extend(about.listed.as_ref().map(|listed| ("list", on_list(listed))));
    if let Some((block, _)) = &about.block {
        facts.push(("blocked", blocked(block, zone)));
        facts.push(("", format!("to end it: {}", blocks::command_to_end(&block.account))));
    }
    if row.sender.starts_with('@') {
        let meaning = "the quota that new logins of this domain begin with; no mail counts against it";
        facts.push(("", meaning.to_owned()));
        return facts;
    }
    if let Some(last) = about.strikes.first() {
        let (number, at) = (about.strikes.len(), moment::local(last.at, zone));
        facts.push(("strikes", format!("{number}, the last at {at} by {}", last.limit)));
    }
    facts.push(("next mail", next_mail(about, policy)));
    facts.push(("in all", format!("{} recipients in {} messages", row.total_recipients, row.total_messages)));
    // A row that was made by hand, or by what was learnt, changed when nothing was sent.
    if row.total_messages > 0 || row.total_recipients > 0 {
        facts.push(("last sent", moment::local(row.updated_at, zone)));
    }
    facts.extend(usual(about, policy).map(|usual| ("usual", usual)));
    for one in about.explained.iter().filter(|one| one.learnt.is_some_and(|learnt| learnt.only_warns)) {
        let acts_from = one.learnt.and_then(|learnt| learnt.acts_from);
        facts.push(("learning", Learning { limit: one.limit.clone(), acts_from }.told(zone)));
    }
    if row.window_from > 0 {
        facts.push(("reset", format!("{} by hand", moment::local(row.window_from, zone))));
    }
    facts
}
