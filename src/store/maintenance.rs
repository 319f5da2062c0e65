//! What keeps the tables small and current: counters to 0, the purge by age. In chunks, so that mail goes on meanwhile.

use super::connection::Connection;
use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::Store;
use super::sql::Sql;
use crate::limiter::usual;
use crate::limiter::window::minute_of;

/// The most rows that one statement changes or deletes, those of other tables that depend on them included: some
/// milliseconds' work, for which nobody waits long.
pub(super) const ROWS: i64 = 1000;

/// Work on the rows of `ratelimits`, which goes through them by their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// Counters to 0, and quotas that are not locked to their quota_reset.
    Reset,
    /// Rows of senders without a login that were last used before a time (seconds since 1970) are deleted, unless their
    /// quota is locked. History from after that time must not be theirs.
    Idle { before: i64 },
}

/// What is deleted by its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aged {
    /// The audit log.
    Messages,
    /// History, per minute.
    Usage,
    /// What of it was held or came from new networks.
    Parts,
    /// Networks, by when a sender was last seen there.
    Networks,
    /// When networks were first seen.
    Arrivals,
    /// What is known of each day.
    Days,
    /// What was told, by the period.
    Notices,
    /// How far outage journals were charged, by when they last were.
    Journals,
    /// Blocks that are over, by when they were.
    Blocks,
    /// Strikes.
    Strikes,
}

/// Which rows are deleted, by their time in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outdated {
    Before(i64),
    /// Written while a clock was wrong.
    After(i64),
}

impl Aged {
    fn table(self, dialect: &Dialect) -> &'static str {
        match self {
            Aged::Messages => "messages",
            Aged::Usage => dialect.usage,
            Aged::Parts => "usage_parts",
            Aged::Networks => "networks",
            Aged::Arrivals => "arrivals",
            Aged::Days => "days",
            Aged::Notices => "notices",
            Aged::Journals => "journals",
            Aged::Blocks => "blocks",
            Aged::Strikes => "strikes",
        }
    }

    fn push_condition(self, sql: &mut Sql, outdated: Outdated) {
        let (operator, time) = match outdated {
            Outdated::Before(time) => ("<", time),
            Outdated::After(time) => (">", time),
        };
        match self {
            Aged::Messages => sql.push("created_at ").push(operator).push_time(time),
            Aged::Usage | Aged::Parts => sql.push("minute ").push(operator).push_bind(minute_of(time)),
            Aged::Networks => sql.push("last_seen ").push(operator).push_bind(time),
            Aged::Arrivals => sql.push("first_seen ").push(operator).push_bind(time),
            Aged::Days => sql.push("day ").push(operator).push_bind(usual::today(time)),
            Aged::Notices => sql.push("period ").push(operator).push_bind(time),
            Aged::Journals => sql.push("seen_at ").push(operator).push_bind(time),
            Aged::Blocks => {
                sql.push("(ended_at ").push(operator).push_bind(time);
                sql.push(" OR (ended_at IS NULL AND until ").push(operator).push_bind(time).push("))")
            }
            Aged::Strikes => sql.push("struck_at ").push(operator).push_bind(time),
        };
    }
}

/// What one chunk did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worked {
    pub rows: u64,
    /// Where the next chunk goes on.
    pub last: i64,
}

impl Chunk {
    fn verb(self) -> &'static str {
        match self {
            // A row's counters and quota in one statement, so that nobody sees one without the other. updated_at stays:
            // MySQL would touch it by itself.
            Chunk::Reset => {
                "UPDATE ratelimits SET msg_counter = 0, rcpt_counter = 0, \
                 quota = CASE WHEN quota_locked = 0 THEN quota_reset ELSE quota END, updated_at = updated_at"
            }
            Chunk::Idle { .. } => "DELETE FROM ratelimits",
        }
    }

    /// Which rows it is about.
    fn push_condition(self, sql: &mut Sql) {
        match self {
            Chunk::Reset => {
                sql.push("(msg_counter <> 0 OR rcpt_counter <> 0 OR (quota_locked = 0 AND quota <> quota_reset))");
            }
            Chunk::Idle { before } => {
                // What somebody has locked is meant to last.
                sql.push("(sender LIKE '<%' OR sender LIKE '[%') AND quota_locked = 0 AND updated_at < ")
                    .push_time(before);
            }
        }
    }
}

