//! What stands before a line's text: times, host and program, as syslog daemons, journald and the loggers of containers
//! write them. Pure.
//!
//! ```text
//! Nov 21 08:00:00 mx postfix/smtpd[101]: text                                   syslog, journalctl
//! Nov 21 08:00:00 mx mail.info postfix/smtpd[101]: text                         busybox; also without the host
//! <22>1 2025-11-21T08:00:00Z mx postfix/smtpd 101 - - text                      RFC 5424
//! 2025-11-21T08:00:00Z Nov 21 08:00:00 mx postfix/smtpd[101]: text              docker logs -t
//! mail-1  | Nov 21 08:00:00 mx postfix/smtpd[101]: text                         docker compose logs
//! 2025-11-21T08:00:00Z stdout F Nov 21 08:00:00 mx postfix/smtpd[101]: text     Kubernetes
//! Nov 21 08:00:00 host docker[32]: Nov 21 08:00:00 mx postfix/smtpd[101]: text  a container's output in the journal
//! ```
//!
//! If there are several times, the first counts. The program is found by position alone: a name like `postfix/smtpd[1]:` within
//! another program's text, which a client may choose, is not taken for a line of Postfix.

use super::stamp::{self, Written};

/// The most words between a time and a program's name.
const MAX_WORDS: usize = 4;
/// The most times before one text.
const MAX_TIMES: usize = 3;
/// The longest name of a container before a line, in bytes.
const MAX_CONTAINER: usize = 100;
const LEVELS: [&str; 8] = ["ERROR", "WARN", "WARNING", "INFO", "DEBUG", "TRACE", "CRITICAL", "FATAL"];

/// What follows a line's time. A level instead of a host is that of a program's own log file, or of a container's logger:
/// both readings are returned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rest<'a> {
    /// A program's name without `[4711]`, and its text.
    pub program: Option<(&'a str, &'a str)>,
    /// The text after a level, and whether the time before it was `2026-11-21T08:00:00`.
    pub own_file: Option<(&'a str, bool)>,
}

/// Splits a line into its time and the rest. None if it has no time.
pub fn split(line: &str) -> Option<(Written, Rest<'_>)> {
    let (line, is_5424) = without_priority(line);
    if is_5424 {
        let (written, rest) = stamp::split(line)?;
        return Some((written, Rest { program: rfc_5424(rest), own_file: None }));
    }
    let after_container = || {
        let (container, line) = line.split_once("| ")?;
        if container.len() <= MAX_CONTAINER { Some((line, stamp::split(line)?)) } else { None }
    };
    let (line, (written, rest)) = stamp::split(line).map(|split| (line, split)).or_else(after_container)?;
    Some((written, self::rest(line, rest)))
}

/// Reads what follows the time of `line`.
pub fn rest<'a>(mut line: &'a str, mut rest: &'a str) -> Rest<'a> {
    let mut found = Rest::default();
    for _ in 0..MAX_TIMES {
        if let Some(text) = without_level(rest) {
            found.own_file = Some((text, line.as_bytes().get(10) == Some(&b'T')));
        }
        match words(rest) {
            Words::Time(inner, after) => (line, rest) = (inner, after),
            Words::Program(program, text) => {
                found.program = Some((program, text));
                // A program that passes on the output of others.
                match stamp::split(text) {
                    Some((_, after)) => (line, rest) = (text, after),
                    None => break,
                }
            }
            Words::None => break,
        }
    }
    found
}

/// What the words after a time lead to.
enum Words<'a> {
    /// Another time: from there on, and after it.
    Time(&'a str, &'a str),
    Program(&'a str, &'a str),
    None,
}

fn words(mut rest: &str) -> Words<'_> {
    for _ in 0..MAX_WORDS {
        if let Some((_, after)) = stamp::split(rest) {
            return Words::Time(rest, after);
        }
        let Some((word, after)) = rest.split_once(' ') else { break };
        rest = after.trim_start();
        if let Some(program) = word.strip_suffix(':') {
            return Words::Program(program.split_once('[').map_or(program, |(name, _)| name), rest);
        }
    }
    Words::None
}

/// What follows the word for a level and blanks.
pub fn without_level(text: &str) -> Option<&str> {
    let (level, rest) = text.split_once(' ')?;
    LEVELS.contains(&level).then(|| rest.trim_start())
}

/// Without `<22>`, which some syslog daemons write as well; and whether RFC 5424's version follows it, which is left out too.
fn without_priority(line: &str) -> (&str, bool) {
    let priority = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    match priority {
        Some((number, rest)) if number.len() <= 3 && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            rest.strip_prefix("1 ").map_or((rest, false), |rest| (rest, true))
        }
        _ => (line, false),
    }
}

