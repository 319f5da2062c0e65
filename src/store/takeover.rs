//! Taking over what another program has counted: into counters and `usage`, a few senders in a transaction, and with them in
//! the same transaction how far it has come. Totals rise with it, by which running daemons notice.

use super::counters::{self, Row, Sum};
use super::failure::Failure;
use super::handle::{Patience, Store};
use super::meta;
use super::usage::{self, UsageRow};

/// A sender, and what was counted of it by the minute (counted from 1970): minute, messages, recipients.
#[derive(Debug, Clone)]
pub struct Taken {
    pub sum: Sum,
    pub minutes: Vec<(i64, i64, i64)>,
}

impl Store {
    /// Adds what was counted of some senders (sorted by their keys, each once), and stores in `meta` how far this has come:
    /// all of it, or nothing.
    pub async fn take_over(
        &mut self,
        taken: &[Taken],
        new_quota: u32,
        now: i64,
        (name, progress): (&str, &str),
    ) -> Result<(), Failure> {
        let session = self.connect().await?;
        let sums: Vec<Sum> = taken.iter().map(|taken| taken.sum.narrowed(session.keys)).collect();
        self.transact(Patience::Batch { now }, async |script| {
            let (rows, _) = counters::charge(script, &sums, new_quota, now, session.lowered).await?;
            usage::add(script, &minutes(taken, &rows)).await?;
            script.run(meta::setting(script.dialect(), name, progress)).await
        })
        .await
    }
}

/// What goes into `usage`.
fn minutes(taken: &[Taken], rows: &[Option<Row>]) -> Vec<UsageRow> {
    let mut minutes = Vec::new();
    for (taken, row) in taken.iter().zip(rows) {
        let Some(Row { id: ratelimit_id, .. }) = *row else { continue };
        minutes.extend(taken.minutes.iter().map(|&(minute, messages, recipients)| UsageRow {
            ratelimit_id,
            minute,
            messages,
            recipients,
            bytes: 0,
        }));
    }
    minutes
}
