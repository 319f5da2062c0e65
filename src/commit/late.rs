//! A part of the outage journal: answered requests that are charged in one transaction, when the database is back. Nothing is
//! decided; each counts at its own time. Knows no clock and no SQL.

use std::collections::{BTreeMap, HashMap};

use crate::account;
use crate::journal::entry::Entry;
use crate::limiter::terms::Terms;
use crate::limiter::usual;
use crate::limiter::window::{self, minute_of};
use crate::store::counters::{Outlived, Row, Sum};
use crate::store::journal::{Late, Part};
use crate::store::messages::AuditRow;
use crate::store::settle::Writes;
use crate::store::usage::{Arrival, PartsRow, SeenRow, UsageRow};

/// Entries of the journal that are charged together.
#[derive(Debug)]
pub struct LatePart {
    pub part: Part,
    /// One per account, sorted.
    pub sums: Vec<Sum>,
    pub entries: Vec<Entry>,
    /// For rows that it makes.
    pub new_quota: u32,
    /// Where the mail came in.
    host: String,
    /// Minutes before these are kept by the hour and by the day; None where all are told apart.
    coarse_before: Option<(i64, i64)>,
    /// Whether it is noted where senders are seen for the first time.
    tells_new_networks: bool,
}

impl LatePart {
    /// `now` is in Unix seconds.
    pub fn new(part: Part, entries: Vec<Entry>, terms: &Terms, now: i64) -> LatePart {
        let policy = &terms.policy;
        let is_coarse = policy.longest_window().is_some_and(|longest| longest > window::EXACT);
        LatePart {
            part,
            sums: sums(&entries),
            entries,
            new_quota: policy.new_quota,
            host: terms.host.clone(),
            coarse_before: is_coarse.then(|| window::coarse_before(now, policy.exact().max(usual::MINUTES_FOR))),
            tells_new_networks: policy.tells_new_networks(),
        }
    }

    /// What is written, by the rows as they stand after the sums were added; `reset` is when all counters were last reset.
    ///
    /// What was answered before a reset is in no counter and no window any more; totals, history and the audit log have it.
    pub fn late(&self, rows: &[Option<Row>], reset: Option<i64>) -> Late {
        let by_account: HashMap<&str, &Row> =
            self.sums.iter().zip(rows).filter_map(|(sum, row)| Some((sum.sender.as_str(), row.as_ref()?))).collect();
        let mut usage: BTreeMap<(i64, i64), UsageRow> = BTreeMap::new();
        // When first, and when last.
        let mut seen: BTreeMap<(i64, String), (i64, i64)> = BTreeMap::new();
        let mut outlived: BTreeMap<i64, Outlived> = BTreeMap::new();
        let mut audit = Vec::new();
        let mut parts: BTreeMap<(i64, i64), PartsRow> = BTreeMap::new();
        for entry in &self.entries {
            let Some(row) = by_account.get(entry.account.as_str()) else { continue };
            let id = row.id;
            if entry.let_through {
                let minute = self.minute(entry.at, row.window_from);
                let empty = UsageRow { ratelimit_id: id, minute, messages: 0, recipients: 0, bytes: 0 };
                let sum = usage.entry((id, minute)).or_insert(empty);
                sum.messages += i64::from(entry.outstanding.messages);
                sum.recipients += i64::from(entry.outstanding.recipients);
                sum.bytes = sum.bytes.saturating_add_unsigned(entry.outstanding.bytes);
                let [messages, recipients] = [entry.outstanding.messages, entry.outstanding.recipients].map(i64::from);
                if (entry.blocked || entry.from_new_network) && messages + recipients > 0 {
                    let empty = PartsRow { ratelimit_id: id, minute, ..PartsRow::default() };
                    let part = parts.entry((id, minute)).or_insert(empty);
                    // What is blocked and let through is held.
                    if entry.blocked {
                        part.held_messages += messages;
                        part.held_recipients += recipients;
                    }
                    if entry.from_new_network {
                        part.new_messages += messages;
                        part.new_recipients += recipients;
                    }
                }
            }
            if let Some(network) = entry.network {
                let (first, last) = seen.entry((id, network.to_string())).or_insert((entry.at, entry.at));
                (*first, *last) = (entry.at.min(*first), entry.at.max(*last));
            }
            if entry.at < row.window_from.max(reset.unwrap_or(0)) {
                let empty = Outlived { ratelimit_id: id, messages: 0, recipients: 0 };
                let sum = outlived.entry(id).or_insert(empty);
                sum.messages = sum.messages.saturating_add(entry.increase.messages);
                sum.recipients = sum.recipients.saturating_add(entry.increase.recipients);
            }
            audit.extend(audit_row(entry, id, &self.host));
        }
        let (mut rows, mut arrived) = (Vec::new(), Vec::new());
        for ((ratelimit_id, network), (first_seen, last_seen)) in seen {
            if self.tells_new_networks {
                arrived.push(Arrival { ratelimit_id, network: network.clone(), first_seen });
            }
            rows.push(SeenRow { ratelimit_id, network, last_seen });
        }
        let (usage, parts) = (usage.into_values().collect(), parts.into_values().collect());
        let writes = Writes { audit, usage, parts, seen: rows, arrived, ..Writes::default() };
        Late { writes, outlived: outlived.into_values().collect() }
    }

