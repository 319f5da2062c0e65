//! The counters of `ratelimits`: adding to them and reading them back, many senders in a statement.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};

use super::blocks::{self, Revision};
use super::charset::{Charset, narrow};
use super::connection::Connection;
use super::dialect::Dialect;
use super::failure::Failure;
use super::script::Script;
use super::sql::{Sql, in_statements};
use crate::limiter::window::CLOCKS_DIFFER;

/// The greatest value a counter takes: the end of PolicydRateGuard's INT UNSIGNED columns. Counters stay there and never wrap.
pub const COUNTER_MAX: i64 = u32::MAX as i64;

/// What one transaction adds to one sender's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// The key as `account` made it.
    pub sender: String,
    /// The key of the row whose quota a row made for this sender begins with, if that one exists.
    pub domain: Option<String>,
    pub messages: u32,
    pub recipients: u32,
    /// False only looks: no row is made and none is changed.
    pub count: bool,
}

impl Sum {
    /// The same with keys that a column of this character set can hold.
    pub fn narrowed(&self, charset: Charset) -> Sum {
        let narrow = |key: &str| narrow(key, charset).into_owned();
        Sum { sender: narrow(&self.sender), domain: self.domain.as_deref().map(narrow), ..self.clone() }
    }
}

/// A sender's row as it stands after a transaction's sums were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub id: i64,
    /// [`crate::policy::quota::UNLIMITED`] means no limit.
    pub quota: u32,
    pub messages: u32,
    pub recipients: u32,
    /// Never reset: they tell whether anybody else has charged this sender.
    pub total_messages: u32,
    pub total_recipients: u32,
    /// Where `sender reset` begins anew, in seconds since 1970; 0 or less where it never did.
    pub window_from: i64,
    /// Which state the table `blocks` was in when the row was read.
    pub blocks: Revision,
}

/// What of a counter was counted before its reset, and is to be taken off again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlived {
    pub ratelimit_id: i64,
    pub messages: u32,
    pub recipients: u32,
}

/// What the rows that a transaction makes bear in `window_from`, so that it knows them when it reads them back: a number
/// of its own, below 0, which there means what 0 means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(i64);

impl Mark {
    fn new() -> Mark {
        // The half above 0 is time.
        Mark(-1 - i64::try_from(random() >> 2).unwrap_or(0))
    }
}

/// The standard library's only source of random numbers.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Adds every counting sum, and makes the rows that are missing, with the quota of their domain's row where there is one. Takes
/// the locks of all rows in the order of `sums` (sorted by sender, narrowed to the columns). Returns the rows as they then stand, in
/// the same order, and the mark of those that were made. `lowered` is [`super::dialect::Session::lowered`]; `now` is in
/// seconds since 1970.
pub async fn charge(
    script: &mut Script<'_>,
    sums: &[Sum],
    new_quota: u32,
    now: i64,
    lowered: Option<&str>,
) -> Result<(Vec<Option<Row>>, Mark), Failure> {
    let mark = add(script, sums, new_quota, now).await?;
    let mut rows = read(script, sums).await?;
    if let Some(lowered) = lowered {
        adopt_spellings(script, sums, &mut rows, lowered, mark, now).await?;
    }
    forget_former(script, &rows, mark).await?;
    inherit(script, sums, &mut rows, mark).await?;
    Ok((rows, mark))
}

/// Adds every counting sum, and makes the rows that are missing. Takes the locks of all rows in the order of `sums`. Returns
/// the mark of the rows that were made.
async fn add(script: &mut Script<'_>, sums: &[Sum], new_quota: u32, now: i64) -> Result<Mark, Failure> {
    let mark = Mark::new();
    let counting: Vec<&Sum> = sums.iter().filter(|sum| sum.count).collect();
    let dialect = script.dialect();
    for slice in in_statements(&counting) {
        let mut sql = script.sql(
            "INSERT INTO ratelimits (sender, quota, quota_reset, msg_counter, rcpt_counter, msg_total, rcpt_total, \
             window_from, created_at, updated_at) ",
        );
        sql.push_rows(slice, |row, sum| {
            row.bind(&*sum.sender).bind(new_quota).bind(new_quota);
            for number in [sum.messages, sum.recipients, sum.messages, sum.recipients] {
                row.bind(number);
            }
            row.bind(mark.0).time(now).time(now);
        });
        sql.push(dialect.on_conflict(dialect.sender));
        for column in ["msg_counter", "rcpt_counter", "msg_total", "rcpt_total"] {
            let (least, brought) = (dialect.least, dialect.brought(column));
            sql.push(format_args!("{column} = {least}(ratelimits.{column} + {brought}, {COUNTER_MAX}), "));
        }
        sql.push("updated_at = ").push(dialect.brought("updated_at"));
        script.run(sql).await?;
    }
    Ok(mark)
}

