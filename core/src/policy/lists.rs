//! ALLOWLIST and DENYLIST: mail that is not counted, and mail that is refused.
//!
//! One entry a line: `user`, `user@domain`, `@domain`, an address, a network, or `sender:` and an envelope sender,
//! after which `hours=Mon-Fri,07:00-19:59` may say when. `#` begins a comment. Host names are never matched: a client
//! names himself. An envelope sender is the client's choice too, so the ALLOWLIST looks at it only where an entry
//! says `sender:`.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::civil::DateTime;

use crate::account::network;
use crate::account::{self, AccountRules, Attributes};
use crate::policy::hours::{Hours, HoursProblem};
use crate::policy::syntax::{Mistake, Piece};

/// The most mistakes that are told of one file; a file with more is not a list at all.
const MAX_MISTAKES: usize = 50;

/// Both lists, as they are asked.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    pub allow: List,
    pub deny: List,
}

/// One list, read. Asking costs the same for one entry as for 100,000.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// Folded logins, and `@domain` for all of a domain.
    logins: HashMap<String, Hours>,
    /// Folded envelope senders, and `@domain`; empty for the null sender.
    senders: HashMap<String, Hours>,
    networks: HashMap<IpNet, Hours>,
    /// The prefix lengths that occur in `networks`.
    ipv4_lengths: BTreeSet<u8>,
    ipv6_lengths: BTreeSet<u8>,
    entries: usize,
}

/// Which list a file is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Allow,
    Deny,
}

/// The entry that a request was found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub list: Which,
    /// As it would be written in the list, for the log.
    pub entry: String,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = match self.list {
            Which::Allow => "allowlisted",
            Which::Deny => "denylisted",
        };
        write!(f, "{list}: {}", self.entry)
    }
}

