//! What Postfix's own lines tell of a message on its way in. Pure.
//!
//! ```text
//! smtpd    ID: client=name[address], sasl_method=PLAIN, sasl_username=login      with the first accepted recipient
//! smtpd    ID: hold|reject: DATA from name[address]: …; from=<…> to=<…> proto=…  what it was told to do
//! cleanup  ID: message-id=<…>                                                    the content came in
//! qmgr     ID: from=<…>, size=1234, nrcpt=3 (queue active)                       all of it, unless it is held
//! qmgr     ID: removed
//! ```
//!
//! With a filter before the queue (smtpd_proxy_filter), which hands the message to a second smtpd:
//!
//! ```text
//! smtpd    NOQUEUE: client=name[address], sasl_method=PLAIN, sasl_username=login
//! smtpd    ID: client=localhost[127.0.0.1], orig_client=name[address]            the second, where the filter uses XFORWARD
//! smtpd    NOQUEUE: proxy-accept|proxy-reject: END-OF-MESSAGE from name[address]: …
//! ```
//!
//! A client refused at RCPT (`NOQUEUE: reject: RCPT …`) was refused before a check at DATA asked anything.

use super::{between, bounded};
use crate::protocol::request::MAX_RECIPIENTS;

/// What a line of Postfix says of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client begins a message.
    Client { id: String, name: String, address: String, login: String },
    /// The content came in, or the message was held or refused instead: a check at DATA was asked about it. `refused` says
    /// that no more lines come.
    Sent { id: String, from: String, to: String, refused: bool },
    /// The queue manager begins its delivery.
    Active { id: String, from: String, size: u64, recipients: u32 },
    /// It is gone from the queue. Its id may be used again.
    Removed { id: String },
    /// A client begins a message that goes through a before-queue filter. It has no id yet.
    Filtered { name: String, address: String, login: String },
    /// The filter hands on a message of this client.
    HandedOn { id: String, address: String },
    /// The filter accepted or refused the message, or Postfix refused it before.
    Answered { address: String, from: String, to: String, accepted: bool },
    /// Nothing of a message on its way in.
    Nothing,
}

/// Whether lines of this program are looked at.
pub fn is_looked_at(program: &str) -> bool {
    matches!(program, "smtpd" | "cleanup" | "qmgr" | "nqmgr")
}

/// Reads the text of one of Postfix's programs. None if it is on a message and has an unknown form.
pub fn read(program: &str, text: &str) -> Option<Event> {
    let Some((id, rest)) = text.split_once(": ").filter(|(id, _)| is_looked_at(program) && is_id(id)) else {
        return Some(Event::Nothing);
    };
    let unfiltered = id != "NOQUEUE";
    match program {
        "smtpd" if !unfiltered => filtered(rest),
        "smtpd" => smtpd(id.to_owned(), rest),
        "cleanup" if unfiltered => Some(cleanup(id.to_owned(), rest)),
        "qmgr" | "nqmgr" if unfiltered => qmgr(id.to_owned(), rest),
        _ => Some(Event::Nothing),
    }
}

fn is_id(word: &str) -> bool {
    (5..=32).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && !matches!(word, "warning" | "fatal" | "error" | "panic")
}

fn smtpd(id: String, rest: &str) -> Option<Event> {
    let Some(client) = rest.strip_prefix("client=") else {
        let told = Event::Sent { id, from: from(rest), to: to(rest), refused: is_refusal(rest) };
        return Some(if is_at_data(rest) && is_verdict(rest) { told } else { Event::Nothing });
    };
    // A filter behind the queue hands back what was asked about before.
    if client.contains(", orig_queue_id=") {
        return Some(Event::Nothing);
    }
    if let Some((_, original)) = client.split_once(", orig_client=") {
        let (_, address) = host(original)?;
        return Some(Event::HandedOn { id, address });
    }
    let (name, address, login) = self::client(client)?;
    Some(Event::Client { id, name, address, login })
}

fn filtered(rest: &str) -> Option<Event> {
    if let Some(client) = rest.strip_prefix("client=") {
        let (name, address, login) = self::client(client)?;
        return Some(Event::Filtered { name, address, login });
    }
    let answered = is_at_data(rest) && matches!(verdict(rest), "proxy-accept" | "proxy-reject" | "reject");
    let client = between(rest, " from ", ": ").and_then(|(client, _)| host(client)).filter(|_| answered);
    let accepted = verdict(rest) == "proxy-accept";
    let answered = |(_, address)| Event::Answered { address, from: from(rest), to: to(rest), accepted };
    Some(client.map_or(Event::Nothing, answered))
}

/// Returns name, address and login of `name[address], sasl_method=…, sasl_username=…`.
fn client(client: &str) -> Option<(String, String, String)> {
    let (client, login) = client.split_once(", sasl_method=").map_or((client, ""), |(client, sasl)| {
        let login = sasl.split_once(", sasl_username=").map_or("", |(_, login)| login);
        (client, login.rsplit_once(", sasl_sender=").map_or(login, |(login, _)| login))
    });
    let (name, address) = host(client)?;
    Some((name, address, login.to_owned()))
}

