//! One line of a log: when it was written, by which program, and what it tells. Pure.

use super::decisions::{self, Decided};
use super::postfix::{self, Told};
use super::stamp::{Milliseconds, Stamps};
use super::{PastRequest, policyd};

/// A line that was understood, at least its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub at: Milliseconds,
    pub said: Said,
    /// How many refusals were left out of the log before it.
    pub left_out: u64,
}

/// What a line says, by who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Postfix(Told),
    Decided(Decided),
    Policyd(PastRequest),
    /// Some other program, or something else.
    Other,
}

const LEVELS: [&str; 8] = ["ERROR", "WARN", "WARNING", "INFO", "DEBUG", "TRACE", "CRITICAL", "FATAL"];

/// Reads a line without its newline; none if it does not begin with a time.
pub fn read(stamps: &mut Stamps, line: &str) -> Option<Line> {
    let line = line.trim_end();
    let (at, rest) = stamps.read(line)?;
    let (said, left_out) = match without_level(rest) {
        // A log file of the daemon's own. Ours has a T between date and time, PolicydRateGuard's has none.
        Some(text) => from_daemon(text, line.as_bytes().get(10) == Some(&b'T')),
        None => {
            let (_host, rest) = rest.split_once(' ').unwrap_or(("", rest));
            match rest.split_once(": ") {
                Some((program, text)) if !program.contains(' ') => from_program(without_id(program), text.trim_start()),
                _ => (Said::Other, 0),
            }
        }
    };
    Some(Line { at, said, left_out })
}

fn from_program(program: &str, text: &str) -> (Said, u64) {
    match program.rsplit_once('/') {
        // `postfix/smtpd`, `postfix-out/submission/smtpd`.
        Some((syslog_name, program)) if syslog_name.starts_with("postfix") => {
            (Said::Postfix(postfix::read(program, text)), 0)
        }
        _ if program == policyd::PROGRAM => (policyd::read(text).map_or(Said::Other, Said::Policyd), 0),
        _ => match without_level(text) {
            Some(text) => from_daemon(text, false),
            None => from_daemon(text, true),
        },
    }
}

fn from_daemon(text: &str, ours: bool) -> (Said, u64) {
    let left_out = if ours { decisions::left_out(text).unwrap_or(0) } else { 0 };
    let is_decision = text.contains("client=") && text.contains(", curr_count=");
    let decided = if is_decision { decisions::read(text, ours) } else { None };
    (decided.map_or(Said::Other, Said::Decided), left_out)
}

/// What follows the word for a level and a blank.
fn without_level(text: &str) -> Option<&str> {
    let (level, rest) = text.split_once(' ')?;
    LEVELS.contains(&level).then(|| rest.trim_start())
}

/// The program's name without `[4711]`.
fn without_id(program: &str) -> &str {
    program.split_once('[').map_or(program, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    const DECISION: &str = "4Xy: client=x[192.0.2.7], helo=h, sasl_method=PLAIN, sasl_username=DOM\\\\al, from=a@b, \
        to=c@d, recipient_count=1, curr_count=1/9, status=ACCEPTED";

    fn said(line: &str) -> Option<Said> {
        read(&mut Stamps::new(TimeZone::UTC, 1_800_000_000), line).map(|line| line.said)
    }

    fn login(line: &str) -> Option<String> {
        match said(line)? {
            Said::Decided(decided) => Some(decided.asked.login),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn knows_who_speaks_wherever_it_is_logged() {
        let (ours, theirs) = (Some("DOM\\al".to_owned()), Some("DOM\\\\al".to_owned()));
        assert_eq!(login(&format!("Nov 21 08:00:00 mx policyd-rate-guard[17]: {DECISION}")), ours);
        assert_eq!(login(&format!("2026-11-21T08:00:00.123+01:00 INFO {DECISION}")), ours);
        let prefixed = format!("handler.py Handler.handle() - {DECISION}");
        assert_eq!(login(&format!("Nov 21 08:00:00 mx policyd-rate-guard[17]: INFO {prefixed}")), theirs);
        assert_eq!(login(&format!("2026-11-21 08:00:00,123 WARNING {prefixed}")), theirs);
        let in_journal = format!("Nov 21 08:00:00 mx python3[17]: 2026-11-21 08:00:00,123 INFO {DECISION}");
        assert!(login(&in_journal).is_some());
        for line in [
            "Nov 21 08:00:00 mx postfix/smtpd[1]: connect from unknown[192.0.2.7]",
            "Nov 21 08:00:00 mx postfix-out/submission/smtpd[1]: connect from unknown[192.0.2.7]",
        ] {
            assert_eq!(said(line), Some(Said::Postfix(Told::Nothing)), "{line}");
        }
        assert!(matches!(
            said("Dec 25 16:17:21 smtps policyd[31899]: Updating db: a/a@d/195.46.20.146/10/10"),
            Some(Said::Policyd(_))
        ));
        for line in [
            "Nov 21 08:00:00 mx dovecot: imap-login: Login: user=<a>",
            "Nov 21 08:00:00 mx",
            "2026-11-21 08:00:00,1 INFO x",
        ] {
            assert_eq!(said(line), Some(Said::Other), "{line}");
        }
        assert_eq!(said("Traceback (most recent call last):"), None);
        let quiet = "Nov 21 08:00:00 mx policyd-rate-guard[17]: 3 more refusals of sender a were not logged";
        assert_eq!(read(&mut Stamps::new(TimeZone::UTC, 0), quiet).unwrap().left_out, 3);
    }

    proptest! {
        #[test]
        fn any_line_is_understood_or_not(line in "(Nov 21 08:00:00 mx )?(postfix/(smtpd|qmgr)\\[1\\]: |policyd: |INFO |client=|, curr_count=|[A-Z0-9]{4,12}: |\\PC){0,12}") {
            let _ = said(&line);
        }
    }
}
