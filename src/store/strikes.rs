//! How often senders came over a limit: the table `strikes`. Written within the transaction of a batch, under the lock of the
//! sender's row, so that several daemons note one strike.

use super::blocks;
use super::connection::Row;
use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::Store;
use super::messages::cut;
use super::script::Script;
use super::sql::Sql;
use crate::limiter::strikes::{Strike, Strikes, is_new, sentence};

/// The most strikes of one sender that are looked at: more than any rule asks for.
const MAX_STRIKES: i64 = 1000;
/// The longest name of a limit, in characters.
const MAX_LIMIT: usize = 128;

/// A sender that came over a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Struck {
    pub account: String,
    pub limit: String,
    /// In seconds since 1970.
    pub at: i64,
    /// Where the limit's window begins: a strike counts once since.
    pub window_from: i64,
    /// Strikes from before this time do not count any more.
    pub forgotten: i64,
}

impl Store {
    /// The strikes that nobody was told of yet, with their accounts, `most` at the most; of several daemons one gets each.
    pub async fn untold_strikes(&mut self, most: u32) -> Result<Vec<(String, Strike)>, Failure> {
        self.run(async |connection| {
            let mut sql = connection.sql("SELECT limit_name, struck_at, account FROM strikes WHERE told = 0 LIMIT ");
            sql.push(most);
            let mut untold = Vec::new();
            for row in connection.fetch_all(sql).await? {
                let (struck, account): (Strike, String) = (strike(&row)?, row.try_get(2)?);
                let mut sql = connection.sql("UPDATE strikes SET told = 1 WHERE told = 0 AND account = ");
                sql.push_bind(&*account).push(" AND limit_name = ").push_bind(&*struck.limit);
                sql.push(" AND struck_at = ").push_bind(struck.at);
                if connection.execute(sql).await? > 0 {
                    untold.push((account, struck));
                }
            }
            Ok(untold)
        })
        .await
    }

    /// Forgets an account's strikes. Returns how many there were.
    pub async fn forgive(&mut self, account: &str) -> Result<u64, Failure> {
        self.run(async |connection| {
            let mut sql = connection.sql("DELETE FROM strikes WHERE account = ");
            sql.push_bind(cut(account, 255));
            connection.execute(sql).await
        })
        .await
    }

    /// An account's strikes since a time, in seconds since 1970; the latest first.
    pub async fn strikes(&mut self, account: &str, since: i64) -> Result<Vec<Strike>, Failure> {
        self.run(async |connection| {
            let rows = connection.fetch_all(reading(connection.dialect(), account, since)).await?;
            rows.iter().map(strike).collect()
        })
        .await
    }
}

/// Notes a strike, unless there was one of the same limit in its window already, and the block that it earns. Returns when the
/// last strike of this limit was, in seconds since 1970.
pub async fn note(script: &mut Script<'_>, struck: &Struck, rules: &Strikes) -> Result<i64, Failure> {
    let limit = cut(&struck.limit, MAX_LIMIT);
    let since = struck.window_from.min(struck.forgotten);
    let mut known = read(script, &struck.account, since).await?;
    if !is_new(&known, limit, struck.window_from) {
        let last = known.iter().filter(|strike| strike.limit == limit).map(|strike| strike.at).max();
        return Ok(last.unwrap_or(struck.at));
    }
    let mut sql = script.sql("INSERT INTO strikes (account, limit_name, struck_at) VALUES (");
    sql.push_bind(cut(&struck.account, 255)).push(", ").push_bind(limit).push(", ").push_bind(struck.at).push(")");
    script.run(sql).await?;
    let mut sql = script.sql("DELETE FROM strikes WHERE account = ");
    sql.push_bind(cut(&struck.account, 255)).push(" AND struck_at <= ").push_bind(since);
    script.run(sql).await?;
    known.push(Strike { limit: limit.to_owned(), at: struck.at });
    let Some(sentence) = sentence(rules, &known, struck.at) else { return Ok(struck.at) };
    blocks::set_by_strikes(script, &struck.account, &sentence, struck.at).await?;
    Ok(struck.at)
}

async fn read(script: &mut Script<'_>, account: &str, since: i64) -> Result<Vec<Strike>, Failure> {
    let sql = reading(script.dialect(), account, since);
    script.rows(sql).await?.iter().map(strike).collect()
}

/// The statement that reads an account's strikes since a time.
fn reading(dialect: &'static Dialect, account: &str, since: i64) -> Sql {
    let mut sql = Sql::new(dialect, "SELECT limit_name, struck_at FROM strikes WHERE account = ");
    sql.push_bind(cut(account, 255)).push(" AND struck_at > ").push_bind(since);
    sql.push(" ORDER BY struck_at DESC LIMIT ").push(MAX_STRIKES);
    sql
}

fn strike(row: &Row) -> Result<Strike, Failure> {
    Ok(Strike { limit: row.try_get(0)?, at: row.try_get(1)? })
}
