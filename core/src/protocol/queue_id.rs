//! The queue id that Postfix gives a message.
//!
//! An attribute is what the client of a socket wrote, and an id is handed to postsuper(1), which is root's and also takes `ALL`
//! or the name of a queue. So only what Postfix itself makes is one (its src/global/mail_queue.h):
//!
//! - short: the microseconds in five hexadecimal digits, and the file's inode number in hexadecimal, all in upper case;
//! - long (`enable_long_queue_ids`): the seconds in six digits and the microseconds in four, both to the base 52 (digits and
//!   consonants), `z`, and the inode number to the base 51 (the same without `z`).

use std::fmt;

/// The digits of a long id.
const BASE_52: &[u8] = b"0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
/// Between the time and the inode number of a long id.
const SEPARATOR: u8 = b'z';
/// The length of the time in a long id: six digits are enough until the year 2596.
const LONG_TIME: usize = 10;
/// The length of the time in a short id.
const SHORT_TIME: usize = 5;
/// The most digits of an inode number, which has 64 bits, to the base 51 or 16.
const MAX_INODE: usize = 16;

/// An id as Postfix makes it: ASCII letters and digits, and never the name of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueueId(Box<str>);

impl QueueId {
    /// Returns `None` for everything that Postfix does not make, the empty text among it.
    pub fn parse(text: &str) -> Option<QueueId> {
        (is_short(text.as_bytes()) || is_long(text.as_bytes())).then(|| QueueId(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_short(id: &[u8]) -> bool {
    is_inode(id.get(SHORT_TIME..), |byte| is_hexadecimal(*byte)) && id.iter().all(|byte| is_hexadecimal(*byte))
}

fn is_long(id: &[u8]) -> bool {
    let Some((time, rest)) = id.split_at_checked(LONG_TIME) else { return false };
    let is_digit = |byte: &u8| BASE_52.contains(byte);
    time.iter().all(is_digit)
        && rest.first() == Some(&SEPARATOR)
        && is_inode(rest.get(1..), |byte| is_digit(byte) && *byte != SEPARATOR)
}

fn is_inode(digits: Option<&[u8]>, is_digit: impl Fn(&u8) -> bool) -> bool {
    digits.is_some_and(|digits| (1..=MAX_INODE).contains(&digits.len()) && digits.iter().all(is_digit))
}

fn is_hexadecimal(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'F')
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A number as Postfix writes it: without a sign, and with zeros in front up to `width`.
    fn to_base(mut number: u64, base: u64, width: usize) -> String {
        let mut digits = Vec::new();
        while number > 0 || digits.len() < width.max(1) {
            digits.push(char::from(BASE_52[(number % base) as usize]));
            number /= base;
        }
        digits.iter().rev().collect()
    }

    #[test]
    fn what_postsuper_takes_for_something_else_is_no_id() {
        for id in
            ["ALL", "all", "hold", "deferred", "active", "incoming", "maildrop", "corrupt", "-", "-r", "", "NOQUEUE"]
        {
            assert_eq!(QueueId::parse(id), None, "{id}");
        }
        for id in ["4F9D195432C", "C7B5A3F0", "3Pt2mN2VXxznjll", "4g6Yxn0WN4z9vD"] {
            assert_eq!(QueueId::parse(id).map(|id| id.to_string()).as_deref(), Some(id));
        }
        for id in [
            "4f9d195432c",
            "4F9D1",
            "4F9D195432C ",
            "4F9D195432C;",
            "4g6Yxn0WN4z",
            "4g6Yxn0WN4z9vDz",
            "4g6Yxn0WNAz9vD",
            "4bHELD1z",
        ] {
            assert_eq!(QueueId::parse(id), None, "{id}");
        }
    }

    proptest! {
        #[test]
        fn every_id_that_postfix_makes_is_one(
            seconds in 1_000_000_000..15_000_000_000_u64, microseconds in 0..1_000_000_u64, inode in any::<u64>()
        ) {
            let long = format!("{}{}z{}", to_base(seconds, 52, 6), to_base(microseconds, 52, 4), to_base(inode, 51, 0));
            for id in [format!("{microseconds:05X}{inode:X}"), long] {
                prop_assert_eq!(QueueId::parse(&id).map(|id| id.as_str().to_owned()), Some(id));
            }
        }

        #[test]
        fn nothing_but_letters_and_digits_is_ever_one(text in "[0-9A-Za-z]{0,30}|\\PC{0,30}") {
            if let Some(id) = QueueId::parse(&text) {
                prop_assert!(id.as_str() == text && text.len() >= 6 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
                prop_assert!(!text.bytes().any(|byte| b"aeiouIOU".contains(&byte)), "no word of a language");
            }
        }
    }
}
