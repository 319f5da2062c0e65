//! Why a line on mail is not understood.

/// The reason, as the end of a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    #[error("its month is not English; use `journalctl -o short-iso`, or run journalctl under LC_ALL=C")]
    Language,
    #[error("it begins with no time as `Nov 21 08:00:00` or `2026-11-21T08:00:00+01:00`")]
    Time,
    #[error("no program is named between its time and its text as syslog does, `postfix/smtpd[101]:`")]
    Program,
    #[error("its text has an unknown form")]
    Text,
}
