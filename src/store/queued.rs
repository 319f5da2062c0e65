//! Messages in Postfix's queue as the audit log knows them, by their queue ids; and what this program did with them there.

use std::collections::HashMap;

use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::Store;

/// The most queue ids that one statement asks for.
pub const MAX_IDS: usize = 10_000;
/// The most accounts that one statement asks for.
const MAX_ACCOUNTS: usize = 500;
/// The most rows that one statement changes.
const MAX_CHANGED: usize = 1000;

/// What this program did with a message in the queue after it was answered: `messages.queue_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Untouched,
    /// Put on hold after it had been let through.
    Held,
    Released,
    Deleted,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            State::Untouched => "",
            State::Held => "held",
            State::Released => "released",
            State::Deleted => "deleted",
        }
    }

    /// Any other word than those of [`State::word`] is [`State::Untouched`].
    pub fn of(word: &str) -> State {
        [State::Held, State::Released, State::Deleted]
            .into_iter()
            .find(|state| state.word() == word)
            .unwrap_or(State::Untouched)
    }
}

/// A row of the audit log that has a queue id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    pub id: i64,
    /// When it was answered, in seconds since 1970.
    pub at: i64,
    pub queue_id: String,
    /// The account that it was charged to.
    pub account: String,
    /// The envelope sender.
    pub from: String,
    pub recipients: i64,
    pub client_address: String,
    /// The host that answered; empty in rows of older versions.
    pub host: String,
    pub action: String,
    pub reason: String,
    pub state: State,
}

/// Held mail of another host, as far as the audit log tells: whether it is still there only that host knows.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Elsewhere {
    pub host: String,
    pub held: i64,
    /// When the oldest was held, in seconds since 1970.
    pub oldest: i64,
}

impl Store {
    /// The rows about some queue ids, [`MAX_IDS`] at the most, that were written from one time to another (seconds since 1970).
    pub async fn queued(&mut self, ids: &[&str], from: i64, until: i64) -> Result<Vec<Queued>, Failure> {
        self.run(async |connection| {
            let dialect = connection.dialect();
            let Dialect { integer, .. } = dialect;
            let text = |column: &str| dialect.text(column);
            let mut sql = connection.sql(format!(
                "SELECT CAST(id AS {integer}), {}, {}, {}, {}, CAST(rcpt_count AS {integer}), {}, {}, {}, {}, {} \
                 FROM messages WHERE created_at >= ",
                dialect.epoch("created_at"),
                text("msgid"),
                text("sender"),
                text("from_addr"),
                text("client_address"),
                text("host"),
                text("action"),
                text("reason"),
                text("queue_state"),
            ));
            sql.push_time(from).push(" AND created_at <= ").push_time(until);
            sql.push(" AND msgid IN ").push_list(ids.iter().take(MAX_IDS).copied()).push(" ORDER BY id");
            let rows = connection.fetch_all(sql).await?;
            rows.iter()
                .map(|row| {
                    Ok(Queued {
                        id: row.try_get(0)?,
                        at: row.try_get(1)?,
                        queue_id: row.try_get(2)?,
                        account: row.try_get(3)?,
                        from: row.try_get(4)?,
                        recipients: row.try_get(5)?,
                        client_address: row.try_get(6)?,
                        host: row.try_get(7)?,
                        action: row.try_get(8)?,
                        reason: row.try_get(9)?,
                        state: State::of(&row.try_get::<String>(10)?),
                    })
                })
                .collect()
        })
        .await
    }

    /// How many messages of some accounts are held, as far as the audit log tells: which of them are still in a queue only
    /// Postfix knows. By the numbers of their rows; those without any are left out.
    pub async fn held_of(&mut self, accounts: &[i64]) -> Result<HashMap<i64, i64>, Failure> {
        self.run(async |connection| {
            let Dialect { integer, messages_found, .. } = connection.dialect();
            let mut held = HashMap::new();
            for slice in accounts.chunks(MAX_ACCOUNTS) {
                let mut sql = connection.sql(format!("SELECT CAST(ratelimit_id AS {integer}), COUNT(*) FROM messages"));
                sql.push(" WHERE ratelimit_id IN ").push_ids(slice).push(messages_found);
                sql.push(" AND action = 'HOLD' AND queue_state IN ('', 'held') GROUP BY ratelimit_id");
                for row in connection.fetch_all(sql).await? {
                    held.insert(row.try_get(0)?, row.try_get(1)?);
                }
            }
            Ok(held)
        })
        .await
    }

    /// Notes what was done with the messages of these rows, at a time in seconds since 1970. With a reason they are held now,
    /// for that reason, though they had been let through: their rows then say so as those of other held mail do.
    pub async fn note_queue_state(
        &mut self,
        rows: &[i64],
        state: State,
        now: i64,
        reason: Option<&str>,
    ) -> Result<(), Failure> {
        for slice in rows.chunks(MAX_CHANGED) {
            self.run(async |connection| {
                let mut sql = connection.sql("UPDATE messages SET queue_state = ");
                sql.push_bind(state.word()).push(", queue_state_at = ").push_bind(now);
                if let Some(reason) = reason {
                    sql.push(", blocked = 1, action = 'HOLD', reason = ").push_bind(reason);
                }
                // In adopted tables MySQL may set it anew with each change.
                sql.push(", created_at = created_at WHERE id IN ").push_ids(slice);
                connection.execute(sql).await
            })
            .await?;
        }
        Ok(())
    }

    /// What other hosts have held since a time (seconds since 1970) and nobody has released or deleted here, `most` hosts at
    /// the most.
    pub async fn held_elsewhere(&mut self, host: &str, since: i64, most: u32) -> Result<Vec<Elsewhere>, Failure> {
        self.run(async |connection| {
            let dialect = connection.dialect();
            let mut sql = connection.sql(format!(
                "SELECT {}, COUNT(*), MIN({}) FROM messages WHERE created_at >= ",
                dialect.text("host"),
                dialect.epoch("created_at")
            ));
            sql.push_time(since).push(" AND host <> '' AND host <> ").push_bind(host);
            sql.push(" AND msgid IS NOT NULL AND (action = 'HOLD' AND queue_state = '' OR queue_state = 'held')");
            sql.push(" GROUP BY host ORDER BY 1 LIMIT ").push(most);
            let rows = connection.fetch_all(sql).await?;
            rows.iter()
                .map(|row| Ok(Elsewhere { host: row.try_get(0)?, held: row.try_get(1)?, oldest: row.try_get(2)? }))
                .collect()
        })
        .await
    }
}
