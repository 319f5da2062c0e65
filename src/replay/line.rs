//! One line of a log: when it was written, by which program, and what it tells. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::cause::Cause;
use super::decisions::{self, Decided};
use super::head::{self, Rest, without_level};
use super::postfix::{self, Event};
use super::stamp::{Milliseconds, Stamps};
use super::{PastRequest, json, policyd};

/// The longest line that is looked at without being JSON, in bytes. The rest of a longer one is left out.
const MAX_TEXT: usize = 8192;

/// A line that was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// It looks like a line on mail, and is not understood.
    Missed(Cause),
    /// It has no time and does not look like a line on mail.
    NoTime,
}

/// A line that was understood, at least its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub at: Milliseconds,
    pub content: Content,
    /// How many refusals were left out of the log before it.
    pub left_out: u64,
    /// Equal for equal texts, whatever stands before them.
    pub fingerprint: u64,
}

/// What a line says, by the program that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Postfix(Event),
    Decided(Decided),
    Policyd(PastRequest),
    /// The log daemon dropped lines, because there were too many.
    Dropped,
    /// Some other program, or something else.
    Other,
}

/// Reads a line without its newline.
pub fn read(stamps: &mut Stamps, line: &str) -> Result<Line, Unread> {
    // An editor may put the one before the first line, a crash the other before any.
    let line = line.trim_start_matches(['\u{feff}', '\0']).trim_end();
    let json = if line.starts_with('{') { json::read(line) } else { None };
    let timed = match &json {
        Some((at, rest)) => Some((*at, head::rest("", bounded(rest)))),
        None => head::split(bounded(line)).and_then(|(written, rest)| Some((stamps.read(written)?, rest))),
    };
    match timed {
        Some((at, rest)) => content(rest, line).map_or_else(
            |cause| Err(Unread::Missed(cause)),
            |(content, left_out, text)| {
                let mut hasher = DefaultHasher::new();
                text.trim_end().hash(&mut hasher);
                Ok(Line { at, content, left_out, fingerprint: hasher.finish() })
            },
        ),
        None if is_on_mail(line) => {
            Err(Unread::Missed(if has_foreign_month(line) { Cause::Language } else { Cause::Time }))
        }
        None => Err(Unread::NoTime),
    }
}

/// Returns the content, how many refusals were left out, and the text.
fn content<'a>(rest: Rest<'a>, line: &str) -> Result<(Content, u64, &'a str), Cause> {
    if let Some((text, iso)) = rest.own_file
        // Ours has a T between date and time, PolicydRateGuard's has none.
        && let Some((content, left_out)) = from_daemon(text, iso)?
    {
        return Ok((content, left_out, text));
    }
    let (program, text) = rest.program.unwrap_or_default();
    let (content, left_out) = match program.rsplit_once('/') {
        // `postfix/smtpd`, `postfix-out/submission/smtpd`; syslog_name may be anything: `mx-out/smtpd`.
        Some((syslog_name, program)) if syslog_name.starts_with("postfix") || postfix::is_looked_at(program) => {
            (Content::Postfix(postfix::read(program, text).ok_or(Cause::Text)?), 0)
        }
        _ if is_drop(program, text) => (Content::Dropped, 0),
        _ if program == policyd::PROGRAM => (policyd::read(text)?.map_or(Content::Other, Content::Policyd), 0),
        _ => {
            let told = match without_level(text) {
                Some(text) => from_daemon(text, false),
                None => from_daemon(text, true),
            };
            match told? {
                Some(told) => told,
                None if is_on_mail(line) => return Err(Cause::Program),
                None => (Content::Other, 0),
            }
        }
    };
    Ok((content, left_out, text))
}

/// What a rate guard's text says of a decision or of what it left out, if anything.
fn from_daemon(text: &str, ours: bool) -> Result<Option<(Content, u64)>, Cause> {
    let left_out = if ours { decisions::left_out(text) } else { None };
    if text.contains("client=") && text.contains(DECISION) {
        let decided = decisions::read(text, ours).ok_or(Cause::Text)?;
        return Ok(Some((Content::Decided(decided), left_out.unwrap_or(0))));
    }
    Ok(left_out.map(|left_out| (Content::Other, left_out)))
}

