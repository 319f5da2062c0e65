//! What the audit log (`messages`) tells of the past: of a database that PolicydRateGuard counted in, or an older version of this
//! program, days are made of it once.

use std::ops::Range;

use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::{Patience, Store};
use super::learn::are_not_new;
use super::meta;
use super::usage::{self, SeenRow};
use crate::limiter::usual::{Sums, today};

/// In `meta`: the first day of which nothing was learnt from the messages yet.
const LEARNT_UNTIL: &str = "messages_learnt_until";

/// Where a sender's messages came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub ratelimit_id: i64,
    pub client_address: String,
    /// When the first and the last of them came, in seconds since 1970.
    pub first: i64,
    pub last: i64,
}

impl Store {
    /// Which of these days, counted from 1970, are to be learnt from the messages. None of them once that was done: later days are
    /// made of what this program counts.
    pub async fn days_of_messages(&mut self, days: Range<i64>, now: i64) -> Result<Range<i64>, Failure> {
        self.run(async |connection| {
            let learnt: Option<i64> = meta::get(connection, LEARNT_UNTIL).await?.and_then(|text| text.parse().ok());
            let Some(learnt) = learnt else { return Ok(days) };
            // PolicydRateGuard may have gone on after `migrate`, until a daemon of ours began to count.
            let counting = meta::time(connection, meta::COUNTING_SINCE, now).await?.map(today);
            Ok(days.start.max(learnt)..days.end.min(counting.map_or(i64::MAX, |day| day.saturating_add(1))))
        })
        .await
    }

    /// Notes the first day of which nothing was learnt from the messages yet.
    pub async fn set_messages_learnt(&mut self, day: i64) -> Result<(), Failure> {
        self.set_meta(LEARNT_UNTIL, &day.to_string()).await
    }

    /// Whether the messages of a day can be found without reading all of them.
    pub async fn finds_messages(&mut self) -> Result<bool, Failure> {
        self.run(async |connection| Ok(connection.lacking_indexes().await?.iter().all(|addition| !addition.slow))).await
    }

    /// The senders of which messages were let through in these minutes.
    pub async fn with_messages(&mut self, minutes: Range<i64>) -> Result<Vec<i64>, Failure> {
        self.run(async |connection| {
            let Dialect { integer, .. } = connection.dialect();
            let mut sql =
                connection.sql(format!("SELECT DISTINCT CAST(ratelimit_id AS {integer}) FROM messages WHERE "));
            let_through(&mut sql, &minutes);
            // Messages outlive the row of their sender.
            sql.push(" AND ratelimit_id IN (SELECT id FROM ratelimits)");
            connection.fetch_ids(sql).await
        })
        .await
    }

    /// What some senders had let through in these minutes, by their messages. In the order of senders and minutes.
    pub async fn sent_by_messages(
        &mut self,
        ids: &[i64],
        minutes: Range<i64>,
    ) -> Result<Vec<(i64, i64, Sums)>, Failure> {
        self.run(async |connection| {
            let dialect = connection.dialect();
            let (integer, created) = (dialect.integer, dialect.epoch("created_at"));
            let mut sql = connection.sql(format!(
                "SELECT CAST(ratelimit_id AS {integer}), CAST(({created} - {created} % 60) / 60 AS {integer}), \
                 CAST(COUNT(*) AS {integer}), CAST(SUM(rcpt_count) AS {integer}) FROM messages WHERE "
            ));
            let_through(&mut sql, &minutes);
            sql.push(" AND ratelimit_id IN ").push_ids(ids).push(" GROUP BY 1, 2 ORDER BY 1, 2");
            let positive = |number: i64| u64::try_from(number).unwrap_or(0);
            let rows = connection.fetch_all(sql).await?;
            rows.iter()
                .map(|row| {
                    let sums = Sums { messages: positive(row.try_get(2)?), recipients: positive(row.try_get(3)?) };
                    Ok((row.try_get(0)?, row.try_get(1)?, sums))
                })
                .collect()
        })
        .await
    }

    /// Where the messages of some senders came from in these minutes.
    pub async fn places_of_messages(&mut self, ids: &[i64], minutes: Range<i64>) -> Result<Vec<Place>, Failure> {
        self.run(async |connection| {
            let dialect = connection.dialect();
            let (integer, created) = (dialect.integer, dialect.epoch("created_at"));
            let mut sql = connection.sql(format!(
                "SELECT CAST(ratelimit_id AS {integer}), client_address, CAST(MIN({created}) AS {integer}), \
                 CAST(MAX({created}) AS {integer}) FROM messages WHERE client_address IS NOT NULL AND "
            ));
            let_through(&mut sql, &minutes);
            sql.push(" AND ratelimit_id IN ").push_ids(ids).push(" GROUP BY ratelimit_id, client_address");
            let rows = connection.fetch_all(sql).await?;
            rows.iter()
                .map(|row| {
                    let (ratelimit_id, client_address) = (row.try_get(0)?, row.try_get(1)?);
                    Ok(Place { ratelimit_id, client_address, first: row.try_get(2)?, last: row.try_get(3)? })
                })
                .collect()
        })
        .await
    }

    /// Notes networks, each once, that are not new to their senders.
    pub async fn know(&mut self, seen: &[SeenRow], now: i64) -> Result<(), Failure> {
        self.transact(Patience::Short, async |script| {
            usage::see(script, seen, now).await?;
            are_not_new(script, seen).await
        })
        .await
    }
}

fn let_through(sql: &mut super::sql::Sql, minutes: &Range<i64>) {
    sql.push("blocked = 0 AND rcpt_count >= 0 AND created_at >= ").push_time(minutes.start.saturating_mul(60));
    sql.push(" AND created_at < ").push_time(minutes.end.saturating_mul(60));
}