/// Returns name and address of `name[address]` or `name[address]:port`, before a comma.
fn host(written: &str) -> Option<(String, String)> {
    let written = written.split_once(", ").map_or(written, |(host, _)| host);
    let (host, port) = written.rsplit_once(']')?;
    let is_port = port.is_empty() || port.strip_prefix(':')?.bytes().all(|byte| byte.is_ascii_digit());
    let (name, address) = host.rsplit_once('[').filter(|_| is_port)?;
    Some((bounded(name), bounded(address)))
}

fn cleanup(id: String, rest: &str) -> Event {
    let sent = rest.starts_with("message-id=") || rest.starts_with("resent-message-id=") || is_verdict(rest);
    // Such a line names one recipient of perhaps several.
    let told = Event::Sent { id, from: from(rest), to: String::new(), refused: is_refusal(rest) };
    if sent { told } else { Event::Nothing }
}

/// Whether a verdict of smtpd is of a stage at which the recipients are known.
fn is_at_data(rest: &str) -> bool {
    between(rest, ": ", " from ")
        .is_some_and(|(stage, _)| matches!(stage, "DATA" | "BDAT" | "END-OF-MESSAGE" | "DATA content"))
}

/// Returns the envelope sender in a verdict. Clients may choose the text before it.
fn from(rest: &str) -> String {
    let from = rest.rsplit_once("; from=<").and_then(|(_, rest)| rest.split_once('>'));
    from.map(|(from, _)| bounded(from)).unwrap_or_default()
}

fn to(rest: &str) -> String {
    between(rest, " to=<", ">").map(|(to, _)| bounded(to)).unwrap_or_default()
}

/// `hold: …`, `milter-reject: …`, and other verdicts on a whole message.
fn is_verdict(rest: &str) -> bool {
    is_refusal(rest) || matches!(verdict(rest), "hold" | "redirect" | "filter")
}

fn is_refusal(rest: &str) -> bool {
    matches!(verdict(rest), "reject" | "discard")
}

fn verdict(rest: &str) -> &str {
    let word = rest.split_once(": ").map_or("", |(word, _)| word);
    word.strip_prefix("milter-").unwrap_or(word)
}

