//! Blocks: accounts and domains whose mail somebody has stopped, for a time or until it is ended by hand. A block comes before
//! quota and limits. Pure: time is an argument.

use std::collections::HashMap;
use std::sync::Arc;

use crate::account::{self, AccountRules};
use crate::protocol::reply::{Action, Strictness};

/// What the sender is told where the block has no text of its own.
pub const DEFAULT_TEXT: &str = "this account is blocked";

/// The reason of a block whose account was taken over: its mail never becomes usual, and is not released with the rest.
pub const COMPROMISED: &str = "compromised";
/// What the reason of a decision by a block begins with; the block's own reason follows.
pub const DECIDED: &str = "blocked: ";
/// The actions that a block may have.
pub const ACTIONS: [&str; 3] = ["HOLD", "DEFER", "REJECT"];

/// A block of one account or domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The number of its row.
    pub id: i64,
    /// The account's key, or `@domain`.
    pub account: String,
    /// In Unix seconds. It says when it was set, and not when it begins: hosts' clocks differ, and a block counts at once.
    pub since: i64,
    /// When it is over, in Unix seconds; None if it lasts until somebody ends it.
    pub until: Option<i64>,
    pub action: Action,
    /// One word: `compromised`, `quota`, `manual`, …
    pub reason: String,
}

impl Block {
    /// Whether it still counts at a time in Unix seconds.
    pub fn counts(&self, now: i64) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// The action of a block as its row has it. Any other word than those of [`ACTIONS`] is HOLD: somebody wanted the mail
/// stopped, and what is held is not lost.
pub fn action(word: &str, text: &str) -> Action {
    let text = if text.trim().is_empty() { DEFAULT_TEXT } else { text };
    let written = Action::parse(&format!("{word} {text}")).ok();
    written.filter(|action| action.strictness() >= Strictness::Hold).unwrap_or_else(|| Action::hold(text))
}

/// All blocks that are known. Asking costs the same for one as for 100,000.
#[derive(Debug, Default)]
pub struct Blocks {
    /// By account. Of several the strictest counts, and when that is over the next.
    of_account: HashMap<String, Vec<Arc<Block>>>,
}

impl Blocks {
    /// Blocks whose accounts are written in any spelling of the logins that `rules` count.
    pub fn new(blocks: impl IntoIterator<Item = Block>, rules: &AccountRules) -> Blocks {
        let mut of_account: HashMap<String, Vec<Arc<Block>>> = HashMap::new();
        for block in blocks {
            let Some(account) = account::named_key(&block.account, rules) else { continue };
            let block = Block { account: account.clone(), ..block };
            of_account.entry(account).or_default().push(Arc::new(block));
        }
        Blocks { of_account }
    }

    pub fn is_empty(&self) -> bool {
        self.of_account.is_empty()
    }

    /// Every block, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.of_account.values().flatten()
    }

    /// The block that counts at a time, in Unix seconds, for a request that is charged to `account` and has this login
    /// (empty without one): that of the account, of the login, or of the login's domain. Of several the strictest, and of
    /// these the one that was set first.
    pub fn find(&self, account: &str, login: &str, rules: &AccountRules, now: i64) -> Option<&Arc<Block>> {
        if self.is_empty() {
            return None;
        }
        let domain = account::domain_of_login(login, rules);
        let login = account::login_key(login, rules);
        let names = [Some(account), login.as_deref(), domain.as_deref()];
        let blocks = names.into_iter().flatten().filter_map(|name| self.of_account.get(name)).flatten();
        strictest(blocks.filter(|block| block.counts(now)))
    }

    /// The same for all mail of an account, as `ratelimits.sender` names it.
    pub fn of(&self, account: &str, now: i64) -> Option<&Arc<Block>> {
        let blocks = names(account).filter_map(|name| self.of_account.get(name)).flatten();
        strictest(blocks.filter(|block| block.counts(now)))
    }
}

/// The names by which an account may be blocked: its own, and its domain's.
pub fn names(account: &str) -> impl Iterator<Item = &str> {
    std::iter::once(account).chain(account::domain_key(account))
}

/// The command that ends the blocks of an account, for a shell.
pub fn command_to_end(account: &str) -> String {
    format!("policyd-rate-guard sender unblock {}", argument(account))
}

/// Returns an account as the last argument of a command, for a shell.
pub fn argument(account: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@._-+:/".contains(&byte);
    match account.bytes().all(is_plain) && !account.starts_with('-') {
        true => account.to_owned(),
        false => format!("-- '{}'", account.replace('\'', r"'\''")),
    }
}

