//! Who was told what: the table `notices`, so that several daemons tell a thing once in a period.

use super::connection::Connection;
use super::counters::COUNTER_MAX;
use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::{Patience, Store};

/// Something to be told about a sender once in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The key as `account` made it.
    pub sender: String,
    /// At most 64 bytes.
    pub notice: String,
    /// The beginning of the period, in seconds since 1970.
    pub period: i64,
    /// When it is told, in seconds since 1970.
    pub at: i64,
}

/// What was told about a sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub notice: String,
    /// In seconds since 1970; of what an older version told, the beginning of the period.
    pub at: i64,
}

/// What came of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// It is for us to tell.
    Ours { quota_reset: u32 },
    /// It was told in this period already.
    Told,
    /// The sender has no row (any more), so nobody can know.
    NoRow,
}

impl Store {
    /// Claims notices, in one transaction; of several daemons one gets each. Sorted by sender, so that no two daemons wait
    /// for each other.
    pub async fn claim_notices(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, Failure> {
        self.transact(Patience::Long, async |script| {
            let connection = script.connection().await?;
            let mut claimed = Vec::with_capacity(claims.len());
            for claim in claims {
                claimed.push(claim_notice(connection, claim).await?);
            }
            Ok(claimed)
        })
        .await
    }

    /// What was told about a sender, the latest first, `most` at the most.
    pub async fn told(&mut self, id: i64, most: u32) -> Result<Vec<Told>, Failure> {
        self.run(async |connection| {
            let mut sql = connection.sql(
                "SELECT event, CASE WHEN told_at > 0 THEN told_at ELSE period END FROM notices WHERE ratelimit_id = ",
            );
            sql.push_bind(id).push(" ORDER BY 2 DESC, 1 LIMIT ").push(most);
            let rows = connection.fetch_all(sql).await?;
            rows.iter().map(|row| Ok(Told { notice: row.try_get(0)?, at: row.try_get(1)? })).collect()
        })
        .await
    }
}

async fn claim_notice(connection: &mut Connection, claim: &Claim) -> Result<Claimed, Failure> {
    let Dialect { integer, sender, insert_absent: (insert, unless_there), .. } = connection.dialect();
    let mut sql = connection
        .sql(format!("SELECT CAST(id AS {integer}), CAST(quota_reset AS {integer}) FROM ratelimits WHERE {sender} = "));
    sql.push_bind(&*claim.sender);
    let Some(row) = connection.fetch_optional(sql).await? else { return Ok(Claimed::NoRow) };
    let (id, quota_reset): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let mut sql = connection.sql(*insert);
    sql.push(" INTO notices (ratelimit_id, event, period, told_at) VALUES (").push_bind(id);
    sql.push(", ")
        .push_bind(&*claim.notice)
        .push(", ")
        .push_bind(claim.period)
        .push(", ")
        .push_bind(claim.at)
        .push(")")
        .push(unless_there);
    let inserted = connection.execute(sql).await?;
    let quota_reset = u32::try_from(quota_reset.clamp(0, COUNTER_MAX)).unwrap_or(u32::MAX);
    Ok(if inserted > 0 { Claimed::Ours { quota_reset } } else { Claimed::Told })
}