/// `imuxsock[pid 7]: begin to drop messages due to rate-limiting`; the journal says it of each service.
fn is_drop(program: &str, text: &str) -> bool {
    match program {
        "rsyslogd" | "rsyslogd-2177" => {
            text.contains("rate-limiting") && (text.contains("drop") || text.contains("lost"))
        }
        "systemd-journald" => text.starts_with("Suppressed ") && (text.contains("postfix") || text.contains("policyd")),
        _ => false,
    }
}

/// What is on no line but a decision.
const DECISION: &str = ", curr_count=";
/// What is on few lines but those that tell of a message on its way in.
const ON_MAIL: [&str; 7] =
    ["/smtpd[", "/cleanup[", "/qmgr[", ", sasl_username=", " (queue active)", "]: Updating db: ", DECISION];

fn is_on_mail(line: &str) -> bool {
    ON_MAIL.iter().any(|mark| line.contains(mark))
}

/// `Okt 21 08:00:00`, `11月 21 08:00:00`, `21 нояб. 08:00:00`: a day beside something else, and a time of day.
fn has_foreign_month(line: &str) -> bool {
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit() || b":.".contains(&byte));
    let mut words = line.split_whitespace();
    let (Some(one), Some(other), Some(clock)) = (words.next(), words.next(), words.next()) else { return false };
    is_number(one) != is_number(other) && clock.len() >= "08:00:00".len() && is_number(clock)
}

