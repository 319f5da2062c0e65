//! The rows of `ratelimits` as operators ask for them and change them, one by one or listed. Mail goes on meanwhile: what
//! changes a row is one short transaction, what may concern many rows is done in chunks.

use super::charset::narrow;
use super::connection::{Connection, Row};
use super::counters::{COUNTER_MAX, renaming};
use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::{Patience, Store};
use super::lock_timeout::LockTimeout;
use super::maintenance::{ROWS, Worked};
use super::script::Script;
use super::sql::Sql;
use super::usage::{self, UsageRow};
use crate::account::domain_key;
use crate::limiter::window::minute_of;

/// A sender's row, whole. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderRow {
    pub id: i64,
    pub sender: String,
    /// The present period's; [`crate::policy::quota::UNLIMITED`] means no limit.
    pub quota: u32,
    /// What the next reset makes of it, unless it is locked.
    pub quota_reset: u32,
    pub locked: bool,
    pub messages: u32,
    pub recipients: u32,
    pub total_messages: u32,
    pub total_recipients: u32,
    pub window_from: i64,
    pub created_at: i64,
    pub updated_at: i64,
}

/// A listed sender, and what is used of its quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub row: SenderRow,
    pub messages: i64,
    pub recipients: i64,
}

/// What a list is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Name,
    /// Messages or recipients, whichever is more; the greatest first.
    Used,
    /// The greatest first.
    Quota,
    /// The latest first.
    LastUsed,
}

/// Which senders are to be listed.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Only these rows; none for all there are.
    pub only: Option<Vec<i64>>,
    /// Only names that contain this.
    pub filter: Option<String>,
    /// Only senders that have used up the quota, or had mail held or refused since this time.
    pub blocked_since: Option<i64>,
    /// Since when usage counts, in seconds since 1970. None if the counters count.
    pub window_since: Option<i64>,
    pub order: Order,
    pub limit: u32,
}

/// What is to be changed of a sender's row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    pub quota: Option<u32>,
    /// The quota is for this period only.
    pub once: bool,
    pub locked: Option<bool>,
}

impl Store {
    /// The key as the table can hold it, and [`Session::lowered`](super::dialect::Session::lowered).
    async fn sought(&mut self, key: &str) -> Result<(String, Option<&'static str>), Failure> {
        let session = self.connect().await?;
        Ok((narrow(key, session.keys).into_owned(), session.lowered))
    }

    /// The row that the database finds for a key.
    pub async fn sender(&mut self, key: &str) -> Result<Option<SenderRow>, Failure> {
        let (key, lowered) = self.sought(key).await?;
        self.run(async |connection| find(connection, &key, lowered).await).await
    }

    /// How many senders there are.
    pub async fn count_senders(&mut self) -> Result<i64, Failure> {
        self.run(async |connection| {
            let sql = connection.sql("SELECT COUNT(*) FROM ratelimits");
            connection.fetch_one(sql).await?.try_get(0)
        })
        .await
    }

    /// The usual quotas other than this one, and how many senders have each; the most frequent first.
    pub async fn quotas_but(&mut self, quota: u32) -> Result<Vec<(u32, i64)>, Failure> {
        self.run(async |connection| {
            let Dialect { integer, .. } = connection.dialect();
            let mut sql = connection
                .sql(format!("SELECT CAST(quota_reset AS {integer}), COUNT(*) FROM ratelimits WHERE quota_reset <> "));
            sql.push_bind(i64::from(quota)).push(" GROUP BY quota_reset ORDER BY COUNT(*) DESC, quota_reset");
            let rows = connection.fetch_all(sql).await?;
            let quota =
                |row: &Row| -> Result<u32, Failure> { Ok(u32::try_from(row.try_get::<i64>(0)?).unwrap_or(u32::MAX)) };
            rows.iter().map(|row| Ok((quota(row)?, row.try_get(1)?))).collect()
        })
        .await
    }

