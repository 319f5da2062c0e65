//! What is known of each sender's days (`days`), what is usual for it, and since when anything is known.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use super::apart::apart;
use super::connection::Row;
use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::{Patience, Store};
use super::script::{Found, Question, Script};
use super::sql::in_statements;
use super::usage::{LearntRows, LearntSince, PartsRow, Since, UsageRow};
use crate::limiter::blocks::DECIDED;
use crate::limiter::usual::{Day, Peaks, Sums, day_of};
use crate::limiter::window::minute_of;

/// In `meta`: the first day of which no rows were made yet.
const MADE_UNTIL: &str = "days_until";
/// In `meta`: since when it is noted where senders are seen for the first time, and until when that is sure.
const NETWORKS_SINCE: &str = "networks_since";
const NETWORKS_UNTIL: &str = "networks_until";
/// Whoever did not note for so long, in seconds, begins anew.
pub const NETWORKS_GAP: i64 = 7 * 24 * 60 * 60;

/// A day of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayRow {
    pub ratelimit_id: i64,
    pub day: Day,
}

/// The parts of the statement of [`question`], by a number in its rows.
const PEAKS: i64 = 1;
const FIRST_DAY: i64 = 2;
const NETWORKS: i64 = 3;
const NEW: i64 = 4;

/// Asks for what was learnt about some rows, and for what the database as a whole knows, which is needed of senders without a
/// past, too.
pub fn question(script: &Script<'_>, ids: &[i64], since: &Since, wanted: &LearntSince) -> Question {
    let Dialect { integer, .. } = script.dialect();
    let (first, last) = (*wanted.days.start(), *wanted.days.end());
    script.question("''", &["part", "ratelimit_id", "a", "b", "c", "d"], |sql| {
        // A query of its own: as a column beside others SQLite looks through all days for it, and not into their index.
        sql.push(format_args!("FROM (SELECT {FIRST_DAY} AS part, 0 AS ratelimit_id, "));
        sql.push("(SELECT MIN(day) FROM days WHERE day >= ").push_bind(first).push(") AS a, 0 AS b, 0 AS c, 0 AS d");
        sql.push(format_args!(" UNION ALL SELECT {NETWORKS}, 0, CAST(value AS {integer}), 0, 0, 0 FROM meta "));
        sql.push(format_args!("WHERE name = '{NETWORKS_SINCE}'"));
        if !ids.is_empty() {
            sql.push(format_args!(" UNION ALL SELECT {PEAKS}, ratelimit_id, MAX(hour_messages), "));
            sql.push("MAX(hour_recipients), MAX(day_messages), MAX(day_recipients) FROM days WHERE day >= ");
            sql.push_bind(first).push(" AND day <= ").push_bind(last).push(" AND ratelimit_id");
            sql.push_one_of(ids).push(" GROUP BY ratelimit_id");
            sql.push(format_args!(" UNION ALL SELECT {NEW}, ratelimit_id, minute, new_messages, new_recipients, 0"));
            // No window of new networks is longer than they are new.
            let time = since.time.max(wanted.arrivals);
            sql.push(" FROM usage_parts WHERE minute >= ").push_bind(minute_of(time));
            sql.push(" AND new_messages + new_recipients > 0 AND ratelimit_id").push_one_of(ids);
        }
        sql.push(") AS learnt WHERE a IS NOT NULL");
    })
}

impl LearntRows {
    /// Takes what [`question`] found.
    pub fn take(&mut self, found: Found) {
        for (_, numbers) in found {
            let &[part, ratelimit_id, a, b, c, d] = numbers.as_slice() else { continue };
            match part {
                FIRST_DAY => self.first_day = Some(a),
                NETWORKS => self.networks_since = Some(a),
                PEAKS => {
                    let peaks = Peaks { hour: sums(a, b), day: sums(c, d) };
                    self.peaks.push((ratelimit_id, peaks));
                }
                NEW => self.new.push(UsageRow { ratelimit_id, minute: a, messages: b, recipients: c, bytes: 0 }),
                _ => {}
            }
        }
    }
}

