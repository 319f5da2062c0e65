//! Whose quota a request is charged to, and under which key the database knows them.
//!
//! Keys live in four namespaces that never meet, told apart by their first character:
//!
//! | key | account |
//! | --- | --- |
//! | `alice@example.com` | a login; one that begins with `@`, `<`, `[` or `\` has a `\` put before it |
//! | `<alice@example.com>` | an envelope sender without a login |
//! | `[192.0.2.1]`, `[2001:db8::/64]` | a client without a login |
//! | `@example.com` | the quota that the logins of a domain begin with; no mail is charged to it |
//!
//! So an outsider, who may choose any envelope sender, never meets a login's row. A key is at most [`MAX_KEY`] characters,
//! without control characters and without blanks at its ends, in lower case.

pub mod network;

use sha2::{Digest, Sha256};

/// The longest key, in characters: the width of `ratelimits.sender`.
pub const MAX_KEY: usize = 255;
/// What is kept, in characters, of a key that must be shortened; `#` and [`HASH_DIGITS`] follow.
const KEPT: usize = 190;
/// Hexadecimal digits of the SHA-256 in a shortened key.
const HASH_DIGITS: usize = 32;
/// What a login must not begin with: it would be taken for a key of another namespace.
const RESERVED: [char; 4] = ['@', '<', '[', '\\'];

/// LIMIT_BY, LOGIN_DOMAIN, SENDER_STRIP_DOMAIN: whose quota a request is charged to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRules {
    pub limit_by: Vec<LimitBy>,
    /// Lower-cased, without `@`.
    pub login_domain: Option<String>,
    pub strip_domain: bool,
}

/// An attribute of a request that LIMIT_BY names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitBy {
    SaslUsername,
    Sender,
    ClientAddress,
}

impl LimitBy {
    /// The attribute's name in a policy request, as LIMIT_BY has it.
    pub fn name(self) -> &'static str {
        match self {
            LimitBy::SaslUsername => "sasl_username",
            LimitBy::Sender => "sender",
            LimitBy::ClientAddress => "client_address",
        }
    }
}

/// The attributes of a request that say who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// Empty without a login.
    pub sasl_username: &'a str,
    /// The envelope sender; empty for `<>`.
    pub sender: &'a str,
    pub client_address: &'a str,
}

/// The account that a request is charged to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    /// What `ratelimits.sender` holds.
    pub key: String,
    pub kind: Kind,
}

/// Which attribute a [`Account`] was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Login,
    Sender,
    Network,
}

impl Account {
    /// The first of LIMIT_BY that the request has. A request with a login always has a subject, also where LIMIT_BY
    /// does not name the login and what it names is empty.
    pub fn of(asked: &Attributes<'_>, settings: &AccountRules) -> Option<Account> {
        let login = || login_key(asked.sasl_username, settings).map(|key| Account { key, kind: Kind::Login });
        let named = settings.limit_by.iter().find_map(|attribute| match attribute {
            LimitBy::SaslUsername => login(),
            LimitBy::Sender => sender_key(asked.sender).map(|key| Account { key, kind: Kind::Sender }),
            LimitBy::ClientAddress => client_key(asked.client_address).map(|key| Account { key, kind: Kind::Network }),
        });
        named.or_else(login)
    }
}

/// Whether a key is a login's. An envelope sender or an address is what a client chose.
pub fn is_login(key: &str) -> bool {
    !key.starts_with(['@', '<', '['])
}

/// The key of the row whose quota a new sender begins with: `@domain`. None for a login without a domain, and for accounts
/// without a login.
pub fn domain_key(key: &str) -> Option<&str> {
    let at = key.rfind('@').filter(|_| is_login(key))?;
    key.get(at..).filter(|domain| domain.len() > 1)
}

/// The key of a sender as an operator names it on the command line: a login in any spelling, or a key as it is shown.
/// None if nothing is named.
pub fn named_key(typed: &str, settings: &AccountRules) -> Option<String> {
    let shown = folded(typed);
    if is_shortened(&shown) {
        return Some(shown);
    }
    if shown.starts_with(RESERVED) {
        return Some(bounded(shown));
    }
    login_key(typed, settings)
}

/// A login in the one spelling it is compared by: lower case, no control characters, no blanks at its ends, with
/// LOGIN_DOMAIN if it has no domain. Neither escaped nor shortened; empty when there is nothing to see.
pub fn folded_login(login: &str, settings: &AccountRules) -> String {
    let mut login = folded(login);
    if let Some(domain) = &settings.login_domain
        && !login.is_empty()
        && !login.contains('@')
    {
        login.push('@');
        login.push_str(domain);
    }
    login
}

