//! What was let through per minute (`usage`), and where senders were seen (`networks`).
//!
//! What most mail has no part in stands apart, so that it costs most mail nothing: what of a minute was held or came from new
//! networks (`usage_parts`), and when a network was first seen (`arrivals`).

use std::collections::{BTreeSet, HashMap};
use std::ops::{Range, RangeInclusive};

use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::{Patience, Store};
use super::meta;
use super::script::{Found, Question, Script};
use super::sql::{Sql, in_statements};
use crate::limiter::usual::Peaks;
use crate::limiter::window::{MINUTES_OF_DAY, MINUTES_OF_HOUR, minute_of};
use crate::limiter::{history, window};

/// Which histories are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    pub rows: Vec<i64>,
    /// From this time on, in seconds since 1970; the begin of a minute.
    pub time: i64,
    /// How the minutes of a long window are read. None: each by itself.
    pub coarse: Option<Coarse>,
    /// From when on networks are wanted, in seconds since 1970. None: they are not.
    pub networks: Option<i64>,
    /// None: what was learnt is not wanted.
    pub learnt: Option<LearntSince>,
}

/// The minutes of a long window are read as they are kept: [`Store::coarsen`] keeps them few, though later than a decision that
/// looks at them might.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coarse {
    /// The most minutes of each row, the latest.
    pub most: u64,
    /// See [`window::coarse_before`].
    pub before: (i64, i64),
}

/// What is wanted of what was learnt about senders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearntSince {
    /// Counted from 1970.
    pub days: RangeInclusive<i64>,
    /// From when on arrivals are wanted, in seconds since 1970.
    pub arrivals: i64,
}

/// What was read of `usage` and `networks`.
#[derive(Debug, Default)]
pub struct HistoryRows {
    /// The rows that were asked about; one without usage has none.
    pub rows: Vec<i64>,
    pub usage: Vec<UsageRow>,
    pub seen: Vec<SeenRow>,
    /// When networks of `seen` were first seen, if that was since [`LearntSince::arrivals`].
    pub arrived: Vec<Arrival>,
    pub learnt: Option<LearntRows>,
}

/// What was learnt about the senders that were asked about.
#[derive(Debug, Default)]
pub struct LearntRows {
    /// The highest of the days that were asked about.
    pub peaks: Vec<(i64, Peaks)>,
    /// The part of the minutes that came from networks which were new then. Bytes are not counted.
    pub new: Vec<UsageRow>,
    /// The first of these days of which the database knows anything, of any sender.
    pub first_day: Option<i64>,
    /// Since when it is noted where senders are seen for the first time, in seconds since 1970.
    pub networks_since: Option<i64>,
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

impl UsageRow {
    /// This and a later one, in the minute of the later one.
    fn with(self, later: UsageRow) -> UsageRow {
        let sum = |one: i64, other: i64| one.saturating_add(other).min(SUM_MAX);
        UsageRow {
            messages: sum(self.messages, later.messages),
            recipients: sum(self.recipients, later.recipients),
            bytes: sum(self.bytes, later.bytes),
            ..later
        }
    }
}

/// A network that a sender was seen from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRow {
    pub ratelimit_id: i64,
    pub network: String,
    pub last_seen: i64,
}

/// When a network was first seen for a sender, in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub ratelimit_id: i64,
    pub network: String,
    pub first_seen: i64,
}

/// Of a sender's minute, what was held, and what came from networks that were new then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartsRow {
    pub ratelimit_id: i64,
    pub minute: i64,
    pub held_messages: i64,
    pub held_recipients: i64,
    pub new_messages: i64,
    pub new_recipients: i64,
}

/// The most networks read of one sender: more than any sensible limit.
const MAX_NETWORKS: i64 = 10_000;

/// Asks for the minutes of some rows.
pub fn minutes(script: &Script<'_>, ids: &[i64], since: &Since) -> Question {
    let Dialect { usage, .. } = script.dialect();
    let first = minute_of(since.time);
    script.question("''", &["ratelimit_id", "minute", "messages", "recipients", "bytes"], |sql| {
        let Some(Coarse { most, before: (hours, days) }) = since.coarse else {
            sql.push(format_args!("FROM {usage} WHERE minute >= ")).push_bind(first);
            sql.push(" AND ratelimit_id").push_one_of(ids);
            return;
        };
        for (place, id) in ids.iter().enumerate() {
            sql.push(if place == 0 { "FROM (SELECT " } else { " UNION ALL SELECT " });
            sql.push_bind(*id).push(" AS ratelimit_id, MAX(latest.minute) AS minute");
            for column in ["messages", "recipients", "bytes"] {
                sql.push(format_args!(", SUM({}({column}, {MINUTE_MAX})) AS {column}", script.dialect().least));
            }
            sql.push(format_args!(
                " FROM (SELECT minute, messages, recipients, bytes FROM {usage} WHERE ratelimit_id = "
            ));
            sql.push_bind(*id).push(" AND minute >= ").push_bind(first);
            sql.push(format_args!(
                " ORDER BY minute DESC LIMIT {most}) AS latest GROUP BY CASE WHEN latest.minute >= "
            ));
            sql.push_bind(hours).push(" THEN latest.minute WHEN latest.minute >= ").push_bind(days);
            sql.push(format_args!(" THEN latest.minute - latest.minute % {MINUTES_OF_HOUR} "));
            sql.push(format_args!("ELSE latest.minute - latest.minute % {MINUTES_OF_DAY} END"));
        }
        sql.push(") AS together");
    })
}