/// As much of a line as is looked at.
fn bounded(line: &str) -> &str {
    line.get(..line.floor_char_boundary(MAX_TEXT)).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    const DECISION: &str = "4Xy: client=x[192.0.2.7], helo=h, sasl_method=PLAIN, sasl_username=DOM\\\\al, from=a@b, \
        to=c@d, recipient_count=1, curr_count=1/9, status=ACCEPTED";

    fn read(line: &str) -> Result<Line, Unread> {
        super::read(&mut Stamps::new(TimeZone::UTC, 1_800_000_000), line)
    }

    fn content(line: &str) -> Option<Content> {
        match read(line) {
            Ok(line) => Some(line.content),
            Err(Unread::Missed(cause)) => panic!("{line}: {cause}"),
            Err(Unread::NoTime) => None,
        }
    }

    fn login(line: &str) -> Option<String> {
        match content(line)? {
            Content::Decided(decided) => Some(decided.asked.login),
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
            assert_eq!(content(line), Some(Content::Postfix(Event::Nothing)), "{line}");
        }
        assert!(matches!(
            content("Dec 25 16:17:21 smtps policyd[31899]: Updating db: a/a@d/195.46.20.146/10/10"),
            Some(Content::Policyd(_))
        ));
        for line in [
            "Nov 21 08:00:00 mx dovecot: imap-login: Login: user=<a>",
            "Nov 21 08:00:00 mx",
            "2026-11-21 08:00:00,1 INFO x",
        ] {
            assert_eq!(content(line), Some(Content::Other), "{line}");
        }
        assert_eq!(content("Traceback (most recent call last):"), None);
        let quiet = "Nov 21 08:00:00 mx policyd-rate-guard[17]: 3 more refusals of sender a were not logged";
        assert!(matches!(read(quiet), Ok(Line { left_out: 3, .. })));
    }

    #[test]
    fn a_journal_s_entry_and_a_bom_are_no_hindrance() {
        for line in [
            r#"{"__REALTIME_TIMESTAMP":"1795262400000000","SYSLOG_IDENTIFIER":"mx-out/smtpd","MESSAGE":"connect from x[1.2.3.4]"}"#,
            r#"{"log":"Nov 21 12:00:00 mx mx-out/smtpd[1]: connect from x[1.2.3.4]\n","time":"2026-11-21T12:00:00Z"}"#,
            "\u{feff}Nov 21 12:00:00 mx mx-out/smtpd[1]: connect from x[1.2.3.4]\r",
            "\0\0Nov 21 12:00:00 mx mx-out/smtpd[1]: connect from x[1.2.3.4]",
        ] {
            let Ok(line) = read(line) else { panic!("{line}") };
            assert_eq!((line.at, line.content), (1_795_262_400_000, Content::Postfix(Event::Nothing)));
        }
    }

    #[test]
    fn the_same_text_has_the_same_fingerprint_behind_any_head() {
        let print = |line: &str| match read(line) {
            Ok(line) => line.fingerprint,
            other => panic!("{line}: {other:?}"),
        };
        let one = print(&format!("Nov 21 08:00:00 mx policyd-rate-guard[17]: {DECISION}"));
        assert_eq!(one, print(&format!("2026-11-21T08:00:00.123+01:00 INFO {DECISION}")));
        assert_eq!(
            one,
            print(&format!("2026-11-21T07:00:00Z Nov 21 08:00:00 mail.info policyd-rate-guard: {DECISION}"))
        );
        assert_ne!(
            one,
            print(&format!("Nov 21 08:00:00 mx policyd-rate-guard[17]: {}", DECISION.replace("1/9", "2/9")))
        );
    }

    #[test]
    fn what_the_log_daemon_dropped_is_noticed() {
        for (text, dropped) in [
            ("rsyslogd: imuxsock[pid 7]: begin to drop messages due to rate-limiting", true),
            ("rsyslogd-2177: imuxsock lost 83 messages from pid 7 due to rate-limiting", true),
            ("rsyslogd: imjournal: 9 messages lost due to rate-limiting (20000 allowed within 600 seconds)", true),
            ("systemd-journald[1]: Suppressed 54 messages from postfix@-.service", true),
            ("systemd-journald[1]: Suppressed 54 messages from nginx.service", false),
            ("rsyslogd: [origin software=\"rsyslogd\"] start", false),
            ("nginx: imuxsock lost 83 messages from pid 7 due to rate-limiting", false),
        ] {
            let expected = if dropped { Content::Dropped } else { Content::Other };
            assert_eq!(content(&format!("Nov 21 08:00:00 mx {text}")), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_looks_like_mail_and_is_not_understood_has_a_cause() {
        let begin = "4XyZ12abcd: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=alice";
        let queued = "4XyZ12abcd: from=<a@b>, size=1, nrcpt=many (queue active)";
        for (line, cause) in [
            (format!("Okt 21 08:00:00 mx postfix/smtpd[1]: {begin}"), Cause::Language),
            (format!("nov. 21 08:00:00 mx postfix/smtpd[1]: {begin}"), Cause::Language),
            (format!("11月 21 08:00:00.123 mx postfix/smtpd[1]: {begin}"), Cause::Language),
            (format!("21 нояб. 08:00:00 mx postfix/smtpd[1]: {begin}"), Cause::Language),
            (format!("[1234.567] mx postfix/smtpd[1]: {begin}"), Cause::Time),
            (format!("postfix/qmgr[1]: {queued}"), Cause::Time),
            (format!(r#"{{"MESSAGE": "{begin}"}}"#), Cause::Time),
            (format!("Nov 21 08:00:00 mx mail info notice kernel postfix/smtpd[1]: {begin}"), Cause::Program),
            (format!("Nov 21 08:00:00 mx mail.info: postfix/smtpd[1]: {begin}"), Cause::Program),
            (format!("Nov 21 08:00:00 mx postfix/smtpd[1]: {}", begin.replace("[192.0.2.7]", "")), Cause::Text),
            (format!("Nov 21 08:00:00 mx postfix/qmgr[1]: {queued}"), Cause::Text),
            ("Nov 21 08:00:00 mx policyd[1]: Updating db: a/b@c/192.0.2.1/many/50".to_owned(), Cause::Text),
            (format!("2026-11-21T08:00:00+01:00 INFO {}", DECISION.replace("status=A", "state=A")), Cause::Text),
        ] {
            assert_eq!(read(&line), Err(Unread::Missed(cause)), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_understood_or_not(line in "(Nov 21 08:00:00 mx )?(postfix/(smtpd|qmgr)\\[1\\]: |policyd: |INFO |client=|, curr_count=|[A-Z0-9]{4,12}: |\\PC){0,12}") {
            let _ = read(&line);
        }
    }
}
