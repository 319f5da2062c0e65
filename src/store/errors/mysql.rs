//! What the error numbers of MySQL and MariaDB mean.

use crate::store::failure::Failure;

/// The kind of failure that an error number stands for. A number that is not known is the statement's own: a trigger, a CHECK
/// or a value that one sender alone brings must not look as if the database were away for all.
pub fn kind(number: u16) -> fn(String) -> Failure {
    match number {
        // Deadlock or Galera's certification; a row or table changed under a snapshot; Group Replication's certification; the
        // conflicts of TiDB.
        1213 | 1020 | 1412 | 1615 | 3101 | 8002 | 8005 | 9007 => Failure::Transient,
        // Lock wait time-out, statement interrupted, max_statement_time, max_execution_time, NOWAIT.
        1205 | 1317 | 1969 | 3024 | 3572 => Failure::Locked,
        // Files and tables that cannot be read or written, or are full or broken; memory.
        1004..=1006 | 1009..=1019 | 1021 | 1023..=1028 | 1030 | 1033..=1039 | 1041 => Failure::Away,
        1114 | 1126 | 1135 | 1194 | 1195 | 1206 | 1296 | 1297 | 1461 | 1637 | 1877 => Failure::Away,
        // Handshake, login, privileges; which database.
        1040 | 1042..=1046 | 1049 | 1129 | 1130 | 1142 | 1143 | 1184 | 1203 | 1226 | 1227 | 1251 | 1275 => {
            Failure::Away
        }
        1370 | 1524 | 1698 | 1820 | 1862 | 3118 | 3159 | 3879 | 4151 => Failure::Away,
        // The connection: killed, idle for too long, packets out of order, a statement that it does not know.
        1047 | 1053 | 1077 | 1080 | 1152 | 1156..=1161 | 1243 | 1927 | 3168 | 3169 | 4031 => Failure::Away,
        // Read-only, offline, not a member of its group, a binary log that cannot take it, no replica that answers; an error
        // of COMMIT, after which nobody knows.
        1180 | 1181 | 1290 | 1598 | 1665 | 1785 | 1792 | 1836 | 1840 | 3032 | 3098 | 3100 | 3111 => Failure::Away,
        // Tables, columns and settings that are not what this program expects.
        1054 | 1064 | 1091 | 1146 | 1149 | 1193 | 1231 | 1235 | 1295 | 1298 | 1305 | 1356 | 1364 | 1449 => {
            Failure::Away
        }
        _ => Failure::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Failure::{Away, Locked, Refused, Transient};

    type Kind = fn(String) -> Failure;

    #[test]
    fn each_number_is_what_the_manuals_say() {
        let table: [(u16, Kind, &str); 84] = [
            (1213, Transient, "deadlock; with Galera a failed certification"),
            (1020, Transient, "a row has changed since it was read (innodb_snapshot_isolation)"),
            (1412, Transient, "a table's definition has changed"),
            (1615, Transient, "a prepared statement must be prepared again"),
            (3101, Transient, "Group Replication: a failed certification"),
            (8002, Transient, "TiDB: FOR UPDATE met a write conflict"),
            (8005, Transient, "TiDB: write conflict"),
            (9007, Transient, "TiDB: write conflict"),
            (1205, Locked, "lock wait time-out"),
            (1317, Locked, "interrupted by KILL QUERY"),
            (1969, Locked, "MariaDB: max_statement_time"),
            (3024, Locked, "MySQL: max_execution_time"),
            (3572, Locked, "NOWAIT met a lock"),
            (1005, Away, "a table cannot be made"),
            (1016, Away, "a file cannot be opened"),
            (1021, Away, "disk full"),
            (1026, Away, "a file cannot be written"),
            (1030, Away, "the storage engine fails"),
            (1034, Away, "a broken index"),
            (1036, Away, "a table that is read-only"),
            (1037, Away, "out of memory"),
            (1041, Away, "out of memory"),
            (1114, Away, "table full"),
            (1135, Away, "no thread can be made"),
            (1194, Away, "a crashed table"),
            (1206, Away, "no memory for more locks"),
            (1461, Away, "too many prepared statements"),
            (1637, Away, "too many transactions"),
            (1877, Away, "a table that is missing or broken in the engine"),
            (1040, Away, "too many connections"),
            (1043, Away, "bad handshake"),
            (1044, Away, "no access to the database"),
            (1045, Away, "wrong password"),
            (1049, Away, "no such database"),
            (1129, Away, "the host is blocked"),
            (1130, Away, "the host may not connect"),
            (1142, Away, "no privilege for a table"),
            (1143, Away, "no privilege for a column"),
            (1203, Away, "max_user_connections"),
            (1226, Away, "a limit of the account"),
            (1227, Away, "no privilege"),
            (1698, Away, "login denied"),
            (1862, Away, "the password has expired"),
            (3118, Away, "the account is locked"),
            (3159, Away, "only over TLS"),
            (4151, Away, "MariaDB: the account is locked"),
            (1047, Away, "Galera: the node is not ready"),
            (1053, Away, "the server shuts down"),
            (1080, Away, "the connection is closed by force"),
            (1158, Away, "reading a packet failed"),
            (1161, Away, "writing a packet timed out"),
            (1243, Away, "a prepared statement that the session does not have"),
            (1927, Away, "MariaDB: the connection was killed"),
            (3169, Away, "MySQL: the session was killed"),
            (4031, Away, "MySQL: the session was idle for too long"),
            (1180, Away, "an error during COMMIT"),
            (1290, Away, "read_only and its like"),
            (1665, Away, "binlog_format=STATEMENT with READ COMMITTED"),
            (1792, Away, "a transaction that only reads"),
            (1836, Away, "read-only"),
            (3032, Away, "offline"),
            (3098, Away, "Group Replication: a table that cannot be replicated"),
            (3100, Away, "Group Replication: not a member"),
            (1054, Away, "no such column"),
            (1146, Away, "no such table"),
            (1193, Away, "no such variable"),
            (1364, Away, "a column of somebody else without a default value"),
            (1449, Away, "a trigger whose owner is gone"),
            (1048, Refused, "NULL in a column that takes none"),
            (1062, Refused, "duplicate key"),
            (1153, Refused, "a packet that is too large: fewer rows fit"),
            (1264, Refused, "out of a column's range"),
            (1265, Refused, "data truncated"),
            (1267, Refused, "a mix of collations"),
            (1292, Refused, "a wrong value"),
            (1300, Refused, "not of the character set"),
            (1366, Refused, "a wrong value for a column"),
            (1406, Refused, "too long for a column"),
            (1452, Refused, "a foreign key"),
            (1644, Refused, "SIGNAL of a trigger"),
            (1690, Refused, "a sum out of range"),
            (3819, Refused, "MySQL: CHECK"),
            (3988, Refused, "a character that cannot be converted"),
            (4025, Refused, "MariaDB: CHECK"),
        ];
        for (number, expected, meaning) in table {
            assert_eq!(kind(number)(String::new()), expected(String::new()), "{number}: {meaning}");
        }
    }
}