fn qmgr(id: String, rest: &str) -> Option<Event> {
    if rest == "removed" {
        return Some(Event::Removed { id });
    }
    let Some(active) = rest.strip_prefix("from=<").and_then(|rest| rest.strip_suffix(" (queue active)")) else {
        return Some(Event::Nothing);
    };
    let (from, sizes) = active.rsplit_once(">, size=")?;
    let (size, recipients) = sizes.split_once(", nrcpt=")?;
    let recipients: u32 = recipients.parse().ok()?;
    Some(Event::Active {
        id,
        from: bounded(from),
        size: size.parse().ok().filter(|size| *size <= i64::MAX as u64)?,
        recipients: recipients.min(MAX_RECIPIENTS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a line tells whose form is known.
    fn read(program: &str, text: &str) -> Event {
        super::read(program, text).unwrap_or_else(|| panic!("{text}"))
    }

    fn id() -> String {
        "4XyZ12abcd".to_owned()
    }

    #[test]
    fn reads_the_lines_of_a_message() {
        let client = "4XyZ12abcd: client=unknown[2001:db8::7], sasl_method=PLAIN, sasl_username=alice@example.com";
        let told = |login: &str| Event::Client {
            id: id(),
            name: "unknown".into(),
            address: "2001:db8::7".into(),
            login: login.into(),
        };
        assert_eq!(read("smtpd", client), told("alice@example.com"));
        assert_eq!(read("smtpd", &format!("{client}, sasl_sender=x@y")), told("alice@example.com"));
        assert_eq!(read("smtpd", "4XyZ12abcd: client=unknown[2001:db8::7]"), told(""));
        // smtpd_client_port_logging = yes
        let with_port = client.replace("::7]", "::7]:51234");
        assert_eq!(read("smtpd", &with_port), told("alice@example.com"));
        let active = "4XyZ12abcd: from=<alice@example.com>, size=1234, nrcpt=3 (queue active)";
        let known = Event::Active { id: id(), from: "alice@example.com".into(), size: 1234, recipients: 3 };
        assert_eq!(read("qmgr", active), known);
        assert_eq!(read("qmgr", "4XyZ12abcd: removed"), Event::Removed { id: id() });
        assert_eq!(
            read("cleanup", "4XyZ12abcd: message-id=<1@x>"),
            Event::Sent { id: id(), from: String::new(), to: String::new(), refused: false }
        );
    }

    #[test]
    fn what_was_held_or_refused_at_data_was_asked_about() {
        let rest = "DATA from client.example.net[192.0.2.7]: 450 4.7.1 <DATA>: Data command rejected: Rate limit reached, retry \
            later.; from=<alice@example.com> to=<bob@example.org> proto=ESMTP helo=<x> sasl_method=PLAIN sasl_username=alice";
        for (word, refused) in [("reject", true), ("hold", false)] {
            let sent =
                Event::Sent { id: id(), from: "alice@example.com".into(), to: "bob@example.org".into(), refused };
            assert_eq!(read("smtpd", &format!("4XyZ12abcd: {word}: {rest}")), sent);
        }
        let milter = "4XyZ12abcd: milter-reject: END-OF-MESSAGE from x[192.0.2.7]: 5.7.1 spam; from=<a@b> to=<c@d>";
        assert_eq!(
            read("cleanup", milter),
            Event::Sent { id: id(), from: "a@b".into(), to: String::new(), refused: true }
        );
        for line in [
            "NOQUEUE: reject: RCPT from x[192.0.2.7]: 554 5.7.1 <a>: Relay access denied; from=<a> to=<b> proto=ESMTP",
            "4XyZ12abcd: reject: RCPT from x[192.0.2.7]: 550 5.1.1 <b>: Recipient address rejected; from=<a> to=<b>",
            "4XyZ12abcd: warn: DATA from x[192.0.2.7]: busy; from=<a>",
            "4XyZ12abcd: client=localhost[127.0.0.1], orig_queue_id=4XyZ12abcc, orig_client=x[192.0.2.7]",
            "warning: hostname x does not resolve to address 192.0.2.7",
            "connect from unknown[192.0.2.7]",
        ] {
            assert_eq!(read("smtpd", line), Event::Nothing, "{line}");
        }
        assert_eq!(read("smtp", "4XyZ12abcd: to=<b@c>, relay=x, status=sent (250 ok)"), Event::Nothing);
        assert_eq!(read("pickup", "4XyZ12abcd: uid=0 from=<root>"), Event::Nothing);
    }

    #[test]
    fn a_before_queue_filter_is_followed_by_the_client_s_address() {
        let (name, address) = ("x".to_owned(), "192.0.2.7".to_owned());
        for port in ["", ":51234"] {
            let begins = format!("NOQUEUE: client=x[192.0.2.7]{port}, sasl_method=PLAIN, sasl_username=alice");
            let filtered = Event::Filtered { name: name.clone(), address: address.clone(), login: "alice".into() };
            assert_eq!(read("smtpd", &begins), filtered);
            let handed_on = format!("4XyZ12abcd: client=localhost[127.0.0.1]{port}, orig_client=x[192.0.2.7]{port}");
            assert_eq!(read("smtpd", &handed_on), Event::HandedOn { id: id(), address: address.clone() });
            for verdict in ["proxy-accept: END-OF-MESSAGE", "proxy-reject: END-OF-MESSAGE", "reject: DATA"] {
                let answered =
                    format!("NOQUEUE: {verdict} from x[192.0.2.7]{port}: 250 ok; from=<a@b> to=<c@d> proto=ESMTP");
                let (from, to, accepted) = ("a@b".into(), "c@d".into(), verdict.starts_with("proxy-accept"));
                let told = Event::Answered { address: address.clone(), from, to, accepted };
                assert_eq!(read("smtpd", &answered), told);
            }
        }
    }

    #[test]
    fn a_form_that_is_not_known_is_not_passed_over() {
        for (program, text) in [
            ("smtpd", "4XyZ12abcd: client=x"),
            ("smtpd", "4XyZ12abcd: client=x[192.0.2.7] port 5, sasl_method=PLAIN, sasl_username=alice"),
            ("smtpd", "4XyZ12abcd: client=x[127.0.0.1], orig_client=unknown"),
            ("smtpd", "NOQUEUE: client=unknown"),
            ("qmgr", "4XyZ12abcd: from=<a@b>, size=7 (queue active)"),
            ("qmgr", "4XyZ12abcd: from=<a@b>, size=7, nrcpt=many (queue active)"),
        ] {
            assert_eq!(super::read(program, text), None, "{text}");
        }
        // What is known, and tells nothing of a message on its way in.
        for text in ["from=<a@b>, status=expired, returned to sender", "skipped, still being delivered"] {
            assert_eq!(read("qmgr", &format!("4XyZ12abcd: {text}")), Event::Nothing);
        }
    }

    #[test]
    fn a_client_s_words_forge_nothing() {
        let forged = "4XyZ12abcd: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=mallory, sasl_username=boss";
        assert!(matches!(read("smtpd", forged), Event::Client { login, .. } if login == "mallory, sasl_username=boss"));
        let from = "4XyZ12abcd: from=<\">, size=1, nrcpt=1 (queue active)\"@x>, size=2, nrcpt=5 (queue active)";
        assert!(matches!(read("qmgr", from), Event::Active { size: 2, recipients: 5, .. }));
    }

    proptest! {
        #[test]
        fn any_text_tells_something_bounded_or_nothing(
            program in "smtpd|qmgr|cleanup|\\PC{0,5}",
            text in "(4XyZ12abcd: )?(client=|from=<|>, size=|, nrcpt=|reject: DATA from |[\\[\\]<>,:0-9 ]|\\PC){0,30}",
        ) {
            if let Some(Event::Active { from, .. }) = super::read(&program, &text) {
                prop_assert!(from.chars().count() <= super::super::MAX_SHOWN);
            }
        }
    }
}