/// An envelope sender in the one spelling it is compared by; empty for the null sender.
pub fn folded_sender(sender: &str) -> String {
    let sender = folded(sender);
    if sender == "<>" { String::new() } else { sender }
}

/// The part of a folded login that is counted with SENDER_STRIP_DOMAIN. A login that begins with `@` has none, and
/// stays.
pub fn without_domain(login: &str) -> &str {
    match login.split_once('@') {
        Some((user, _)) if !user.trim_end().is_empty() => user.trim_end(),
        _ => login,
    }
}

/// `@` and the domain of a login, in the spelling it is compared by. None without one.
pub fn domain_of_login(login: &str, settings: &AccountRules) -> Option<String> {
    let login = folded_login(login, settings);
    login.get(login.rfind('@')?..).filter(|domain| domain.len() > 1).map(str::to_owned)
}

/// The key of a login. None without one.
pub fn login_key(login: &str, settings: &AccountRules) -> Option<String> {
    if login.is_empty() {
        return None;
    }
    let mut key = folded_login(login, settings);
    if settings.strip_domain {
        key.truncate(without_domain(&key).len());
    }
    // A login of blanks alone still is a login: its key is the escape character alone.
    if key.is_empty() || key.starts_with(RESERVED) {
        key.insert(0, '\\');
    }
    Some(bounded(key))
}

fn sender_key(sender: &str) -> Option<String> {
    let sender = folded_sender(sender);
    (!sender.is_empty()).then(|| bounded(format!("<{sender}>")))
}

fn client_key(client_address: &str) -> Option<String> {
    let network = network::neighbourhood(network::address(client_address)?);
    Some(if network.addr().is_ipv4() { format!("[{}]", network.addr()) } else { format!("[{network}]") })
}

/// Lower case, without what a sender could vary and still log in: control characters, and blanks at the ends,
/// which most collations ignore. The two Greek small sigmas are one letter, since lower-casing must not depend on its
/// neighbours.
pub(super) fn folded(text: &str) -> String {
    let seen = |character: &char| !character.is_control();
    let lower = |character: char| character.to_lowercase().map(|small| if small == 'ς' { 'σ' } else { small });
    let mut text: String = if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        text.to_ascii_lowercase()
    } else {
        text.chars().filter(seen).flat_map(lower).collect()
    };
    text.truncate(text.trim_end().len());
    if text.starts_with(char::is_whitespace) { text.trim_start().to_owned() } else { text }
}

/// The key itself if it fits, else its first characters and a hash of it all, so that long keys stay apart. One that is
/// written like a shortened key is shortened too, else it would share the row of the login that this is the short form of.
fn bounded(key: String) -> String {
    if key.chars().count() <= MAX_KEY && !is_shortened(&key) { key } else { shortened(&key, &key) }
}

/// Whether this has the form that [`shortened`] gives a key.
fn is_shortened(key: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    key.rsplit_once('#').is_some_and(|(kept, hash)| {
        hash.len() == HASH_DIGITS && hash.bytes().all(is_digit) && kept.chars().count() <= KEPT
    })
}

