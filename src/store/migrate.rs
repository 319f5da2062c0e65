//! The tables and their versions. Numbers and names are the same on all databases; sqlx keeps the list in `_sqlx_migrations`.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use sqlx::migrate::{AppliedMigration, Migrate};
use sqlx::{AssertSqlSafe, ColumnIndex, Database, Decode, Executor, Type};

use super::Failure;
use super::backend::Backend;
use super::dialect::{Addition, ConnectionOf, Dialect, failure};

/// A migration, or what a table of PolicydRateGuard lacks, as `migrate` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Only migrations have one.
    pub version: Option<i64>,
    pub name: String,
    pub applied: bool,
    /// Takes long on a large table: left to `migrate`, and the daemon works without it.
    pub slow: bool,
}

impl Step {
    fn of(addition: &Addition, applied: bool) -> Step {
        Step { version: None, name: addition.name.clone(), applied, slow: addition.slow }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "migration {version:04} {}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error(transparent)]
    Database(#[from] Failure),
    #[error(
        "the database was made by a newer policyd-rate-guard: it has migration {0}, this program knows none above {1}. \
         Install the newer version again, or give this one a database of its own"
    )]
    Newer(i64, i64),
    #[error("migration {0} was changed after the database had it. Install an unchanged release of policyd-rate-guard")]
    Changed(i64),
    #[error("{step} failed: {failure}")]
    Step { step: String, failure: Failure },
}

/// sqlx's own name for its table.
const TABLE: &str = "_sqlx_migrations";

impl<D: Dialect> Backend<D>
where
    ConnectionOf<D>: Migrate,
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    pub async fn migrations(&mut self) -> Result<Vec<Step>, MigrateError> {
        if !D::exists(&self.options) {
            return compare::<D>(None, &[]);
        }
        let mut connection = self.take_connection().await?;
        let result = steps::<D>(&mut connection).await;
        self.keep(connection, &result);
        result
    }

    pub async fn migrate(&mut self, slowly: bool) -> Result<Vec<Step>, MigrateError> {
        // Processes that start together wait for each other: by a lock where the database has one. PostgreSQL's gives up
        // after `lock_timeout`. SQLite has none across statements, so there the slower one fails on the row that the faster
        // one wrote, and finds nothing to do next time.
        const TRIES: usize = 50;
        let mut tries = 0;
        // What a try that failed half-way has done stays done.
        let mut ran = Vec::new();
        loop {
            let result = match self.take_connection().await {
                Ok(mut connection) => {
                    let result = run::<D>(&mut connection, slowly, &mut ran).await;
                    self.keep(connection, &result);
                    result
                }
                Err(failure) => Err(failure.into()),
            };
            match &result {
                Err(MigrateError::Step { failure, .. } | MigrateError::Database(failure))
                    if failure.rolled_back() && tries < TRIES =>
                {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                _ => return result.map(|()| ran),
            }
        }
    }

    fn keep<T>(&mut self, connection: ConnectionOf<D>, result: &Result<T, MigrateError>) {
        // A failed migration may hold sqlx's lock: only a new connection is free of it.
        if result.is_ok() {
            self.connection = Some(connection);
        }
    }
}

/// Runs what is missing, and adds each step to `ran` as it is done. What takes minutes comes last, under a lock of its own:
/// whoever finds nothing else missing does not wait for it.
async fn run<D: Dialect>(
    connection: &mut ConnectionOf<D>,
    slowly: bool,
    ran: &mut Vec<Step>,
) -> Result<(), MigrateError>
where
    ConnectionOf<D>: Migrate,
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    let (slow, quick): (Vec<Step>, Vec<Step>) =
        steps::<D>(connection).await?.into_iter().filter(|step| !step.applied).partition(|step| step.slow);
    if !quick.is_empty() {
        D::lock(connection).await.map_err(database_error::<D>)?;
        add::<D>(connection, false, ran).await?;
        apply::<D>(connection, ran).await?;
        D::unlock(connection).await.map_err(database_error::<D>)?;
    }
    if slowly && !slow.is_empty() {
        D::lock(connection).await.map_err(database_error::<D>)?;
        add::<D>(connection, true, ran).await?;
        D::unlock(connection).await.map_err(database_error::<D>)?;
    } else {
        for step in slow {
            log::info!("there is no {step}; `policyd-rate-guard migrate` makes one, which may take minutes");
        }
    }
    Ok(())
}