impl Store {
    /// Does the next `ROWS` rows of a work, beyond the row `after`; None when nothing is left.
    pub async fn chunk(&mut self, chunk: Chunk, after: i64) -> Result<Option<Worked>, Failure> {
        self.run(async |connection| {
            let Dialect { integer, .. } = connection.dialect();
            let mut sql = connection.sql(format!("SELECT CAST(id AS {integer}) FROM ratelimits WHERE id > "));
            sql.push_bind(after).push(" AND ");
            chunk.push_condition(&mut sql);
            sql.push(" ORDER BY id LIMIT ").push(ROWS);
            let ids = connection.fetch_ids(sql).await?;
            let Some(&last) = ids.last() else { return Ok(None) };
            if let Chunk::Idle { before } = chunk
                && empty(connection, &ids, before).await? >= ROWS.unsigned_abs()
            {
                return Ok(Some(Worked { rows: 0, last: after }));
            }
            let mut sql = connection.sql(chunk.verb());
            sql.push(" WHERE id > ").push_bind(after).push(" AND id <= ").push_bind(last).push(" AND ");
            chunk.push_condition(&mut sql);
            let rows = connection.execute(sql).await?;
            Ok(Some(Worked { rows, last }))
        })
        .await
    }

    /// Deletes the next rows that are outdated; None when nothing is left.
    pub async fn expire(&mut self, aged: Aged, outdated: Outdated) -> Result<Option<Worked>, Failure> {
        self.run(async |connection| {
            let dialect = connection.dialect();
            let (before, after) = dialect.delete_some(aged.table(dialect), ROWS);
            let mut sql = connection.sql(before);
            aged.push_condition(&mut sql, outdated);
            sql.push(after);
            let rows = connection.execute(sql).await?;
            Ok((rows > 0).then_some(Worked { rows, last: 0 }))
        })
        .await
    }

    /// Deletes the next of a sender's history, and says how many rows; 0 when none is left.
    pub async fn delete_history(&mut self, id: i64) -> Result<u64, Failure> {
        self.run(async |connection| {
            let mut deleted = 0;
            for aged in [Aged::Usage, Aged::Parts, Aged::Networks, Aged::Arrivals, Aged::Days] {
                deleted += delete_of(connection, aged, &[id], None, left(deleted)).await?;
            }
            Ok(deleted)
        })
        .await
    }
}

/// How many more rows a chunk may touch.
fn left(touched: u64) -> i64 {
    ROWS.saturating_sub_unsigned(touched).max(0)
}

/// Detaches or deletes what depends on rows that are to be deleted and is from before a time: their foreign keys would do it
/// all at once. Says how many rows it touched; fewer than `ROWS` when none is left. What a sender that comes back
/// meanwhile adds is from after that time, and stays.
async fn empty(connection: &mut Connection, rows: &[i64], before: i64) -> Result<u64, Failure> {
    let outdated = Outdated::Before(before);
    let Dialect { integer, messages_found, .. } = connection.dialect();
    let mut sql = connection.sql(format!("SELECT CAST(id AS {integer}) FROM messages WHERE ratelimit_id IN "));
    sql.push_ids(rows).push(messages_found).push(" AND ");
    Aged::Messages.push_condition(&mut sql, outdated);
    sql.push(" LIMIT ").push(ROWS);
    let messages = connection.fetch_ids(sql).await?;
    let mut touched = messages.len() as u64;
    if !messages.is_empty() {
        let mut sql = connection.sql("UPDATE messages SET ratelimit_id = NULL WHERE id IN ");
        sql.push_ids(&messages);
        connection.execute(sql).await?;
    }
    for aged in [Aged::Usage, Aged::Parts, Aged::Networks, Aged::Arrivals, Aged::Days, Aged::Notices] {
        touched += delete_of(connection, aged, rows, Some(outdated), left(touched)).await?;
    }
    Ok(touched)
}

/// Deletes what some senders have in a table, `most` rows at the most, and says how many.
async fn delete_of(
    connection: &mut Connection,
    aged: Aged,
    senders: &[i64],
    outdated: Option<Outdated>,
    most: i64,
) -> Result<u64, Failure> {
    let dialect = connection.dialect();
    let (before, after) = dialect.delete_some(aged.table(dialect), most);
    let mut sql = connection.sql(before);
    sql.push("ratelimit_id IN ").push_ids(senders);
    if let Some(outdated) = outdated {
        sql.push(" AND ");
        aged.push_condition(&mut sql, outdated);
    }
    sql.push(after);
    connection.execute(sql).await
}
