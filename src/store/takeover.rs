//! Taking over what another program has counted: into counters and `usage`, a few senders in a transaction, and with them in
//! the same transaction how far it has come. Totals rise with it, by which running daemons notice.

use sqlx::{ColumnIndex, Database, Decode, Encode, Executor, QueryBuilder, Type};

use super::backend::Backend;
use super::counters::{self, Row, Sum};
use super::dialect::{ConnectionOf, Dialect};
use super::script::Script;
use super::settle::undone;
use super::usage::{self, UsageRow};
use super::{Failure, meta};

/// A sender, and what was counted of it by the minute (counted from 1970): minute, messages, recipients.
#[derive(Debug, Clone)]
pub struct Taken {
    pub sum: Sum,
    pub minutes: Vec<(i64, i64, i64)>,
}

impl<D: Dialect> Backend<D>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Encode<'q, D::Db> + Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    /// Adds what was counted of some senders (sorted by their keys, each once), and stores in `meta` how far this has come:
    /// all of it, or nothing.
    pub async fn take_over(
        &mut self,
        taken: &[Taken],
        new_quota: u32,
        now: i64,
        (name, progress): (&str, &str),
    ) -> Result<(), Failure> {
        let mut connection = self.take_connection().await?;
        let sums: Vec<Sum> = taken.iter().map(|taken| self.narrowed_sum(&taken.sum)).collect();
        let mut script = Script::<D>::new(&mut connection, self.lock_timeout());
        let written = async {
            script.begin().await?;
            let mark = counters::add(&mut script, &sums, new_quota, now).await?;
            let mut rows = counters::read(&mut script, &sums).await?;
            counters::inherit(&mut script, &sums, &mut rows, mark).await?;
            usage::add(&mut script, &minutes(taken, &rows)).await?;
            script.run(|sql: &mut QueryBuilder<D::Db>| meta::push_set::<D>(sql, name, progress)).await?;
            script.commit().await
        }
        .await;
        let result = match written {
            Ok(()) => Ok(()),
            Err(error) => Err(undone(&mut script, &error).await),
        };
        self.put_back(connection, &result);
        result
    }
}

/// What goes into `usage`.
fn minutes(taken: &[Taken], rows: &[Option<Row>]) -> Vec<UsageRow> {
    let mut minutes = Vec::new();
    for (taken, row) in taken.iter().zip(rows) {
        let Some(Row { id: ratelimit_id, .. }) = *row else { continue };
        minutes.extend(taken.minutes.iter().map(|&(minute, messages, recipients)| UsageRow {
            ratelimit_id,
            minute,
            messages,
            recipients,
            bytes: 0,
        }));
    }
    minutes
}