    /// The quotas other than this one of the next rows beyond the row `after`, by their senders, and the last row that was
    /// looked at; None when none is left.
    pub async fn quotas_other_than(
        &mut self,
        quota: u32,
        after: i64,
    ) -> Result<Option<(i64, Vec<(String, u32)>)>, Failure> {
        const LOOKED_AT: u32 = 5000;
        self.run(async |connection| {
            let Dialect { integer, .. } = connection.dialect();
            let mut sql = connection.sql(format!("SELECT CAST(COALESCE(MAX(id), -1) AS {integer}) FROM "));
            sql.push("(SELECT id FROM ratelimits WHERE id > ").push_bind(after).push(" ORDER BY id LIMIT ");
            sql.push(LOOKED_AT).push(") AS next");
            let last: i64 = connection.fetch_one(sql).await?.try_get(0)?;
            if last <= after {
                return Ok(None);
            }
            let mut sql =
                connection.sql(format!("SELECT sender, CAST(quota AS {integer}) FROM ratelimits WHERE id > "));
            sql.push_bind(after).push(" AND id <= ").push_bind(last).push(" AND quota <> ").push_bind(quota);
            let rows = connection.fetch_all(sql).await?;
            let found = rows.iter().map(|row| {
                let sender: String = row.try_get(0)?;
                let quota: i64 = row.try_get(1)?;
                Ok((sender.to_lowercase(), u32::try_from(quota.max(0)).unwrap_or(u32::MAX)))
            });
            Ok(Some((last, found.collect::<Result<_, Failure>>()?)))
        })
        .await
    }

    /// The row of this number.
    pub async fn sender_by_id(&mut self, id: i64) -> Result<Option<SenderRow>, Failure> {
        self.run(async |connection| {
            let mut sql = connection.sql("SELECT ");
            sql.push(columns(connection.dialect())).push(" FROM ratelimits WHERE id = ").push_bind(id);
            connection.fetch_optional(sql).await?.map(|row| sender_row(&row)).transpose()
        })
        .await
    }

    /// Lists senders.
    pub async fn list(&mut self, listing: &Listing) -> Result<Vec<Listed>, Failure> {
        self.run(async |connection| list(connection, listing).await).await
    }

    /// Changes a sender's row, and makes it if it is missing. Returns the row as it was and as it is. `new_quota` goes into a
    /// new row where neither the change nor an `@domain` row says otherwise.
    pub async fn set(
        &mut self,
        key: &str,
        change: Change,
        new_quota: u32,
        now: i64,
    ) -> Result<(Option<SenderRow>, Option<SenderRow>), Failure> {
        let (key, lowered) = self.sought(key).await?;
        self.transact(Patience::Long, async |script| {
            let connection = script.connection().await?;
            let dialect = connection.dialect();
            let before = find(connection, &key, lowered).await?;
            if let Some(row) = &before
                && lowered.is_some()
                && row.sender.to_lowercase() == key
            {
                connection.execute(renaming(dialect, row.id, &key)).await?;
            }
            let inherited = match (&before, domain_key(&key)) {
                (None, Some(domain)) => find(connection, domain, lowered).await?,
                _ => None,
            };
            let quota_reset = inherited.as_ref().map_or(new_quota, |row| row.quota_reset);
            let quota = change.quota.unwrap_or_else(|| inherited.as_ref().map_or(new_quota, |row| row.quota));
            let quota_reset = if change.once { quota_reset } else { change.quota.unwrap_or(quota_reset) };
            let mut sql = connection.sql(
                "INSERT INTO ratelimits (sender, quota, quota_reset, quota_locked, created_at, updated_at) VALUES (",
            );
            sql.push_bind(&*key);
            for number in [quota.into(), quota_reset.into(), i64::from(change.locked == Some(true))] {
                sql.push(", ").push_bind(number);
            }
            for _ in ["created_at", "updated_at"] {
                sql.push(", ").push_time(now);
            }
            // updated_at stays: it says when the sender last sent something.
            sql.push(")").push(dialect.on_conflict(dialect.sender)).push("updated_at = ratelimits.updated_at");
            let mut take = |column: &str| {
                sql.push(format_args!(", {column} = {}", dialect.brought(column)));
            };
            if change.quota.is_some() {
                take("quota");
            }
            if change.quota.is_some() && !change.once {
                take("quota_reset");
            }
            if change.locked.is_some() {
                take("quota_locked");
            }
            connection.execute(sql).await?;
            let after = find(connection, &key, lowered).await?;
            Ok((before, after))
        })
        .await
    }

