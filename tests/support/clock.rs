//! Where it is another time of day.

use jiff::Timestamp;

/// A time zone, for TZ, in which it is about noon: far from midnight, when a period ends and another begins.
pub fn noon_here() -> String {
    let hour = Timestamp::now().as_second() / 3600 % 24;
    // POSIX counts to the west.
    format!("<noon>{}", hour - 12)
}
