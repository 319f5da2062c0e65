//! Whose mail somebody has stopped: the table `blocks`.
//!
//! Each change raises the number of `blocks` in the table `revisions`, in its own transaction. A batch reads that number with
//! the rows of its senders, and the blocks themselves only if it has changed since they were last read.

use super::apart::apart;
use super::connection::{Connection, Row};
use super::dialect::Dialect;
use super::failure::Failure;
use super::handle::{Patience, Store};
use super::messages::cut;
use super::script::Script;
use super::sql::Sql;
use super::sqlite;
use crate::limiter::strikes::Sentence;

/// The most blocks that count; of more, those that were set last. Far more than anybody sets, and 50 MB in a daemon's memory.
const MAX_BLOCKS: u32 = 100_000;

/// Which state of the table was read.
pub type Revision = i64;

/// The expression that reads the revision of the table.
pub const REVISION: &str = "COALESCE((SELECT number FROM revisions WHERE name = 'blocks'), 0)";

/// The expression that an account's key is compared with: what a panel wrote in capitals counts like any other block.
const KEY: &str = "LOWER(account)";

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

/// What there is to tell of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    pub block: BlockRow,
    /// Whether it is over, or else set.
    pub is_over: bool,
    /// How many messages it has held so far that were neither released nor deleted.
    pub held: i64,
    /// The present and the usual quota of the account's row; None without one.
    pub quota: Option<(i64, i64)>,
}

/// What was told of a block, in the column `told`.
mod told {
    pub const NOTHING: i64 = 0;
    pub const SET: i64 = 1;
    /// Added to one of the two when it is ended.
    pub const ENDED: i64 = 2;
    pub const ALL: i64 = 4;
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
            Ok(Some((revision, counted(connection.dialect(), rows)?)))
        })
        .await
    }

    /// Sets a block, and ends what blocks the same account already. Returns the new block, and those it takes the place of.
    pub async fn block(&mut self, new: &NewBlock, now: i64) -> Result<(BlockRow, Vec<BlockRow>), Failure> {
        self.transact(Patience::Long, async |script| {
            raise_revision(script).await?;
            let connection = script.connection().await?;
            // That they are over is not told: the account is as blocked as before.
            let ended = end(connection, &new.account, &new.set_by, now, &told::ALL.to_string()).await?;
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
            let told = format!("told + {}", told::ENDED);
            end(script.connection().await?, account, by, now, &told).await
        })
        .await
    }

    /// What nobody was told yet of the blocks that were set and ended, `most` at the most; of several daemons one gets each.
    pub async fn untold_blocks(&mut self, now: i64, most: u32) -> Result<Vec<Untold>, Failure> {
        let found = self
            .run(async |connection| {
                let integer = connection.dialect().integer;
                let columns = format!("CAST(id AS {integer}), CAST(told AS {integer})");
                let mut sql = connection.sql(format!("SELECT {columns} FROM blocks WHERE told IN "));
                sql.push_list([told::NOTHING, told::ENDED, told::SET + told::ENDED]);
                sql.push(" OR (told = ").push(told::SET).push(" AND until <= ").push_bind(now);
                sql.push(") ORDER BY id LIMIT ").push(most);
                let rows = connection.fetch_all(sql).await?;
                rows.iter()
                    .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                    .collect::<Result<Vec<(i64, i64)>, Failure>>()
            })
            .await?;
        let mut untold = Vec::new();
        for (id, told) in found {
            let claimed =
                self.transact(Patience::Long, async |script| claim(script.connection().await?, id, told).await).await?;
            untold.extend(claimed);
        }
        Ok(untold)
    }

    /// The blocks of these accounts, also those that are over; those set last come first, `most` at the most.
    pub async fn blocks_of(&mut self, accounts: &[&str], most: u32) -> Result<Vec<BlockRow>, Failure> {
        self.run(async |connection| {
            let mut sql = selecting(connection.dialect());
            sql.push(KEY).push(" IN ").push_list(accounts.iter().copied());
            sql.push(" ORDER BY id DESC LIMIT ").push(most);
            block_rows(connection.fetch_all(sql).await?)
        })
        .await
    }

    /// All blocks that count at a time; those set last come first.
    pub async fn blocks(&mut self, now: i64) -> Result<Vec<BlockRow>, Failure> {
        self.run(async |connection| {
            let rows = connection.fetch_all(counting(connection.dialect(), now)).await?;
            counted(connection.dialect(), rows)
        })
        .await
    }
}