/// Renames the rows that somebody has typed with capitals for senders (or their domains) that had no row: what was added to
/// a new row goes to that one instead. For a database to which such a spelling is another key.
async fn adopt_spellings(
    script: &mut Script<'_>,
    sums: &[Sum],
    rows: &mut Vec<Option<Row>>,
    lowered: &str,
    mark: Mark,
    now: i64,
) -> Result<(), Failure> {
    // Nobody types the keys of senders without a login, which are the many new ones.
    let new: Vec<(&Sum, Option<i64>)> = (sums.iter().zip(rows.iter()))
        .filter(|(sum, row)| is_new(row, mark) && !sum.sender.starts_with(['<', '[']))
        .map(|(sum, row)| (sum, row.map(|row| row.id)))
        .collect();
    let keys: BTreeSet<&str> =
        new.iter().flat_map(|(sum, _)| [Some(sum.sender.as_str()), sum.domain.as_deref()]).flatten().collect();
    let keys: Vec<&str> = keys.into_iter().collect();
    let mut typed: BTreeMap<String, i64> = BTreeMap::new();
    for slice in in_statements(&keys) {
        let rest = |sql: &mut Sql| {
            sql.push(format_args!("FROM ratelimits WHERE {lowered} IN ")).push_list(slice.iter().copied());
            sql.push(format_args!(" AND sender <> {lowered} ORDER BY id DESC"));
        };
        let found = script.read(lowered, &["id"], rest).await?;
        // The oldest of several is last.
        typed.extend(found.into_iter().filter_map(|(key, id)| Some((key, *id.first()?))));
    }
    if typed.is_empty() {
        return Ok(());
    }
    let moved = new.into_iter().filter(|(sum, _)| typed.contains_key(&sum.sender));
    let (moved, made): (Vec<Sum>, Vec<Option<i64>>) = moved.map(|(sum, id)| (sum.clone(), id)).unzip();
    let mut sql = script.sql("DELETE FROM ratelimits WHERE id IN ");
    // No row has the number 0.
    sql.push_ids(&made.into_iter().flatten().chain([0]).collect::<Vec<i64>>());
    script.run(sql).await?;
    for (key, id) in typed {
        script.run(renaming(script.dialect(), id, &key)).await?;
    }
    add(script, &moved, 0, now).await?;
    *rows = read(script, sums).await?;
    Ok(())
}

/// Deletes the history that the rows which this transaction made find under their numbers: it was another's.
async fn forget_former(script: &mut Script<'_>, rows: &[Option<Row>], mark: Mark) -> Result<(), Failure> {
    let Dialect { reuses_ids, usage, .. } = script.dialect();
    let made: Vec<i64> = made(rows, mark).into_iter().collect();
    if *reuses_ids && !made.is_empty() {
        for table in [usage, "networks", "notices"] {
            let mut sql = script.sql(format!("DELETE FROM {table} WHERE ratelimit_id IN "));
            sql.push_ids(&made);
            script.run(sql).await?;
        }
    }
    Ok(())
}

/// The statement that gives a row another spelling of its sender.
pub fn renaming(dialect: &'static Dialect, id: i64, key: &str) -> Sql {
    let mut sql = Sql::new(dialect, "UPDATE ratelimits SET sender = ");
    sql.push_bind(key).push(", updated_at = updated_at WHERE id = ").push_bind(id);
    sql
}

/// The rows that the transaction of this mark made.
pub fn made(rows: &[Option<Row>], mark: Mark) -> HashSet<i64> {
    rows.iter().flatten().filter(|row| row.window_from == mark.0).map(|row| row.id).collect()
}

/// Whether the transaction of this mark made the row, or there is none.
fn is_new(row: &Option<Row>, mark: Mark) -> bool {
    row.is_none_or(|row| row.window_from == mark.0)
}

