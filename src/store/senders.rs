//! The rows of `ratelimits` as operators ask for them and change them, one by one or listed. Mail goes on meanwhile: what
//! changes a row is one short transaction, what may concern many rows is done in chunks.

use sqlx::{ColumnIndex, Connection, Database, Decode, Encode, Executor, QueryBuilder, Row as _, SqlSafeStr, Type};

use super::Failure;
use super::backend::Backend;
use super::charset::narrow;
use super::counters::COUNTER_MAX;
use super::dialect::{ConnectionOf, Dialect};
use super::maintenance::Worked;
use super::script::Script;
use super::usage::{self, UsageRow};
use crate::account::domain_key;
use crate::limiter::window::{CLOCKS_DIFFER, minute_of};

/// Rows that one statement of a chunk changes or deletes.
const ROWS: i64 = 1000;

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
    /// Only who has used up the quota, or had mail held or refused since this time.
    pub blocked_since: Option<i64>,
    /// Since when usage counts, in seconds since 1970; none where counters do.
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

impl<D: Dialect> Backend<D>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    /// The row that the database finds for a key.
    pub async fn sender(&mut self, key: &str) -> Result<Option<SenderRow>, Failure> {
        let key = self.narrowed(key).await?;
        self.run(async |connection| find::<D>(connection, &key).await).await
    }

    /// How many senders there are.
    pub async fn count_senders(&mut self) -> Result<i64, Failure> {
        self.run(async |connection| {
            let mut sql = QueryBuilder::<D::Db>::new("SELECT COUNT(*) FROM ratelimits");
            connection.fetch_one(sql.build()).await?.try_get(0)
        })
        .await
    }

    /// The usual quotas other than this one, and how many senders have each; the most frequent first.
    pub async fn quotas_but(&mut self, quota: u32) -> Result<Vec<(u32, i64)>, Failure> {
        self.run(async |connection| {
            let integer = D::INTEGER;
            let mut sql = QueryBuilder::<D::Db>::new(format!(
                "SELECT CAST(quota_reset AS {integer}), COUNT(*) FROM ratelimits WHERE quota_reset <> "
            ));
            sql.push_bind(i64::from(quota)).push(" GROUP BY quota_reset ORDER BY COUNT(*) DESC, quota_reset");
            let rows = connection.fetch_all(sql.build()).await?;
            let quota = |row: &<D::Db as Database>::Row| -> Result<u32, sqlx::Error> {
                Ok(u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(u32::MAX))
            };
            rows.iter().map(|row| Ok((quota(row)?, row.try_get(1)?))).collect()
        })
        .await
    }

    /// The row of this number.
    pub async fn sender_by_id(&mut self, id: i64) -> Result<Option<SenderRow>, Failure> {
        self.run(async |connection| {
            let mut sql = QueryBuilder::<D::Db>::new("SELECT ");
            sql.push(columns::<D>()).push(" FROM ratelimits WHERE id = ").push_bind(id);
            connection.fetch_optional(sql.build()).await?.map(|row| sender_row::<D>(&row)).transpose()
        })
        .await
    }

    pub async fn list(&mut self, listing: &Listing) -> Result<Vec<Listed>, Failure> {
        self.run(async |connection| list::<D>(connection, listing).await).await
    }

    /// Changes a sender's row, and makes it if it is missing. Gives the row as it was and as it is. `new_quota` goes into a
    /// new row where neither the change nor an `@domain` row says otherwise.
    pub async fn set(
        &mut self,
        key: &str,
        change: Change,
        new_quota: u32,
        now: i64,
    ) -> Result<(Option<SenderRow>, Option<SenderRow>), Failure> {
        let key = self.narrowed(key).await?;
        self.run(async |connection| {
            let mut transaction = connection.begin_with(D::BEGIN.into_sql_str()).await?;
            let before = find::<D>(&mut transaction, &key).await?;
            let inherited = match (&before, domain_key(&key)) {
                (None, Some(domain)) => find::<D>(&mut transaction, domain).await?,
                _ => None,
            };
            let quota_reset = inherited.as_ref().map_or(new_quota, |row| row.quota_reset);
            let quota = change.quota.unwrap_or_else(|| inherited.as_ref().map_or(new_quota, |row| row.quota));
            let quota_reset = if change.once { quota_reset } else { change.quota.unwrap_or(quota_reset) };
            let (open, close) = D::FROM_EPOCH;
            let mut sql = QueryBuilder::<D::Db>::new(
                "INSERT INTO ratelimits (sender, quota, quota_reset, quota_locked, created_at, updated_at) VALUES (",
            );
            sql.push_bind(key.clone());
            for number in [quota.into(), quota_reset.into(), i64::from(change.locked == Some(true))] {
                sql.push(", ").push_bind(number);
            }
            for _ in ["created_at", "updated_at"] {
                sql.push(", ").push(open).push_bind(now).push(close);
            }
            // updated_at stays: it says when the sender last sent something.
            sql.push(")").push(D::on_conflict(D::SENDER)).push("updated_at = ratelimits.updated_at");
            let mut take = |column: &str| {
                sql.push(format_args!(", {column} = {}", D::brought(column)));
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
            transaction.execute(sql.build()).await?;
            let after = find::<D>(&mut transaction, &key).await?;
            transaction.commit().await?;
            Ok((before, after))
        })
        .await
    }

    /// Gives the next logins of a domain, beyond the row `after`, their `@domain` row's quotas; none when no login is left.
    /// Locked rows keep theirs.
    pub async fn apply_domain(&mut self, domain: &str, once: bool, after: i64) -> Result<Option<Worked>, Failure> {
        let domain = self.narrowed(domain).await?;
        self.run(async |connection| {
            let Some(of_domain) = find::<D>(connection, &domain).await? else { return Ok(None) };
            let columns = if once { "quota <> " } else { "(quota_reset <> " };
            let mut sql = QueryBuilder::<D::Db>::new(format!("SELECT CAST(id AS {}) FROM ratelimits", D::INTEGER));
            sql.push(format_args!(" WHERE quota_locked = 0 AND {} LIKE ", D::SENDER));
            sql.push_bind(format!("%{}", escaped(&domain))).push(" ESCAPE '!' AND id > ").push_bind(after);
            sql.push(" AND id <> ").push_bind(of_domain.id).push(" AND ").push(columns);
            if once {
                sql.push_bind(i64::from(of_domain.quota));
            } else {
                sql.push_bind(i64::from(of_domain.quota_reset)).push(" OR quota <> ");
                sql.push_bind(i64::from(of_domain.quota)).push(")");
            }
            sql.push(" ORDER BY id LIMIT ").push(ROWS);
            let ids = ids::<D>(connection, sql).await?;
            let Some(&last) = ids.last() else { return Ok(None) };
            let mut sql = QueryBuilder::<D::Db>::new("UPDATE ratelimits SET quota = ");
            sql.push_bind(i64::from(of_domain.quota));
            if !once {
                sql.push(", quota_reset = ").push_bind(i64::from(of_domain.quota_reset));
            }
            sql.push(", updated_at = updated_at WHERE quota_locked = 0 AND id IN (");
            push_ids(&mut sql, &ids);
            connection.execute(sql.build()).await?;
            Ok(Some(Worked { rows: ids.len() as u64, last }))
        })
        .await
    }

    /// Frees a sender: its counters are 0 and its windows empty from now on, while history stays. Gives the row as it then
    /// is, or none if there is none.
    ///
    /// What this minute holds already is moved to the one before, where windows that begin now do not look. The daemons
    /// notice by `window_from`, which is never the same twice.
    pub async fn free(&mut self, key: &str, now: i64) -> Result<Option<SenderRow>, Failure> {
        let key = self.narrowed(key).await?;
        self.run(async |connection| {
            let mut transaction = connection.begin_with(D::BEGIN.into_sql_str()).await?;
            // First the row, whose lock every daemon takes before it adds to the others.
            let mut sql = QueryBuilder::<D::Db>::new("UPDATE ratelimits SET msg_counter = 0, rcpt_counter = 0, ");
            sql.push("updated_at = updated_at, window_from = CASE WHEN window_from BETWEEN ").push_bind(now);
            sql.push(" AND ")
                .push_bind(now.saturating_add(CLOCKS_DIFFER))
                .push(" THEN window_from + 1 ELSE ")
                .push_bind(now)
                .push(format_args!(" END WHERE {} = ", D::SENDER));
            sql.push_bind(key.clone());
            transaction.execute(sql.build()).await?;
            let Some(row) = find::<D>(&mut transaction, &key).await? else {
                transaction.rollback().await?;
                return Ok(None);
            };
            move_minutes_back::<D>(&mut transaction, row.id, minute_of(row.window_from)).await?;
            let mut sql = QueryBuilder::<D::Db>::new("UPDATE networks SET last_seen = ");
            sql.push_bind(row.window_from.saturating_sub(1)).push(" WHERE ratelimit_id = ").push_bind(row.id);
            sql.push(" AND last_seen >= ").push_bind(row.window_from);
            transaction.execute(sql.build()).await?;
            // Whoever is freed by hand is told about again.
            let mut sql = QueryBuilder::<D::Db>::new("DELETE FROM notices WHERE ratelimit_id = ");
            sql.push_bind(row.id);
            transaction.execute(sql.build()).await?;
            transaction.commit().await?;
            Ok(Some(row))
        })
        .await
    }

    /// Parts the next messages from a sender's row that is to be deleted, or deletes them as well. Gives how many; 0 when
    /// none is left.
    pub async fn part_messages(&mut self, id: i64, delete: bool) -> Result<u64, Failure> {
        self.run(async |connection| {
            let mut sql = QueryBuilder::<D::Db>::new(format!("SELECT CAST(id AS {}) FROM messages", D::INTEGER));
            sql.push(" WHERE ratelimit_id = ").push_bind(id).push(" LIMIT ").push(ROWS);
            let ids = ids::<D>(connection, sql).await?;
            if !ids.is_empty() {
                let verb = if delete { "DELETE FROM messages" } else { "UPDATE messages SET ratelimit_id = NULL" };
                let mut sql = QueryBuilder::<D::Db>::new(verb);
                sql.push(" WHERE id IN (");
                push_ids(&mut sql, &ids);
                connection.execute(sql.build()).await?;
            }
            Ok(ids.len() as u64)
        })
        .await
    }

    /// Deletes a sender's row, and with it the history.
    pub async fn delete_sender(&mut self, id: i64) -> Result<(), Failure> {
        self.run(async |connection| {
            let mut sql = QueryBuilder::<D::Db>::new("DELETE FROM ratelimits WHERE id = ");
            sql.push_bind(id);
            connection.execute(sql.build()).await?;
            Ok(())
        })
        .await
    }

    /// The key as the table can hold it.
    async fn narrowed(&mut self, key: &str) -> Result<String, Failure> {
        self.connect().await?;
        Ok(narrow(key, self.keys()).into_owned())
    }
}

