//! Small decimal numbers, kept exactly: the factor of a step (`1.5x`) and the percentage of a limit (`2.5%`).

use std::fmt;

/// A number from 0 to [`Decimal::MAX`] with up to three decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal {
    thousandths: u32,
}

impl Decimal {
    /// The greatest whole number that is read.
    pub const MAX: u32 = 1_000_000;
    pub const ONE: Decimal = Decimal { thousandths: 1000 };

    /// Reads `2`, `0.8` or `1.125`. None for anything else: signs, exponents, a fourth decimal.
    pub fn parse(written: &str) -> Option<Decimal> {
        let (whole, fraction) = written.split_once('.').unwrap_or((written, "0"));
        let number = |digits: &str| -> Option<u32> {
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let fraction = match fraction.len() {
            1 => number(fraction)? * 100,
            2 => number(fraction)? * 10,
            3 => number(fraction)?,
            _ => return None,
        };
        let whole = number(whole).filter(|&whole| whole < Decimal::MAX || (whole == Decimal::MAX && fraction == 0))?;
        Some(Decimal { thousandths: whole * 1000 + fraction })
    }

    pub fn is_zero(self) -> bool {
        self.thousandths == 0
    }

    /// So many times `number`, rounded down.
    ///
    /// For whole numbers `used > self.times(number)` exactly when `used` is more than the unrounded product.
    pub fn times(self, number: impl Into<u64>) -> u64 {
        let product = u128::from(self.thousandths) * u128::from(number.into()) / 1000;
        u64::try_from(product).unwrap_or(u64::MAX)
    }

    /// So many percent of `number`, rounded down.
    pub fn percent_of(self, number: u32) -> u64 {
        self.times(number) / 100
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.thousandths / 1000)?;
        match self.thousandths % 1000 {
            0 => Ok(()),
            fraction => write!(f, ".{}", format!("{fraction:03}").trim_end_matches('0')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_plain_decimals_and_nothing_else() {
        for (written, thousandths) in
            [("1", 1000), ("0.8", 800), ("2.50", 2500), ("1.125", 1125), ("007", 7000), ("1000000", 1_000_000_000)]
        {
            assert_eq!(Decimal::parse(written), Some(Decimal { thousandths }), "{written}");
        }
        for wrong in
            ["", ".", ".5", "1.", "1.2345", "+1", "-1", "1e3", "1,5", "1000000.001", "1000001", "99999999999", "١"]
        {
            assert_eq!(Decimal::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn multiplies_without_overflow() {
        assert_eq!(Decimal::parse("1000000").unwrap().times(u32::MAX), 4_294_967_295_000_000);
        assert_eq!(Decimal::parse("1.001").unwrap().times(u64::MAX), u64::MAX);
        assert_eq!(Decimal::parse("0.8").unwrap().times(7u32), 5);
        assert_eq!(Decimal::parse("3").unwrap().percent_of(1000), 30);
        assert_eq!(Decimal::parse("2.5").unwrap().percent_of(30), 0);
    }

    proptest! {
        #[test]
        fn more_than_the_rounded_product_is_more_than_the_product(
            thousandths in 0u32..=1_000_000_000,
            number: u32,
            off in -2i64..=2,
        ) {
            let decimal = Decimal { thousandths };
            let used = decimal.times(number).saturating_add_signed(off);
            let exact = u128::from(used) * 1000 > u128::from(thousandths) * u128::from(number);
            prop_assert_eq!(used > decimal.times(number), exact);
            let part = decimal.percent_of(number).saturating_add_signed(off);
            let exact = u128::from(part) * 100_000 > u128::from(thousandths) * u128::from(number);
            prop_assert_eq!(part > decimal.percent_of(number), exact);
        }

        #[test]
        fn what_is_shown_is_read_again(thousandths in 0u32..=1_000_000_000) {
            let decimal = Decimal { thousandths };
            prop_assert_eq!(Decimal::parse(&decimal.to_string()), Some(decimal));
        }
    }
}