fn sums(messages: i64, recipients: i64) -> Sums {
    let positive = |number: i64| u64::try_from(number).unwrap_or(0);
    Sums { messages: positive(messages), recipients: positive(recipients) }
}

impl Store {
    /// The first day of which no rows were made yet, counted from 1970. None if none ever were.
    pub async fn days_made_until(&mut self) -> Result<Option<i64>, Failure> {
        Ok(self.meta(MADE_UNTIL).await?.and_then(|text| text.parse().ok()))
    }

    /// Notes the first day of which no rows were made yet.
    pub async fn set_days_made_until(&mut self, day: i64) -> Result<(), Failure> {
        self.set_meta(MADE_UNTIL, &day.to_string()).await
    }

    /// What some senders had going its way in these minutes: what was let through, less what was held. In the order of
    /// senders and minutes.
    pub async fn went_through(&mut self, ids: &[i64], minutes: Range<i64>) -> Result<Vec<(i64, i64, Sums)>, Failure> {
        self.run(async |connection| {
            let Dialect { integer, usage, .. } = connection.dialect();
            let less = |column: &str| {
                let held = format!("{usage}.{column} - COALESCE(usage_parts.held_{column}, 0)");
                format!("CAST(CASE WHEN {held} > 0 THEN {held} ELSE 0 END AS {integer})")
            };
            let mut sql = connection.sql(format!(
                "SELECT CAST({usage}.ratelimit_id AS {integer}), CAST({usage}.minute AS {integer}), {}, {} FROM {usage} \
                 LEFT JOIN usage_parts ON usage_parts.ratelimit_id = {usage}.ratelimit_id \
                 AND usage_parts.minute = {usage}.minute WHERE {usage}.minute >= ",
                less("messages"),
                less("recipients"),
            ));
            sql.push_bind(minutes.start).push(format_args!(" AND {usage}.minute < ")).push_bind(minutes.end);
            sql.push(format_args!(" AND {usage}.ratelimit_id IN ")).push_ids(ids);
            sql.push(" ORDER BY 1, 2");
            let rows = connection.fetch_all(sql).await?;
            let went = |row: Row| Ok((row.try_get(0)?, row.try_get(1)?, sums(row.try_get(2)?, row.try_get(3)?)));
            apart(rows.len(), || rows.into_iter().map(went).collect())
        })
        .await
    }

    /// Notes days of senders. Of a day that is noted already the greater stays, so that it may be said as often as one likes.
    pub async fn note_days(&mut self, days: &[DayRow]) -> Result<(), Failure> {
        self.transact(Patience::Short, async |script| note(script, days).await).await
    }

    /// A sender's days of these, the latest first.
    pub async fn days_of(&mut self, id: i64, since: &LearntSince) -> Result<Vec<Day>, Failure> {
        self.run(async |connection| {
            let Dialect { integer, .. } = connection.dialect();
            let columns = ["day", "messages", "recipients"].into_iter().chain(PEAK_COLUMNS);
            let columns: Vec<String> = columns.map(|column| format!("CAST({column} AS {integer})")).collect();
            let mut sql = connection.sql(format!("SELECT {} FROM days WHERE ratelimit_id = ", columns.join(", ")));
            sql.push_bind(id).push(" AND day >= ").push_bind(*since.days.start());
            sql.push(" AND day <= ").push_bind(*since.days.end()).push(" ORDER BY day DESC");
            let rows = connection.fetch_all(sql).await?;
            rows.iter()
                .map(|row| {
                    let pair = |column| Ok::<Sums, Failure>(sums(row.try_get(column)?, row.try_get(column + 1)?));
                    let peaks = Peaks { hour: pair(3)?, day: pair(5)? };
                    Ok(Day { day: row.try_get(0)?, peaks, total: pair(1)? })
                })
                .collect()
        })
        .await
    }