/// Asks for the networks that some rows were seen from since a time, and for when they were first seen if it is wanted.
pub fn places(script: &Script<'_>, ids: &[i64], seen_since: i64, learnt: Option<&LearntSince>) -> Question {
    // Of all networks that are read, and of no others, so that the one bound is that of both.
    let first = if learnt.is_some() { "COALESCE(arrivals.first_seen, 0)" } else { "0" };
    script.question("latest.network", &["latest.ratelimit_id", "latest.last_seen", first], |sql| {
        sql.push(
            "FROM (SELECT ratelimit_id, network, last_seen, ROW_NUMBER() OVER (PARTITION BY ratelimit_id \
             ORDER BY last_seen DESC) AS place FROM networks WHERE last_seen >= ",
        );
        sql.push_bind(seen_since).push(" AND ratelimit_id").push_one_of(ids).push(") AS latest");
        if let Some(learnt) = learnt {
            sql.push(" LEFT JOIN arrivals ON arrivals.ratelimit_id = latest.ratelimit_id AND ");
            sql.push("arrivals.network = latest.network AND first_seen >= ").push_bind(learnt.arrivals);
        }
        sql.push(" WHERE place <= ").push(MAX_NETWORKS);
    })
}

impl HistoryRows {
    /// Takes what [`minutes`] found.
    pub fn take_minutes(&mut self, found: Found) {
        self.usage.extend(found.iter().filter_map(|(_, numbers)| row_of(*numbers.first()?, numbers.get(1..)?)));
    }

    /// Takes what [`places`] found.
    pub fn take_places(&mut self, found: Found) {
        for (network, numbers) in found {
            let &[ratelimit_id, last_seen, first_seen] = numbers.as_slice() else { continue };
            if first_seen > 0 {
                self.arrived.push(Arrival { ratelimit_id, network: network.clone(), first_seen });
            }
            self.seen.push(SeenRow { ratelimit_id, network, last_seen });
        }
    }
}

fn row_of(ratelimit_id: i64, numbers: &[i64]) -> Option<UsageRow> {
    let &[minute, messages, recipients, bytes] = numbers else { return None };
    Some(UsageRow { ratelimit_id, minute, messages, recipients, bytes })
}

/// What a minute counts at the most in a sum that a database makes: the sum of a day's minutes must not leave its column.
const MINUTE_MAX: i64 = i64::MAX / 2048;
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
pub async fn see(script: &mut Script<'_>, rows: &[SeenRow], now: i64) -> Result<(), Failure> {
    let (dialect, latest) = (script.dialect(), window::latest(now));
    for slice in in_statements(rows) {
        let mut sql = script.sql("INSERT INTO networks (ratelimit_id, network, last_seen) ");
        sql.push_rows(slice, |values, row| {
            values.bind(row.ratelimit_id).bind(&*row.network).bind(row.last_seen);
        });
        let brought = dialect.brought("last_seen");
        sql.push(dialect.on_conflict("ratelimit_id, network"));
        sql.push(format_args!(
            "last_seen = CASE WHEN networks.last_seen BETWEEN {brought} AND {latest} \
             THEN networks.last_seen ELSE {brought} END"
        ));
        script.run(sql).await?;
    }
    Ok(())
}

/// Adds to the parts of minutes of each row.
pub async fn add_parts(script: &mut Script<'_>, rows: &[PartsRow]) -> Result<(), Failure> {
    let dialect = script.dialect();
    let columns = ["held_messages", "held_recipients", "new_messages", "new_recipients"];
    let sums = columns.map(|column| {
        let (least, brought) = (dialect.least, dialect.brought(column));
        format!("{column} = {least}({least}(usage_parts.{column}, {SUM_MAX}) + {brought}, {SUM_MAX})")
    });
    for slice in in_statements(rows) {
        let mut sql = script.sql(format!("INSERT INTO usage_parts (ratelimit_id, minute, {}) ", columns.join(", ")));
        sql.push_rows(slice, |values, row| {
            values.bind(row.ratelimit_id).bind(row.minute);
            for number in [row.held_messages, row.held_recipients, row.new_messages, row.new_recipients] {
                values.bind(number.min(SUM_MAX));
            }
        });
        sql.push(dialect.on_conflict("ratelimit_id, minute")).push(sums.join(", "));
        script.run(sql).await?;
    }
    Ok(())
}