/// The blocks that count at a time, within a transaction.
pub async fn read(script: &mut Script<'_>, now: i64) -> Result<Vec<BlockRow>, Failure> {
    let dialect = script.dialect();
    let rows = script.rows(counting(dialect, now)).await?;
    counted(dialect, rows)
}

/// The revision of the table, within a transaction.
pub async fn revision(script: &mut Script<'_>) -> Result<Revision, Failure> {
    let rows = script.rows(script.sql(format!("SELECT {REVISION}"))).await?;
    rows.first().map_or(Ok(0), |row| row.try_get(0))
}

/// Sets the block that strikes have earned, unless the account is blocked for as long already.
pub async fn set_by_strikes(
    script: &mut Script<'_>,
    account: &str,
    sentence: &Sentence,
    now: i64,
) -> Result<(), Failure> {
    raise_revision(script).await?;
    let mut sql = script.sql("SELECT COUNT(*) FROM blocks WHERE account = ");
    sql.push_bind(cut(account, 255)).push(" AND ended_at IS NULL AND (until IS NULL");
    if let Some(until) = sentence.until {
        sql.push(" OR until >= ").push_bind(until);
    }
    sql.push(")");
    let there = script.rows(sql).await?;
    if there.first().map_or(Ok(0), |row| row.try_get::<i64>(0))? > 0 {
        return Ok(());
    }
    let mut sql = script.sql("INSERT INTO blocks (account, since, until, action, reason, note) VALUES (");
    sql.push_bind(cut(account, 255)).push(", ").push_bind(now).push(", ");
    match sentence.until {
        Some(until) => sql.push_bind(until),
        None => sql.push("NULL"),
    };
    sql.push(", 'HOLD', 'strikes', ").push_bind(&*sentence.why).push(")");
    script.run(sql).await
}

/// Takes the lock of the table's revision and raises it.
async fn raise_revision(script: &mut Script<'_>) -> Result<(), Failure> {
    let mut sql = script.sql("INSERT INTO revisions (name, number) VALUES ('blocks', 1)");
    sql.push(script.dialect().on_conflict("name")).push("number = revisions.number + 1");
    script.run(sql).await
}

/// Claims what is to be told next of a block of which this was told.
async fn claim(connection: &mut Connection, id: i64, told: i64) -> Result<Option<Untold>, Failure> {
    let (is_over, then) = match told {
        told::NOTHING => (false, told::SET),
        told::ENDED => (false, told::SET + told::ENDED),
        _ => (true, told::ALL),
    };
    let mut sql = connection.sql("UPDATE blocks SET told = ");
    sql.push_bind(then).push(" WHERE id = ").push_bind(id).push(" AND told = ").push_bind(told);
    if connection.execute(sql).await? == 0 {
        return Ok(None);
    }
    let mut sql = selecting(connection.dialect());
    sql.push("id = ").push_bind(id);
    let Some(row) = connection.fetch_optional(sql).await? else { return Ok(None) };
    let block = block_row(&row)?;
    let Dialect { integer, sender, .. } = connection.dialect();
    let mut sql = connection.sql(format!(
        "SELECT CAST(id AS {integer}), CAST(quota AS {integer}), CAST(quota_reset AS {integer}) FROM ratelimits WHERE {sender} = "
    ));
    sql.push_bind(&*block.account);
    let Some(row) = connection.fetch_optional(sql).await? else {
        return Ok(Some(Untold { block, is_over, held: 0, quota: None }));
    };
    let (account, quota, quota_reset): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let mut sql = connection.sql("SELECT COUNT(*) FROM messages WHERE ratelimit_id = ");
    sql.push_bind(account).push(connection.dialect().messages_found).push(" AND action = 'HOLD' AND (");
    sql.push("(queue_state = 'held' AND queue_state_at >= ").push_bind(block.since);
    sql.push(") OR (queue_state = '' AND created_at >= ").push_time(block.since).push("))");
    let held = connection.fetch_one(sql).await?.try_get(0)?;
    Ok(Some(Untold { block, is_over, held, quota: Some((quota, quota_reset)) }))
}

