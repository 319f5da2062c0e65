//! Whatever stands in LIMITS, QUOTA_STEPS, STRIKES or a list file, it is read, or every mistake in it is shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policyd_rate_guard::account::{AccountRules, LimitBy};
use policyd_rate_guard::policy::limits;
use policyd_rate_guard::policy::lists::{List, Which};
use policyd_rate_guard::policy::steps::Steps;
use policyd_rate_guard::policy::strikes::Strikes;

fuzz_target!(|text: &str| {
    let login_domain = Some("example.com".into());
    let settings = AccountRules { limit_by: vec![LimitBy::SaslUsername], login_domain, strip_domain: false };
    let mistakes = [
        limits::parse(text, "Not now.").err().map(|mistakes| mistakes.len()),
        Steps::parse(text, "Not now.").err().map(|mistakes| mistakes.len()),
        Strikes::parse(text).err().map(|mistakes| mistakes.len()),
        List::parse(text, Which::Allow, &settings).err().map(|mistakes| mistakes.len()),
        List::parse(text, Which::Deny, &settings).err().map(|mistakes| mistakes.len()),
    ];
    assert!(!mistakes.contains(&Some(0)), "what is refused has a reason");
});