    /// Copies the quota of an `@domain` row to the next logins of that domain, beyond the row `after`. None when no login is left.
    /// Locked rows keep theirs.
    pub async fn apply_domain(&mut self, domain: &str, once: bool, after: i64) -> Result<Option<Worked>, Failure> {
        let (domain, lowered) = self.sought(domain).await?;
        self.run(async |connection| {
            let Some(of_domain) = find(connection, &domain, lowered).await? else { return Ok(None) };
            let columns = if once { "quota <> " } else { "(quota_reset <> " };
            let Dialect { integer, .. } = connection.dialect();
            let mut sql =
                connection.sql(format!("SELECT CAST(id AS {integer}) FROM ratelimits WHERE quota_locked = 0 AND "));
            push_of_domain(&mut sql, &domain);
            sql.push(" AND id > ").push_bind(after);
            sql.push(" AND id <> ").push_bind(of_domain.id).push(" AND ").push(columns);
            if once {
                sql.push_bind(i64::from(of_domain.quota));
            } else {
                sql.push_bind(i64::from(of_domain.quota_reset)).push(" OR quota <> ");
                sql.push_bind(i64::from(of_domain.quota)).push(")");
            }
            sql.push(" ORDER BY id LIMIT ").push(ROWS);
            let ids = connection.fetch_ids(sql).await?;
            let Some(&last) = ids.last() else { return Ok(None) };
            let mut sql = connection.sql("UPDATE ratelimits SET quota = ");
            sql.push_bind(i64::from(of_domain.quota));
            if !once {
                sql.push(", quota_reset = ").push_bind(i64::from(of_domain.quota_reset));
            }
            sql.push(", updated_at = updated_at WHERE quota_locked = 0 AND id IN ").push_ids(&ids);
            connection.execute(sql).await?;
            Ok(Some(Worked { rows: ids.len() as u64, last }))
        })
        .await
    }

    /// Frees a sender: its counters are 0 and its windows empty from now on, while history stays. Returns the row as it then
    /// is, or None if there is no such row.
    ///
    /// What this minute holds already is moved to the one before, where windows that begin now do not look. The daemons
    /// notice by `window_from`, which therefore must change: a second time within a second is [`Failure::Transient`].
    pub async fn free(&mut self, key: &str, now: i64) -> Result<Option<SenderRow>, Failure> {
        let (key, lowered) = self.sought(key).await?;
        self.transact(Patience::Long, async |script| {
            let connection = script.connection().await?;
            let Some(found) = find(connection, &key, lowered).await? else { return Ok(None) };
            // First the row, whose lock every daemon takes before it adds to the others.
            let mut sql = connection.sql("UPDATE ratelimits SET msg_counter = 0, rcpt_counter = 0, ");
            sql.push("updated_at = updated_at, window_from = ").push_bind(now);
            sql.push(" WHERE id = ").push_bind(found.id).push(" AND window_from <> ").push_bind(now);
            let changed = connection.execute(sql).await?;
            let Some(row) = find(connection, &key, lowered).await? else { return Ok(None) };
            if changed == 0 {
                return Err(Failure::Transient("the sender was freed in this very second".to_owned()));
            }
            move_minutes_back(connection, row.id, minute_of(row.window_from)).await?;
            let mut sql = connection.sql("UPDATE networks SET last_seen = ");
            sql.push_bind(row.window_from.saturating_sub(1)).push(" WHERE ratelimit_id = ").push_bind(row.id);
            sql.push(" AND last_seen >= ").push_bind(row.window_from);
            connection.execute(sql).await?;
            // After a reset by hand the next excess is notified again.
            let mut sql = connection.sql("DELETE FROM notices WHERE ratelimit_id = ");
            sql.push_bind(row.id);
            connection.execute(sql).await?;
            Ok(Some(row))
        })
        .await
    }

