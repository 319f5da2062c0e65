//! What is told about senders: who sent most, when, and what was blocked. Only reads, by the indexes of time and of senders,
//! and never more than was asked for.

use std::collections::HashMap;

use super::connection::Connection;
use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::Store;
use super::queued::State;
use super::sql::Sql;
use crate::limiter::window::{begin_of_minute, minute_of};

/// How many of a sender's last messages are looked through for those that were blocked.
const LOOKED_THROUGH: i64 = 10_000;

/// What the senders who sent most are told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Recipients,
    Messages,
    /// Messages that were held or refused.
    Blocked,
    /// Different networks.
    Networks,
}

/// One of the senders who sent most. What was refused is in `blocked` alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Top {
    pub id: i64,
    pub sender: String,
    /// Let through.
    pub messages: i64,
    /// Let through.
    pub recipients: i64,
    /// All messages in the audit log, and those of them that were held or refused.
    pub logged: i64,
    pub blocked: i64,
    pub networks: i64,
}

/// All senders together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub senders: i64,
    pub messages: i64,
    pub recipients: i64,
}

/// What a sender had let through in one part of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub id: i64,
    /// Counted from the first.
    pub part: i64,
    pub messages: i64,
    pub recipients: i64,
}

/// A message in the audit log. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    pub at: i64,
    pub queue_id: String,
    pub recipients: i64,
    pub from: String,
    pub client_address: String,
    pub client_name: String,
    pub action: String,
    pub reason: String,
    /// What this program did with it in the queue, and when.
    pub state: State,
    pub state_at: i64,
}

impl Store {
    /// The `most` senders who sent most since a time (seconds since 1970), the first first.
    pub async fn top(&mut self, by: By, since: i64, most: u32) -> Result<Vec<Top>, Failure> {
        self.run(async |connection| {
            let mut sql = ranking(connection.dialect(), by, since);
            sql.push(" GROUP BY ratelimit_id ORDER BY 2 DESC, 1 LIMIT ").push(most);
            let ranked = connection.fetch_all(sql).await?;
            let ids: Vec<i64> = ranked.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            let mut tops: HashMap<i64, Top> = ids.iter().map(|&id| (id, Top { id, ..Top::default() })).collect();
            for slice in ids.chunks(500) {
                tell(connection, slice, since, &mut tops).await?;
            }
            // A sender who was deleted meanwhile has no name.
            Ok(ids.iter().filter_map(|id| tops.remove(id)).filter(|top| !top.sender.is_empty()).collect())
        })
        .await
    }

    /// All that was let through since a time (seconds since 1970).
    pub async fn totals(&mut self, since: i64) -> Result<Totals, Failure> {
        self.run(async |connection| {
            let Dialect { integer, usage, .. } = connection.dialect();
            // Sender by sender, along the table's own order: COUNT(DISTINCT …) would sort all minutes of everybody.
            let mut sql = connection.sql(format!(
                "SELECT COUNT(*), CAST(COALESCE(SUM(messages), 0) AS {integer}), \
                 CAST(COALESCE(SUM(recipients), 0) AS {integer}) FROM \
                 (SELECT SUM(messages) AS messages, SUM(recipients) AS recipients FROM {usage} WHERE minute >= "
            ));
            sql.push_bind(minute_of(since)).push(" GROUP BY ratelimit_id) senders");
            let row = connection.fetch_one(sql).await?;
            Ok(Totals { senders: row.try_get(0)?, messages: row.try_get(1)?, recipients: row.try_get(2)? })
        })
        .await
    }

    /// The senders, `most` at the most, who had mail let through since a minute (counted from 1970).
    pub async fn active(&mut self, since_minute: i64, most: u32) -> Result<Vec<i64>, Failure> {
        self.run(async |connection| {
            let Dialect { integer, usage, .. } = connection.dialect();
            let mut sql = connection
                .sql(format!("SELECT DISTINCT CAST(ratelimit_id AS {integer}) FROM {usage} WHERE minute >= "));
            sql.push_bind(since_minute).push(format_args!(" LIMIT {most}"));
            connection.fetch_all(sql).await?.iter().map(|row| row.try_get(0)).collect()
        })
        .await
    }

    /// What some senders had let through, in parts of `minutes` minutes since the minute `first`.
    pub async fn parts(&mut self, ids: &[i64], first: i64, minutes: i64) -> Result<Vec<Part>, Failure> {
        self.run(async |connection| {
            let Dialect { integer, usage, .. } = connection.dialect();
            let mut parts = Vec::new();
            for slice in ids.chunks(500) {
                let mut sql = connection.sql(format!(
                    "SELECT CAST(ratelimit_id AS {integer}), \
                     CAST((minute - {first} - (minute - {first}) % {minutes}) / {minutes} AS {integer}), \
                     CAST(SUM(messages) AS {integer}), CAST(SUM(recipients) AS {integer}) FROM {usage} WHERE minute >= "
                ));
                sql.push_bind(first).push(" AND ratelimit_id IN ").push_ids(slice).push(" GROUP BY 1, 2");
                for row in connection.fetch_all(sql).await? {
                    parts.push(Part {
                        id: row.try_get(0)?,
                        part: row.try_get(1)?,
                        messages: row.try_get(2)?,
                        recipients: row.try_get(3)?,
                    });
                }
            }
            Ok(parts)
        })
        .await
    }