    /// The highest of these days (counted from 1970) of some senders, of those that have any.
    pub async fn peaks(&mut self, ids: &[i64], days: &RangeInclusive<i64>) -> Result<Vec<(i64, Peaks)>, Failure> {
        self.run(async |connection| {
            let Dialect { integer, .. } = connection.dialect();
            let highest = PEAK_COLUMNS.map(|column| format!("CAST(MAX({column}) AS {integer})")).join(", ");
            let mut sql = connection.sql(format!("SELECT CAST(ratelimit_id AS {integer}), {highest} FROM days WHERE "));
            sql.push("day >= ").push_bind(*days.start()).push(" AND day <= ").push_bind(*days.end());
            sql.push(" AND ratelimit_id IN ").push_ids(ids).push(" GROUP BY ratelimit_id");
            let rows = connection.fetch_all(sql).await?;
            rows.iter()
                .map(|row| {
                    let pair = |column| Ok::<Sums, Failure>(sums(row.try_get(column)?, row.try_get(column + 1)?));
                    Ok((row.try_get(0)?, Peaks { hour: pair(1)?, day: pair(3)? }))
                })
                .collect()
        })
        .await
    }

    /// Since when the database knows anything, and since when it is noted where senders are seen for the first time.
    pub async fn learnt_since(&mut self, since: &LearntSince) -> Result<LearntRows, Failure> {
        let asked = Since { rows: Vec::new(), time: 0, coarse: None, networks: None, learnt: Some(since.clone()) };
        Ok(self.histories(asked).await?.learnt.unwrap_or_default())
    }

    /// Notes that from now on, at `now` in seconds since 1970, it is noted where senders are seen for the first time.
    pub async fn notes_networks(&mut self, now: i64) -> Result<(), Failure> {
        let until = self.meta(NETWORKS_UNTIL).await?.and_then(|text| text.parse::<i64>().ok());
        if until
            .is_none_or(|until| until > now.saturating_add(NETWORKS_GAP) || until < now.saturating_sub(NETWORKS_GAP))
        {
            self.set_meta(NETWORKS_SINCE, &now.to_string()).await?;
        }
        self.set_meta(NETWORKS_UNTIL, &now.to_string()).await
    }

    /// Notes that it is known where senders were seen from one time until another, in seconds since 1970, at `now`. What does not
    /// reach what is known already, or else the present, is no beginning of it.
    pub async fn knows_networks(&mut self, from: i64, until: i64, now: i64) -> Result<(), Failure> {
        let mut noted = [None, None];
        for (noted, name) in noted.iter_mut().zip([NETWORKS_SINCE, NETWORKS_UNTIL]) {
            *noted = self.meta(name).await?.and_then(|text| text.parse::<i64>().ok());
        }
        let lately = now.saturating_sub(NETWORKS_GAP)..=now.saturating_add(NETWORKS_GAP);
        let known = match noted {
            [Some(since), Some(until)] if lately.contains(&until) => Some(since),
            _ => None,
        };
        let reaches = known.map_or(lately.contains(&until), |since| until >= since.saturating_sub(NETWORKS_GAP));
        if reaches && known.is_none_or(|since| from < since) {
            self.set_meta(NETWORKS_SINCE, &from.to_string()).await?;
        }
        if reaches && known.is_none() {
            self.set_meta(NETWORKS_UNTIL, &until.min(now).to_string()).await?;
        }
        Ok(())
    }

