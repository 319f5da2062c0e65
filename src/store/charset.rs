//! What a column can hold. An adopted table keeps the character set that its server made it with; a value beyond it would be
//! refused by the database, and with it a whole batch.

use std::borrow::Cow;

use crate::account::shortened;

/// A set of characters, the widest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Charset {
    /// Everything.
    Utf8mb4,
    /// MySQL's `utf8`: nothing beyond U+FFFF.
    Utf8mb3,
    /// MySQL's `latin1`, which is Windows-1252.
    Latin1,
    /// What every other character set of MySQL's holds too.
    Ascii,
}

impl Charset {
    /// The character set that MySQL calls by this name.
    pub fn named(name: &str) -> Charset {
        match name {
            "utf8mb4" => Charset::Utf8mb4,
            "utf8" | "utf8mb3" => Charset::Utf8mb3,
            "latin1" => Charset::Latin1,
            _ => Charset::Ascii,
        }
    }

    fn holds(self, character: char) -> bool {
        const WINDOWS: &str = "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ";
        match self {
            Charset::Utf8mb4 => true,
            Charset::Utf8mb3 => character <= '\u{ffff}',
            Charset::Latin1 => character <= '\u{ff}' || WINDOWS.contains(character),
            Charset::Ascii => character.is_ascii(),
        }
    }
}

/// The key as a column of this character set can hold it: `?` for each character that it cannot, and a hash of the
/// key, so that different keys stay different.
pub fn narrow(key: &str, charset: Charset) -> Cow<'_, str> {
    match narrow_text(key, charset) {
        Cow::Borrowed(key) => Cow::Borrowed(key),
        Cow::Owned(shown) => Cow::Owned(shortened(&shown, key)),
    }
}

/// A text that is only shown, as a column of this character set can hold it: `?` for each character that it cannot.
pub fn narrow_text(text: &str, charset: Charset) -> Cow<'_, str> {
    if text.chars().all(|character| charset.holds(character)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|character| if charset.holds(character) { character } else { '?' }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, AccountRules, Attributes, MAX_KEY};
    use proptest::prelude::*;

    #[test]
    fn a_narrow_column_gets_a_key_it_can_hold() {
        for (key, charset, kept) in [
            ("alice", Charset::Latin1, "alice"),
            ("müller€", Charset::Latin1, "müller€"),
            ("łukasz", Charset::Utf8mb3, "łukasz"),
            ("😀", Charset::Utf8mb4, "😀"),
        ] {
            assert_eq!(narrow(key, charset), kept);
        }
        assert!(narrow("łukasz@example.com", Charset::Latin1).starts_with("?ukasz@example.com#"));
        assert!(narrow("<😀>", Charset::Utf8mb3).starts_with("<?>#"));
        assert_ne!(narrow("😀", Charset::Utf8mb3), narrow("😁", Charset::Utf8mb3));
    }

    proptest! {
        #[test]
        fn a_narrowed_key_is_one_that_the_column_takes(login in "\\PC{1,300}") {
            let settings = AccountRules { limit_by: Vec::new(), login_domain: None, strip_domain: false };
            let Some(Account { key, .. }) = Account::of(&Attributes { sasl_username: &login, ..Attributes::default() }, &settings)
            else {
                return Ok(());
            };
            for charset in [Charset::Utf8mb4, Charset::Utf8mb3, Charset::Latin1, Charset::Ascii] {
                let narrowed = narrow(&key, charset).into_owned();
                prop_assert!(narrowed.chars().count() <= MAX_KEY && narrowed.chars().all(|c| charset.holds(c)));
                prop_assert_eq!(narrow(&narrowed, charset), narrowed.as_str());
            }
        }
    }
}
