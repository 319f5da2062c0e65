//! Lengths of time as settings write them: a whole number and one unit, `500ms`, `90s`, `5m`, `24h`, `7d`.

use std::time::Duration;

const DAY: u64 = 86_400_000;
/// The units, longest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", DAY), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `90s`, `5m`, … None for anything else, also for a number without a unit, which would be ambiguous.
pub fn parse(written: &str) -> Option<Duration> {
    let digits = written.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = written.split_at_checked(digits)?;
    let (_, milliseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*milliseconds).map(Duration::from_millis)
}

/// Whole seconds, as times are reckoned here.
pub fn seconds(length: Duration) -> i64 {
    i64::try_from(length.as_secs()).unwrap_or(i64::MAX)
}

/// Writes a length of time so that [`parse`] reads it back: the longest unit that fits without a rest. What is shorter
/// than a millisecond is left out. A single day stays `24h`: a window of that length is no calendar day.
pub fn show(length: Duration) -> String {
    let milliseconds = length.as_millis();
    let fits = |&&(name, unit): &&(&str, u64)| {
        milliseconds.is_multiple_of(u128::from(unit)) && !(name == "d" && milliseconds == u128::from(DAY))
    };
    match UNITS.iter().find(fits) {
        Some((name, unit)) if milliseconds > 0 => format!("{}{name}", milliseconds / u128::from(*unit)),
        _ => format!("{}s", length.as_secs()),
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
