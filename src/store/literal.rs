//! Texts as a server reads them within a statement.
//!
//! What a server is sent is whole text, and nothing is prepared: MariaDB with Galera loses a transaction without an error when
//! another node's write meets a client that prepares, a pooler between us and the server may know no prepared statements, and
//! what is text goes in one packet with its neighbours. Every text from outside passes here.

use std::fmt::Write as _;

/// For MySQL and MariaDB. What is not plain goes as hexadecimal digits, which no `sql_mode` and no character set reads
/// otherwise.
pub fn mysql(text: &str) -> String {
    if text.chars().all(|character| (' '..='~').contains(&character) && !matches!(character, '\'' | '\\')) {
        return format!("'{text}'");
    }
    let mut literal = String::with_capacity(12 + 2 * text.len());
    literal.push_str("_utf8mb4 X'");
    for byte in text.bytes() {
        // Writing to a String never fails.
        let _ = write!(literal, "{byte:02X}");
    }
    literal.push('\'');
    literal
}

/// For PostgreSQL, which reads `E'…'` in the same way whatever its settings are. It has no character U+0000.
pub fn postgres(text: &str) -> String {
    let mut literal = String::with_capacity(3 + text.len());
    literal.push_str("E'");
    for character in text.chars() {
        match character {
            '\'' => literal.push_str("''"),
            '\\' => literal.push_str("\\\\"),
            '\0' => literal.push(char::REPLACEMENT_CHARACTER),
            other => literal.push(other),
        }
    }
    literal.push('\'');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_texts_stay_readable() {
        assert_eq!(mysql("alice@example.com"), "'alice@example.com'");
        assert_eq!(postgres("alice@example.com"), "E'alice@example.com'");
        assert_eq!(mysql(""), "''");
        assert_eq!(mysql("o'neil"), "_utf8mb4 X'6F276E65696C'");
        assert_eq!(postgres("o'neil\\"), "E'o''neil\\\\'");
    }

    /// What the server reads: the text between the quotes, which end where the literal ends.
    fn read_by_mysql(literal: &str) -> String {
        match literal.strip_prefix("_utf8mb4 X'") {
            Some(digits) => {
                let digits = digits.strip_suffix('\'').unwrap();
                let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
                String::from_utf8((0..digits.len()).step_by(2).map(byte).collect()).unwrap()
            }
            None => {
                let inner = literal.strip_prefix('\'').unwrap().strip_suffix('\'').unwrap();
                assert!(!inner.contains(['\'', '\\']));
                inner.to_owned()
            }
        }
    }

    fn read_by_postgres(literal: &str) -> String {
        let mut characters = literal.strip_prefix("E'").unwrap().strip_suffix('\'').unwrap().chars();
        let mut text = String::new();
        while let Some(character) = characters.next() {
            if matches!(character, '\'' | '\\') {
                assert_eq!(characters.next(), Some(character), "neither an end nor another escape");
            }
            text.push(character);
        }
        text
    }

    proptest! {
        #[test]
        fn every_text_is_read_as_it_was(text in any::<String>()) {
            prop_assert_eq!(read_by_mysql(&mysql(&text)), text.as_str());
            prop_assert_eq!(read_by_postgres(&postgres(&text)), text.replace('\0', "\u{fffd}"));
        }

        #[test]
        fn so_are_quotes_and_backslashes(text in r"['\\a\x00\n%;-]{0,12}") {
            prop_assert_eq!(read_by_mysql(&mysql(&text)), text.as_str());
            prop_assert_eq!(read_by_postgres(&postgres(&text)), text.replace('\0', "\u{fffd}"));
        }
    }
}
