//! What PostgreSQL's SQLSTATE codes mean (appendix A of its manual).

use crate::store::failure::Failure;

/// The kind of failure that a SQLSTATE stands for. A code that is not known is the statement's own: a trigger, a CHECK or a
/// value that one sender alone brings must not look as if the database were away for all.
pub fn kind(code: &str) -> fn(String) -> Failure {
    match code {
        // Rolled back for others' sake.
        "40000" | "40001" | "40P01" => Failure::Transient,
        // A lock that is not to be had; a statement that was cancelled, or took too long.
        "55P03" | "57014" => Failure::Locked,
        // Whole classes that are the connection's, the session's or the server's.
        "40003" | "55006" | "55P02" | "55P04" => Failure::Away,
        _ => match code.get(..2) {
            // Connection, unsupported, transaction state, statement name, transaction control, login.
            Some("08" | "0A" | "25" | "26" | "28" | "2D" | "34") => Failure::Away,
            // Database, schema, syntax and privileges.
            Some("3B" | "3D" | "3F" | "42") => Failure::Away,
            // Resources, the operator, the system, settings, inner errors.
            Some("53" | "57" | "58" | "F0" | "XX") => Failure::Away,
            _ => Failure::Refused,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Failure::{Away, Locked, Refused, Transient};

    type Kind = fn(String) -> Failure;

    #[test]
    fn each_code_is_what_the_manual_says() {
        let table: [(&str, Kind, &str); 44] = [
            ("40000", Transient, "transaction_rollback"),
            ("40001", Transient, "serialization_failure"),
            ("40P01", Transient, "deadlock_detected"),
            ("55P03", Locked, "lock_not_available"),
            ("57014", Locked, "query_canceled"),
            ("40003", Away, "statement_completion_unknown"),
            ("08000", Away, "connection_exception"),
            ("08003", Away, "connection_does_not_exist"),
            ("08006", Away, "connection_failure"),
            ("08P01", Away, "protocol_violation: PgBouncer's errors"),
            ("0A000", Away, "feature_not_supported"),
            ("25006", Away, "read_only_sql_transaction"),
            ("25P02", Away, "in_failed_sql_transaction"),
            ("25P03", Away, "idle_in_transaction_session_timeout"),
            ("26000", Away, "invalid_sql_statement_name"),
            ("28P01", Away, "invalid_password"),
            ("3D000", Away, "invalid_catalog_name"),
            ("3F000", Away, "invalid_schema_name"),
            ("42501", Away, "insufficient_privilege"),
            ("42601", Away, "syntax_error"),
            ("42703", Away, "undefined_column"),
            ("42P01", Away, "undefined_table"),
            ("42P05", Away, "duplicate_prepared_statement"),
            ("53100", Away, "disk_full"),
            ("53200", Away, "out_of_memory"),
            ("53300", Away, "too_many_connections"),
            ("57P01", Away, "admin_shutdown"),
            ("57P02", Away, "crash_shutdown"),
            ("57P03", Away, "cannot_connect_now"),
            ("57P05", Away, "idle_session_timeout"),
            ("58030", Away, "io_error"),
            ("F0000", Away, "config_file_error"),
            ("XX000", Away, "internal_error"),
            ("XX001", Away, "data_corrupted"),
            ("21000", Refused, "cardinality_violation: two keys of one statement that are one to lower()"),
            ("22001", Refused, "string_data_right_truncation"),
            ("22003", Refused, "numeric_value_out_of_range"),
            ("22021", Refused, "character_not_in_repertoire"),
            ("22P05", Refused, "untranslatable_character"),
            ("23502", Refused, "not_null_violation"),
            ("23505", Refused, "unique_violation"),
            ("23514", Refused, "check_violation"),
            ("54000", Refused, "program_limit_exceeded"),
            ("P0001", Refused, "raise_exception of a trigger"),
        ];
        for (code, expected, meaning) in table {
            assert_eq!(kind(code)(String::new()), expected(String::new()), "{code}: {meaning}");
        }
    }
}
