//! Reading the files that ALLOWLIST and DENYLIST name. After privileges were dropped: USER must be able to read them again at
//! a reload, and root would follow USER's links.

use std::fs::File;
use std::path::Path;

use super::finding::{ConfigError, Finding, Origin, Severity};
use super::sources::read_bounded;
use super::typed::Config;
use crate::account::AccountRules;
use crate::policy::lists::{List, Lists, Which};

/// The largest list file, in bytes: some 500,000 entries.
const MAX_LIST_FILE: usize = 16 << 20;

/// Reads both files.
///
/// # Errors
/// Every mistake in both.
pub fn load_lists(config: &Config) -> Result<Lists, ConfigError> {
    let mut findings = Vec::new();
    let mut read = |name: &str, path: Option<&Path>, which| match path {
        None => List::default(),
        Some(path) => read_list(name, path, which, &config.accounts).unwrap_or_else(|found| {
            findings.extend(found);
            List::default()
        }),
    };
    let lists = Lists {
        allow: read("ALLOWLIST", config.lists.allow.as_deref(), Which::Allow),
        deny: read("DENYLIST", config.lists.deny.as_deref(), Which::Deny),
    };
    if findings.is_empty() { Ok(lists) } else { Err(ConfigError { findings }) }
}

fn read_list(name: &str, path: &Path, which: Which, accounts: &AccountRules) -> Result<List, Vec<Finding>> {
    let finding = |line: usize, message: String| Finding {
        severity: Severity::Error,
        origin: Some(Origin::File { path: path.to_owned(), line }),
        name: Some(name.to_owned()),
        value: None,
        message,
    };
    let read = File::open(path).and_then(|mut file| read_bounded(&mut file, MAX_LIST_FILE));
    let bytes = read.map_err(|error| vec![finding(0, format!("names a file that cannot be read: {error}"))])?;
    let text = String::from_utf8(bytes).map_err(|_| vec![finding(0, "names a file that is not UTF-8".to_owned())])?;
    List::parse(&text, which, accounts)
        .map_err(|mistakes| mistakes.into_iter().map(|found| finding(found.line, found.mistake.to_string())).collect())
}
