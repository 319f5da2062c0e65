//! What `doctor` knows about a good set-up. Pure: `postfix` reads what postconf(1) printed, `handed` what systemctl(1) did,
//! `checks` judges it, `journal` what waits to be charged, `counts_in` which file the daemon counts in, `access` and `selinux` say
//! who may connect to a socket.

pub mod access;
pub mod checks;
pub mod counts_in;
pub mod handed;
pub mod journal;
pub mod postfix;
pub mod selinux;

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Mail is not limited, or in danger of being refused.
    Problem,
    /// It works, and could be better.
    Advice,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// A short name that stays the same between versions.
    pub id: &'static str,
    /// What was found, and where.
    pub what: String,
    /// Why it matters.
    pub why: String,
    /// The line to write, or the command to run.
    pub mend: String,
}

impl Finding {
    pub fn problem(id: &'static str, what: String, why: &str, mend: String) -> Finding {
        Finding { severity: Severity::Problem, id, what, why: why.to_owned(), mend }
    }

    pub fn advice(id: &'static str, what: String, why: &str, mend: String) -> Finding {
        Finding { severity: Severity::Advice, id, what, why: why.to_owned(), mend }
    }
}
