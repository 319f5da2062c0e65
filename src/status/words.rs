//! A sender in words, for people at a terminal. The caller makes foreign text safe to show.

use super::about::About;
use crate::limiter::decide::Policy;
use crate::limiter::explain::blocking;
use crate::limiter::moment;
use crate::limiter::terms::Listed;
use crate::policy::lists::Which;
use crate::policy::quota;
use crate::protocol::reply::Action;
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

/// Returns how long a sender's quota holds, as an addition to it: empty for its usual quota.
pub fn quota_until(row: &SenderRow) -> String {
    match (row.locked, row.quota == row.quota_reset) {
        (true, _) => ", locked: cleanup leaves it".to_owned(),
        (false, true) => String::new(),
        (false, false) => format!(", until cleanup makes it {}", quota::written(row.quota_reset)),
    }
}

/// Returns what is known of a sender as names and texts. An `@domain` row, which is never charged, has fewer.
pub fn facts(about: &About, policy: &Policy) -> Vec<(&'static str, String)> {
    let About { row, explained, .. } = about;
    let zone = &policy.zone;
    let mut facts = vec![("quota", quota::written(row.quota) + &quota_until(row))];
    facts.extend(about.listed.as_ref().map(|listed| ("list", on_list(listed))));
    if row.sender.starts_with('@') {
        let meaning = "the quota that new logins of this domain begin with; no mail counts against it";
        facts.push(("", meaning.to_owned()));
        return facts;
    }
    let next = match (about.deciding(), blocking(explained)) {
        (Some(_), _) | (None, None) => about.next(policy).to_string(),
        (None, Some(one)) => {
            let action = one.action.as_ref().map(Action::word).unwrap_or_default();
            let free = one.free_at.and_then(|at| moment::with_offset(at, zone));
            format!("{action} ({}); free again {}", one.limit, free.as_deref().unwrap_or("never"))
        }
    };
    facts.push(("next mail", next));
    facts.push(("in all", format!("{} recipients in {} messages", row.total_recipients, row.total_messages)));
    facts.push(("last sent", moment::local(row.updated_at, zone)));
    if row.window_from > 0 {
        facts.push(("reset", format!("{} by hand", moment::local(row.window_from, zone))));
    }
    facts
}
