//! A batch: charges that are settled in one transaction. Sums them per sender, and walks them in the order of arrival once
//! the rows are read. Pure.

use std::collections::{BTreeMap, HashMap};

use super::Verdict;
use super::queue::Charge;
use super::repeats::Asked;
use crate::limiter::decide::{Increase, Policy, Ruling, Standing, decide};
use crate::store::{AuditRow, Row, Sum};

/// A charge of which is known what is new about it.
#[derive(Debug)]
pub struct Due {
    pub charge: Charge,
    pub asked: Asked,
    pub increase: Increase,
}

impl Due {
    fn counts(&self) -> bool {
        !self.charge.request.dry_run
    }
}

/// One sum per sender, sorted: every daemon takes its locks in the same order, so no two wait for each other.
pub fn sums(batch: &[Due]) -> Vec<Sum> {
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for due in batch {
        let sender = due.charge.sender.as_str();
        let sum = sums.entry(sender).or_insert_with(|| Sum {
            sender: sender.to_owned(),
            messages: 0,
            recipients: 0,
            count: false,
        });
        if due.counts() {
            sum.count = true;
            sum.messages = sum.messages.saturating_add(due.increase.messages);
            sum.recipients = sum.recipients.saturating_add(due.increase.recipients);
        }
    }
    sums.into_values().collect()
}

/// Rules each charge of the batch by the rows as they stand after all `sums` were added, and says what goes into the audit
/// log. `rows` are in the order of `sums`; several senders that the database takes for one share a row, and so their count.
pub fn rule(
    batch: &[Due],
    sums: &[Sum],
    rows: &[Option<Row>],
    policy: &Policy,
    message_log: bool,
) -> (Vec<Verdict>, Vec<AuditRow>) {
    let mut added: HashMap<i64, (u64, u64)> = HashMap::new();
    for (sum, row) in sums.iter().zip(rows) {
        if let Some(row) = row {
            let (messages, recipients) = added.entry(row.id).or_default();
            *messages += u64::from(sum.messages);
            *recipients += u64::from(sum.recipients);
        }
    }
    let row_of: HashMap<&str, Row> =
        sums.iter().zip(rows).filter_map(|(sum, row)| Some((sum.sender.as_str(), (*row)?))).collect();
    let mut standings: HashMap<i64, Standing> = HashMap::new();
    let mut audit = Vec::with_capacity(if message_log { batch.len() } else { 0 });
    let verdicts = batch
        .iter()
        .map(|due| {
            let row = row_of.get(due.charge.sender.as_str());
            let mut unknown = Standing { quota: policy.new_quota, messages: 0, recipients: 0 };
            let standing = match row {
                Some(row) => standings.entry(row.id).or_insert_with(|| {
                    let (messages, recipients) = added.get(&row.id).copied().unwrap_or_default();
                    Standing {
                        quota: row.quota,
                        messages: Standing::before(row.messages, messages),
                        recipients: Standing::before(row.recipients, recipients),
                    }
                }),
                None => &mut unknown,
            };
            if !due.counts() {
                return Verdict::Looked(decide(policy, &mut standing.clone(), due.increase));
            }
            let ruling = decide(policy, standing, due.increase);
            if let (true, Some(row)) = (message_log, row) {
                audit.push(audit_row(due, row.id, &ruling));
            }
            Verdict::Counted(ruling)
        })
        .collect();
    (verdicts, audit)
}

fn audit_row(due: &Due, ratelimit_id: i64, ruling: &Ruling) -> AuditRow {
    let request = &due.charge.request;
    AuditRow {
        ratelimit_id,
        queue_id: request.queue_id.clone(),
        sender: due.charge.sender.clone(),
        recipients: due.increase.recipients,
        blocked: ruling.blocked,
        from: request.sender.clone(),
        to: request.recipient.clone(),
        client_address: request.client_address.clone(),
        client_name: request.client_name.clone(),
        action: ruling.action.word(),
        reason: if ruling.blocked { format!("quota {} reached: {}", ruling.quota, ruling.used) } else { String::new() },
    }
}
