//! What was let through per minute (`usage`), and where senders were seen (`networks`).

use super::dialect::Dialect;
use super::failure::Failure;
use super::script::Script;
use super::sql::{Sql, in_statements};
use crate::limiter::window::CLOCKS_DIFFER;

/// Which histories are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    pub rows: Vec<i64>,
    /// From this time on, in seconds since 1970; the begin of a minute.
    pub time: i64,
    /// Whether networks are wanted too.
    pub networks: bool,
}

/// What was read of `usage` and `networks`.
#[derive(Debug, Default)]
pub struct HistoryRows {
    /// The rows that were asked about; one without usage has none.
    pub rows: Vec<i64>,
    pub usage: Vec<UsageRow>,
    pub seen: Vec<SeenRow>,
}

/// What a sender had let through in a minute (counted from 1970).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageRow {
    pub ratelimit_id: i64,
    pub minute: i64,
    pub messages: i64,
    pub recipients: i64,
    pub bytes: i64,
}

/// A network that a sender was seen from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRow {
    pub ratelimit_id: i64,
    pub network: String,
    pub last_seen: i64,
}

/// The most networks read of one sender: whoever has more is over any sensible limit.
const MAX_NETWORKS: i64 = 10_000;

/// Reads the histories that decisions need.
pub async fn read(script: &mut Script<'_>, since: Since) -> Result<HistoryRows, Failure> {
    let Dialect { usage, .. } = script.dialect();
    let mut read = HistoryRows::default();
    for slice in in_statements(&since.rows) {
        let rest = |sql: &mut Sql| {
            sql.push(format_args!("FROM {usage} WHERE minute >= ")).push_bind(since.time.div_euclid(60));
            sql.push(" AND ratelimit_id IN ").push_list(slice.iter().copied());
        };
        let numbers = ["ratelimit_id", "minute", "messages", "recipients", "bytes"];
        let rows = script.read("''", &numbers, rest).await?;
        read.usage.extend(rows.iter().filter_map(|(_, numbers)| match *numbers.as_slice() {
            [ratelimit_id, minute, messages, recipients, bytes] => {
                Some(UsageRow { ratelimit_id, minute, messages, recipients, bytes })
            }
            _ => None,
        }));
        if since.networks {
            let rest = |sql: &mut Sql| {
                sql.push(
                    "FROM (SELECT ratelimit_id, network, last_seen, ROW_NUMBER() OVER (PARTITION BY ratelimit_id \
                     ORDER BY last_seen DESC) AS place FROM networks WHERE last_seen >= ",
                );
                sql.push_bind(since.time).push(" AND ratelimit_id IN ").push_list(slice.iter().copied());
                sql.push(") AS latest WHERE place <= ").push(MAX_NETWORKS);
            };
            let rows = script.read("network", &["ratelimit_id", "last_seen"], rest).await?;
            read.seen.extend(rows.into_iter().filter_map(|(network, numbers)| match *numbers.as_slice() {
                [ratelimit_id, last_seen] => Some(SeenRow { ratelimit_id, network, last_seen }),
                _ => None,
            }));
        }
    }
    read.rows = since.rows;
    Ok(read)
}

/// The greatest value that a minute's sums take: they stay there, as counters do. Two of them are still a whole number.
const SUM_MAX: i64 = i64::MAX / 2;

/// Adds to the minutes of each row.
pub async fn add(script: &mut Script<'_>, rows: &[UsageRow]) -> Result<(), Failure> {
    let dialect = script.dialect();
    let table = dialect.usage;
    let sums = ["messages", "recipients", "bytes"].map(|column| {
        let (least, brought) = (dialect.least, dialect.brought(column));
        format!("{column} = {least}({least}({table}.{column}, {SUM_MAX}) + {brought}, {SUM_MAX})")
    });
    for slice in in_statements(rows) {
        let mut sql = script.sql(format!("INSERT INTO {table} (ratelimit_id, minute, messages, recipients, bytes) "));
        sql.push_rows(slice, |values, row| {
            values.bind(row.ratelimit_id).bind(row.minute);
            for number in [row.messages, row.recipients, row.bytes] {
                values.bind(number.min(SUM_MAX));
            }
        });
        sql.push(dialect.on_conflict("ratelimit_id, minute")).push(sums.join(", "));
        script.run(sql).await?;
    }
    Ok(())
}

/// Notes where senders were seen. Nothing is ever seen earlier than it was before, unless a clock was wrong then.
pub async fn see(script: &mut Script<'_>, rows: &[SeenRow]) -> Result<(), Failure> {
    let dialect = script.dialect();
    for slice in in_statements(rows) {
        let mut sql = script.sql("INSERT INTO networks (ratelimit_id, network, last_seen) ");
        sql.push_rows(slice, |values, row| {
            values.bind(row.ratelimit_id).bind(&*row.network).bind(row.last_seen);
        });
        let brought = dialect.brought("last_seen");
        sql.push(dialect.on_conflict("ratelimit_id, network"));
        sql.push(format_args!(
            "last_seen = CASE WHEN networks.last_seen BETWEEN {brought} AND {brought} + {CLOCKS_DIFFER} \
             THEN networks.last_seen ELSE {brought} END"
        ));
        script.run(sql).await?;
    }
    Ok(())
}
