//! What is asked of the table `batches`: whether a batch was committed, and whether the database takes writes at all.

use super::batch::Batch;
use super::connection::Connection;
use super::failure::Failure;
use super::handle::{Patience, Store};
use super::meta;

/// In seconds: when the row of a daemon that was not seen any more is deleted.
const FORGOTTEN: i64 = 7 * 86_400;
/// The most of these rows deleted at once.
const ROWS: i64 = 1000;

impl Store {
    /// Whether a batch, the last that its store began, was committed. For after a COMMIT of unknown outcome, over another
    /// connection.
    ///
    /// Writes the daemon's row, so that it waits for a COMMIT that is still under way, and so that no server answers that
    /// does not know yet what another has committed.
    ///
    /// # Errors
    /// [`Failure::Unknown`] means that nobody can say: SQLite's batches are not noted. After any other failure it may be asked
    /// again.
    pub async fn committed(&mut self, batch: Batch) -> Result<bool, Failure> {
        if self.servers.current().dialect().in_process {
            return Err(Failure::Unknown("batches are not noted here".to_owned()));
        }
        self.run(async |connection| {
            let dialect = connection.dialect();
            connection.execute(batch.touched(dialect)).await?;
            let row = connection.fetch_optional(batch.last(dialect)).await?;
            row.map_or(Ok(false), |row| Ok(row.try_get::<i64>(0)? == batch.number))
        })
        .await
    }

    /// Proves that the database takes writes, by the daemon's own row in `batches`, and notes when counting began here.
    pub async fn heartbeat(&mut self, now: i64) -> Result<(), Failure> {
        let batch = self.batch();
        self.transact(Patience::Batch { now }, async |script| {
            let dialect = script.dialect();
            // On a server each batch is noted, this one too.
            if dialect.in_process {
                script.run(batch.noted(dialect, now)).await?;
            }
            let connection = script.connection().await?;
            if meta::time(connection, meta::COUNTING_SINCE, now).await?.is_none() {
                meta::set(connection, meta::COUNTING_SINCE, &now.to_string()).await?;
            }
            Ok(())
        })
        .await?;
        self.run(async |connection| forget(connection, now).await).await
    }
}

/// Deletes the rows of daemons that were not seen for a week.
async fn forget(connection: &mut Connection, now: i64) -> Result<(), Failure> {
    // Found first, without a lock: a DELETE would wait for the rows of the daemons that count.
    let mut sql = connection.sql("SELECT daemon FROM batches WHERE seen_at < ");
    sql.push_bind(now.saturating_sub(FORGOTTEN)).push(" LIMIT ").push(ROWS);
    let gone = connection.fetch_ids(sql).await?;
    if !gone.is_empty() {
        let mut sql = connection.sql("DELETE FROM batches WHERE daemon IN ");
        sql.push_ids(&gone);
        connection.execute(sql).await?;
    }
    Ok(())
}
