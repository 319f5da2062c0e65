//! Whose mail somebody has stopped: the table `blocks`.
//!
//! Each change raises the number of `blocks` in the table `revisions`, in its own transaction. A batch reads that number with
//! the rows of its senders, and the blocks themselves only if it has changed since they were last read.

use super::connection::{Connection, Row};
use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::{Patience, Store};
use super::messages::cut;
use super::script::Script;
use super::sql::Sql;

/// The most blocks that count; of more, those that were set last. Far more than anybody sets, and 50 MB in a daemon's memory.
const MAX_BLOCKS: u32 = 100_000;

/// Which state of the table was read.
pub type Revision = i64;

/// The expression that reads the revision of the table.
pub const REVISION: &str = "COALESCE((SELECT number FROM revisions WHERE name = 'blocks'), 0)";

/// A row of the table. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRow {
    pub id: i64,
    /// The account's key, or `@domain`.
    pub account: String,
    pub since: i64,
    /// None if it lasts until somebody ends it.
    pub until: Option<i64>,
    /// `HOLD`, `DEFER` or `REJECT`.
    pub action: String,
    /// What the sender is told; empty for the usual text.
    pub text: String,
    /// One word: `compromised`, `quota`, `manual`, …
    pub reason: String,
    pub set_by: String,
    pub note: String,
    pub ended_at: Option<i64>,
    pub ended_by: String,
}

impl BlockRow {
    /// When it was over, if it is at a time in seconds since 1970.
    pub fn over(&self, now: i64) -> Option<i64> {
        self.ended_at.or(self.until.filter(|&until| until <= now))
    }
}

/// A block to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBlock {
    /// The account's key, or `@domain`.
    pub account: String,
    /// In seconds since 1970; None until somebody ends it.
    pub until: Option<i64>,
    /// `HOLD`, `DEFER` or `REJECT`.
    pub action: String,
    /// Empty for the usual text.
    pub text: String,
    pub reason: String,
    pub set_by: String,
    pub note: String,
}

impl Store {
    /// The revision of the table and the blocks that count at a time, unless this revision is known already.
    pub async fn blocks_unless(
        &mut self,
        known: Option<Revision>,
        now: i64,
    ) -> Result<Option<(Revision, Vec<BlockRow>)>, Failure> {
        self.run(async |connection| {
            let revision = connection.fetch_one(connection.sql(format!("SELECT {REVISION}"))).await?.try_get(0)?;
            if known == Some(revision) {
                return Ok(None);
            }
            let rows = connection.fetch_all(counting(connection.dialect(), now)).await?;
            Ok(Some((revision, rows.iter().map(block_row).collect::<Result<_, _>>()?)))
        })
        .await
    }

    /// Sets a block, and ends what blocks the same account already. Returns the new block, and those it takes the place of.
    pub async fn block(&mut self, new: &NewBlock, now: i64) -> Result<(BlockRow, Vec<BlockRow>), Failure> {
        self.transact(Patience::Long, async |script| {
            raise_revision(script).await?;
            let connection = script.connection().await?;
            let ended = end(connection, &new.account, &new.set_by, now).await?;
            let mut sql = connection
                .sql("INSERT INTO blocks (account, since, until, action, text, reason, set_by, note) VALUES (");
            sql.push_bind(cut(&new.account, 255)).push(", ").push_bind(now).push(", ");
            match new.until {
                Some(until) => sql.push_bind(until),
                None => sql.push("NULL"),
            };
            for (text, most) in
                [(&new.action, 32), (&new.text, 255), (&new.reason, 32), (&new.set_by, 255), (&new.note, 255)]
            {
                sql.push(", ").push_bind(cut(text, most));
            }
            sql.push(")");
            connection.execute(sql).await?;
            // The lock on the revision keeps everybody else from setting one meanwhile.
            let mut sql = selecting(connection.dialect());
            sql.push("account = ").push_bind(cut(&new.account, 255)).push(" ORDER BY id DESC LIMIT 1");
            let row = connection.fetch_one(sql).await?;
            Ok((block_row(&row)?, ended))
        })
        .await
    }

    /// Ends what blocks an account. Returns the blocks as they were; none if it was not blocked.
    pub async fn unblock(&mut self, account: &str, by: &str, now: i64) -> Result<Vec<BlockRow>, Failure> {
        self.transact(Patience::Long, async |script| {
            raise_revision(script).await?;
            end(script.connection().await?, account, by, now).await
        })
        .await
    }