/// `host program 101 message-id [structured data] text`, where `-` stands for what is not known.
fn rfc_5424(rest: &str) -> Option<(&str, &str)> {
    let mut columns = rest.splitn(5, ' ');
    let (_host, program, _process, _message) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    let mut rest = columns.next()?;
    match rest.strip_prefix('-') {
        Some(after) => rest = after,
        None => {
            while let Some(element) = rest.strip_prefix('[') {
                let mut escaped = false;
                let end = element.find(|character| {
                    let ends = character == ']' && !escaped;
                    escaped = character == '\\' && !escaped;
                    ends
                })?;
                rest = element.get(end + 1..)?;
            }
        }
    }
    Some((program, rest.strip_prefix(' ')?.trim_start_matches('\u{feff}')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(line: &str) -> Option<(&str, &str)> {
        split(line)?.1.program
    }

    #[test]
    fn who_speaks_is_found_behind_any_head() {
        for line in [
            "Nov 21 08:00:00 mx postfix/smtpd[101]: text",
            "Nov  1 08:00:00.123456 mx postfix/smtpd: text",
            "Nov 21 08:00:00 postfix/smtpd[101]: text",
            "Nov 21 08:00:00 mx mail.info postfix/smtpd[101]: text",
            "<22>Nov 21 08:00:00 mx postfix/smtpd[101]: text",
            "2025-11-21T08:00:00+0100 mx postfix/smtpd[101]: text",
            "2025-11-21T08:00:00.49+01:00 INFO    postfix/smtpd[101]: text",
            "<22>1 2025-11-21T08:00:00.0Z mx postfix/smtpd 101 - - text",
            "<22>1 2025-11-21T08:00:00.0Z - postfix/smtpd - ID47 [a@1 b=\"\\\"\\]\"][c] \u{feff}text",
            "2025-11-21T08:00:00.64Z Nov 21 08:00:00 4266c2e209d5 postfix/smtpd[101]: text",
            "2025-11-21T08:00:00.64Z stdout F Nov 21 08:00:00 mx postfix/smtpd[101]: text",
            "2025-11-21T08:00:00.64Z stdout F 2025-11-21T08:00:00+00:00 mx postfix/smtpd[101]: text",
            "mail-1  | 2025-11-21T08:00:00.64Z Nov 21 08:00:00 mx postfix/smtpd[101]: text",
            "Nov 21 08:00:00 host docker[32360]: Nov 21 08:00:00 mx postfix/smtpd[101]: text",
            "Nov 21 08:00:00 host 4266c2e209d5[3]: 2025-11-21T08:00:00Z mx postfix/smtpd[101]: text",
        ] {
            assert_eq!(program(line), Some(("postfix/smtpd", "text")), "{line}");
        }
    }

    #[test]
    fn a_name_within_a_text_is_nobody_s_line() {
        for (line, speaks) in [
            ("Nov 21 08:00:00 mx dovecot: imap-login: user=<x postfix/smtpd[101]: text>", "dovecot"),
            ("<22>1 2025-11-21T08:00:00.0Z mx dovecot 101 - - postfix/smtpd[101]: text", "dovecot"),
            ("Nov 21 08:00:00 mx x[1]: y Nov 21 08:00:00 mx postfix/smtpd[101]: text", "x"),
        ] {
            assert_eq!(program(line).unwrap().0, speaks, "{line}");
        }
        for line in [
            "Nov 21 08:00:00 mx",
            "Nov 21 08:00:00 a b c d postfix/smtpd[101]: text",
            "<22>1 2025-11-21T08:00:00Z mx x",
        ] {
            assert_eq!(program(line), None, "{line}");
        }
        assert_eq!(split("postfix/smtpd[101]: text"), None);
    }

    #[test]
    fn a_level_is_that_of_a_program_s_own_file() {
        let own = |line| split(line).unwrap().1.own_file;
        assert_eq!(own("2026-11-21T08:00:00.123+01:00 INFO text of it"), Some(("text of it", true)));
        assert_eq!(own("2026-11-21 08:00:00,123 WARNING text"), Some(("text", false)));
        assert_eq!(own("Nov 21 08:00:00 mx python3[17]: 2026-11-21 08:00:00,123 INFO text"), Some(("text", false)));
        assert_eq!(own("Nov 21 08:00:00 mx policyd[17]: INFO text"), None);
    }
}