/// A mistake in a list, and its line; the first is 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, {mistake}")]
pub struct LineMistake {
    pub line: usize,
    pub mistake: Mistake<ListProblem>,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListProblem {
    #[error("`{0}` is neither an address nor a network")]
    Network(String),
    #[error("`{0}` is a host name; only logins, senders, addresses and networks are matched")]
    HostName(String),
    #[error("`{0}` has a `*`; write `@domain` for all of a domain")]
    Wildcard(String),
    #[error("`{0}` is in brackets; write an address alone, or `sender:` and an envelope sender")]
    Brackets(String),
    #[error("`{0}` names nobody")]
    Nobody(String),
    #[error("`{0}` cannot follow an entry; only `hours=` can")]
    Option(String),
    #[error(transparent)]
    Hours(#[from] HoursProblem),
}

impl Lists {
    /// Whether both are empty.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// The entry that this request is found by at this moment of the server's local time. Deny wins.
    pub fn find(&self, asked: &Attributes<'_>, settings: &AccountRules, now: DateTime) -> Option<Hit> {
        if self.is_empty() {
            return None;
        }
        let who = Who::of(asked, settings);
        let hit = |list: &List, which| list.find(&who, now).map(|entry| Hit { list: which, entry });
        hit(&self.deny, Which::Deny).or_else(|| hit(&self.allow, Which::Allow))
    }

    /// What they say of a name that is counted, a login or `@domain`, whatever client and envelope sender its mail has (these
    /// may be on a list, too): the entry, and whether it applies at this moment or at other hours only. What applies wins over
    /// what does not, then deny over allow.
    pub fn find_name(&self, name: &str, now: DateTime) -> Option<(Hit, bool)> {
        let find = |applies: bool, list: &List, which| {
            let mut names = [Some(name), domain(name)].into_iter().flatten();
            let entry = names.find(|name| list.logins.get(*name).is_some_and(|hours| hours.contain(now) == applies))?;
            Some((Hit { list: which, entry: entry.to_owned() }, applies))
        };
        [true, false].into_iter().find_map(|applies| {
            find(applies, &self.deny, Which::Deny).or_else(|| find(applies, &self.allow, Which::Allow))
        })
    }
}

/// A request, folded for comparing.
#[derive(Debug)]
struct Who {
    /// The whole login, and with SENDER_STRIP_DOMAIN the part that is counted.
    login: String,
    stripped: Option<String>,
    sender: String,
    client: Option<IpAddr>,
}

impl Who {
    fn of(asked: &Attributes<'_>, settings: &AccountRules) -> Who {
        let login = account::folded_login(asked.sasl_username, settings);
        Who {
            stripped: settings.strip_domain.then(|| account::without_domain(&login).to_owned()),
            login,
            sender: account::folded_sender(asked.sender),
            client: network::address(asked.client_address),
        }
    }
}

impl List {
    /// Reads the contents of a list file. On error, the first `MAX_MISTAKES` mistakes.
    pub fn parse(contents: &str, which: Which, settings: &AccountRules) -> Result<List, Vec<LineMistake>> {
        let mut list = List::default();
        let mut mistakes = Vec::new();
        let contents = contents.strip_prefix('\u{feff}').unwrap_or(contents);
        for (number, line) in contents.lines().enumerate() {
            if let Err(mistake) = list.take(Piece::new(without_comment(line)), which, settings) {
                mistakes.push(LineMistake { line: number + 1, mistake });
            }
            if mistakes.len() == MAX_MISTAKES {
                break;
            }
        }
        if mistakes.is_empty() { Ok(list) } else { Err(mistakes) }
    }

    /// How many entries were read.
    pub fn len(&self) -> usize {
        self.entries
    }

    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    fn find(&self, who: &Who, now: DateTime) -> Option<String> {
        let login = || {
            let names = [Some(who.login.as_str()), who.stripped.as_deref(), domain(&who.login)];
            let mut names = names.into_iter().flatten().filter(|name| !name.is_empty());
            names.find(|name| applies(&self.logins, *name, now)).map(str::to_owned)
        };
        let client = || self.network_of(who.client?, now).map(shown);
        let sender = || {
            let mut names = [Some(who.sender.as_str()), domain(&who.sender)].into_iter().flatten();
            let name = names.find(|name| applies(&self.senders, *name, now))?;
            Some(format!("sender:{}", if name.is_empty() { "<>" } else { name }))
        };
        login().or_else(client).or_else(sender)
    }

    fn network_of(&self, client: IpAddr, now: DateTime) -> Option<IpNet> {
        let lengths = if client.is_ipv4() { &self.ipv4_lengths } else { &self.ipv6_lengths };
        let mut around = lengths.iter().filter_map(|&length| IpNet::new(client, length).ok()).map(|net| net.trunc());
        around.find(|net| applies(&self.networks, net, now))
    }

    /// Takes in one line.
    fn take(&mut self, line: Piece<'_>, which: Which, settings: &AccountRules) -> Result<(), Mistake<ListProblem>> {
        let (entry, mut options) = line.word(&[]);
        if entry.text.is_empty() {
            return Ok(());
        }
        let mut hours: Option<Hours> = None;
        while !options.text.is_empty() {
            let (option, rest) = options.word(&[]);
            let more = hours_of(option)?;
            match &mut hours {
                Some(hours) => hours.widen(more),
                None => hours = Some(more),
            }
            options = rest;
        }
        let hours = hours.unwrap_or_default();
        match Entry::parse(entry)? {
            Entry::Sender(sender) => add(&mut self.senders, account::folded_sender(sender), hours),
            Entry::Network(network) => {
                let lengths = if network.addr().is_ipv4() { &mut self.ipv4_lengths } else { &mut self.ipv6_lengths };
                lengths.insert(network.prefix_len());
                add(&mut self.networks, network, hours);
            }
            Entry::Name(name) => {
                if which == Which::Deny {
                    add(&mut self.senders, account::folded(name), hours.clone());
                }
                // With SENDER_STRIP_DOMAIN a bare name is that login in every domain.
                let login =
                    if settings.strip_domain { account::folded(name) } else { account::folded_login(name, settings) };
                add(&mut self.logins, login, hours);
            }
        }
        self.entries += 1;
        Ok(())
    }
}

#[derive(Debug)]
enum Entry<'a> {
    Name(&'a str),
    Sender(&'a str),
    Network(IpNet),
}

impl<'a> Entry<'a> {
    fn parse(word: Piece<'a>) -> Result<Entry<'a>, Mistake<ListProblem>> {
        let wrong = |problem: fn(String) -> ListProblem, example| Err(word.mistake(problem(word.shown()), example));
        let text = word.text;
        let sender = text.strip_prefix("sender:");
        let name = sender.unwrap_or(text);
        if name == "@" || account::folded(name).is_empty() {
            return wrong(ListProblem::Nobody, "user@example.com");
        }
        if name.contains('*') {
            return wrong(ListProblem::Wildcard, "@example.com");
        }
        if let Some(sender) = sender {
            return Ok(Entry::Sender(sender));
        }
        if let Some(network) = network::network(text) {
            return Ok(Entry::Network(network));
        }
        if text.starts_with(['[', '<']) {
            return wrong(ListProblem::Brackets, "192.0.2.1");
        }
        if text.starts_with('.') {
            return wrong(ListProblem::HostName, "@example.com");
        }
        if like_an_address(text) {
            return wrong(ListProblem::Network, "192.0.2.0/24");
        }
        Ok(Entry::Name(text))
    }
}

/// `192.0.2`, `192.0.2.0/33`, `2001:db8/32`: what was meant to be an address, and would match no login.
fn like_an_address(text: &str) -> bool {
    let only = |allowed: fn(u8) -> bool| text.bytes().all(allowed);
    let ipv4 = only(|b| b.is_ascii_digit() || b".:/".contains(&b)) && text.contains('.');
    let ipv6 = only(|b| b.is_ascii_hexdigit() || b".:/".contains(&b)) && text.contains(':');
    ipv6 || (ipv4 && (text.contains('/') || text.matches('.').count() > 1))
}

fn hours_of(option: Piece<'_>) -> Result<Hours, Mistake<ListProblem>> {
    let wrong = || option.mistake(ListProblem::Option(option.shown()), "hours=Mon-Fri,07:00-19:59");
    let value = option.after("hours=").ok_or_else(wrong)?;
    Hours::parse(value).map_err(Mistake::into)
}

/// Several lines for one entry apply when any of them does.
fn add<K: std::hash::Hash + Eq>(entries: &mut HashMap<K, Hours>, key: K, hours: Hours) {
    match entries.entry(key) {
        std::collections::hash_map::Entry::Occupied(mut known) => known.get_mut().widen(hours),
        std::collections::hash_map::Entry::Vacant(place) => {
            place.insert(hours);
        }
    }
}

fn applies<K, Q>(entries: &HashMap<K, Hours>, key: &Q, now: DateTime) -> bool
where
    K: std::hash::Hash + Eq + std::borrow::Borrow<Q>,
    Q: std::hash::Hash + Eq + ?Sized,
{
    entries.get(key).is_some_and(|hours| hours.contain(now))
}

/// `@domain` of `user@domain`.
fn domain(name: &str) -> Option<&str> {
    name.get(name.rfind('@')?..)
}

fn shown(network: IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() { network.addr().to_string() } else { network.to_string() }
}

/// The line up to a `#` at its start or after a blank; a login may contain one.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    let comment = line.char_indices().find(|&(_, character)| {
        let begins = character == '#' && before.is_whitespace();
        before = character;
        begins
    });
    comment.and_then(|(at, _)| line.get(..at)).unwrap_or(line)
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Which::Allow => "ALLOWLIST",
            Which::Deny => "DENYLIST",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::datetime;
    use proptest::prelude::*;

    const PLAIN: AccountRules = AccountRules { limit_by: Vec::new(), login_domain: None, strip_domain: false };

    /// A Monday at noon.
    fn noon() -> DateTime {
        datetime(2026, 11, 2, 12, 0, 0, 0)
    }

    fn list(contents: &str, which: Which, settings: &AccountRules) -> List {
        List::parse(contents, which, settings).unwrap_or_else(|mistakes| panic!("{contents}: {mistakes:?}"))
    }

    fn ask(contents: &str, which: Which, settings: &AccountRules, asked: [&str; 3]) -> Option<String> {
        let list = list(contents, which, settings);
        let lists = match which {
            Which::Allow => Lists { allow: list, ..Lists::default() },
            Which::Deny => Lists { deny: list, ..Lists::default() },
        };
        let [sasl_username, sender, client_address] = asked;
        let hit = lists.find(&Attributes { sasl_username, sender, client_address }, settings, noon());
        hit.inspect(|hit| assert_eq!(hit.list, which)).map(|hit| hit.entry)
    }

    const ALICE: [&str; 3] = ["Alice@Example.com", "info@example.net", "192.0.2.7"];

    #[test]
    fn the_allowlist_matches_login_or_client() {
        for (entry, hit) in [
            ("ALICE@example.com ", Some("alice@example.com")),
            ("@example.com", Some("@example.com")),
            ("192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.99/24", Some("192.0.2.0/24")),
            ("::ffff:192.0.2.0/120", Some("192.0.2.0/24")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("sender:info@example.net", Some("sender:info@example.net")),
            ("sender:@example.net", Some("sender:@example.net")),
            ("alice", None),
            ("info@example.net", None),
            ("@example.net", None),
            ("@com", None),
            ("sender:alice@example.com", None),
            ("192.0.3.0/24", None),
            ("::/0", None),
            ("", None),
        ] {
            assert_eq!(ask(entry, Which::Allow, &PLAIN, ALICE).as_deref(), hit, "{entry}");
        }
    }

    #[test]
    fn the_denylist_matches_the_envelope_sender_as_well() {
        for (entry, hit) in [
            ("alice@example.com", Some("alice@example.com")),
            ("info@example.net", Some("sender:info@example.net")),
            ("@example.net", Some("sender:@example.net")),
            ("sender:alice@example.com", None),
            ("sender:<>", None),
            ("info", None),
        ] {
            assert_eq!(ask(entry, Which::Deny, &PLAIN, ALICE).as_deref(), hit, "{entry}");
        }
        assert_eq!(ask("sender:<>", Which::Deny, &PLAIN, ["", "", ""]).as_deref(), Some("sender:<>"));
        assert_eq!(ask("alice", Which::Deny, &PLAIN, ["", "", ""]), None);
        assert_eq!(
            ask("2001:db8::/32", Which::Deny, &PLAIN, ["", "", "2001:DB8:1::1"]).as_deref(),
            Some("2001:db8::/32")
        );
    }

    #[test]
    fn names_are_logins_as_they_are_counted() {
        let with_domain = AccountRules { login_domain: Some("example.com".to_owned()), ..PLAIN };
        let stripped = AccountRules { strip_domain: true, ..PLAIN };
        let both = AccountRules { strip_domain: true, ..with_domain.clone() };
        for (entry, settings, login, hit) in [
            ("alice", &with_domain, "alice", Some("alice@example.com")),
            ("alice", &with_domain, "alice@example.com", Some("alice@example.com")),
            ("@example.com", &with_domain, "alice", Some("@example.com")),
            ("alice", &with_domain, "alice@example.net", None),
            ("alice", &stripped, "alice@example.net", Some("alice")),
            ("alice@example.net", &stripped, "alice@example.net", Some("alice@example.net")),
            ("alice@example.org", &stripped, "alice@example.net", None),
            ("alice", &both, "alice", Some("alice")),
            ("alice@example.com", &both, "alice", Some("alice@example.com")),
        ] {
            assert_eq!(ask(entry, Which::Allow, settings, [login, "", ""]).as_deref(), hit, "{entry} {login}");
        }
    }

    #[test]
    fn deny_wins() {
        let lists = Lists {
            allow: list("alice@example.com\n192.0.2.7", Which::Allow, &PLAIN),
            deny: list("@example.com", Which::Deny, &PLAIN),
        };
        let find = |sasl_username| {
            let asked = Attributes { sasl_username, sender: "", client_address: "192.0.2.7" };
            lists.find(&asked, &PLAIN, noon()).map(|hit| hit.list)
        };
        assert_eq!(find("alice@example.com"), Some(Which::Deny));
        assert_eq!(find("bob@example.net"), Some(Which::Allow));
    }

    #[test]
    fn of_a_name_that_is_counted_only_what_is_certain_is_told() {
        let lists = Lists {
            allow: list("alice@example.com\n@example.net\nbob@example.org hours=Sun\n192.0.2.7", Which::Allow, &PLAIN),
            deny: list("sender:<>\neve@example.net\nbob@example.org hours=Sat", Which::Deny, &PLAIN),
        };
        let told = |name: &str| {
            let (hit, now) = lists.find_name(name, noon())?;
            Some((hit.list, hit.entry, now))
        };
        let some = |which, entry: &str, now| Some((which, entry.to_owned(), now));
        assert_eq!(told("alice@example.com"), some(Which::Allow, "alice@example.com", true));
        assert_eq!(told("carol@example.net"), some(Which::Allow, "@example.net", true));
        assert_eq!(told("@example.net"), some(Which::Allow, "@example.net", true), "all of a domain");
        assert_eq!(told("eve@example.net"), some(Which::Deny, "eve@example.net", true), "deny wins");
        assert_eq!(told("bob@example.org"), some(Which::Deny, "bob@example.org", false));
        for name in ["dave@example.com", "[192.0.2.7]", "<eve@example.net>", "<>", ""] {
            assert_eq!(told(name), None, "{name}");
        }
    }

    #[test]
    fn an_entry_applies_in_its_hours() {
        let entries = "\u{feff}# office\r\nalice hours=Mon-Fri,07:00-19:59 # and\r\n\
                       \x20 alice hours=Sun\thours=Sat,01:00-02:00\r\n\
                       bob#1 hours=Tue\nbob#1\n";
        let lists = Lists { allow: list(entries, Which::Allow, &PLAIN), ..Lists::default() };
        assert_eq!(lists.allow.len(), 4);
        let at = |sasl_username, day, hour| {
            let asked = Attributes { sasl_username, ..Attributes::default() };
            lists.find(&asked, &PLAIN, datetime(2026, 11, day, hour, 30, 0, 0)).is_some()
        };
        assert!(at("alice", 2, 12) && at("alice", 8, 23) && at("alice", 7, 1) && at("bob#1", 2, 3));
        assert!(!at("alice", 2, 20) && !at("alice", 7, 12));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (entry, told) in [
            ("192.0.2.0/33", "`192.0.2.0/33` is neither an address nor a network; for example: 192.0.2.0/24"),
            ("192.0.2", "`192.0.2` is neither an address nor a network; "),
            ("2001:db8/32", "`2001:db8/32` is neither an address nor a network; "),
            (
                ".example.com",
                "`.example.com` is a host name; only logins, senders, addresses and networks are matched; ",
            ),
            (
                "*@example.com",
                "`*@example.com` has a `*`; write `@domain` for all of a domain; for example: @example.com",
            ),
            ("sender:*", "`sender:*` has a `*`; "),
            ("[192.0.2.1]", "`[192.0.2.1]` is in brackets; "),
            ("<a@example.com>", "`<a@example.com>` is in brackets; "),
            ("@", "`@` names nobody; "),
            ("sender:", "`sender:` names nobody; "),
        ] {
            let contents = format!("# comment\nbob\n  {entry}\n");
            let mistakes = List::parse(&contents, Which::Deny, &PLAIN).expect_err(entry);
            let message = mistakes.first().unwrap().to_string();
            assert!(message.starts_with(&format!("line 3, at character 3: {told}")), "{message}");
        }
        for (line, told) in [
            ("bob 07:00-19:59", "line 1, at character 5: `07:00-19:59` cannot follow an entry; only `hours=` can; "),
            ("bob hours=Mon,7", "line 1, at character 15: `7` is not a day or a range of days; "),
        ] {
            let message = List::parse(line, Which::Allow, &PLAIN).unwrap_err().first().unwrap().to_string();
            assert!(message.starts_with(told), "{message}");
        }
        assert_eq!(List::parse(&"@\n".repeat(1000), Which::Allow, &PLAIN).unwrap_err().len(), MAX_MISTAKES);
    }

    #[test]
    fn odd_logins_are_logins() {
        for login in ["user/admin", "12345", "dom\\alice", "bad.cafe", "12.345", "müller"] {
            assert_eq!(ask(login, Which::Allow, &PLAIN, [login, "", ""]).as_deref(), Some(login));
        }
    }

    proptest! {
        #[test]
        fn a_client_is_found_exactly_in_its_networks(
            client: IpAddr,
            nets in prop::collection::vec((any::<IpAddr>(), 0u8..=128), 0..8),
        ) {
            let net = |(address, length): (IpAddr, u8)| IpNet::new(address.to_canonical(), length).ok();
            let nets: Vec<IpNet> = nets.into_iter().filter_map(net).collect();
            let contents: String = nets.iter().map(|net| format!("{net}\n")).collect();
            let hit = ask(&contents, Which::Deny, &PLAIN, ["", "x", &client.to_string()]);
            prop_assert_eq!(hit.is_some(), nets.iter().any(|net| net.contains(&client.to_canonical())));
        }

        #[test]
        fn no_file_is_too_strange_to_explain(
            contents in "([a-c@.*/:# =\t0-9]{0,12}\n){0,6}|\\PC{0,60}|(.|\n|\0){0,30}",
        ) {
            if let Err(mistakes) = List::parse(&contents, Which::Deny, &PLAIN) {
                prop_assert!(mistakes.iter().all(|mistake| mistake.line <= contents.lines().count()));
                prop_assert!(mistakes.iter().all(|mistake| !mistake.to_string().contains(char::is_control)));
            }
        }
    }
}
