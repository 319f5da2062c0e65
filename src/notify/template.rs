//! A URL with placeholders: names in braces, for which values are filled in. Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What may stand in any part of a URL as it is (RFC 3986, unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A piece of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// The names in braces, in their order.
pub fn names(template: &str) -> impl Iterator<Item = &str> {
    pieces(template).filter_map(|piece| match piece {
        Piece::Name(name) => Some(name),
        Piece::Text(_) => None,
    })
}

/// Whether a name stands where the URL says which host to ask: a value from the network must not choose that.
pub fn names_host(template: &str) -> bool {
    let rest = template.split_once("://").map_or(template, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    host.contains('{')
}

/// The URL with the value of each name, percent-encoded: a value cannot end a path's segment or begin a parameter. A name
/// without a value stays as it is.
pub fn fill(template: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut url = String::with_capacity(template.len() + 64);
    for piece in pieces(template) {
        match piece {
            Piece::Text(text) => url.push_str(text),
            Piece::Name(name) => match value(name) {
                Some(value) => url.extend(utf8_percent_encode(&value, ENCODED)),
                None => url.extend(["%7B", name, "%7D"]),
            },
        }
    }
    url
}

/// Splits at names of lower-case letters and `_` in braces; other braces are text.
fn pieces(template: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = template;
    let mut name = None;
    std::iter::from_fn(move || {
        if let Some(name) = name.take() {
            return Some(Piece::Name(name));
        }
        if rest.is_empty() {
            return None;
        }
        let mut from = 0;
        while let Some(open) = rest.get(from..).and_then(|rest| rest.find('{')).map(|at| at + from) {
            let (before, after) = rest.split_at_checked(open)?;
            let inside = after.get(1..).and_then(|after| after.split_once('}'));
            if let Some((inner, after)) = inside
                && !inner.is_empty()
                && inner.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            {
                rest = after;
                name = Some(inner);
                return Some(Piece::Text(before));
            }
            from = open + 1;
        }
        Some(Piece::Text(std::mem::take(&mut rest)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(template: &str, sender: &str) -> String {
        fill(template, |name| (name == "sender").then(|| sender.to_owned()))
    }

    #[test]
    fn values_are_encoded_and_text_is_not() {
        assert_eq!(
            filled("https://example.com/api/{sender}?s={sender}&x=1", "a b/../c?d=é&@example.com"),
            "https://example.com/api/a%20b%2F..%2Fc%3Fd%3D%C3%A9%26%40example.com\
             ?s=a%20b%2F..%2Fc%3Fd%3D%C3%A9%26%40example.com&x=1"
        );
        assert_eq!(filled("https://h/{sender}", "a-b.c_d~e"), "https://h/a-b.c_d~e");
    }

    #[test]
    fn a_value_is_not_searched_for_names() {
        assert_eq!(filled("https://h/{sender}", "{sender}"), "https://h/%7Bsender%7D");
    }

    #[test]
    fn names_are_found() {
        let found: Vec<&str> = names("https://h/{sender}/{}{{to_addr}?{A}{token}{").collect();
        assert_eq!(found, ["sender", "to_addr", "token"]);
        assert_eq!(filled("https://h/{unknown}", "x"), "https://h/%7Bunknown%7D");
    }

    #[test]
    fn a_value_must_not_choose_the_host() {
        assert!(names_host("https://{sender}.example.com/") && names_host("https://example.com{sender}"));
        assert!(names_host("https://{sender}?x") && names_host("{sender}"));
        assert!(!names_host("https://example.com/{sender}") && !names_host("https://example.com?x={sender}"));
    }

    proptest! {
        #[test]
        fn a_value_stays_within_its_part(value in "(.|[/?#&=%{} ]){0,40}") {
            let url = filled("https://h/{sender}/end", &value);
            let inner = url.strip_prefix("https://h/").and_then(|url| url.strip_suffix("/end")).unwrap();
            prop_assert!(inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
            let decoded = percent_encoding::percent_decode_str(inner).decode_utf8().unwrap();
            prop_assert_eq!(decoded, value);
        }

        #[test]
        fn a_template_without_values_loses_nothing(template in "[a-z{}_/]{0,40}") {
            let url = fill(&template, |_| None);
            prop_assert_eq!(url.replace("%7B", "{").replace("%7D", "}"), template);
        }
    }
}