/// The beginning of `shown`, and the hash of `key`: short, and still no other key's.
pub fn shortened(shown: &str, key: &str) -> String {
    let kept: String = shown.chars().take(KEPT).collect();
    let hash: String = Sha256::digest(key).iter().take(HASH_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
    format!("{kept}#{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings(limit_by: &[LimitBy]) -> AccountRules {
        AccountRules { limit_by: limit_by.to_vec(), login_domain: None, strip_domain: false }
    }

    fn login(login: &str) -> String {
        login_key(login, &settings(&[LimitBy::SaslUsername])).unwrap()
    }

    fn key_of(asked: Attributes<'_>, limit_by: &[LimitBy]) -> Option<String> {
        Account::of(&asked, &settings(limit_by)).map(|subject| subject.key)
    }

    const ALICE: Attributes<'_> =
        Attributes { sasl_username: "Alice@Example.COM", sender: "Info@Example.com", client_address: "192.0.2.1" };

    #[test]
    fn the_first_attribute_that_the_request_has_is_charged() {
        use LimitBy::{ClientAddress, SaslUsername, Sender};
        let outsider = Attributes { sasl_username: "", ..ALICE };
        let bounce = Attributes { sender: "", ..ALICE };
        for (asked, limit_by, key) in [
            (ALICE, vec![SaslUsername], Some("alice@example.com")),
            (ALICE, vec![Sender, SaslUsername], Some("<info@example.com>")),
            (ALICE, vec![ClientAddress], Some("[192.0.2.1]")),
            (outsider, vec![SaslUsername], None),
            (outsider, vec![SaslUsername, Sender], Some("<info@example.com>")),
            (Attributes { sender: "", ..outsider }, vec![Sender], None),
            (Attributes { sender: "<>", ..outsider }, vec![Sender, ClientAddress], Some("[192.0.2.1]")),
            (
                Attributes { client_address: "unknown", ..outsider },
                vec![ClientAddress, Sender],
                Some("<info@example.com>"),
            ),
            // With a login it is always counted.
            (bounce, vec![SaslUsername], Some("alice@example.com")),
            (bounce, vec![Sender], Some("alice@example.com")),
            (bounce, vec![], Some("alice@example.com")),
        ] {
            assert_eq!(key_of(asked, &limit_by).as_deref(), key, "{asked:?} by {limit_by:?}");
        }
    }

    #[test]
    fn a_client_is_its_ipv4_address_or_its_ipv6_network() {
        for (address, key) in [
            ("::ffff:192.0.2.1", "[192.0.2.1]"),
            ("2001:db8:1:2:3:4:5:6", "[2001:db8:1:2::/64]"),
            ("2001:DB8:1:2::", "[2001:db8:1:2::/64]"),
        ] {
            assert_eq!(client_key(address).as_deref(), Some(key));
        }
    }

    #[test]
    fn spellings_of_one_login_are_one_key() {
        for (typed, key) in [
            ("ALICE", "alice"),
            ("alice  ", "alice"),
            (" \talice\u{a0}", "alice"),
            ("al\u{0}ice\u{1f}", "alice"),
            ("alice\u{0} \u{0}", "alice"),
            ("MÜLLER", "müller"),
            ("ΟΔΟΣ", "οδοσ"),
            ("οδος", "οδοσ"),
            ("dom\\alice", "dom\\alice"),
        ] {
            assert_eq!(login(typed), key, "{typed:?}");
        }
    }

    #[test]
    fn logins_that_look_like_other_keys_are_escaped() {
        for (typed, key) in [
            ("@example.com", "\\@example.com"),
            ("<alice@example.com>", "\\<alice@example.com>"),
            ("[192.0.2.1]", "\\[192.0.2.1]"),
            ("\\@example.com", "\\\\@example.com"),
            ("   ", "\\"),
        ] {
            assert_eq!(login(typed), key, "{typed:?}");
        }
    }

    #[test]
    fn domains_are_added_and_cut_as_told() {
        let with = |login_domain: Option<&str>, strip_domain, login| {
            let login_domain = login_domain.map(str::to_owned);
            login_key(login, &AccountRules { limit_by: vec![], login_domain, strip_domain }).unwrap()
        };
        assert_eq!(with(Some("example.com"), false, "Alice"), "alice@example.com");
        assert_eq!(with(Some("example.com"), false, "alice@example.net"), "alice@example.net");
        assert_eq!(with(None, true, "alice@example.net"), "alice");
        assert_eq!(with(None, true, "alice @example.net"), "alice");
        assert_eq!(with(Some("example.com"), true, "alice"), "alice");
        assert_eq!(with(None, true, "@example.net"), "\\@example.net");
        assert_eq!(with(Some("example.com"), false, " "), "\\");
    }

    #[test]
    fn long_logins_stay_apart() {
        let long = |last: char| format!("{}{last}", "é".repeat(MAX_KEY));
        let (one, two) = (login(&long('1')), login(&long('2')));
        assert_ne!(one, two);
        assert_eq!(one.chars().count(), KEPT + 1 + HASH_DIGITS);
        assert!(one.starts_with(&"é".repeat(KEPT)));
        assert_eq!(login(&"a".repeat(MAX_KEY)), "a".repeat(MAX_KEY));
        // SHA-256 of 256 times `a`, by sha256sum.
        assert!(login(&"a".repeat(256)).ends_with("#02d7160d77e18c6447be80c2e355c7ed"), "{}", login(&"a".repeat(256)));
    }

    #[test]
    fn a_login_that_is_written_like_a_shortened_key_has_a_row_of_its_own() {
        let long = login(&"a".repeat(MAX_KEY + 1));
        // What a character set cannot hold is shown by `?`, and may be short.
        for shown in [long.clone(), shortened("m?ller", "müller")] {
            let written = login(&shown);
            assert_ne!(written, shown);
            assert!(written.chars().count() <= MAX_KEY && login(&written) != written);
            assert_eq!(named_key(&shown, &settings(&[])), Some(shown), "an operator names the row that is shown");
        }
        for plain in ["a#b", "a#02d7160d", &format!("{}#x", "a".repeat(KEPT))] {
            assert_eq!(login(plain), plain);
        }
    }

    #[test]
    fn only_a_login_begins_with_its_domains_quota() {
        for (key, domain) in [
            ("alice@example.com", Some("@example.com")),
            ("a@b@example.com", Some("@example.com")),
            ("\\@example.com", Some("@example.com")),
            ("alice", None),
            ("alice@", None),
            ("@example.com", None),
            ("<alice@example.com>", None),
            ("[192.0.2.1]", None),
        ] {
            assert_eq!(domain_key(key), domain, "{key}");
        }
    }

    #[test]
    fn an_operator_may_name_any_key() {
        let named = |typed| named_key(typed, &settings(&[])).unwrap();
        for (typed, key) in [
            ("Alice ", "alice"),
            ("@Example.com", "@example.com"),
            ("<a@example.com>", "<a@example.com>"),
            ("[192.0.2.1]", "[192.0.2.1]"),
            ("\\@example.com", "\\@example.com"),
        ] {
            assert_eq!(named(typed), key);
        }
        assert_eq!(named_key("", &settings(&[])), None);
    }

    #[test]
    fn folding_every_character_twice_is_folding_it_once() {
        // Beyond the second plane no letter has a case.
        for character in '\0'..='\u{1ffff}' {
            let once = folded(character.encode_utf8(&mut [0; 4]));
            assert!(once.chars().all(|small| small.to_lowercase().eq([small])), "{character:?} becomes {once:?}");
        }
    }

    const EVERY_ATTRIBUTE: [LimitBy; 3] = [LimitBy::SaslUsername, LimitBy::Sender, LimitBy::ClientAddress];

    fn odd_text() -> impl Strategy<Value = String> {
        prop_oneof!["[@<\\[\\\\>\\]a-cA-C \\t\\x00#]{0,12}", "\\PC{0,300}", any::<String>()]
    }

    proptest! {
        #[test]
        fn a_key_is_one_that_every_database_takes(
            sasl_username in odd_text(),
            sender in odd_text(),
            client_address in prop_oneof![odd_text(), any::<std::net::IpAddr>().prop_map(|a| a.to_string())],
            limit_by in prop::sample::subsequence(EVERY_ATTRIBUTE.to_vec(), 0..=3),
            login_domain in prop::option::of(Just("example.com".to_owned())),
            strip_domain: bool,
        ) {
            let settings = AccountRules { limit_by, login_domain, strip_domain };
            let asked = Attributes { sasl_username: &sasl_username, sender: &sender, client_address: &client_address };
            let Some(subject) = Account::of(&asked, &settings) else {
                prop_assert!(sasl_username.is_empty());
                return Ok(());
            };
            let key = subject.key;
            prop_assert!(!key.is_empty() && key.chars().count() <= MAX_KEY);
            prop_assert!(!key.contains(char::is_control));
            prop_assert_eq!(key.trim(), &key);
            let namespace = match key.chars().next() {
                Some('<') => Kind::Sender,
                Some('[') => Kind::Network,
                Some('@') => return Err(TestCaseError::fail("charged to a domain")),
                _ => Kind::Login,
            };
            prop_assert_eq!(namespace, subject.kind);
        }

        #[test]
        fn nobody_escapes_his_quota_by_case_blanks_or_controls(
            name in "[a-z@.<\\[\\\\]{1,20}",
            upper: u32,
            noise in "[ \\x00-\\x1f\\x7f]{0,4}",
        ) {
            let varied: String = name
                .chars()
                .enumerate()
                .map(|(i, c)| if upper >> (i % 32) & 1 == 1 { c.to_ascii_uppercase() } else { c })
                .collect();
            prop_assert_eq!(login(&format!("{noise}{varied}{noise}")), login(&name));
        }

        #[test]
        fn different_logins_have_different_keys(one in "[a-c@<\\[\\\\#>]{1,5}", two in "[a-c@<\\[\\\\#>]{1,5}") {
            prop_assert_eq!(one == two, login(&one) == login(&two));
        }

        #[test]
        fn a_shown_key_names_itself(name in odd_text()) {
            let settings = settings(&[]);
            if let Some(key) = login_key(&name, &settings) {
                prop_assert_eq!(named_key(&key, &settings), Some(key));
            }
        }
    }
}
