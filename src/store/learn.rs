//! What past mail teaches: days of senders and the networks that they were seen in, a few senders in a transaction. It may be
//! told as often as one likes: what is there already stays where it is the greater, or the later.

use super::counters::{self, Sum};
use super::days::{self, DayRow};
use super::failure::Failure;
use super::handle::{Patience, Store};
use super::script::Script;
use super::sql::in_statements;
use super::usage::{self, SeenRow};
use crate::limiter::usual::Day;

/// What was learnt of a sender.
#[derive(Debug, Clone)]
pub struct Taught {
    /// The key as `account` made it.
    pub sender: String,
    /// The key of the row whose quota a row made for this sender begins with, if that one exists.
    pub domain: Option<String>,
    pub days: Vec<Day>,
    /// Networks that are not new to it, and when it was last seen there, in seconds since 1970.
    pub networks: Vec<(String, i64)>,
}

impl Store {
    /// Notes what was learnt of some senders, sorted by their keys, each once. A sender without a row gets one; nothing is counted.
    pub async fn learn(&mut self, taught: &[Taught], new_quota: u32, now: i64) -> Result<(), Failure> {
        let session = self.connect().await?;
        let sum = |taught: &Taught| Sum {
            sender: taught.sender.clone(),
            domain: taught.domain.clone(),
            messages: 0,
            recipients: 0,
            count: false,
        };
        let mut sums: Vec<Sum> = taught.iter().map(|taught| sum(taught).narrowed(session.keys)).collect();
        self.transact(Patience::Short, async |script| {
            // A row that is there stays untouched: when it last changed says when its sender last sent something.
            let there = counters::read(script, &sums).await?;
            sums.iter_mut().zip(&there).for_each(|(sum, row)| sum.count = row.is_none());
            let (rows, _) = counters::charge(script, &sums, new_quota, now, session.lowered).await?;
            let known = taught.iter().zip(&rows).filter_map(|(taught, row)| Some((row.as_ref()?.id, taught)));
            let (mut of_days, mut seen) = (Vec::new(), Vec::new());
            for (ratelimit_id, Taught { days, networks, .. }) in known {
                of_days.extend(days.iter().map(|day| DayRow { ratelimit_id, day: *day }));
                let row = |(network, last): &(String, i64)| SeenRow {
                    ratelimit_id,
                    network: network.clone(),
                    last_seen: *last,
                };
                seen.extend(networks.iter().map(row));
            }
            days::note(script, &unique_days(of_days)).await?;
            let seen = unique_seen(seen);
            usage::see(script, &seen, now).await?;
            are_not_new(script, &seen).await
        })
        .await
    }
}

/// The database may take several keys for one, and wants each row once in a statement.
fn unique_days(mut days: Vec<DayRow>) -> Vec<DayRow> {
    days.sort_by_key(|row| (row.ratelimit_id, row.day.day));
    days.dedup_by(|other, kept| {
        let same = (other.ratelimit_id, other.day.day) == (kept.ratelimit_id, kept.day.day);
        if same {
            kept.day = kept.day.max(other.day);
        }
        same
    });
    days
}

fn unique_seen(mut seen: Vec<SeenRow>) -> Vec<SeenRow> {
    seen.sort_by(|one, other| {
        let key = |row: &SeenRow| (row.ratelimit_id, std::cmp::Reverse(row.last_seen));
        (&one.network, key(one)).cmp(&(&other.network, key(other)))
    });
    seen.dedup_by(|other, kept| (other.ratelimit_id, &other.network) == (kept.ratelimit_id, &kept.network));
    seen.sort_by_key(|row| row.ratelimit_id);
    seen
}

/// One of `networks` that is not among the arrivals was seen before.
pub async fn are_not_new(script: &mut Script<'_>, seen: &[SeenRow]) -> Result<(), Failure> {
    for of_sender in seen.chunk_by(|one, other| one.ratelimit_id == other.ratelimit_id) {
        let Some(first) = of_sender.first() else { continue };
        for slice in in_statements(of_sender) {
            let mut sql = script.sql("DELETE FROM arrivals WHERE ratelimit_id = ");
            sql.push_bind(first.ratelimit_id).push(" AND network IN ");
            sql.push_list(slice.iter().map(|row| &*row.network));
            script.run(sql).await?;
        }
    }
    Ok(())
}
