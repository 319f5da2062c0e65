//! The tables and their versions. Numbers and names are the same on all databases; sqlx keeps the list in `_sqlx_migrations`.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use sqlx::migrate::{Migration, Migrator};

use super::adopt;
use super::connection::{Connection, Options, Row};
use super::dialect::{Addition, Dialect};
use super::failure::Failure;
use super::handle::Store;
use super::migration_lock::MigrationLock;

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

impl Store {
    /// Every migration this program knows, and whether the database has it; and what tables that it adopts lack. Only reads.
    pub async fn migrations(&mut self) -> Result<Vec<Step>, MigrateError> {
        let migrator = self.servers.current().migrator();
        if !self.servers.current().exists() {
            return compare(migrator, &[], &HashSet::new());
        }
        let mut connection = self.take_connection().await?;
        let result = steps(&mut connection, migrator).await;
        self.keep(connection, &result);
        result
    }

    /// Brings the tables to this program's version and says which steps it ran. Without `slowly` it leaves out what takes
    /// long on a large adopted table; the daemon works without that.
    /// `now` is in seconds since 1970.
    pub async fn migrate(&mut self, slowly: bool, now: i64) -> Result<Vec<Step>, MigrateError> {
        // Processes that start together wait for each other. Of those that make a SQLite file together all but one may fail.
        const TRIES: usize = 50;
        let mut tries = 0;
        let migrator = self.servers.current().migrator();
        let lock = MigrationLock::new(self.batch().daemon(), now);
        // What a try that failed half-way has done stays done.
        let mut ran = Vec::new();
        loop {
            let result = match self.take_connection().await {
                Ok(mut connection) => {
                    let locked = Locked { lock, options: self.servers.current(), migrator };
                    let result = run(&mut connection, locked, slowly, &mut ran).await;
                    // What a server's session knows of the tables is from before the steps. Without its connection a
                    // database in memory is gone.
                    if ran.is_empty() || connection.dialect().in_process {
                        self.keep(connection, &result);
                    }
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

    fn keep<T>(&mut self, connection: Connection, result: &Result<T, MigrateError>) {
        // A failed migration may have left its transaction open.
        if result.is_ok() {
            self.put_back(connection);
        }
    }
}

/// What migrations are run with.
#[derive(Clone, Copy)]
struct Locked<'a> {
    lock: MigrationLock,
    options: &'a Options,
    migrator: &'static Migrator,
}

/// Runs what is missing, and adds each step to `ran` as it is done. What takes minutes comes last, under a lock of its own:
/// a daemon that finds nothing else missing does not wait for it.
async fn run(
    connection: &mut Connection,
    Locked { lock, options, migrator }: Locked<'_>,
    slowly: bool,
    ran: &mut Vec<Step>,
) -> Result<(), MigrateError> {
    let (slow, quick): (Vec<Step>, Vec<Step>) =
        steps(connection, migrator).await?.into_iter().filter(|step| !step.applied).partition(|step| step.slow);
    if !quick.is_empty() {
        make_meta(connection, migrator).await?;
        lock.keep(connection, options, async |connection| {
            add(connection, false, ran).await?;
            apply(connection, migrator, ran).await?;
            // What tables lack that were made just now belongs to the step that made them.
            add(connection, false, &mut Vec::new()).await
        })
        .await?;
    }
    if slowly && !slow.is_empty() {
        lock.keep(connection, options, async |connection| add(connection, true, ran).await).await?;
    } else {
        for step in slow {
            log::info!("there is no {step}; `policyd-rate-guard migrate` makes one, which may take minutes");
        }
    }
    Ok(())
}

/// What tables lack that another program, or an older version of this one, has made. Only reads.
async fn lacking(connection: &mut Connection) -> Result<Vec<Addition>, Failure> {
    let mut lacking = adopt::lacking(connection).await?;
    lacking.extend(connection.lacking_indexes().await?);
    Ok(lacking)
}

/// Makes the table of the lock, and leaves its migration to be run.
async fn make_meta(connection: &mut Connection, migrator: &Migrator) -> Result<(), Failure> {
    let there = tables(connection, &["meta", TABLE]).await?;
    if there.contains("meta") {
        return Ok(());
    }
    for migration in migrator.iter().filter(|migration| makes(migration).any(|table| table == "meta")) {
        // PostgreSQL tells one of two that make a table together, in spite of IF NOT EXISTS, that it exists or cannot be.
        if let Err(failure) = connection.command(migration.sql.as_str()).await
            && !tables(connection, &["meta"]).await.is_ok_and(|there| there.contains("meta"))
        {
            return Err(failure);
        }
        if there.contains(TABLE) {
            connection.command(format!("DELETE FROM {TABLE} WHERE version = {}", migration.version)).await?;
        }
    }
    Ok(())
}

/// Adds missing columns and indexes to the tables: those that are made at once, or the `slow` ones.
async fn add(connection: &mut Connection, slow: bool, ran: &mut Vec<Step>) -> Result<(), MigrateError> {
    for addition in lacking(connection).await?.into_iter().filter(|addition| addition.slow == slow) {
        let step = Step::of(&addition, true);
        let Err(failure) = connection.command(addition.sql.clone()).await else {
            ran.push(step);
            continue;
        };
        connection.roll_back_addition().await;
        // Another process may have made it since the look: an older version has no such lock, and a lease may end.
        if lacking(connection).await?.iter().any(|left| left.sql == addition.sql) {
            return Err(MigrateError::Step { step: step.to_string(), failure });
        }
    }
    Ok(())
}

/// Runs the migrations that are missing. Each of them is one statement that may be run again: after it was cut short (MySQL
/// has no transaction around what makes tables), or when its table has gone.
async fn apply(connection: &mut Connection, migrator: &Migrator, ran: &mut Vec<Step>) -> Result<(), MigrateError> {
    connection.migrating().ensure_migrations_table(TABLE).await.map_err(Failure::from)?;
    // Before the steps: what another process does meanwhile is not among these.
    let noted = noted(connection).await?;
    for step in steps(connection, migrator).await?.into_iter().filter(|step| !step.applied) {
        let Some(migration) = migrator.iter().find(|migration| Some(migration.version) == step.version) else {
            continue;
        };
        if noted.iter().any(|noted| noted.version == migration.version) {
            connection.command(format!("DELETE FROM {TABLE} WHERE version = {}", migration.version)).await?;
        }
        let applied = connection.migrating().apply(TABLE, migration).await;
        // What sqlx notes of it after its COMMIT, how long it took, may fail for itself.
        if let Err(error) = applied
            && !is_done(connection, migration.version).await
        {
            return Err(MigrateError::Step { step: step.to_string(), failure: error.into() });
        }
        ran.push(Step { applied: true, ..step });
    }
    Ok(())
}

async fn is_done(connection: &mut Connection, version: i64) -> bool {
    noted(connection).await.is_ok_and(|noted| noted.iter().any(|noted| noted.done && noted.version == version))
}

/// A migration as the database has noted it.
struct Noted {
    version: i64,
    checksum: Vec<u8>,
    /// False if it was cut short.
    done: bool,
}

/// Every migration of the program, and whether the database has it; then what tables lack. An error if the database has
/// other migrations. Only reads.
async fn steps(connection: &mut Connection, migrator: &Migrator) -> Result<Vec<Step>, MigrateError> {
    let names: Vec<&str> = migrator.iter().flat_map(makes).chain([TABLE]).collect();
    let tables = tables(connection, &names).await?;
    let noted = if tables.contains(TABLE) { noted(connection).await? } else { Vec::new() };
    let mut steps = compare(migrator, &noted, &tables)?;
    steps.extend(lacking(connection).await?.iter().map(|addition| Step::of(addition, false)));
    Ok(steps)
}

/// Which of these tables there are.
async fn tables(connection: &mut Connection, names: &[&str]) -> Result<HashSet<String>, Failure> {
    let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let sql = connection.sql(format!("{}({})", connection.dialect().tables_among, names.join(", ")));
    connection.fetch_all(sql).await?.iter().map(|row| row.try_get(0)).collect()
}

async fn noted(connection: &mut Connection) -> Result<Vec<Noted>, Failure> {
    let Dialect { integer, .. } = connection.dialect();
    let done = format!("CAST(CASE WHEN success THEN 1 ELSE 0 END AS {integer})");
    let sql = connection.sql(format!("SELECT version, checksum, {done} FROM {TABLE} ORDER BY version"));
    let row = |row: &Row| {
        Ok(Noted { version: row.try_get(0)?, checksum: row.try_get(1)?, done: row.try_get::<i64>(2)? != 0 })
    };
    connection.fetch_all(sql).await?.iter().map(row).collect()
}

/// The tables that a migration makes.
fn makes(migration: &Migration) -> impl Iterator<Item = &str> {
    let begins = migration.sql.as_str().split("CREATE TABLE IF NOT EXISTS ").skip(1);
    begins.filter_map(|rest| rest.split_whitespace().next()).map(|name| name.trim_matches('`'))
}

/// Every migration of the program beside those of a database and its tables: a backup may lack a table that was noted.
fn compare(migrator: &Migrator, noted: &[Noted], tables: &HashSet<String>) -> Result<Vec<Step>, MigrateError> {
    let newest = migrator.iter().map(|migration| migration.version).max().unwrap_or(0);
    if let Some(beyond) = noted.iter().map(|noted| noted.version).filter(|&version| version > newest).max() {
        return Err(MigrateError::Newer(beyond, newest));
    }
    migrator
        .iter()
        .map(|migration| {
            let noted = noted.iter().find(|noted| noted.version == migration.version);
            if noted.is_some_and(|noted| noted.checksum != *migration.checksum) {
                return Err(MigrateError::Changed(migration.version));
            }
            let applied = noted.is_some_and(|noted| noted.done) && makes(migration).all(|table| tables.contains(table));
            let name = migration.description.to_string();
            Ok(Step { version: Some(migration.version), name, applied, slow: false })
        })
        .collect()
}