    /// A sender's last messages that were held or refused, the latest first.
    pub async fn blocked(&mut self, id: i64, most: u32) -> Result<Vec<Logged>, Failure> {
        self.run(async |connection| {
            let dialect = connection.dialect();
            let text = |column: &str| dialect.text(column);
            let mut sql = connection.sql(format!(
                "SELECT {}, {}, CAST(rcpt_count AS {}), {}, {}, {}, {}, {}, {}, queue_state_at \
                 FROM (SELECT * FROM messages WHERE ratelimit_id = ",
                dialect.epoch("created_at"),
                text("msgid"),
                dialect.integer,
                text("from_addr"),
                text("client_address"),
                text("client_name"),
                text("action"),
                text("reason"),
                text("queue_state"),
            ));
            sql.push_bind(id).push(dialect.messages_found).push(format_args!(
                " ORDER BY id DESC LIMIT {LOOKED_THROUGH}) recent WHERE blocked = 1 ORDER BY id DESC LIMIT {most}"
            ));
            let rows = connection.fetch_all(sql).await?;
            rows.iter()
                .map(|row| {
                    Ok(Logged {
                        at: row.try_get(0)?,
                        queue_id: row.try_get(1)?,
                        recipients: row.try_get(2)?,
                        from: row.try_get(3)?,
                        client_address: row.try_get(4)?,
                        client_name: row.try_get(5)?,
                        action: row.try_get(6)?,
                        reason: row.try_get(7)?,
                        state: State::of(&row.try_get::<String>(8)?),
                        state_at: row.try_get(9)?,
                    })
                })
                .collect()
        })
        .await
    }
}

/// The statement that gives each sender a number to be ranked by, up to its GROUP BY.
fn ranking(dialect: &'static Dialect, by: By, since: i64) -> Sql {
    let Dialect { integer, usage, .. } = dialect;
    let mut sql = Sql::new(dialect, format!("SELECT CAST(ratelimit_id AS {integer}), "));
    match by {
        By::Recipients | By::Messages => {
            let measure = if by == By::Recipients { "recipients" } else { "messages" };
            sql.push(format_args!("SUM({measure}) FROM {usage} WHERE minute >= ")).push_bind(minute_of(since));
        }
        By::Blocked => {
            sql.push("COUNT(*) FROM messages WHERE blocked = 1 AND ratelimit_id IS NOT NULL AND created_at >= ");
            sql.push_time(since);
        }
        By::Networks => {
            sql.push("COUNT(*) FROM networks WHERE last_seen >= ").push_bind(begin_of_minute(since));
        }
    }
    sql
}

/// Fills in all that is told of the ranked senders.
async fn tell(
    connection: &mut Connection,
    ids: &[i64],
    since: i64,
    tops: &mut HashMap<i64, Top>,
) -> Result<(), Failure> {
    let dialect = connection.dialect();
    let Dialect { integer, usage, .. } = dialect;
    let sender = dialect.text("sender");
    let mut sql = connection.sql(format!("SELECT CAST(id AS {integer}), {sender} FROM ratelimits WHERE id IN "));
    sql.push_ids(ids);
    for row in connection.fetch_all(sql).await? {
        if let Some(top) = tops.get_mut(&row.try_get(0)?) {
            top.sender = row.try_get(1)?;
        }
    }
    let sums = |what: &str, table: &str| {
        let words = format!("SELECT CAST(ratelimit_id AS {integer}), {what} FROM {table} WHERE ratelimit_id IN ");
        let mut sql = Sql::new(dialect, words);
        sql.push_ids(ids);
        sql
    };
    let two = format!("CAST(SUM(messages) AS {integer}), CAST(SUM(recipients) AS {integer})");
    let mut sql = sums(&two, usage);
    sql.push(" AND minute >= ").push_bind(minute_of(since)).push(" GROUP BY ratelimit_id");
    for row in connection.fetch_all(sql).await? {
        if let Some(top) = tops.get_mut(&row.try_get(0)?) {
            (top.messages, top.recipients) = (row.try_get(1)?, row.try_get(2)?);
        }
    }
    let two = format!("COUNT(*), CAST(SUM(CASE WHEN blocked = 1 THEN 1 ELSE 0 END) AS {integer})");
    let mut sql = sums(&two, "messages");
    sql.push(" AND created_at >= ").push_time(since).push(" GROUP BY ratelimit_id");
    for row in connection.fetch_all(sql).await? {
        if let Some(top) = tops.get_mut(&row.try_get(0)?) {
            (top.logged, top.blocked) = (row.try_get(1)?, row.try_get(2)?);
        }
    }
    let mut sql = sums("COUNT(*)", "networks");
    sql.push(" AND last_seen >= ").push_bind(begin_of_minute(since)).push(" GROUP BY ratelimit_id");
    for row in connection.fetch_all(sql).await? {
        if let Some(top) = tops.get_mut(&row.try_get(0)?) {
            top.networks = row.try_get(1)?;
        }
    }
    Ok(())
}