/// A sender's row, by a key that the table can hold.
async fn find<D: Dialect>(connection: &mut ConnectionOf<D>, key: &str) -> Result<Option<SenderRow>, sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Decode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    let mut sql = QueryBuilder::<D::Db>::new("SELECT ");
    sql.push(columns::<D>()).push(format_args!(" FROM ratelimits WHERE {} = ", D::SENDER)).push_bind(key.to_owned());
    connection.fetch_optional(sql.build()).await?.map(|row| sender_row::<D>(&row)).transpose()
}

async fn list<D: Dialect>(connection: &mut ConnectionOf<D>, listing: &Listing) -> Result<Vec<Listed>, sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    let (integer, greatest, key) = (D::INTEGER, D::GREATEST, D::SENDER);
    if listing.only.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let (messages, recipients) = match listing.window_since {
        None => (format!("CAST(msg_counter AS {integer})"), format!("CAST(rcpt_counter AS {integer})")),
        Some(_) => ("COALESCE(held.messages, 0)".to_owned(), "COALESCE(held.recipients, 0)".to_owned()),
    };
    let mut sql = QueryBuilder::<D::Db>::new("SELECT ");
    sql.push(columns::<D>()).push(format_args!(", {messages}, {recipients} FROM ratelimits"));
    if let Some(since) = listing.window_since {
        sql.push(format_args!(
            " LEFT JOIN (SELECT u.ratelimit_id, CAST(SUM(u.messages) AS {integer}) AS messages, \
             CAST(SUM(u.recipients) AS {integer}) AS recipients FROM {} u \
             JOIN ratelimits r ON r.id = u.ratelimit_id AND (u.minute + 1) * 60 > r.window_from WHERE u.minute >= ",
            D::USAGE
        ));
        sql.push_bind(minute_of(since));
        if let Some(ids) = &listing.only {
            sql.push(" AND u.ratelimit_id IN (");
            push_ids(&mut sql, ids);
        }
        sql.push(" GROUP BY u.ratelimit_id) held ON held.ratelimit_id = ratelimits.id");
    }
    sql.push(" WHERE 1 = 1");
    if let Some(ids) = &listing.only {
        sql.push(" AND ratelimits.id IN (");
        push_ids(&mut sql, ids);
    }
    if let Some(filter) = &listing.filter {
        sql.push(format_args!(" AND {key} LIKE ")).push_bind(format!("%{}%", escaped(&filter.to_lowercase())));
        sql.push(" ESCAPE '!'");
    }
    if let Some(since) = listing.blocked_since {
        let (open, close) = D::FROM_EPOCH;
        sql.push(format_args!(" AND ({greatest}({messages}, {recipients}) >= quota OR ratelimits.id IN "));
        sql.push("(SELECT ratelimit_id FROM messages WHERE blocked = 1 AND created_at >= ");
        sql.push(open).push_bind(since).push(close).push("))");
    }
    sql.push(" ORDER BY ");
    match listing.order {
        Order::Name => &mut sql,
        Order::Used => sql.push(format_args!("{greatest}({messages}, {recipients}) DESC, ")),
        Order::Quota => sql.push("quota DESC, "),
        Order::LastUsed => sql.push("updated_at DESC, "),
    };
    sql.push(key).push(" LIMIT ").push(listing.limit);
    let rows = connection.fetch_all(sql.build()).await?;
    rows.iter()
        .map(|row| {
            Ok(Listed {
                row: sender_row::<D>(row)?,
                messages: row.try_get(COLUMNS)?,
                recipients: row.try_get(COLUMNS + 1)?,
            })
        })
        .collect()
}