    /// The blocks of these accounts, also those that are over; those set last come first, `most` at the most.
    pub async fn blocks_of(&mut self, accounts: &[&str], most: u32) -> Result<Vec<BlockRow>, Failure> {
        self.run(async |connection| {
            let mut sql = selecting(connection.dialect());
            sql.push("account IN ").push_list(accounts.iter().copied());
            sql.push(" ORDER BY id DESC LIMIT ").push(most);
            connection.fetch_all(sql).await?.iter().map(block_row).collect()
        })
        .await
    }

    /// All blocks that count at a time; those set last come first.
    pub async fn blocks(&mut self, now: i64) -> Result<Vec<BlockRow>, Failure> {
        self.run(async |connection| {
            connection.fetch_all(counting(connection.dialect(), now)).await?.iter().map(block_row).collect()
        })
        .await
    }
}

/// The blocks that count at a time, within a transaction.
pub async fn read(script: &mut Script<'_>, now: i64) -> Result<Vec<BlockRow>, Failure> {
    let sql = counting(script.dialect(), now);
    script.rows(sql).await?.iter().map(block_row).collect()
}

/// The revision of the table, within a transaction.
pub async fn revision(script: &mut Script<'_>) -> Result<Revision, Failure> {
    let rows = script.rows(script.sql(format!("SELECT {REVISION}"))).await?;
    rows.first().map_or(Ok(0), |row| row.try_get(0))
}

/// Takes the lock of the table's revision and raises it.
async fn raise_revision(script: &mut Script<'_>) -> Result<(), Failure> {
    let mut sql = script.sql("INSERT INTO revisions (name, number) VALUES ('blocks', 1)");
    sql.push(script.dialect().on_conflict("name")).push("number = revisions.number + 1");
    script.run(sql).await
}

/// Ends the blocks of an account that are not over, and returns them as they were.
async fn end(connection: &mut Connection, account: &str, by: &str, now: i64) -> Result<Vec<BlockRow>, Failure> {
    let mut sql = selecting(connection.dialect());
    sql.push("account = ").push_bind(cut(account, 255)).push(" AND ended_at IS NULL AND (until IS NULL OR until > ");
    sql.push_bind(now).push(") ORDER BY id");
    let rows = connection.fetch_all(sql).await?.iter().map(block_row).collect::<Result<Vec<BlockRow>, _>>()?;
    if !rows.is_empty() {
        let mut sql = connection.sql("UPDATE blocks SET ended_at = ");
        sql.push_bind(now).push(", ended_by = ").push_bind(cut(by, 255));
        sql.push(" WHERE id IN ").push_ids(&rows.iter().map(|row| row.id).collect::<Vec<i64>>());
        connection.execute(sql).await?;
    }
    Ok(rows)
}

/// The statement that reads the blocks that count at a time.
fn counting(dialect: &'static Dialect, now: i64) -> Sql {
    let mut sql = selecting(dialect);
    sql.push("ended_at IS NULL AND (until IS NULL OR until > ").push_bind(now);
    sql.push(") ORDER BY id DESC LIMIT ").push(MAX_BLOCKS);
    sql
}

/// Begins the statement that reads blocks, up to its condition.
fn selecting(dialect: &'static Dialect) -> Sql {
    let Dialect { integer, .. } = dialect;
    Sql::new(
        dialect,
        format!(
            "SELECT CAST(id AS {integer}), account, since, COALESCE(until, -1), action, text, reason, set_by, note, \
             COALESCE(ended_at, -1), ended_by FROM blocks WHERE "
        ),
    )
}

fn block_row(row: &Row) -> Result<BlockRow, Failure> {
    let time = |column: usize| Ok::<_, Failure>(Some(row.try_get(column)?).filter(|&at: &i64| at >= 0));
    Ok(BlockRow {
        id: row.try_get(0)?,
        account: row.try_get(1)?,
        since: row.try_get(2)?,
        until: time(3)?,
        action: row.try_get(4)?,
        text: row.try_get(5)?,
        reason: row.try_get(6)?,
        set_by: row.try_get(7)?,
        note: row.try_get(8)?,
        ended_at: time(9)?,
        ended_by: row.try_get(10)?,
    })
}
