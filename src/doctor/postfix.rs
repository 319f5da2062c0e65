//! Postfix's configuration, read from what `postconf -x`, `postconf -Mx` and `postconf -Px` print.

use std::collections::{HashMap, HashSet};

/// The configuration of an instance: main.cf, and the smtpd services of master.cf with what they override.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Postfix {
    pub main: HashMap<String, String>,
    pub services: Vec<Service>,
}

/// An smtpd service of master.cf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `submission/inet`; with the instance's directory if that is not the first.
    pub name: String,
    /// None for `-`, the default.
    pub chroot: Option<bool>,
    pub overrides: HashMap<String, String>,
}

/// A `check_policy_service` in a restriction list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyCheck {
    pub service: String,
    /// The restriction list's name.
    pub list: &'static str,
    /// `unix:rateguard/policyd`, `inet:127.0.0.1:10033`.
    pub address: String,
    /// The attributes of the `{ … }` form.
    pub options: HashMap<String, String>,
    /// What stands before it in the list, in small letters.
    pub before: Vec<String>,
    /// It stands in a restriction class, which this access table may name.
    pub table: Option<String>,
}

/// The lists in which a policy check may stand, in the order in which smtpd(8) evaluates them.
pub const LISTS: [&str; 8] = [
    "smtpd_client_restrictions",
    "smtpd_helo_restrictions",
    "smtpd_sender_restrictions",
    "smtpd_relay_restrictions",
    "smtpd_recipient_restrictions",
    "smtpd_data_restrictions",
    "smtpd_end_of_data_restrictions",
    "smtpd_etrn_restrictions",
];

impl Postfix {
    /// `directory` is that of main.cf, for an instance that is not the first.
    pub fn parse(main: &str, master: &str, overrides: &str, directory: Option<&str>) -> Postfix {
        let mut postfix = Postfix { main: assignments(main).collect(), services: Vec::new() };
        let disabled = words(postfix.main("master_service_disable"));
        for line in master.lines() {
            let columns: Vec<&str> = line.split_whitespace().collect();
            if let [name, kind, _, _, chroot, _, _, "smtpd", ..] = columns.as_slice() {
                let name = format!("{name}/{kind}");
                if disabled.iter().any(|disabled| disabled == kind || *disabled == name) {
                    continue;
                }
                let chroot = match *chroot {
                    "y" => Some(true),
                    "n" => Some(false),
                    _ => None,
                };
                postfix.services.push(Service { name, chroot, overrides: HashMap::new() });
            }
        }
        for (path, value) in assignments(overrides) {
            // `submission/inet/smtpd_data_restrictions`
            if let Some((service, parameter)) = path.rsplit_once('/')
                && let Some(service) = postfix.services.iter_mut().find(|known| known.name == service)
            {
                service.overrides.insert(parameter.to_owned(), value);
            }
        }
        for (service, directory) in postfix.services.iter_mut().zip(std::iter::repeat(directory)) {
            service.name.extend(directory.map(|directory| format!(" of {directory}")));
        }
        postfix
    }

    /// A parameter of main.cf; empty if it is not set.
    pub fn main(&self, name: &str) -> &str {
        self.main.get(name).map_or("", String::as_str)
    }

    /// A parameter as a service sees it; empty if it is not set.
    pub fn value<'a>(&'a self, service: &'a Service, name: &str) -> &'a str {
        service.overrides.get(name).map_or_else(|| self.main(name), String::as_str)
    }

    /// The directories of the other instances, see MULTI_INSTANCE_README.
    pub fn other_instances(&self) -> Vec<String> {
        words(self.main("multi_instance_directories"))
    }

    /// Whether a service runs in Postfix's queue directory as its root. The default is no since Postfix 3.0, unless
    /// compatibility_level asks for the old one.
    pub fn is_chrooted(&self, service: &Service) -> bool {
        let level = self.main.get("compatibility_level").and_then(|level| level.split('.').next()?.trim().parse().ok());
        service.chroot.unwrap_or(level.unwrap_or(0) < 1)
    }

    /// Every policy check of every smtpd service.
    pub fn policy_checks(&self) -> Vec<PolicyCheck> {
        let classes = words(self.main("smtpd_restriction_classes"));
        let mut found = Vec::new();
        for service in &self.services {
            for list in LISTS {
                let mut walk =
                    Walk { postfix: self, service, list, classes: &classes, by_table: HashSet::new(), found };
                walk.list(self.value(service, list), &mut Vec::new(), None, 0);
                found = walk.found;
            }
        }
        found
    }

