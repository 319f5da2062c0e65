//! Whose mail of which days does not become usual, since somebody else sent it in their name: see [`usual::untaught`]. Whoever
//! blocks an account, or a domain, for the reason `compromised` has found that out.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use super::connection::Connection;
use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::Store;
use super::senders;
use super::sql::{Sql, in_statements};
use crate::limiter::blocks::COMPROMISED;
use crate::limiter::usual;

impl Store {
    /// The accounts, and whole domains as `@domain`, whose mail of these days (counted from 1970) does not become usual: each with
    /// such a day.
    pub async fn compromised(&mut self, days: RangeInclusive<i64>) -> Result<HashSet<(String, i64)>, Failure> {
        self.run(async |connection| compromised(connection, &days).await).await
    }

    /// The rows of the senders whose mail of these days does not become usual: each with such a day.
    pub async fn compromised_rows(&mut self, days: RangeInclusive<i64>) -> Result<HashSet<(i64, i64)>, Failure> {
        self.run(async |connection| rows(connection, &days).await).await
    }

    /// Deletes what was noted of these days before their senders were found to be compromised.
    pub async fn forget_compromised(&mut self, days: RangeInclusive<i64>) -> Result<(), Failure> {
        let found = self.compromised_rows(days.clone()).await?;
        for day in days {
            let of_day = found.iter().filter(|(_, found)| *found == day);
            let ids = Vec::from_iter(of_day.map(|(id, _)| *id));
            for slice in in_statements(&ids) {
                self.run(async |connection| {
                    let mut sql = connection.sql("DELETE FROM days WHERE day = ");
                    sql.push_bind(day).push(" AND ratelimit_id IN ").push_ids(slice);
                    connection.execute(sql).await
                })
                .await?;
            }
        }
        Ok(())
    }
}

async fn compromised(
    connection: &mut Connection,
    days: &RangeInclusive<i64>,
) -> Result<HashSet<(String, i64)>, Failure> {
    let (Dialect { integer, .. }, found) = (connection.dialect(), usual::found_for(days));
    let mut sql = connection.sql(format!(
        "SELECT account, CAST(since AS {integer}) FROM blocks WHERE reason = '{COMPROMISED}' AND since >= "
    ));
    sql.push_bind(found.start).push(" AND since < ").push_bind(found.end);
    let mut compromised = HashSet::new();
    for row in connection.fetch_all(sql).await? {
        let account: String = row.try_get(0)?;
        let untaught = usual::untaught(row.try_get(1)?).filter(|day| days.contains(day));
        compromised.extend(untaught.map(|day| (account.clone(), day)));
    }
    Ok(compromised)
}

async fn rows(connection: &mut Connection, days: &RangeInclusive<i64>) -> Result<HashSet<(i64, i64)>, Failure> {
    let compromised = compromised(connection, days).await?;
    let mut rows = HashSet::new();
    for day in days.clone() {
        let of_day = compromised.iter().filter(|(_, untaught)| *untaught == day).map(|(account, _)| account.as_str());
        let (domains, accounts): (Vec<&str>, Vec<&str>) = of_day.partition(|account| account.starts_with('@'));
        let Dialect { integer, sender, .. } = connection.dialect();
        let selecting =
            || Sql::new(connection.dialect(), format!("SELECT CAST(id AS {integer}) FROM ratelimits WHERE "));
        let mut statements = Vec::new();
        for slice in in_statements(&accounts) {
            let mut sql = selecting();
            sql.push(format_args!("{sender} IN ")).push_list(slice.iter().copied());
            statements.push(sql);
        }
        for domain in domains {
            let mut sql = selecting();
            senders::push_of_domain(&mut sql, domain);
            statements.push(sql);
        }
        for sql in statements {
            rows.extend(connection.fetch_ids(sql).await?.into_iter().map(|id| (id, day)));
        }
    }
    Ok(rows)
}