/// Gives tables what they lack, and what is made slowly or quickly.
async fn add<D: Dialect>(connection: &mut ConnectionOf<D>, slow: bool, ran: &mut Vec<Step>) -> Result<(), MigrateError>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
{
    let lacking = D::lacking(connection).await.map_err(|error| failure::<D>(&error))?;
    for addition in lacking.into_iter().filter(|addition| addition.slow == slow) {
        let step = Step::of(&addition, true);
        connection
            .execute(AssertSqlSafe(addition.sql))
            .await
            .map_err(|error| MigrateError::Step { step: step.to_string(), failure: failure::<D>(&error) })?;
        ran.push(step);
    }
    Ok(())
}

/// Runs the migrations that are missing.
async fn apply<D: Dialect>(connection: &mut ConnectionOf<D>, ran: &mut Vec<Step>) -> Result<(), MigrateError>
where
    ConnectionOf<D>: Migrate,
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    connection.ensure_migrations_table(TABLE).await.map_err(database_error::<D>)?;
    if let Some(version) = connection.dirty_version(TABLE).await.map_err(database_error::<D>)? {
        // MySQL has no transaction around what makes tables, so a migration may have been cut short. Each of them is one
        // statement that may be run again.
        let forget = format!("DELETE FROM {TABLE} WHERE version = {version}");
        connection.execute(AssertSqlSafe(forget)).await.map_err(|error| failure::<D>(&error))?;
    }
    for step in steps::<D>(connection).await? {
        let Some(migration) = D::migrator().iter().find(|migration| Some(migration.version) == step.version) else {
            continue;
        };
        if !step.applied {
            connection.apply(TABLE, migration).await.map_err(|error| MigrateError::Step {
                step: step.to_string(),
                failure: database_failure::<D>(error),
            })?;
            ran.push(Step { applied: true, ..step });
        }
    }
    Ok(())
}

/// Every migration of the program, and whether the database has it; then what tables lack. An error if the database has
/// other migrations. Only reads.
async fn steps<D: Dialect>(connection: &mut ConnectionOf<D>) -> Result<Vec<Step>, MigrateError>
where
    ConnectionOf<D>: Migrate,
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Decode<'q, D::Db> + Type<D::Db>,
    usize: ColumnIndex<<D::Db as Database>::Row>,
{
    let sql = format!("{}'{TABLE}'", D::TABLES_NAMED);
    let tables: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| failure::<D>(&error))?;
    let mut steps = if tables == 0 {
        compare::<D>(None, &[])?
    } else {
        let half_done = connection.dirty_version(TABLE).await.map_err(database_error::<D>)?;
        let applied = connection.list_applied_migrations(TABLE).await.map_err(database_error::<D>)?;
        compare::<D>(half_done, &applied)?
    };
    let lacking = D::lacking(connection).await.map_err(|error| failure::<D>(&error))?;
    steps.extend(lacking.iter().map(|addition| Step::of(addition, false)));
    Ok(steps)
}

/// Every migration of the program beside those of a database, of which one may have been cut short.
fn compare<D: Dialect>(half_done: Option<i64>, applied: &[AppliedMigration]) -> Result<Vec<Step>, MigrateError> {
    let newest = D::migrator().iter().map(|migration| migration.version).max().unwrap_or(0);
    if let Some(beyond) = applied.iter().map(|migration| migration.version).filter(|&version| version > newest).max() {
        return Err(MigrateError::Newer(beyond, newest));
    }
    D::migrator()
        .iter()
        .map(|migration| {
            let there = applied.iter().find(|applied| applied.version == migration.version);
            if there.is_some_and(|there| there.checksum != migration.checksum) {
                return Err(MigrateError::Changed(migration.version));
            }
            let applied = there.is_some() && half_done != Some(migration.version);
            let name = migration.description.to_string();
            Ok(Step { version: Some(migration.version), name, applied, slow: false })
        })
        .collect()
}

fn database_error<D: Dialect>(error: sqlx::migrate::MigrateError) -> MigrateError {
    MigrateError::Database(database_failure::<D>(error))
}

fn database_failure<D: Dialect>(error: sqlx::migrate::MigrateError) -> Failure {
    match error {
        sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => {
            failure::<D>(&error)
        }
        other => Failure::Away(other.to_string()),
    }
}