    /// Whether one of the services looks into an access table, which may hold any restriction.
    pub fn has_access_tables(&self) -> bool {
        let lists = self.services.iter().flat_map(|service| LISTS.map(|list| self.value(service, list)));
        lists.flat_map(words).any(|word| is_access_check(&word))
    }
}

/// Walks through one restriction list and the classes that it names.
struct Walk<'a> {
    postfix: &'a Postfix,
    service: &'a Service,
    list: &'static str,
    classes: &'a [String],
    /// The classes that were walked through because an access table of the list may name them.
    by_table: HashSet<&'a str>,
    found: Vec<PolicyCheck>,
}

impl<'a> Walk<'a> {
    /// Postfix compares the names of restrictions without regard to case, and those of classes with it.
    fn list(&mut self, text: &str, before: &mut Vec<String>, table: Option<&str>, depth: u8) {
        let mut items = words(text).into_iter();
        while let Some(word) = items.next() {
            let name = word.to_ascii_lowercase();
            if name == "check_policy_service" {
                let Some(target) = items.next() else { break };
                let (address, options) = target_of(&target);
                let (service, before) = (self.service.name.clone(), before.clone());
                let table = table.map(str::to_owned);
                self.found.push(PolicyCheck { service, list: self.list, address, options, before, table });
            } else if let Some(class) = self.classes.iter().find(|class| **class == word).filter(|_| depth < 8) {
                self.list(self.postfix.value(self.service, class), before, table, depth + 1);
            } else if is_access_check(&word) {
                let asked = if name.starts_with("check_") { items.next().unwrap_or_default() } else { word.clone() };
                for class in self.classes {
                    if self.by_table.insert(class) {
                        let text = self.postfix.value(self.service, class);
                        self.list(text, &mut before.clone(), Some(table.unwrap_or(&asked)), depth + 1);
                    }
                }
            }
            // It applies to the restriction that follows, and no other.
            match before.last_mut().filter(|last| *last == "warn_if_reject") {
                Some(softened) => softened.extend([" ", name.as_str()]),
                None => before.push(name),
            }
        }
    }
}

/// `check_sender_access`, which a table follows, or a table alone, in the old style.
fn is_access_check(word: &str) -> bool {
    let name = word.to_ascii_lowercase();
    name.starts_with("check_") && name.ends_with("_access") || word.contains(':') && !word.starts_with('{')
}

fn assignments(printed: &str) -> impl Iterator<Item = (String, String)> {
    printed.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    })
}

