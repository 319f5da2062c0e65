//! What SQLite's result codes mean (sqlite.org/rescode.html).

use crate::store::failure::Failure;

/// The kind of failure that a result code stands for. Extended codes carry the primary one in their lowest byte.
///
/// Other than the servers', these codes are few, and only four of them are about values: a trigger, a CHECK and every other
/// constraint come as CONSTRAINT.
pub fn kind(code: i32) -> fn(String) -> Failure {
    match code & 0xff {
        5 | 6 | 17 => Failure::Transient,      // BUSY, LOCKED, SCHEMA
        18 | 19 | 20 | 25 => Failure::Refused, // TOOBIG, CONSTRAINT, MISMATCH, RANGE
        _ => Failure::Away,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Failure::{Away, Refused, Transient};

    type Kind = fn(String) -> Failure;

    #[test]
    fn each_code_is_what_the_manual_says() {
        let table: [(i32, Kind, &str); 32] = [
            (1, Away, "ERROR: no such table, and the like"),
            (2, Away, "INTERNAL"),
            (3, Away, "PERM"),
            (4, Away, "ABORT"),
            (5, Transient, "BUSY"),
            (261, Transient, "BUSY_RECOVERY"),
            (517, Transient, "BUSY_SNAPSHOT"),
            (6, Transient, "LOCKED"),
            (7, Away, "NOMEM"),
            (8, Away, "READONLY"),
            (1032, Away, "READONLY_DBMOVED"),
            (9, Away, "INTERRUPT"),
            (10, Away, "IOERR"),
            (778, Away, "IOERR_WRITE"),
            (11, Away, "CORRUPT"),
            (13, Away, "FULL"),
            (14, Away, "CANTOPEN"),
            (15, Away, "PROTOCOL"),
            (17, Transient, "SCHEMA"),
            (18, Refused, "TOOBIG"),
            (19, Refused, "CONSTRAINT"),
            (275, Refused, "CONSTRAINT_CHECK"),
            (787, Refused, "CONSTRAINT_FOREIGNKEY"),
            (1299, Refused, "CONSTRAINT_NOTNULL"),
            (1811, Refused, "CONSTRAINT_TRIGGER: RAISE of a trigger"),
            (2067, Refused, "CONSTRAINT_UNIQUE"),
            (20, Refused, "MISMATCH"),
            (21, Away, "MISUSE"),
            (23, Away, "AUTH"),
            (24, Away, "FORMAT"),
            (25, Refused, "RANGE"),
            (26, Away, "NOTADB"),
        ];
        for (code, expected, meaning) in table {
            assert_eq!(kind(code)(String::new()), expected(String::new()), "{code}: {meaning}");
        }
    }
}
