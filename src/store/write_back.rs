//! SQLite's write-ahead log on its way into the database, without mail that waits for it. SQLite itself would do it within the
//! COMMIT that makes the log too long: 64 MB of pages and two syncs before an answer.
//!
//! A connection of its own writes back what is in the log, while others add to it. Only where nothing is left does the next
//! transaction begin the log anew, so what was added meanwhile, which is little, is written back between two transactions. A log
//! that has grown beyond [`MAX_LOG`], since somebody read what was there before, is cut to that length when it begins anew.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::connection::{Connection, Options};
use super::failure::Failure;
use super::sqlite::MAX_LOG;

/// So many pages are written back between two transactions: a megabyte.
const FEW: i64 = 256;
/// How often what was added is written back apart. Where more is added each time the disk is slower than the mail, and the log
/// must begin anew all the same.
const PASSES: u32 = 8;
/// After a pass that came no further, since somebody still reads what was there before.
const PAUSE: Duration = Duration::from_secs(1);

/// Who writes the log of one database back.
#[derive(Debug, Default)]
pub struct WriteBack {
    /// True when only little is left.
    apart: Option<JoinHandle<bool>>,
    /// How long the log was when all of it was written back; nothing was added while it still is.
    done: u64,
}

impl WriteBack {
    /// Sees a log of so many bytes, and has it written back if it is long. True if it is time for what is left of it.
    pub async fn is_due(&mut self, log: u64, options: &Options) -> bool {
        if log <= MAX_LOG || log == self.done {
            return false;
        }
        match &mut self.apart {
            Some(apart) if apart.is_finished() => {
                let is_due = apart.await.unwrap_or(false);
                self.apart = None;
                if is_due {
                    self.done = log;
                }
                is_due
            }
            Some(_) => false,
            None => {
                self.apart = Some(tokio::spawn(apart(options.clone())));
                false
            }
        }
    }
}

/// Writes most of it back. Returns whether only little is left.
async fn apart(options: Options) -> bool {
    // It only reads: a file that has gone meanwhile is not made anew. What is in the log it may write back.
    let most = match options.connect(true).await {
        Ok((mut connection, _)) => {
            let most = most(&mut connection).await;
            connection.close().await;
            most
        }
        Err(failure) => Err(failure),
    };
    if let Err(failure) = &most {
        log::debug!("writing SQLite's log back: {failure}");
    }
    let most = most.unwrap_or(false);
    if !most {
        tokio::time::sleep(PAUSE).await;
    }
    most
}

async fn most(connection: &mut Connection) -> Result<bool, Failure> {
    let mut before = None;
    for _ in 0..PASSES {
        let pass = pass(connection).await?;
        match pass.next(before) {
            Next::LittleIsLeft => return Ok(true),
            Next::Stuck => return Ok(false),
            Next::Again => before = Some(pass),
        }
    }
    Ok(true)
}

/// Writes back what nobody reads any more. Waits for nobody, and nobody waits for it.
pub async fn pass(connection: &mut Connection) -> Result<Pass, Failure> {
    let row = connection.fetch_one(connection.sql("PRAGMA wal_checkpoint(PASSIVE)")).await?;
    Ok(Pass { is_busy: row.try_get::<i64>(0)? != 0, pages: row.try_get(1)?, written: row.try_get(2)? })
}

/// What a pass came to.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// Whether another connection was at it.
    is_busy: bool,
    /// Those in the log, and how many of them are in the database too.
    pages: i64,
    written: i64,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    LittleIsLeft,
    Again,
    /// Somebody reads what was there before, or writes it back.
    Stuck,
}

impl Pass {
    fn next(self, before: Option<Pass>) -> Next {
        match before {
            _ if self.is_busy => Next::Stuck,
            _ if self.pages - self.written <= FEW => Next::LittleIsLeft,
            Some(before) if self.written <= before.written => Next::Stuck,
            _ => Next::Again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_end_when_little_is_left_or_nothing_moves() {
        let pass = |pages, written| Pass { is_busy: false, pages, written };
        assert_eq!(pass(20_000, 20_000).next(None), Next::LittleIsLeft);
        assert_eq!(pass(20_000, 20_000 - FEW).next(None), Next::LittleIsLeft);
        assert_eq!(pass(20_000, 16_000).next(None), Next::Again, "others have added to it meanwhile");
        assert_eq!(pass(21_000, 20_000).next(Some(pass(20_000, 16_000))), Next::Again);
        assert_eq!(pass(21_000, 16_000).next(Some(pass(20_000, 16_000))), Next::Stuck, "somebody reads");
        assert_eq!(Pass { is_busy: true, pages: -1, written: -1 }.next(None), Next::Stuck);
    }
}