/// The items of a restriction list: separated by blanks and commas, where braces hold one together.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut depth) = (String::new(), 0usize);
    for character in text.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && (character == ',' || character.is_whitespace()) {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
        } else {
            word.push(character);
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// `unix:path` or `{ unix:path, timeout=5s, … }`.
fn target_of(written: &str) -> (String, HashMap<String, String>) {
    let Some(inside) = written.strip_prefix('{') else { return (written.to_owned(), HashMap::new()) };
    let mut items = words(inside.strip_suffix('}').unwrap_or(inside)).into_iter().peekable();
    let address = items.next().unwrap_or_default();
    let mut options = HashMap::new();
    while let Some(item) = items.next() {
        // `{ name = value }`, `name = value` and `name=value` mean the same.
        let item = item.trim_matches(['{', '}']).trim().to_owned();
        let (name, mut value) = match item.split_once('=') {
            Some((name, value)) => (name.trim().to_owned(), value.trim().to_owned()),
            None => (item, String::new()),
        };
        if value.is_empty() && items.peek().is_some_and(|next| next.starts_with('=')) {
            let next = items.next().unwrap_or_default();
            value = next.trim_start_matches('=').to_owned();
            if value.is_empty() {
                value = items.next().unwrap_or_default();
            }
        }
        options.insert(name, value);
    }
    (address, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MASTER: &str = "smtp       inet  n       -       y       -       -       smtpd\n\
                          submission inet  n       -       n       -       -       smtpd -o syslog_name=postfix/submission\n\
                          pickup     unix  n       -       y       60      1       pickup\n";

    #[test]
    fn finds_the_checks_of_each_service() {
        let postfix = Postfix::parse(
            "compatibility_level = 3.6\nsmtpd_data_restrictions = reject_unauth_pipelining, limits\n\
             smtpd_restriction_classes = limits\n\
             limits = check_policy_service { unix:rateguard/policyd, timeout=5s, default_action = DUNNO }\n",
            MASTER,
            "submission/inet/smtpd_data_restrictions = check_policy_service inet:127.0.0.1:10033, permit\n",
            None,
        );
        assert_eq!(postfix.services.len(), 2);
        assert!(postfix.is_chrooted(&postfix.services[0]) && !postfix.is_chrooted(&postfix.services[1]));
        let checks = postfix.policy_checks();
        assert_eq!(checks.len(), 2);
        assert_eq!(checks[0].address, "unix:rateguard/policyd");
        assert_eq!(checks[0].options.get("timeout").unwrap(), "5s");
        assert_eq!(checks[0].options.get("default_action").unwrap(), "DUNNO");
        assert_eq!(checks[0].before, ["reject_unauth_pipelining"]);
        assert_eq!(
            (checks[1].service.as_str(), checks[1].address.as_str()),
            ("submission/inet", "inet:127.0.0.1:10033")
        );
    }

    #[test]
    fn restrictions_have_no_case_and_classes_have() {
        let checks = |list: &str| {
            let main = format!(
                "smtpd_restriction_classes = Rl\nRl = CHECK_Policy_Service unix:a\nsmtpd_data_restrictions = {list}"
            );
            Postfix::parse(&main, "smtp inet n - n - - smtpd", "", None).policy_checks()
        };
        assert_eq!(checks("Permit_MyNetworks, Rl")[0].before, ["permit_mynetworks"]);
        assert!(checks("rl").is_empty());
    }

    #[test]
    fn an_access_table_may_name_each_class() {
        let checks = |list: &str| {
            let main = format!(
                "smtpd_restriction_classes = one, two, three\none = permit\ntwo = check_policy_service unix:a\n\
                 three = check_client_access cidr:/c\nsmtpd_data_restrictions = {list}"
            );
            Postfix::parse(&main, "smtp inet n - n - - smtpd", "", None).policy_checks()
        };
        for (list, table) in [
            ("reject_x, check_sasl_access hash:/limits", Some("hash:/limits")),
            ("reject_x, Check_Sender_Access { inline:{a=two} }", Some("{ inline:{a=two} }")),
            ("reject_x, hash:/limits", Some("hash:/limits")),
            ("reject_x, three", Some("cidr:/c")),
            ("reject_x, two", None),
        ] {
            let checks = checks(list);
            assert_eq!(checks.len(), 1, "{list}");
            assert_eq!((checks[0].table.as_deref(), &checks[0].before[0]), (table, &"reject_x".to_owned()));
        }
        // Another class's `permit` does not end the list of clients that the table assigns to this class.
        assert!(!checks("hash:/limits")[0].before.contains(&"permit".to_owned()));
        assert!(checks("reject_rbl_client zen.example.org, permit").is_empty());
    }

    #[test]
    fn services_that_are_disabled_are_none_and_those_of_another_instance_say_so() {
        let parse = |main: &str| Postfix::parse(main, MASTER, "smtp/inet/x = 1", Some("/etc/postfix-out"));
        for (disabled, left) in [("inet", 0), ("submission/inet", 1), ("unix", 2), ("", 2)] {
            assert_eq!(parse(&format!("master_service_disable = {disabled}")).services.len(), left, "{disabled}");
        }
        let postfix = parse("multi_instance_directories = /etc/postfix-in, /etc/postfix-out");
        assert_eq!(postfix.services[0].name, "smtp/inet of /etc/postfix-out");
        assert_eq!(postfix.value(&postfix.services[0], "x"), "1");
        assert_eq!(postfix.other_instances(), ["/etc/postfix-in", "/etc/postfix-out"]);
    }

    proptest! {
        #[test]
        fn nothing_that_postconf_may_print_breaks_it(main in "\\PC{0,200}", list in "[a-z{}, =:\n]{0,200}") {
            let main = format!("{main}\nsmtpd_data_restrictions = {list}\nsmtpd_restriction_classes = {list}");
            Postfix::parse(&main, MASTER, &list, None).policy_checks();
        }
    }
}
