//! Who may change the tables' structure: a row of `meta` with its owner and the end of the owner's lease.
//!
//! Not a lock of the server's own: MySQL's GET_LOCK holds on one node of a cluster only and is refused by some of them, and
//! PostgreSQL's advisory lock is a session's, which a pooler lends to many. A row holds for all, also for an owner that is
//! gone without a word: then until its lease ends.

use std::time::{Duration, Instant};

use super::connection::{Connection, Options};
use super::failure::Failure;
use super::meta;
use super::sql::Sql;

/// The row in `meta`.
const NAME: &str = "migrating";
/// In seconds.
const LEASE: i64 = 30;
/// How often the lease is prolonged, over another connection: the first is busy with what takes minutes.
const PROLONG_AFTER: Duration = Duration::from_secs(10);
/// How long another process is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// One process's claim to it.
#[derive(Debug, Clone, Copy)]
pub struct MigrationLock {
    owner: i64,
    /// Seconds since 1970, at `began`.
    now: i64,
    began: Instant,
}

impl MigrationLock {
    /// `owner` is a number that no other process has. `now` is in seconds since 1970.
    pub fn new(owner: i64, now: i64) -> MigrationLock {
        MigrationLock { owner, now, began: Instant::now() }
    }

    /// Runs `work` on the connection, with the table `meta` made already, while no other process changes the structure, and keeps all others from it.
    pub async fn keep<T, E: From<Failure>>(
        self,
        connection: &mut Connection,
        options: &Options,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.wait(connection).await?;
        let done = tokio::select! {
            done = work(connection) => done,
            never = self.prolong(options) => match never {},
        };
        self.give_back(connection).await;
        done
    }

    /// All others wait for it. Where the connection is of no more use, the lease ends by itself.
    async fn give_back(self, connection: &mut Connection) {
        const TRIES: u32 = 5;
        for _ in 0..TRIES {
            match connection.execute(self.given_back(connection)).await {
                Ok(_) => return,
                Err(failure) => log::debug!("giving the lock of the migrations back: {failure}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn wait(self, connection: &mut Connection) -> Result<(), Failure> {
        loop {
            meta::lock(connection, NAME).await?;
            if connection.execute(self.taken(connection)).await? > 0 {
                return Ok(());
            }
            if self.began.elapsed() >= PATIENCE {
                return Err(Failure::Away("another process is migrating the tables".to_owned()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn prolong(self, options: &Options) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(PROLONG_AFTER).await;
            let prolonged = async {
                let (mut connection, _) = options.connect(false).await?;
                connection.execute(self.taken(&connection)).await?;
                connection.close().await;
                Ok::<(), Failure>(())
            };
            if let Err(failure) = prolonged.await {
                log::debug!("keeping the lock of the migrations: {failure}");
            }
        }
    }

    /// The statement that takes the lock if nobody has it, or that prolongs the lease. Changes one row, or none.
    fn taken(self, connection: &Connection) -> Sql {
        let now = self.now + i64::try_from(self.began.elapsed().as_secs()).unwrap_or(0);
        let mut sql = connection.sql("UPDATE meta SET value = ");
        sql.push_bind(&*format!("{} {}", moment(now + LEASE), self.owner));
        sql.push(format_args!(" WHERE name = '{NAME}' AND (value < "));
        sql.push_bind(&*moment(now));
        // A clock that is far ahead must not keep everybody out.
        sql.push(" OR value > ").push_bind(&*moment(now + 10 * LEASE));
        sql.push(" OR value LIKE ").push_bind(&*format!("% {}", self.owner)).push(")");
        sql
    }

    fn given_back(self, connection: &Connection) -> Sql {
        let mut sql = connection.sql(format!("DELETE FROM meta WHERE name = '{NAME}' AND value LIKE "));
        sql.push_bind(&*format!("% {}", self.owner));
        sql
    }
}

/// A time so written that of two texts the lesser is the earlier.
fn moment(seconds: i64) -> String {
    format!("{seconds:012}")
}
