//! WEBHOOK_URL: a URL with placeholders, names in braces for which values are filled in.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::secret::Secret;

/// What may stand in any part of a URL as it is (RFC 3986, unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A URL that may hold a password in its text, so it never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct UrlTemplate(Vec<Part>);

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(Secret),
    Value(Placeholder),
    /// A name in braces that stands for nothing.
    Unknown(String),
}

/// A name that may stand in the braces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholder {
    MessageId,
    Sender,
    ClientAddress,
    ClientName,
    Recipients,
    From,
    To,
    Timestamp,
    Quota,
    QuotaReset,
    Used,
    Event,
    Limit,
    Reason,
    Until,
    Held,
    /// Not a key of the payload, as all the others are.
    Token,
}

impl Placeholder {
    /// All of them, with the keys that they have in the payload, too.
    pub const NAMES: [(&'static str, Placeholder); 17] = [
        ("msgid", Placeholder::MessageId),
        ("sender", Placeholder::Sender),
        ("client_address", Placeholder::ClientAddress),
        ("client_name", Placeholder::ClientName),
        ("rcpt_count", Placeholder::Recipients),
        ("from_addr", Placeholder::From),
        ("to_addr", Placeholder::To),
        ("timestamp", Placeholder::Timestamp),
        ("quota", Placeholder::Quota),
        ("quota_reset", Placeholder::QuotaReset),
        ("used", Placeholder::Used),
        ("event", Placeholder::Event),
        ("limit", Placeholder::Limit),
        ("reason", Placeholder::Reason),
        ("until", Placeholder::Until),
        ("held", Placeholder::Held),
        ("token", Placeholder::Token),
    ];
}

/// A placeholder where the URL says which host to ask: a value from the network must not choose that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has a placeholder in the host's name, which a sender must not choose")]
pub struct HostPlaceholder;

impl UrlTemplate {
    /// Splits at names of lower-case letters and `_` in braces; other braces are text.
    ///
    /// # Errors
    /// There is a brace in the host's name.
    pub fn parse(written: &str) -> Result<UrlTemplate, HostPlaceholder> {
        let after_scheme = written.split_once("://").map_or(written, |(_, rest)| rest);
        if after_scheme.split(['/', '?', '#']).next().is_some_and(|host| host.contains('{')) {
            return Err(HostPlaceholder);
        }
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = written;
        while let Some((before, after)) = rest.split_once('{') {
            text.push_str(before);
            let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            match after.split_once('}').filter(|(name, _)| is_name(name)) {
                Some((name, after)) => {
                    parts.push(Part::Text(Secret::new(std::mem::take(&mut text))));
                    let known = Placeholder::NAMES.iter().find(|(known, _)| *known == name);
                    parts.push(known.map_or_else(|| Part::Unknown(name.to_owned()), |&(_, known)| Part::Value(known)));
                    rest = after;
                }
                None => {
                    text.push('{');
                    rest = after;
                }
            }
        }
        text.push_str(rest);
        parts.push(Part::Text(Secret::new(text)));
        Ok(UrlTemplate(parts))
    }

    /// Whether the placeholder stands in it.
    pub fn has(&self, placeholder: Placeholder) -> bool {
        self.0.contains(&Part::Value(placeholder))
    }

    /// The first name in braces that is no placeholder, if there is one.
    pub fn unknown(&self) -> Option<&str> {
        self.0.iter().find_map(|part| match part {
            Part::Unknown(name) => Some(name.as_str()),
            Part::Text(_) | Part::Value(_) => None,
        })
    }

    /// The URL with the value of each placeholder, percent-encoded: a value cannot end a path's segment or begin a parameter.
    /// A name that is no placeholder stays as it is.
    pub fn fill(&self, value: impl Fn(Placeholder) -> String) -> String {
        let mut url = String::with_capacity(256);
        for part in &self.0 {
            match part {
                Part::Text(text) => url.push_str(text.reveal()),
                Part::Value(placeholder) => url.extend(utf8_percent_encode(&value(*placeholder), ENCODED)),
                Part::Unknown(name) => url.extend(["%7B", name, "%7D"]),
            }
        }
        url
    }
}

impl fmt::Debug for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(template: &str, sender: &str) -> String {
        UrlTemplate::parse(template).unwrap().fill(|placeholder| {
            assert_eq!(placeholder, Placeholder::Sender);
            sender.to_owned()
        })
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
    fn names_are_found_and_every_other_brace_is_text() {
        let url = UrlTemplate::parse("https://h/{sender}/{}{{to_addr}?{A}{token}{").unwrap();
        assert!(url.has(Placeholder::Sender) && url.has(Placeholder::To) && url.has(Placeholder::Token));
        assert!(!url.has(Placeholder::Quota) && url.unknown().is_none());
        assert_eq!(url.fill(|_| "v".to_owned()), "https://h/v/{}{v?{A}v{");
        assert_eq!(filled("https://h/{unknown}", "x"), "https://h/%7Bunknown%7D");
        assert_eq!(UrlTemplate::parse("https://h/{one}{two}").unwrap().unknown(), Some("one"));
    }

    #[test]
    fn a_value_must_not_choose_the_host() {
        for url in ["https://{sender}.example.com/", "https://example.com{sender}", "https://{sender}?x", "{sender}"] {
            assert_eq!(UrlTemplate::parse(url), Err(HostPlaceholder), "{url}");
        }
        for url in ["https://example.com/{sender}", "https://example.com?x={sender}"] {
            assert!(UrlTemplate::parse(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn it_never_shows_itself() {
        assert_eq!(format!("{:?}", UrlTemplate::parse("https://u:password@h/{sender}").unwrap()), "(secret)");
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
        fn a_template_without_values_loses_nothing(path in "[a-z{}_/]{0,40}") {
            let template = format!("https://h/{path}");
            let url = UrlTemplate::parse(&template).unwrap().fill(|known| {
                format!("{{{}}}", Placeholder::NAMES.iter().find(|(_, other)| *other == known).unwrap().0)
            });
            prop_assert_eq!(url.replace("%7B", "{").replace("%7D", "}"), template);
        }
    }
}
