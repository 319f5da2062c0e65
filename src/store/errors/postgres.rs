//! What PostgreSQL's SQLSTATE codes mean (appendix A of its manual).

use crate::store::failure::Failure;

/// The kind of failure that a SQLSTATE stands for.
pub fn kind(code: &str) -> fn(String) -> Failure {
    match code {
        "40001" | "40P01" => Failure::Transient, // serialization_failure, deadlock_detected
        "55P03" => Failure::Locked,              // lock_not_available
        "54000" => Failure::Refused,             // program_limit_exceeded
        // Data exceptions, constraints, and two keys of one statement that are one to lower().
        class if ["21", "22", "23"].iter().any(|refused| class.starts_with(refused)) => Failure::Refused,
        _ => Failure::Away,
    }
}