/// Sets the quota of the `@domain` row, if there is one, in the rows that this transaction made. An account that was only looked at
/// and has no row is judged by the `@domain` row. An account with a row costs nothing here.
async fn inherit(script: &mut Script<'_>, sums: &[Sum], rows: &mut [Option<Row>], mark: Mark) -> Result<(), Failure> {
    let heirs = sums.iter().zip(rows).filter(|(_, row)| is_new(row, mark));
    let mut heirs: Vec<(&str, &mut Option<Row>)> =
        heirs.filter_map(|(sum, row)| Some((sum.domain.as_deref()?, row))).collect();
    if heirs.is_empty() {
        return Ok(());
    }
    let domains: BTreeSet<&str> = heirs.iter().map(|(domain, _)| *domain).collect();
    let domains: Vec<&str> = domains.into_iter().collect();
    let mut found: HashMap<String, Row> = HashMap::new();
    for slice in in_statements(&domains) {
        for (spelled, row) in select(script, slice).await? {
            found.insert(spelled.to_lowercase(), row);
        }
    }
    // What the database takes for the same although it is spelt otherwise can only be asked for one by one.
    let otherwise = found.keys().any(|spelled| !domains.contains(&spelled.as_str()));
    for domain in domains.into_iter().filter(|_| otherwise) {
        if !found.contains_key(domain)
            && let Some((_, row)) = select(script, &[domain]).await?.pop()
        {
            found.insert(domain.to_owned(), row);
        }
    }
    let mut made: HashMap<i64, Vec<i64>> = HashMap::new();
    for (domain, row) in &mut heirs {
        let Some(of_domain) = found.get(*domain) else { continue };
        match row {
            Some(row) => {
                row.quota = of_domain.quota;
                made.entry(of_domain.id).or_default().push(row.id);
            }
            None => **row = Some(*of_domain),
        }
    }
    for (domain, heirs) in made {
        for slice in in_statements(&heirs) {
            copy_quota(script, domain, slice).await?;
        }
    }
    Ok(())
}

/// Copies a row's quotas to other rows. In two steps, since MySQL updates no table that the same statement reads.
async fn copy_quota(script: &mut Script<'_>, from: i64, to: &[i64]) -> Result<(), Failure> {
    let Dialect { integer, .. } = script.dialect();
    let mut sql = script
        .sql(format!("SELECT CAST(quota AS {integer}), CAST(quota_reset AS {integer}) FROM ratelimits WHERE id = "));
    sql.push_bind(from);
    let Some(row) = script.rows(sql).await?.pop() else { return Ok(()) };
    let (quota, quota_reset): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let mut sql = script.sql("UPDATE ratelimits SET quota = ");
    sql.push_bind(quota).push(", quota_reset = ").push_bind(quota_reset);
    sql.push(" WHERE id IN ").push_list(to.iter().copied());
    script.run(sql).await
}

/// Reads the rows of all `sums`, in their order.
pub async fn read(script: &mut Script<'_>, sums: &[Sum]) -> Result<Vec<Option<Row>>, Failure> {
    let senders: Vec<&str> = sums.iter().map(|sum| sum.sender.as_str()).collect();
    let mut found: HashMap<String, Row> = HashMap::with_capacity(sums.len());
    for slice in in_statements(&senders) {
        for (sender, row) in select(script, slice).await? {
            found.insert(sender, row);
        }
    }
    let mut rows = Vec::with_capacity(sums.len());
    for sum in sums {
        let row = match found.get(&sum.sender) {
            Some(row) => Some(*row),
            // The database may take two spellings for equal: then a lookup by this key finds the row.
            None => select(script, &[&sum.sender]).await?.pop().map(|(_, row)| row),
        };
        rows.push(row);
    }
    Ok(rows)
}

/// The rows that the database finds for these keys, each with its own spelling.
async fn select(script: &mut Script<'_>, senders: &[&str]) -> Result<Vec<(String, Row)>, Failure> {
    const NUMBERS: [&str; 8] =
        ["id", "quota", "msg_counter", "rcpt_counter", "msg_total", "rcpt_total", "window_from", blocks::REVISION];
    let Dialect { sender, .. } = script.dialect();
    let rest = |sql: &mut Sql| {
        sql.push(format_args!("FROM ratelimits WHERE {sender}")).push_one_of(senders);
    };
    let rows = script.read(&script.dialect().text(sender), &NUMBERS, rest).await?;
    // A panel may have written what does not fit: the nearest value that does is meant.
    let counter = |number: i64| u32::try_from(number.clamp(0, COUNTER_MAX)).unwrap_or(u32::MAX);
    let row = |numbers: &[i64]| match *numbers {
        [id, quota, messages, recipients, total_messages, total_recipients, window_from, blocks] => Some(Row {
            id,
            quota: counter(quota),
            messages: counter(messages),
            recipients: counter(recipients),
            total_messages: counter(total_messages),
            total_recipients: counter(total_recipients),
            window_from,
            blocks,
        }),
        _ => None,
    };
    Ok(rows.into_iter().filter_map(|(sender, numbers)| Some((sender, row(&numbers)?))).collect())
}

