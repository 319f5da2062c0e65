//! The newest held or refused messages of all senders. Reads only the newest rows, so that it costs the same for an audit log of
//! any length.

use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::Store;

/// How many of the newest messages are looked through.
const LOOKED_THROUGH: i64 = 20_000;

/// What the newest messages tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    /// When the oldest of the rows that were read came, in seconds since 1970. None if there are no rows. The numbers reach back to
    /// this time, or to the time that was asked for if that is later.
    pub from: Option<i64>,
    /// Whether there may be older messages than those that were looked through.
    pub cut: bool,
    /// Per sender, those with the most first.
    pub counts: Vec<Count>,
    /// The latest of each sender and action: who keeps trying would hide all others. The latest first.
    pub last: Vec<Refusal>,
}

/// How many of a sender's messages were held or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub id: i64,
    /// Held ones among them.
    pub blocked: i64,
    pub held: i64,
}

/// A message that was held or refused, and how many more of the same sender were by the same action.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Refusal {
    /// In seconds since 1970.
    pub at: i64,
    /// The row of the sender; none if that was deleted.
    pub id: Option<i64>,
    pub sender: String,
    pub queue_id: String,
    pub recipients: i64,
    pub from: String,
    pub client_address: String,
    pub action: String,
    pub reason: String,
    /// This one among them.
    pub count: i64,
    /// When the first of them came.
    pub first: i64,
}

impl Store {
    /// What was held or refused since a time (seconds since 1970), of the newest messages, and the last ones in full, `most`
    /// at the most.
    pub async fn refusals(&mut self, since: i64, most: u32) -> Result<Refusals, Failure> {
        self.run(async |connection| {
            let dialect = connection.dialect();
            let Dialect { integer, .. } = dialect;
            let at = dialect.epoch("created_at");
            let newest = |columns: &str| {
                format!("FROM (SELECT {columns} FROM messages ORDER BY id DESC LIMIT {LOOKED_THROUGH}) recent")
            };
            let mut sql = connection.sql("SELECT COUNT(*), COALESCE(MIN(moment), -1) ");
            sql.push(newest(&format!("{at} AS moment")));
            let row = connection.fetch_one(sql).await?;
            let (looked, oldest): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);

            let mut sql = connection.sql(format!(
                "SELECT CAST(ratelimit_id AS {integer}), COUNT(*), \
                 CAST(SUM(CASE WHEN action = 'HOLD' THEN 1 ELSE 0 END) AS {integer}) "
            ));
            sql.push(newest("ratelimit_id, blocked, action, created_at"));
            sql.push(" WHERE blocked = 1 AND ratelimit_id IS NOT NULL AND created_at >= ");
            sql.push_time(since).push(" GROUP BY ratelimit_id ORDER BY 2 DESC, 1");
            let rows = connection.fetch_all(sql).await?;
            let counts = rows
                .iter()
                .map(|row| Ok(Count { id: row.try_get(0)?, blocked: row.try_get(1)?, held: row.try_get(2)? }))
                .collect::<Result<_, Failure>>()?;

            let text = |column: &str| connection.dialect().text(column);
            // First the numbers alone: the rows' texts are long.
            let mut sql = connection.sql(format!(
                "SELECT {at}, CAST(COALESCE(ratelimit_id, -1) AS {integer}), {}, {}, CAST(rcpt_count AS {integer}), \
                 {}, {}, {}, {}, refused.number, refused.first \
                 FROM messages JOIN (SELECT MAX(id) AS found, COUNT(*) AS number, MIN(moment) AS first ",
                text("sender"),
                text("msgid"),
                text("from_addr"),
                text("client_address"),
                text("action"),
                text("reason"),
            ));
            sql.push(newest(&format!("id, ratelimit_id, action, blocked, {at} AS moment")));
            sql.push(format_args!(
                " WHERE blocked = 1 GROUP BY ratelimit_id, action ORDER BY 1 DESC LIMIT {most}) refused \
                 ON refused.found = messages.id ORDER BY id DESC"
            ));
            let rows = connection.fetch_all(sql).await?;
            let last = rows
                .iter()
                .map(|row| {
                    Ok(Refusal {
                        at: row.try_get(0)?,
                        id: Some(row.try_get(1)?).filter(|&id| id >= 0),
                        sender: row.try_get(2)?,
                        queue_id: row.try_get(3)?,
                        recipients: row.try_get(4)?,
                        from: row.try_get(5)?,
                        client_address: row.try_get(6)?,
                        action: row.try_get(7)?,
                        reason: row.try_get(8)?,
                        count: row.try_get(9)?,
                        first: row.try_get(10)?,
                    })
                })
                .collect::<Result<_, Failure>>()?;
            Ok(Refusals { from: Some(oldest).filter(|_| looked > 0), cut: looked == LOOKED_THROUGH, counts, last })
        })
        .await
    }
}
