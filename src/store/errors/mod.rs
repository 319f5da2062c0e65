//! The drivers' errors, sorted into [`Failure`]s. One table per database says what each of its error numbers means.

mod mysql;
mod postgres;
mod sqlite;

use std::error::Error as _;

use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

use super::failure::Failure;

impl From<sqlx::Error> for Failure {
    /// Sorts an error of a statement other than COMMIT, see `Failure::of_commit`.
    fn from(error: sqlx::Error) -> Failure {
        match error {
            sqlx::Error::Database(error) => of_database(&*error),
            // A value that cannot be bound, or a column that holds what it must not.
            sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
                Failure::Refused(describe(&error))
            }
            other => Failure::Away(describe(&other)),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for Failure {
    fn from(error: sqlx::migrate::MigrateError) -> Failure {
        use sqlx::migrate::MigrateError::{Execute, ExecuteMigration};
        match error {
            Execute(error) | ExecuteMigration(error, _) => error.into(),
            other => Failure::Away(other.to_string()),
        }
    }
}

fn of_database(error: &dyn DatabaseError) -> Failure {
    let kind = if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        mysql::kind(error.number())
    } else if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        postgres::kind(error.code())
    } else if let Some(code) = error.try_downcast_ref::<SqliteError>().and_then(DatabaseError::code) {
        sqlite::kind(code.parse().unwrap_or(0))
    } else {
        Failure::Away
    };
    kind(error.message().to_owned())
}

/// An error in words, with what lies beneath it.
fn describe(error: &sqlx::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    if text.contains("invalid peer certificate") {
        text.push_str(
            ". DB_TLS=verify asks for a certificate of the name in DB_HOST that is signed by DB_TLS_CA, or by one that the \
             system trusts. The one that MySQL, MariaDB or Debian's PostgreSQL makes for itself is neither: give the server \
             another, or set DB_TLS=require, by which anybody may be the server",
        );
    }
    text
}