/// Ends the blocks of an account that are not over, and returns them as they were. `told` is what their column becomes.
async fn end(
    connection: &mut Connection,
    account: &str,
    by: &str,
    now: i64,
    told: &str,
) -> Result<Vec<BlockRow>, Failure> {
    let mut sql = selecting(connection.dialect());
    sql.push(KEY).push(" = ").push_bind(cut(account, 255)).push(" AND ended_at IS NULL AND (until IS NULL OR until > ");
    sql.push_bind(now).push(") ORDER BY id");
    let rows = block_rows(connection.fetch_all(sql).await?)?;
    if !rows.is_empty() {
        let mut sql = connection.sql("UPDATE blocks SET ended_at = ");
        sql.push_bind(now).push(", ended_by = ").push_bind(cut(by, 255)).push(", told = ").push(told);
        sql.push(" WHERE id IN ").push_ids(&rows.iter().map(|row| row.id).collect::<Vec<i64>>());
        connection.execute(sql).await?;
    }
    Ok(rows)
}

/// The statement that reads the blocks that count at a time; [`counted`] takes what it finds.
fn counting(dialect: &'static Dialect, now: i64) -> Sql {
    let mut sql = selecting(dialect);
    if dialect.in_process {
        sql.text = sqlite::packing(COLUMNS, &sql.text);
    }
    sql.push("ended_at IS NULL AND (until IS NULL OR until > ").push_bind(now);
    sql.push(") ORDER BY id DESC LIMIT ").push(MAX_BLOCKS);
    sql.push(if dialect.in_process { ")" } else { "" });
    sql
}

/// The blocks that [`counting`] found.
fn counted(dialect: &Dialect, rows: Vec<Row>) -> Result<Vec<BlockRow>, Failure> {
    if !dialect.in_process {
        return block_rows(rows);
    }
    let packed: String = rows.first().map_or(Ok("[]".to_owned()), |row| row.try_get(0))?;
    let blocks = || Ok(sqlite::unpacked::<Columns>(&packed)?.into_iter().map(block_of).collect());
    apart(packed.len() / sqlite::LEAST_PACKED, blocks)
}

/// The columns of a block as they are read, in the order of [`Columns`].
const COLUMNS: &str = "number, account, since, ends, action, text, reason, set_by, note, ended, ended_by";
/// A time of -1 is none.
type Columns = (i64, String, i64, i64, String, String, String, String, String, i64, String);

/// Begins the statement that reads blocks, up to its condition.
fn selecting(dialect: &'static Dialect) -> Sql {
    let Dialect { integer, .. } = dialect;
    Sql::new(
        dialect,
        format!(
            "SELECT CAST(id AS {integer}) AS number, account, since, COALESCE(until, -1) AS ends, action, text, reason, set_by, \
             note, COALESCE(ended_at, -1) AS ended, ended_by FROM blocks WHERE "
        ),
    )
}

fn block_rows(rows: Vec<Row>) -> Result<Vec<BlockRow>, Failure> {
    apart(rows.len(), || rows.iter().map(block_row).collect())
}

fn block_row(row: &Row) -> Result<BlockRow, Failure> {
    Ok(block_of((
        row.try_get(0)?,
        row.try_get(1)?,
        row.try_get(2)?,
        row.try_get(3)?,
        row.try_get(4)?,
        row.try_get(5)?,
        row.try_get(6)?,
        row.try_get(7)?,
        row.try_get(8)?,
        row.try_get(9)?,
        row.try_get(10)?,
    )))
}

fn block_of(columns: Columns) -> BlockRow {
    let (id, account, since, until, action, text, reason, set_by, note, ended_at, ended_by) = columns;
    let [until, ended_at] = [until, ended_at].map(|at| Some(at).filter(|&at| at >= 0));
    let account = account.to_lowercase();
    BlockRow { id, account, since, until, action, text, reason, set_by, note, ended_at, ended_by }
}
