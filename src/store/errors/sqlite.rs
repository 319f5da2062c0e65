//! What SQLite's result codes mean (sqlite.org/rescode.html).

use crate::store::failure::Failure;

/// The kind of failure that a result code stands for. Extended codes carry the primary one in their lowest byte.
pub fn kind(code: i32) -> fn(String) -> Failure {
    match code & 0xff {
        5 | 6 => Failure::Transient,           // BUSY, LOCKED
        18 | 19 | 20 | 25 => Failure::Refused, // TOOBIG, CONSTRAINT, MISMATCH, RANGE
        _ => Failure::Away,
    }
}
