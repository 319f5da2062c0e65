//! What the error numbers of MySQL and MariaDB mean.

use crate::store::failure::Failure;

/// The kind of failure that an error number stands for.
pub fn kind(number: u16) -> fn(String) -> Failure {
    match number {
        // Deadlock (with Galera: a certification failure, on COMMIT too), a row changed under a snapshot.
        1213 | 1180 | 1020 => Failure::Transient,
        // Lock wait time-out, NOWAIT, a statement interrupted by us.
        1205 | 1317 | 3572 => Failure::Locked,
        // Too long, not of the column's character set, out of range, wrong value, constraint, packet too large.
        1048 | 1153 | 1264 | 1265 | 1267 | 1270 | 1271 | 1292 | 1300 | 1366 | 1406 | 1452 | 1062 | 3988 => {
            Failure::Refused
        }
        _ => Failure::Away,
    }
}
