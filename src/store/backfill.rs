//! History of a database that PolicydRateGuard counted in: `usage` is filled from the last hours of `messages`, once, so
//! that sliding windows do not begin at zero.

use super::connection::Connection;
use super::failure::Failure;
use super::handle::{Patience, Store};
use super::meta;

/// In `meta`: how far this has come, see [`Progress`].
const FILLED: &str = "usage_filled";
/// A table with fewer messages is read whole, index or not.
const FEW: i64 = 20_000;
/// The most messages that are summed up while somebody waits for it.
const MANY: i64 = 500_000;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// It was done before, or there was nothing to do.
    Already,
    /// So many minutes of senders were filled in.
    Now(u64),
    /// It would take long: `migrate` does it.
    Later,
}

/// How far this has come. Kept in `meta` as `until 1800000000` and `done`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// `usage` lacks what was let through before this time (seconds since 1970), when the first of our daemons started.
    Until(i64),
    Done,
}

impl Store {
    /// Fills `usage` with what was let through since a time (seconds since 1970), unless that was done before. What takes
    /// long is only done `slowly`, which is for after a daemon's first start and beside daemons that count.
    pub async fn fill_usage(&mut self, since: i64, now: i64, slowly: bool) -> Result<Filled, Failure> {
        let progress = match self.run(async |connection| read_progress(connection).await).await? {
            Some(progress) => progress,
            // PolicydRateGuard may go on for hours after `migrate`; the first start of a daemon ends its time.
            None if slowly => return Ok(Filled::Already),
            None => self.begin_filling(now).await?,
        };
        if progress == Progress::Done {
            return Ok(Filled::Already);
        }
        if !slowly && self.run(async |connection| takes_long(connection, since).await).await? {
            return Ok(Filled::Later);
        }
        self.transact(Patience::Long, async |script| {
            let connection = script.connection().await?;
            meta::lock(connection, FILLED).await?;
            let Some(Progress::Until(until)) = read_progress(connection).await? else {
                return Ok(Filled::Already);
            };
            let minutes = fill(connection, since, until).await?;
            meta::set(connection, FILLED, "done").await?;
            Ok(if minutes > 0 { Filled::Now(minutes) } else { Filled::Already })
        })
        .await
    }

    /// Whether a daemon has begun to count and could not fill in what was let through before.
    pub async fn lacks_usage(&mut self) -> Result<bool, Failure> {
        self.run(async |connection| Ok(matches!(read_progress(connection).await?, Some(Progress::Until(_))))).await
    }

    /// Notes that our daemons count from now on.
    async fn begin_filling(&mut self, now: i64) -> Result<Progress, Failure> {
        self.transact(Patience::Long, async |script| {
            let connection = script.connection().await?;
            meta::lock(connection, FILLED).await?;
            if let Some(progress) = read_progress(connection).await? {
                return Ok(progress);
            }
            let any = connection.sql(format!("SELECT minute FROM {} LIMIT 1", connection.dialect().usage));
            let any = connection.fetch_optional(any).await?.is_some();
            let (progress, value) =
                if any { (Progress::Done, "done".to_owned()) } else { (Progress::Until(now), format!("until {now}")) };
            meta::set(connection, FILLED, &value).await?;
            Ok(progress)
        })
        .await
    }
}

async fn read_progress(connection: &mut Connection) -> Result<Option<Progress>, Failure> {
    let value = meta::get(connection, FILLED).await?.filter(|value| !value.is_empty());
    Ok(value.map(|value| match value.strip_prefix("until ").and_then(|until| until.parse().ok()) {
        Some(until) => Progress::Until(until),
        None => Progress::Done,
    }))
}

async fn takes_long(connection: &mut Connection, since: i64) -> Result<bool, Failure> {
    let mut sql = connection.sql("SELECT id FROM messages");
    // What is slow to make is the index by time.
    if connection.lacking_indexes().await?.iter().all(|addition| !addition.slow) {
        sql.push(" WHERE created_at >= ").push_time(since);
        sql.push(" ORDER BY created_at LIMIT 1 OFFSET ").push(MANY);
    } else {
        sql.push(" ORDER BY id LIMIT 1 OFFSET ").push(FEW);
    }
    Ok(connection.fetch_optional(sql).await?.is_some())
}

/// Adds up the messages that were let through, and says over how many minutes of senders.
async fn fill(connection: &mut Connection, since: i64, until: i64) -> Result<u64, Failure> {
    let dialect = connection.dialect();
    let (table, integer, created) = (dialect.usage, dialect.integer, dialect.epoch("created_at"));
    let mut sql = connection.sql(format!(
        "INSERT INTO {table} (ratelimit_id, minute, messages, recipients) \
         SELECT ratelimit_id, CAST(({created} - {created} % 60) / 60 AS {integer}), COUNT(*), SUM(rcpt_count) \
         FROM messages WHERE blocked = 0 AND ratelimit_id IS NOT NULL AND rcpt_count >= 0 AND created_at >= "
    ));
    sql.push_time(since).push(" AND created_at < ").push_time(until);
    sql.push(" GROUP BY 1, 2").push(dialect.on_conflict("ratelimit_id, minute"));
    let [messages, recipients] = ["messages", "recipients"].map(|column| dialect.brought(column));
    sql.push(format_args!("messages = {table}.messages + {messages}, recipients = {table}.recipients + {recipients}"));
    connection.execute(sql).await
}
