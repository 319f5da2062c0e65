//! Moments, in seconds since 1970, as they are shown.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// For readers in any zone: `2027-01-15 12:00 +01:00`.
pub fn with_offset(at: i64, zone: &TimeZone) -> Option<String> {
    let local = Timestamp::from_second(at).ok()?.to_zoned(zone.clone());
    Some(local.strftime("%Y-%m-%d %H:%M %:z").to_string())
}

/// For operators, in the server's zone: `2027-01-15 12:00`.
pub fn local(at: i64, zone: &TimeZone) -> String {
    let local = Timestamp::from_second(at).map(|at| at.to_zoned(zone.clone()));
    local.map_or_else(|_| "?".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M").to_string())
}

/// For programs: `2027-01-15T11:00:00Z`.
pub fn utc(at: i64) -> String {
    Timestamp::from_second(at).map_or_else(|_| String::new(), |at| at.to_string())
}
