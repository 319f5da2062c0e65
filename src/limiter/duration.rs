//! Lengths of time as settings write them: `90s`, `5m`, `24h`, `7d`.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Reads a whole number and its unit; none for anything else, and for more than can be told in seconds.
pub fn parse(written: &str) -> Option<Duration> {
    let unit = written.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => MINUTE,
        'h' => HOUR,
        'd' => DAY,
        _ => return None,
    };
    let digits = written.strip_suffix(unit)?;
    // `parse` alone would take "+5".
    let number: u64 = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

/// Writes what [`parse`] reads, to the second. A single day stays `24h`: a window of that length is no calendar day.
pub fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => "0s".to_owned(),
        _ if seconds.is_multiple_of(DAY) && seconds > DAY => format!("{}d", seconds / DAY),
        _ if seconds.is_multiple_of(HOUR) => format!("{}h", seconds / HOUR),
        _ if seconds.is_multiple_of(MINUTE) => format!("{}m", seconds / MINUTE),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_numbers_with_a_unit_and_nothing_else() {
        for (written, seconds) in [("90s", 90), ("5m", 300), ("24h", 86_400), ("7d", 604_800), ("0s", 0)] {
            assert_eq!(parse(written), Some(Duration::from_secs(seconds)), "{written}");
        }
        for wrong in [
            "",
            "m",
            "5",
            "5 m",
            "+5m",
            "-5m",
            "1.5h",
            "5M",
            "5min",
            "5é",
            "99999999999999999999d",
            "9999999999999999999d",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn shows_the_unit_that_people_use() {
        for (written, shown) in
            [("90s", "90s"), ("300s", "5m"), ("1d", "24h"), ("48h", "2d"), ("60m", "1h"), ("0h", "0s")]
        {
            assert_eq!(show(parse(written).unwrap()), shown);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(seconds: u32) {
            let duration = Duration::from_secs(seconds.into());
            prop_assert_eq!(parse(&show(duration)), Some(duration));
        }
    }
}
