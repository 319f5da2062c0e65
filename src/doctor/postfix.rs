//! Postfix's configuration, read from what `postconf -x`, `postconf -Mx` and `postconf -Px` print.

use std::collections::HashMap;

/// A configuration: main.cf, and the smtpd services of master.cf with what they override.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Postfix {
    pub main: HashMap<String, String>,
    pub services: Vec<Service>,
}

/// An smtpd service of master.cf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `submission/inet`.
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
    /// What stands before it in the list.
    pub before: Vec<String>,
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
    pub fn parse(main: &str, master: &str, overrides: &str) -> Postfix {
        let mut postfix = Postfix { main: assignments(main).collect(), services: Vec::new() };
        for line in master.lines() {
            let columns: Vec<&str> = line.split_whitespace().collect();
            if let [name, kind, _, _, chroot, _, _, "smtpd", ..] = columns.as_slice() {
                postfix.services.push(Service {
                    name: format!("{name}/{kind}"),
                    chroot: match *chroot {
                        "y" => Some(true),
                        "n" => Some(false),
                        _ => None,
                    },
                    overrides: HashMap::new(),
                });
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
        postfix
    }

    /// A parameter as a service sees it; empty where it is not set.
    pub fn value<'a>(&'a self, service: &'a Service, name: &str) -> &'a str {
        service.overrides.get(name).or_else(|| self.main.get(name)).map_or("", String::as_str)
    }

    /// Whether a service runs in Postfix's queue directory as its root. The default is no since Postfix 3.0, unless
    /// compatibility_level asks for the old one.
    pub fn is_chrooted(&self, service: &Service) -> bool {
        let level = self.main.get("compatibility_level").and_then(|level| level.split('.').next()?.trim().parse().ok());
        service.chroot.unwrap_or(level.unwrap_or(0) < 1)
    }

    /// Every policy check of every smtpd service.
    pub fn policy_checks(&self) -> Vec<PolicyCheck> {
        let mut found = Vec::new();
        for service in &self.services {
            for list in LISTS {
                self.find(service, list, self.value(service, list), &mut Vec::new(), 0, &mut found);
            }
        }
        found
    }

    fn find(
        &self,
        service: &Service,
        list: &'static str,
        text: &str,
        before: &mut Vec<String>,
        depth: u8,
        found: &mut Vec<PolicyCheck>,
    ) {
        let classes = words(self.main.get("smtpd_restriction_classes").map_or("", String::as_str));
        let mut items = words(text).into_iter();
        while let Some(word) = items.next() {
            if word == "check_policy_service" {
                let Some(target) = items.next() else { break };
                let (address, options) = target_of(&target);
                let (service, before) = (service.name.clone(), before.clone());
                found.push(PolicyCheck { service, list, address, options, before });
            } else if classes.contains(&word) && depth < 8 {
                self.find(service, list, self.value(service, &word), before, depth + 1, found);
            }
            before.push(word);
        }
    }
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

    proptest! {
        #[test]
        fn nothing_that_postconf_may_print_breaks_it(main in "\\PC{0,200}", list in "[a-z{}, =:\n]{0,200}") {
            let main = format!("{main}\nsmtpd_data_restrictions = {list}\nsmtpd_restriction_classes = {list}");
            Postfix::parse(&main, MASTER, &list).policy_checks();
        }
    }
}
