//! What decisions on senders depend on: their rows and histories.

use std::collections::HashMap;

use crate::commit::standings;
use crate::limiter::decide::{Policy, Standing};
use crate::limiter::history::History;
use crate::store::senders::SenderRow;
use crate::store::{Failure, Store};

/// Returns the standing of each sender, by id. `now` is in seconds since 1970.
pub async fn of(
    store: &mut Store,
    policy: &Policy,
    rows: &[&SenderRow],
    now: i64,
) -> Result<HashMap<i64, Standing>, Failure> {
    let mut histories: HashMap<i64, History> = HashMap::new();
    if let Some(reach) = policy.reach() {
        let since = standings::since(&reach, rows.iter().map(|row| row.id).collect(), now);
        let from = rows.iter().map(|row| (row.id, row.window_from)).collect();
        histories = standings::from_rows(store.histories(since).await?, &from, now);
    }
    let standing = |row: &&SenderRow| {
        let history = histories.remove(&row.id).unwrap_or_default();
        (row.id, Standing { quota: row.quota, messages: row.messages, recipients: row.recipients, history })
    };
    Ok(rows.iter().map(standing).collect())
}
