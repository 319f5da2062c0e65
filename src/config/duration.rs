//! How a length of time is written: a whole number and one unit, `500ms 90s 5m 24h 7d`.

use std::time::Duration;

/// The units, longest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `90s`, `5m`, … None for anything else, also for a number without a unit: nobody could say what it meant.
pub fn parse(written: &str) -> Option<Duration> {
    let digits = written.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = written.split_at_checked(digits)?;
    let (_, milliseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*milliseconds).map(Duration::from_millis)
}

/// Writes a length of time so that [`parse`] reads it back: the longest unit that fits without a rest. What is shorter
/// than a millisecond is left out.
pub fn display(length: Duration) -> String {
    let milliseconds = length.as_millis();
    let fits = UNITS.iter().find(|(_, unit)| milliseconds.is_multiple_of(u128::from(*unit)));
    match fits {
        Some((name, unit)) if milliseconds > 0 => format!("{}{name}", milliseconds / u128::from(*unit)),
        _ => format!("{}s", length.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_one_number_and_one_unit() {
        for (written, seconds) in [("90s", 90.0), ("5m", 300.0), ("24h", 86_400.0), ("7d", 604_800.0), ("500ms", 0.5)] {
            assert_eq!(parse(written).map(|length| length.as_secs_f64()), Some(seconds), "{written}");
        }
        for wrong in ["", "5", "s", "-5m", "5 m", "5M", "1.5h", "5mm", "99999999999999999999d", "+5m", "٣s"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn writes_the_longest_unit_that_fits() {
        for (milliseconds, written) in
            [(0, "0s"), (500, "500ms"), (1_500, "1500ms"), (90_000, "90s"), (86_400_000, "1d"), (90_000_000, "25h")]
        {
            assert_eq!(display(Duration::from_millis(milliseconds)), written);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(milliseconds in 0u64..1 << 50) {
            let length = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse(&display(length)), Some(length));
        }
    }
}