/// Notes where senders are seen for the first time.
pub async fn arrive(script: &mut Script<'_>, rows: &[Arrival]) -> Result<(), Failure> {
    let dialect = script.dialect();
    for slice in in_statements(rows) {
        let mut sql = script.sql("INSERT INTO arrivals (ratelimit_id, network, first_seen) ");
        sql.push_rows(slice, |values, row| {
            values.bind(row.ratelimit_id).bind(&*row.network).bind(row.first_seen);
        });
        sql.push(dialect.on_conflict("ratelimit_id, network"))
            .push("first_seen = ")
            .push(dialect.brought("first_seen"));
        script.run(sql).await?;
    }
    Ok(())
}

/// Returns those of these arrivals (sorted by their rows) that are some: in the networks of the others their senders were seen
/// before.
pub async fn not_seen(script: &mut Script<'_>, mut arrivals: Vec<Arrival>) -> Result<Vec<Arrival>, Failure> {
    let mut known: HashMap<(i64, String), i64> = HashMap::new();
    for slice in in_statements(&arrivals) {
        let ids = slice.chunk_by(|one, other| one.ratelimit_id == other.ratelimit_id).filter_map(<[Arrival]>::first);
        let networks: BTreeSet<&str> = slice.iter().map(|arrival| &*arrival.network).collect();
        let rest = |sql: &mut Sql| {
            sql.push("FROM networks WHERE ratelimit_id IN ").push_list(ids.map(|first| first.ratelimit_id));
            sql.push(" AND network IN ").push_list(networks.iter().copied());
        };
        for (network, numbers) in script.read("network", &["ratelimit_id", "last_seen"], rest).await? {
            if let &[ratelimit_id, last_seen] = numbers.as_slice() {
                known.insert((ratelimit_id, network), last_seen);
            }
        }
    }
    arrivals.retain(|arrival| {
        let last_seen = known.get(&(arrival.ratelimit_id, arrival.network.clone()));
        last_seen.is_none_or(|last_seen| *last_seen < history::known_since(arrival.first_seen))
    });
    Ok(arrivals)
}

/// What the daemons that make hours of minutes have a lock on: one of them at a time works on a sender.
const COARSENING: &str = "usage_coarsening";
/// The most minutes that are read to be made hours of: they are in nobody's way for long.
const MAX_READ: i64 = 3000;

impl Store {
    /// The senders that have anything in these minutes.
    pub async fn with_usage(&mut self, minutes: Range<i64>) -> Result<Vec<i64>, Failure> {
        self.run(async |connection| {
            let Dialect { usage, integer, .. } = connection.dialect();
            let mut sql = connection.sql(format!("SELECT DISTINCT CAST(ratelimit_id AS {integer}) FROM {usage} "));
            sql.push("WHERE minute >= ").push_bind(minutes.start).push(" AND minute < ").push_bind(minutes.end);
            connection.fetch_ids(sql).await
        })
        .await
    }

    /// Keeps the sums of a sender's minutes that are `together` in the last of them, from the first of these minutes on.
    /// Returns the minute from which on it is to be called again; None when nothing is left.
    pub async fn coarsen(
        &mut self,
        id: i64,
        minutes: Range<i64>,
        together: impl Fn(i64) -> RangeInclusive<i64>,
    ) -> Result<Option<i64>, Failure> {
        self.transact(Patience::Short, async |script| {
            script.run(meta::setting(script.dialect(), COARSENING, "")).await?;
            let Dialect { usage, .. } = script.dialect();
            let rest = |sql: &mut Sql| {
                sql.push(format_args!("FROM {usage} WHERE ratelimit_id = ")).push_bind(id);
                sql.push(" AND minute >= ").push_bind(minutes.start).push(" AND minute < ").push_bind(minutes.end);
                sql.push(format_args!(" ORDER BY minute LIMIT {MAX_READ}"));
            };
            let read = script.read("''", &["minute", "messages", "recipients", "bytes"], rest).await?;
            let mut rows: Vec<UsageRow> = read.iter().filter_map(|(_, numbers)| row_of(id, numbers)).collect();
            // The database that packs them has its own order.
            rows.sort_unstable_by_key(|row| row.minute);
            // Of more than was read, the last span may be cut.
            let full = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= MAX_READ;
            let cut = rows.last().filter(|_| full).map(|last| *together(last.minute).start());
            rows.retain(|row| cut.is_none_or(|cut| row.minute < cut));
            for span in rows.chunk_by(|one, next| together(one.minute).contains(&next.minute)) {
                let (Some(first), Some(sum)) = (span.first(), span.iter().copied().reduce(UsageRow::with)) else {
                    continue;
                };
                if first.minute == sum.minute {
                    continue;
                }
                let mut sql = script.sql(format!("UPDATE {usage} SET messages = "));
                sql.push_bind(sum.messages).push(", recipients = ").push_bind(sum.recipients);
                sql.push(", bytes = ").push_bind(sum.bytes);
                sql.push(" WHERE ratelimit_id = ").push_bind(id).push(" AND minute = ").push_bind(sum.minute);
                script.run(sql).await?;
                let mut sql = script.sql(format!("DELETE FROM {usage} WHERE ratelimit_id = "));
                sql.push_bind(id).push(" AND minute >= ").push_bind(first.minute);
                sql.push(" AND minute < ").push_bind(sum.minute);
                script.run(sql).await?;
            }
            Ok(cut)
        })
        .await
    }
}