    /// Detaches the next messages from a sender's row that is about to be deleted, or deletes them too, beyond the message
    /// `after`. None when nothing is left.
    pub async fn part_messages(&mut self, id: i64, delete: bool, after: i64) -> Result<Option<Worked>, Failure> {
        self.run(async |connection| {
            let Dialect { integer, messages_found, .. } = connection.dialect();
            let mut sql = connection.sql(format!("SELECT CAST(id AS {integer}) FROM messages WHERE ratelimit_id = "));
            sql.push_bind(id).push(" AND id > ").push_bind(after);
            sql.push(if delete { "" } else { messages_found }).push(" ORDER BY id LIMIT ").push(ROWS);
            let ids = connection.fetch_ids(sql).await?;
            let Some(&last) = ids.last() else { return Ok(None) };
            let verb = if delete { "DELETE FROM messages" } else { "UPDATE messages SET ratelimit_id = NULL" };
            let mut sql = connection.sql(verb);
            sql.push(" WHERE id IN ").push_ids(&ids);
            connection.execute(sql).await?;
            Ok(Some(Worked { rows: ids.len() as u64, last }))
        })
        .await
    }

    /// Deletes a sender's row, and with it what is left of the history.
    pub async fn delete_sender(&mut self, id: i64) -> Result<(), Failure> {
        self.run(async |connection| {
            let mut sql = connection.sql("DELETE FROM ratelimits WHERE id = ");
            sql.push_bind(id);
            connection.execute(sql).await?;
            Ok(())
        })
        .await
    }
}

/// A sender's row, by a key that the table can hold; also one that somebody has typed with capitals. `lowered` is
/// [`super::dialect::Session::lowered`].
async fn find(
    connection: &mut Connection,
    key: &str,
    lowered: Option<&'static str>,
) -> Result<Option<SenderRow>, Failure> {
    let dialect = connection.dialect();
    for column in [Some(dialect.sender), lowered].into_iter().flatten() {
        let mut sql = connection.sql("SELECT ");
        sql.push(columns(dialect)).push(format_args!(" FROM ratelimits WHERE {column} = ")).push_bind(key);
        sql.push(" ORDER BY id LIMIT 1");
        if let Some(found) = connection.fetch_optional(sql).await? {
            return sender_row(&found).map(Some);
        }
    }
    Ok(None)
}

async fn list(connection: &mut Connection, listing: &Listing) -> Result<Vec<Listed>, Failure> {
    let dialect = connection.dialect();
    let Dialect { integer, greatest, sender: key, usage, .. } = dialect;
    if listing.only.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let (messages, recipients) = match listing.window_since {
        None => (format!("CAST(msg_counter AS {integer})"), format!("CAST(rcpt_counter AS {integer})")),
        Some(_) => ("COALESCE(held.messages, 0)".to_owned(), "COALESCE(held.recipients, 0)".to_owned()),
    };
    let mut sql = connection.sql("SELECT ");
    sql.push(columns(dialect)).push(format_args!(", {messages}, {recipients} FROM ratelimits"));
    if let Some(since) = listing.window_since {
        sql.push(format_args!(
            " LEFT JOIN (SELECT u.ratelimit_id, CAST(SUM(u.messages) AS {integer}) AS messages, \
             CAST(SUM(u.recipients) AS {integer}) AS recipients FROM {usage} u \
             JOIN ratelimits r ON r.id = u.ratelimit_id AND (u.minute + 1) * 60 > r.window_from WHERE u.minute >= "
        ));
        sql.push_bind(minute_of(since));
        if let Some(ids) = &listing.only {
            sql.push(" AND u.ratelimit_id IN ").push_ids(ids);
        }
        sql.push(" GROUP BY u.ratelimit_id) held ON held.ratelimit_id = ratelimits.id");
    }
    sql.push(" WHERE 1 = 1");
    if let Some(ids) = &listing.only {
        sql.push(" AND ratelimits.id IN ").push_ids(ids);
    }
    if let Some(filter) = &listing.filter {
        sql.push(" AND lower(sender) LIKE ").push_bind(format!("%{}%", escaped(&filter.to_lowercase())));
        sql.push(" ESCAPE '!'");
    }
    if let Some(since) = listing.blocked_since {
        sql.push(format_args!(" AND ({greatest}({messages}, {recipients}) >= quota OR ratelimits.id IN "));
        sql.push("(SELECT ratelimit_id FROM messages WHERE blocked = 1 AND created_at >= ");
        sql.push_time(since).push("))");
    }
    sql.push(" ORDER BY ");
    match listing.order {
        Order::Name => &mut sql,
        Order::Used => sql.push(format_args!("{greatest}({messages}, {recipients}) DESC, ")),
        Order::Quota => sql.push("quota DESC, "),
        Order::LastUsed => sql.push("updated_at DESC, "),
    };
    sql.push(key).push(" LIMIT ").push(listing.limit);
    let rows = connection.fetch_all(sql).await?;
    rows.iter()
        .map(|row| {
            Ok(Listed { row: sender_row(row)?, messages: row.try_get(COLUMNS)?, recipients: row.try_get(COLUMNS + 1)? })
        })
        .collect()
}

