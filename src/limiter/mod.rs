//! Pure decisions: no clock, no I/O, no SQL. Time is an argument.

pub mod action;
pub mod day;
pub mod decide;
pub mod decimal;
pub mod duration;
pub mod explain;
pub mod history;
pub mod hours;
pub mod limit;
pub mod lists;
pub mod moment;
pub mod network;
pub mod retention;
pub mod steps;
pub mod subject;
pub mod syntax;
pub mod terms;
pub mod text;
pub mod window;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::lists::{List, Which};
    use super::{limit, steps};
    use crate::config::{LimitBy, Subject};

    proptest! {
        #[test]
        fn what_an_operator_writes_is_read_or_refused_with_a_reason(
            text in "([0-9.%kMGxsmhd/;,:@<>\\[\\]# \n\té]|recipients|messages|networks|bytes|DEFER|NOTIFY|hours=|Mon-Fri|sender:){0,30}|\\PC{0,60}",
        ) {
            let login_domain = Some("example.com".into());
            let settings = Subject { limit_by: vec![LimitBy::SaslUsername], login_domain, strip_domain: false };
            let mistakes = [
                limit::parse(&text, "Not now.").err().map(|mistakes| mistakes.len()),
                steps::Steps::parse(&text, "Not now.").err().map(|mistakes| mistakes.len()),
                List::parse(&text, Which::Allow, &settings).err().map(|mistakes| mistakes.len()),
                List::parse(&text, Which::Deny, &settings).err().map(|mistakes| mistakes.len()),
            ];
            prop_assert!(!mistakes.contains(&Some(0)));
        }
    }
}