fn strictest<'a>(blocks: impl Iterator<Item = &'a Arc<Block>>) -> Option<&'a Arc<Block>> {
    blocks.min_by_key(|block| (std::cmp::Reverse(block.action.strictness()), block.since, block.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::LimitBy;
    use proptest::prelude::*;

    const RULES: AccountRules = AccountRules { limit_by: Vec::new(), login_domain: None, strip_domain: false };

    fn block(id: i64, account: &str, until: Option<i64>, action: &str) -> Block {
        Block {
            id,
            account: account.to_owned(),
            since: id,
            until,
            action: super::action(action, ""),
            reason: "manual".to_owned(),
        }
    }

    fn found(blocks: Vec<Block>, rules: &AccountRules, account: &str, login: &str, now: i64) -> Option<i64> {
        Blocks::new(blocks, rules).find(account, login, rules, now).map(|block| block.id)
    }

    #[test]
    fn an_action_always_stops_the_mail() {
        for (word, text, action) in [
            ("HOLD", "", "HOLD this account is blocked"),
            ("reject", "call us", "REJECT call us"),
            ("DEFER", "a\nb", "DEFER a b"),
            ("DUNNO", "x", "HOLD x"),
            ("WARN", "x", "HOLD x"),
            ("", " ", "HOLD this account is blocked"),
            ("FILTER smtp:x", "y", "HOLD y"),
        ] {
            assert_eq!(super::action(word, text).to_string(), action);
        }
    }

    #[test]
    fn names_are_logins_as_they_are_counted() {
        let with_domain = AccountRules { login_domain: Some("example.com".to_owned()), ..RULES };
        let stripped = AccountRules { strip_domain: true, ..RULES };
        let by_sender = AccountRules { limit_by: vec![LimitBy::Sender], ..RULES };
        for (written, rules, account, login, is_found) in [
            ("Alice@Example.com ", &RULES, "alice@example.com", "alice@example.com", true),
            ("@example.com", &RULES, "alice@example.com", "Alice@Example.com", true),
            ("@example.com", &RULES, "alice@sub.example.com", "alice@sub.example.com", false),
            ("@com", &RULES, "alice@example.com", "alice@example.com", false),
            ("alice", &with_domain, "alice@example.com", "alice", true),
            ("@example.com", &with_domain, "alice@example.com", "alice", true),
            ("alice@example.com", &stripped, "alice", "alice@example.net", true),
            ("@example.com", &stripped, "alice", "alice@example.com", true),
            ("@example.com", &stripped, "alice", "alice@example.net", false),
            ("alice", &by_sender, "<info@example.com>", "alice", true),
            ("<info@example.com>", &by_sender, "<info@example.com>", "", true),
            ("@example.com", &by_sender, "<info@example.com>", "", false),
            ("[192.0.2.1]", &RULES, "[192.0.2.1]", "", true),
            ("alice", &RULES, "bob", "bob", false),
            ("@example.com", &RULES, "\\<x@example.com", "<x@example.com", true),
        ] {
            let id = found(vec![block(1, written, None, "HOLD")], rules, account, login, 0);
            assert_eq!(id.is_some(), is_found, "{written}: {account} {login}");
        }
    }

    #[test]
    fn the_command_that_ends_a_block_is_safe_in_a_shell() {
        for (account, argument) in [
            ("alice@example.com", "alice@example.com"),
            ("@example.com", "@example.com"),
            ("<a@example.com>", "-- '<a@example.com>'"),
            ("-x", "-- '-x'"),
            ("it's; reboot", r"-- 'it'\''s; reboot'"),
        ] {
            assert_eq!(command_to_end(account), format!("policyd-rate-guard sender unblock {argument}"));
        }
    }

    proptest! {
        /// Against the same thing said plainly: of the blocks that name it and are not over, the strictest, and of these the
        /// first. Whoever nobody has blocked is never found.
        #[test]
        fn the_strictest_block_that_is_not_over_counts(
            written in prop::collection::vec(
                (
                    prop::sample::select(vec!["alice@example.com", "bob@example.com", "@example.com", "@example.net"]),
                    prop::option::of(0i64..20),
                    prop::sample::select(&ACTIONS[..]),
                ),
                0..8,
            ),
            login in prop::sample::select(vec!["alice@example.com", "BOB@example.com", "carol@example.net", "dave@example.org"]),
            now in 0i64..20,
        ) {
            let blocks: Vec<Block> = written
                .iter()
                .enumerate()
                .map(|(id, (account, until, action))| block(id as i64, account, *until, action))
                .collect();
            let account = login.to_lowercase();
            let (_, domain) = account.split_once('@').unwrap();
            let names_it = |block: &&Block| block.account == account || block.account == format!("@{domain}");
            let mut expected: Vec<&Block> = blocks
                .iter()
                .filter(names_it)
                .filter(|block| match block.until {
                    None => true,
                    Some(until) => until > now,
                })
                .collect();
            expected.sort_by_key(|block| (std::cmp::Reverse(block.action.strictness()), block.id));
            let expected = expected.first().map(|block| block.id);
            prop_assert_eq!(found(blocks.clone(), &RULES, &account, login, now), expected);
            let of = Blocks::new(blocks, &RULES).of(&account, now).map(|block| block.id);
            prop_assert_eq!(of, expected);
        }
    }
}