/// How many columns [`columns`] names.
const COLUMNS: usize = 12;

/// The columns of [`SenderRow`], in its order.
fn columns(dialect: &Dialect) -> String {
    let number = |column: &str| format!("CAST({column} AS {})", dialect.integer);
    let numbers =
        ["quota", "quota_reset", "quota_locked", "msg_counter", "rcpt_counter", "msg_total", "rcpt_total"].map(number);
    format!(
        "CAST(ratelimits.id AS {}), {}, {}, window_from, {}, {}",
        dialect.integer,
        dialect.text("sender"),
        numbers.join(", "),
        dialect.epoch("created_at"),
        dialect.epoch("updated_at")
    )
}

fn sender_row(row: &Row) -> Result<SenderRow, Failure> {
    // A panel may have written what does not fit: the nearest value that does is meant.
    let counter = |column: usize| -> Result<u32, Failure> {
        Ok(u32::try_from(row.try_get::<i64>(column)?.clamp(0, COUNTER_MAX)).unwrap_or(u32::MAX))
    };
    Ok(SenderRow {
        id: row.try_get(0)?,
        sender: row.try_get(1)?,
        quota: counter(2)?,
        quota_reset: counter(3)?,
        locked: row.try_get::<i64>(4)? != 0,
        messages: counter(5)?,
        recipients: counter(6)?,
        total_messages: counter(7)?,
        total_recipients: counter(8)?,
        window_from: row.try_get(9)?,
        created_at: row.try_get(10)?,
        updated_at: row.try_get(11)?,
    })
}

/// Moves what a sender's minutes from `first` on hold into the one before.
async fn move_minutes_back(connection: &mut Connection, id: i64, first: i64) -> Result<(), Failure> {
    let dialect = connection.dialect();
    let minutes = |verb: &str| {
        let mut sql = Sql::new(dialect, format!("{verb} FROM {} WHERE ratelimit_id = ", dialect.usage));
        sql.push_bind(id).push(" AND minute >= ").push_bind(first);
        sql
    };
    let mut sum = UsageRow { ratelimit_id: id, minute: first - 1, messages: 0, recipients: 0, bytes: 0 };
    let rows = connection.fetch_all(minutes("SELECT messages, recipients, bytes")).await?;
    for row in &rows {
        sum.messages = sum.messages.saturating_add(row.try_get(0)?);
        sum.recipients = sum.recipients.saturating_add(row.try_get(1)?);
        sum.bytes = sum.bytes.saturating_add(row.try_get(2)?);
    }
    if rows.is_empty() {
        return Ok(());
    }
    connection.execute(minutes("DELETE")).await?;
    let mut script = Script::new(connection, LockTimeout::Server, false);
    usage::add(&mut script, &[sum]).await?;
    script.send().await?;
    Ok(())
}

/// The condition that a row is of a domain, or that domain's own: `@domain`.
pub fn push_of_domain(sql: &mut Sql, domain: &str) {
    sql.push("lower(sender) LIKE ").push_bind(format!("%{}", escaped(domain))).push(" ESCAPE '!'");
}

/// A text as LIKE takes it literally, with `!` as its escape.
fn escaped(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}
