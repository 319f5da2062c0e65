//! What the committer asks of the database, each within a limit. A connection that is late is dropped.

use std::time::Duration;

use super::late::LatePart;
use super::probe::Probe;
use super::rounds::Transaction;
use crate::store::blocks::{BlockRow, Revision};
use crate::store::counters::{HeldRow, Row};
use crate::store::{Failure, Store};

/// Of a transaction whose statements are all prepared before. It gets the time for these, however urgent its charges are: each
/// try would end in the same way.
const ROUND_TRIPS: u32 = 24;
/// For charging a part of the journal: mail that comes meanwhile waits for it.
const PART_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the database answers.
pub enum Database {
    Here(Box<Store>),
    Away(Probe),
}

/// What it means that the database is late.
#[derive(Debug, Clone, Copy)]
enum IfLate {
    /// It is away; or nobody knows what became of the transaction, if a COMMIT was under way.
    MayBeCommitted,
    Away,
    Locked,
}

impl Database {
    /// Waits until the database takes writes again; for ever while it is not away. Cancel-safe.
    ///
    /// # Errors
    /// See [`Probe::database_is_back`].
    pub async fn is_back(&mut self) -> Result<Store, tokio::task::JoinError> {
        match self {
            Database::Away(probe) => probe.database_is_back().await,
            Database::Here(_) => std::future::pending().await,
        }
    }

    /// Settles charges. `now` is in Unix seconds.
    pub async fn settle<R: Sync>(&mut self, transaction: Transaction<'_, R>, now: i64) -> Result<(), Failure> {
        let Transaction { sums, mut decider, new_quota, limit, .. } = transaction;
        let limit = limit.max(self.round_trips());
        self.ask(limit, IfLate::MayBeCommitted, async |store| store.settle(sums, new_quota, now, &mut decider).await)
            .await
    }

    /// Whether the last transaction was committed.
    pub async fn find_out(&mut self, limit: Duration) -> Result<bool, Failure> {
        self.ask(limit, IfLate::Away, async |store| store.committed(store.batch()).await).await
    }

    /// The blocks at `now`, in Unix seconds, unless they are those of a known revision.
    pub async fn look_at_blocks(
        &mut self,
        known: Option<Revision>,
        now: i64,
        limit: Duration,
    ) -> Result<Option<(Revision, Vec<BlockRow>)>, Failure> {
        self.ask(limit, IfLate::Locked, async |store| store.blocks_unless(known, now).await).await
    }

    /// Charges a part of the journal, at `now` in Unix seconds. Returns how many records of it are charged then, and the rows of
    /// the part's sums.
    pub async fn charge(&mut self, part: &LatePart, now: i64) -> Result<(i64, Vec<Option<Row>>), Failure> {
        let limit = PART_TIMEOUT.max(self.round_trips());
        self.ask(limit, IfLate::Away, async |store| {
            let mut rows = Vec::new();
            let late = |read: &[Option<Row>], reset| {
                rows = read.to_vec();
                part.late(read, reset)
            };
            let charged = store.charge(part.part, &part.sums, part.new_quota, now, late).await?;
            Ok((charged, rows))
        })
        .await
    }

    /// Which of these accounts' rows somebody else holds.
    pub async fn find_held(&mut self, accounts: &[String], limit: Duration) -> Result<Vec<HeldRow>, Failure> {
        self.ask(limit, IfLate::Locked, async |store| {
            // Where somebody holds the whole table every row seems held.
            store.table_is_free().await?;
            store.locked(accounts).await
        })
        .await
    }

    /// What a transaction takes on its way alone.
    fn round_trips(&self) -> Duration {
        match self {
            Database::Here(store) => store.round_trip() * ROUND_TRIPS,
            Database::Away(_) => Duration::ZERO,
        }
    }

    async fn ask<T>(
        &mut self,
        limit: Duration,
        late: IfLate,
        question: impl AsyncFnOnce(&mut Store) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Database::Here(store) = self else { return Err(Failure::Away("the database is away".to_owned())) };
        if let Ok(answer) = tokio::time::timeout(limit, question(store)).await {
            return answer;
        }
        let was_committing = store.abandon();
        let reason = format!("no answer within {} ms", limit.as_millis());
        Err(match late {
            IfLate::MayBeCommitted if was_committing => Failure::Unknown(reason),
            IfLate::MayBeCommitted | IfLate::Away => Failure::Away(reason),
            IfLate::Locked => Failure::Locked(reason),
        })
    }
}