/// How many columns [`columns`] names.
const COLUMNS: usize = 12;

/// The columns of [`SenderRow`], in its order.
fn columns<D: Dialect>() -> String {
    let number = |column: &str| format!("CAST({column} AS {})", D::INTEGER);
    let numbers =
        ["quota", "quota_reset", "quota_locked", "msg_counter", "rcpt_counter", "msg_total", "rcpt_total"].map(number);
    format!(
        "CAST(ratelimits.id AS {}), sender, {}, window_from, {}, {}",
        D::INTEGER,
        numbers.join(", "),
        D::epoch("created_at"),
        D::epoch("updated_at")
    )
}

fn sender_row<D: Dialect>(row: &<D::Db as Database>::Row) -> Result<SenderRow, sqlx::Error>
where
    for<'q> i64: Decode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    // A panel may have written what does not fit: the nearest value that does is meant.
    let counter = |column: usize| -> Result<u32, sqlx::Error> {
        Ok(u32::try_from(row.try_get::<i64, _>(column)?.clamp(0, COUNTER_MAX)).unwrap_or(u32::MAX))
    };
    Ok(SenderRow {
        id: row.try_get(0)?,
        sender: row.try_get(1)?,
        quota: counter(2)?,
        quota_reset: counter(3)?,
        locked: row.try_get::<i64, _>(4)? != 0,
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
async fn move_minutes_back<D: Dialect>(connection: &mut ConnectionOf<D>, id: i64, first: i64) -> Result<(), sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    let condition = |sql: &mut QueryBuilder<D::Db>| {
        sql.push(format_args!(" FROM {} WHERE ratelimit_id = ", D::USAGE)).push_bind(id);
        sql.push(" AND minute >= ").push_bind(first);
    };
    let mut sql = QueryBuilder::<D::Db>::new("SELECT messages, recipients, bytes");
    condition(&mut sql);
    let mut sum = UsageRow { ratelimit_id: id, minute: first - 1, messages: 0, recipients: 0, bytes: 0 };
    let rows = connection.fetch_all(sql.build()).await?;
    for row in &rows {
        sum.messages = sum.messages.saturating_add(row.try_get(0)?);
        sum.recipients = sum.recipients.saturating_add(row.try_get(1)?);
        sum.bytes = sum.bytes.saturating_add(row.try_get(2)?);
    }
    if rows.is_empty() {
        return Ok(());
    }
    let mut sql = QueryBuilder::<D::Db>::new("DELETE");
    condition(&mut sql);
    connection.execute(sql.build()).await?;
    let mut script = Script::<D>::patient(connection);
    usage::add(&mut script, &[sum]).await?;
    script.send().await
}

/// The numbers that a statement finds.
async fn ids<D: Dialect>(
    connection: &mut ConnectionOf<D>,
    mut sql: QueryBuilder<D::Db>,
) -> Result<Vec<i64>, sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    connection.fetch_all(sql.build()).await?.iter().map(|row| row.try_get(0)).collect()
}

/// Ends a list that was opened. The numbers are ours, and too many to be bound.
fn push_ids<DB: Database>(sql: &mut QueryBuilder<DB>, ids: &[i64]) {
    let mut list = sql.separated(", ");
    for id in ids {
        list.push(*id);
    }
    sql.push(")");
}

/// A text as LIKE takes it literally, with `!` as its escape.
fn escaped(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}