    /// The held messages of these rows of the audit log were released, so that they become usual. What a block held does not: it
    /// was never counted, or, if it was put on hold later, never counted as held.
    pub async fn released_messages(&mut self, rows: &[i64]) -> Result<(), Failure> {
        for slice in rows.chunks(MAX_RELEASED) {
            let released = self
                .run(async |connection| {
                    let dialect = connection.dialect();
                    let Dialect { integer, .. } = dialect;
                    let mut sql = connection.sql(format!(
                        "SELECT CAST(ratelimit_id AS {integer}), {}, CAST(rcpt_count AS {integer}) FROM messages \
                         WHERE action = 'HOLD' AND reason NOT LIKE '{DECIDED}%' AND ratelimit_id IS NOT NULL AND id IN ",
                        dialect.epoch("created_at")
                    ));
                    sql.push_ids(slice);
                    // Of a minute all at once: many messages of one sender are released together.
                    let mut parts: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
                    for row in connection.fetch_all(sql).await? {
                        let (id, at, of_message): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                        let (messages, recipients) = parts.entry((id, minute_of(at))).or_default();
                        *messages += 1;
                        *recipients = recipients.saturating_add(of_message);
                    }
                    Ok(parts)
                })
                .await?;
            for ((ratelimit_id, minute), (held_messages, held_recipients)) in released {
                let part = PartsRow { ratelimit_id, minute, held_messages, held_recipients, ..PartsRow::default() };
                self.released(part).await?;
            }
        }
        Ok(())
    }

    /// What was held of a sender's minute was released, so that it becomes usual.
    pub async fn released(&mut self, released: PartsRow) -> Result<(), Failure> {
        self.transact(Patience::Short, async |script| {
            let mut sql = script.sql("UPDATE usage_parts SET ");
            for (place, (column, number)) in
                [("held_messages", released.held_messages), ("held_recipients", released.held_recipients)]
                    .into_iter()
                    .enumerate()
            {
                sql.push(if place == 0 { "" } else { ", " }).push(format_args!("{column} = CASE WHEN {column} > "));
                sql.push_bind(number).push(format_args!(" THEN {column} - ")).push_bind(number).push(" ELSE 0 END");
            }
            sql.push(" WHERE ratelimit_id = ").push_bind(released.ratelimit_id);
            sql.push(" AND minute = ").push_bind(released.minute);
            script.run(sql).await?;
            changed_since(script, released.minute).await
        })
        .await
    }
}

/// Rows that are looked at in one statement.
const MAX_RELEASED: usize = 500;
const PEAK_COLUMNS: [&str; 4] = ["hour_messages", "hour_recipients", "day_messages", "day_recipients"];

/// Notes days of senders, each once.
pub async fn note(script: &mut Script<'_>, days: &[DayRow]) -> Result<(), Failure> {
    let dialect = script.dialect();
    let columns: Vec<&str> = ["messages", "recipients"].into_iter().chain(PEAK_COLUMNS).collect();
    let greater: Vec<String> = columns
        .iter()
        .map(|column| format!("{column} = {}(days.{column}, {})", dialect.greatest, dialect.brought(column)))
        .collect();
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    for slice in in_statements(days) {
        let mut sql = script.sql(format!("INSERT INTO days (ratelimit_id, day, {}) ", columns.join(", ")));
        sql.push_rows(slice, |values, DayRow { ratelimit_id, day: Day { day, peaks, total } }| {
            values.bind(*ratelimit_id).bind(*day);
            for Sums { messages, recipients } in [total, &peaks.hour, &peaks.day] {
                values.bind(number(*messages)).bind(number(*recipients));
            }
        });
        sql.push(dialect.on_conflict("ratelimit_id, day")).push(greater.join(", "));
        script.run(sql).await?;
    }
    Ok(())
}

/// Has the days be made again from that of this minute on: something was added to it after its day was over.
pub async fn changed_since(script: &mut Script<'_>, minute: i64) -> Result<(), Failure> {
    let Dialect { integer, .. } = script.dialect();
    let day = day_of(minute);
    let mut sql = script.sql("UPDATE meta SET value = ");
    sql.push_bind(day.to_string()).push(format_args!(" WHERE name = '{MADE_UNTIL}' AND CAST(value AS {integer}) > "));
    sql.push_bind(day);
    script.run(sql).await
}
