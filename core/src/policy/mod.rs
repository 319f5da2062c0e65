//! The operator's language: quotas, steps, limits and lists as settings write them, read into types that know whether they are
//! exceeded, or refused with a place and a reason.

pub mod action;
pub mod decimal;
pub mod duration;
pub mod hours;
pub mod limit;
pub mod limits;
pub mod lists;
pub mod quota;
pub mod steps;
pub mod strikes;
pub mod syntax;
pub mod text;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{limits, steps};
    use crate::account::{AccountRules, LimitBy};
    use crate::policy::lists::{List, Which};

    proptest! {
        #[test]
        fn what_an_operator_writes_is_read_or_refused_with_a_reason(
            text in "([0-9.%kMGxsmhd/;,:@<>\\[\\]# \n\té]|recipients|messages|networks|bytes|DEFER|NOTIFY|hours=|Mon-Fri|sender:){0,30}|\\PC{0,60}",
        ) {
            let login_domain = Some("example.com".into());
            let settings = AccountRules { limit_by: vec![LimitBy::SaslUsername], login_domain, strip_domain: false };
            let mistakes = [
                limits::parse(&text, "Not now.").err().map(|mistakes| mistakes.len()),
                steps::Steps::parse(&text, "Not now.").err().map(|mistakes| mistakes.len()),
                List::parse(&text, Which::Allow, &settings).err().map(|mistakes| mistakes.len()),
                List::parse(&text, Which::Deny, &settings).err().map(|mistakes| mistakes.len()),
            ];
            prop_assert!(!mistakes.contains(&Some(0)));
        }
    }
}