    /// The minute that it counts in.
    fn minute(&self, at: i64, window_from: i64) -> i64 {
        let minute = match minute_of(at) {
            // A window that begins anew looks at its whole first minute.
            minute if at < window_from => minute.min(minute_of(window_from) - 1),
            minute => minute,
        };
        // Where sums of hours and days are kept already, nobody looks for a minute.
        self.coarse_before.map_or(minute, |coarse| *window::kept_together(minute, coarse).end())
    }
}

fn sums(entries: &[Entry]) -> Vec<Sum> {
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for Entry { account, increase, .. } in entries {
        let sum = sums.entry(account).or_insert_with(|| Sum {
            sender: account.clone(),
            domain: account::domain_key(account).map(str::to_owned),
            messages: 0,
            recipients: 0,
            count: true,
        });
        sum.messages = sum.messages.saturating_add(increase.messages);
        sum.recipients = sum.recipients.saturating_add(increase.recipients);
    }
    sums.into_values().collect()
}

fn audit_row(entry: &Entry, ratelimit_id: i64, host: &str) -> Option<AuditRow> {
    let audit = entry.audit.clone()?;
    Some(AuditRow {
        at: entry.at,
        ratelimit_id,
        host: host.to_owned(),
        queue_id: audit.queue_id,
        sender: entry.account.clone(),
        recipients: entry.outstanding.recipients,
        blocked: entry.blocked,
        from: audit.from,
        to: audit.to,
        client_address: audit.client_address,
        client_name: audit.client_name,
        action: audit.action,
        reason: audit.reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::increase::Increase;

    const MINUTE: i64 = 30_000_000;

    fn entry(account: &str, at: i64, recipients: u32, let_through: bool) -> Entry {
        let increase = Increase { messages: 1, recipients, bytes: 0 };
        Entry {
            account: account.to_owned(),
            at,
            increase,
            outstanding: increase,
            let_through,
            from_new_network: false,
            blocked: !let_through,
            network: Some("192.0.2.0/24".parse().unwrap()),
            audit: None,
        }
    }

    fn part(entries: Vec<Entry>, coarse_before: Option<(i64, i64)>) -> LatePart {
        let part = Part { journal: 1, from: 0, to: 9 };
        let (sums, host) = (sums(&entries), String::new());
        LatePart { part, sums, entries, new_quota: 10, host, coarse_before, tells_new_networks: true }
    }

    fn row(id: i64, window_from: i64) -> Option<Row> {
        let (messages, recipients) = (5, 5);
        Some(Row {
            id,
            quota: 9,
            messages,
            recipients,
            total_messages: 5,
            total_recipients: 5,
            window_from,
            blocks: Default::default(),
        })
    }

    fn minutes(late: &Late) -> Vec<(i64, i64, i64)> {
        late.writes.usage.iter().map(|row| (row.ratelimit_id, row.minute - MINUTE, row.recipients)).collect()
    }

    #[test]
    fn each_entry_counts_in_its_minute_and_what_was_refused_in_none() {
        let at = MINUTE * 60;
        let entries = vec![
            entry("b", at, 1, true),
            entry("a", at + 59, 2, true),
            entry("b", at + 3, 4, true),
            entry("b", at + 60, 8, false),
        ];
        let part = part(entries, None);
        let sums: Vec<_> = part.sums.iter().map(|sum| (sum.sender.as_str(), sum.messages, sum.recipients)).collect();
        assert_eq!(sums, [("a", 1, 2), ("b", 3, 13)]);
        let late = part.late(&[row(1, 0), row(2, 0)], None);
        assert_eq!(minutes(&late), [(1, 0, 2), (2, 0, 5)]);
        let seen: Vec<_> = late.writes.seen.iter().map(|row| (row.ratelimit_id, row.last_seen - at)).collect();
        assert_eq!((seen, late.outlived), (vec![(1, 59), (2, 60)], vec![]));
        let arrived: Vec<_> = late.writes.arrived.iter().map(|row| (row.ratelimit_id, row.first_seen - at)).collect();
        assert_eq!(arrived, [(1, 59), (2, 0)]);
    }

    #[test]
    fn what_was_held_or_came_from_new_networks_is_noted_apart() {
        let held = Entry { blocked: true, ..entry("a", MINUTE * 60, 4, true) };
        let new = Entry { from_new_network: true, ..entry("a", MINUTE * 60 + 1, 2, true) };
        let refused = entry("a", MINUTE * 60 + 2, 8, false);
        let late = part(vec![held, new, refused], None).late(&[row(1, 0)], None);
        assert_eq!(minutes(&late), [(1, 0, 6)]);
        let parts: Vec<_> = late.writes.parts.iter().map(|row| (row.held_recipients, row.new_recipients)).collect();
        assert_eq!(parts, [(4, 2)]);
    }

    #[test]
    fn what_was_answered_before_a_reset_is_in_no_counter_and_no_window() {
        let at = MINUTE * 60 + 30;
        let part = part(vec![entry("a", at - 1, 1, true), entry("a", at, 2, true), entry("b", at - 1, 4, true)], None);
        // Only a was reset by hand.
        let late = part.late(&[row(1, at), row(2, 0)], None);
        assert_eq!(minutes(&late), [(1, -1, 1), (1, 0, 2), (2, 0, 4)]);
        assert_eq!(late.outlived, [Outlived { ratelimit_id: 1, messages: 1, recipients: 1 }]);
        let late = part.late(&[row(1, 0), row(2, 0)], Some(at));
        assert_eq!(minutes(&late), [(1, 0, 3), (2, 0, 4)], "a reset of the counters leaves windows alone");
        assert_eq!(late.outlived.iter().map(|sum| sum.recipients).collect::<Vec<_>>(), [1, 4]);
    }

    #[test]
    fn what_is_older_than_minutes_are_kept_counts_at_the_end_of_its_hour() {
        let hour = MINUTE.div_euclid(60) * 60;
        let part =
            part(vec![entry("a", hour * 60, 1, true), entry("a", (hour + 61) * 60, 2, true)], Some((hour + 60, 0)));
        let late = part.late(&[row(1, 0)], None);
        let minutes: Vec<_> = late.writes.usage.iter().map(|row| row.minute - hour).collect();
        assert_eq!(minutes, [59, 61]);
    }
}