/// Takes back a `window_from` that a clock far ahead wrote: nothing would count until that time has come.
pub async fn mend_windows(script: &mut Script<'_>, rows: &mut [Option<Row>], now: i64) -> Result<(), Failure> {
    let latest = now.saturating_add(CLOCKS_DIFFER);
    for row in rows.iter_mut().flatten().filter(|row| row.window_from > latest) {
        let mut sql = script.sql("UPDATE ratelimits SET window_from = 0, updated_at = updated_at WHERE id = ");
        sql.push_bind(row.id);
        script.run(sql).await?;
        row.window_from = 0;
    }
    Ok(())
}

/// Takes off counters what was counted before their reset. Totals keep it.
pub async fn take_off(script: &mut Script<'_>, outlived: &[Outlived]) -> Result<(), Failure> {
    let greatest = script.dialect().greatest;
    for Outlived { ratelimit_id, messages, recipients } in outlived {
        // Columns without a sign take no number below 0, not even on the way.
        let left = |column: &str, number: &u32| format!("{column} = {greatest}({column}, {number}) - {number}");
        let mut sql = script.sql("UPDATE ratelimits SET ");
        sql.push(left("msg_counter", messages)).push(", ").push(left("rcpt_counter", recipients));
        sql.push(", updated_at = updated_at WHERE id = ").push_bind(*ratelimit_id);
        script.run(sql).await?;
    }
    Ok(())
}

/// Whether somebody holds the whole table, as a dump may. Where not even reading is possible, the look itself is refused.
pub async fn is_table_locked(connection: &mut Connection) -> Result<bool, Failure> {
    // A key that no sender has, since control characters are taken out where a login enters; and no other daemon that looks
    // at the same time, or the two would find each other.
    let nobody = format!("\u{1}{:016x}", random());
    match connection.is_held(&nobody).await {
        Err(Failure::Locked(_)) => Ok(true),
        looked => looked,
    }
}

/// A row that another session holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRow {
    pub sender: String,
    /// Its totals of messages and recipients as they were last committed. None for a row that is being made.
    pub totals: Option<(i64, i64)>,
}

/// The rows of these senders that another session holds, or is making. Each comes with its key. Two questions tell of the rows that are
/// there, however many they are; only the others are asked about one by one.
pub async fn locked(connection: &mut Connection, senders: &[(&str, String)]) -> Result<Vec<HeldRow>, Failure> {
    const IN_ONE_QUESTION: usize = 1000;
    let mut held = Vec::new();
    if connection.dialect().in_process {
        return Ok(held);
    }
    for slice in senders.chunks(IN_ONE_QUESTION) {
        let keys: Vec<&str> = slice.iter().map(|(_, key)| key.as_str()).collect();
        // Fails where the server cannot skip (MariaDB before 10.6).
        let free = there(connection, &keys, " FOR UPDATE SKIP LOCKED").await.ok();
        let all = there(connection, &keys, "").await?;
        for (sender, key) in slice {
            let is_held = match &free {
                Some(free) if free.contains_key(key) => false,
                Some(_) if all.contains_key(key) => true,
                _ => connection.is_held(key).await?,
            };
            if is_held {
                held.push(HeldRow { sender: (*sender).to_owned(), totals: all.get(key).copied() });
            }
        }
    }
    Ok(held)
}

/// Which of these keys have a row, as the table spells them but for case, with the totals of each.
async fn there(connection: &mut Connection, keys: &[&str], lock: &str) -> Result<HashMap<String, (i64, i64)>, Failure> {
    let Dialect { sender, integer, .. } = connection.dialect();
    let mut sql =
        connection.sql(format!("SELECT sender, CAST(msg_total AS {integer}), CAST(rcpt_total AS {integer}) "));
    sql.push("FROM ratelimits WHERE ").push(sender).push(" IN ").push_list(keys.iter().copied()).push(lock);
    let rows = connection.fetch_all(sql).await?;
    rows.iter().map(|row| Ok((row.try_get::<String>(0)?.to_lowercase(), (row.try_get(1)?, row.try_get(2)?)))).collect()
}
