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
//! Who was refused at RCPT (`NOQUEUE: reject: RCPT …`) was refused before a check at DATA asked anything.

use super::{between, bounded};
use crate::protocol::request::MAX_RECIPIENTS;

/// What a line of Postfix tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A client begins a message.
    Client { id: String, name: String, address: String, login: String },
    /// The content came in, or the message was held or refused when it was to come: it was asked about.
    /// With what is known of it; `refused` says that nothing more of it comes.
    Sent { id: String, from: String, to: String, refused: bool },
    /// It goes on its way.
    Active { id: String, from: String, size: u64, recipients: u32 },
    /// Its id may be used for another.
    Removed { id: String },
    /// Nothing of a message on its way in.
    Nothing,
}

/// Reads what one of Postfix's programs (`smtpd`, `qmgr`, …) says.
pub fn read(program: &str, text: &str) -> Told {
    told(program, text).unwrap_or(Told::Nothing)
}

fn told(program: &str, text: &str) -> Option<Told> {
    if !matches!(program, "smtpd" | "cleanup" | "qmgr" | "nqmgr") {
        return None;
    }
    let (id, rest) = text.split_once(": ")?;
    let is_id = (5..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_id || id == "NOQUEUE" || id == "warning" || id == "fatal" || id == "error" || id == "panic" {
        return None;
    }
    let id = id.to_owned();
    match program {
        "smtpd" => from_smtpd(id, rest),
        "cleanup" => {
            let sent = rest.starts_with("message-id=") || rest.starts_with("resent-message-id=") || is_verdict(rest);
            // The recipient in such a line is one of perhaps several.
            sent.then(|| Told::Sent { id, from: from(rest), to: String::new(), refused: is_refusal(rest) })
        }
        _ if rest == "removed" => Some(Told::Removed { id }),
        _ => from_qmgr(id, rest),
    }
}

fn from_smtpd(id: String, rest: &str) -> Option<Told> {
    let Some(client) = rest.strip_prefix("client=") else {
        let at_data = between(rest, ": ", " from ")
            .is_some_and(|(stage, _)| matches!(stage, "DATA" | "BDAT" | "END-OF-MESSAGE") || stage == "DATA content");
        let to = between(rest, " to=<", ">").map(|(to, _)| bounded(to)).unwrap_or_default();
        return (at_data && is_verdict(rest)).then(|| Told::Sent {
            id,
            from: from(rest),
            to,
            refused: is_refusal(rest),
        });
    };
    // What comes back from a content filter was asked about before it went there.
    if client.contains(", orig_queue_id=") {
        return None;
    }
    let (client, login) = client.split_once(", sasl_method=").map_or((client, ""), |(client, sasl)| {
        let login = sasl.split_once(", sasl_username=").map_or("", |(_, login)| login);
        (client, login.rsplit_once(", sasl_sender=").map_or(login, |(login, _)| login))
    });
    let client = client.split_once(", ").map_or(client, |(client, _)| client);
    let (name, address) = client.strip_suffix(']')?.rsplit_once('[')?;
    Some(Told::Client { id, name: bounded(name), address: bounded(address), login: login.to_owned() })
}

/// The envelope sender in a verdict. The text before it may be anybody's.
fn from(rest: &str) -> String {
    let from = rest.rsplit_once("; from=<").and_then(|(_, rest)| rest.split_once('>'));
    from.map(|(from, _)| bounded(from)).unwrap_or_default()
}

/// `hold: …`, `milter-reject: …`, and what else is done with a message as a whole.
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

fn from_qmgr(id: String, rest: &str) -> Option<Told> {
    let rest = rest.strip_prefix("from=<")?.strip_suffix(" (queue active)")?;
    let (from, sizes) = rest.rsplit_once(">, size=")?;
    let (size, recipients) = sizes.split_once(", nrcpt=")?;
    let recipients: u32 = recipients.parse().ok()?;
    Some(Told::Active {
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

    fn id() -> String {
        "4XyZ12abcd".to_owned()
    }

    #[test]
    fn reads_the_lines_of_a_message() {
        let client = "4XyZ12abcd: client=unknown[2001:db8::7], sasl_method=PLAIN, sasl_username=alice@example.com";
        let told = |login: &str| Told::Client {
            id: id(),
            name: "unknown".into(),
            address: "2001:db8::7".into(),
            login: login.into(),
        };
        assert_eq!(read("smtpd", client), told("alice@example.com"));
        assert_eq!(read("smtpd", &format!("{client}, sasl_sender=x@y")), told("alice@example.com"));
        assert_eq!(read("smtpd", "4XyZ12abcd: client=unknown[2001:db8::7]"), told(""));
        let active = "4XyZ12abcd: from=<alice@example.com>, size=1234, nrcpt=3 (queue active)";
        let known = Told::Active { id: id(), from: "alice@example.com".into(), size: 1234, recipients: 3 };
        assert_eq!(read("qmgr", active), known);
        assert_eq!(read("qmgr", "4XyZ12abcd: removed"), Told::Removed { id: id() });
        assert_eq!(
            read("cleanup", "4XyZ12abcd: message-id=<1@x>"),
            Told::Sent { id: id(), from: String::new(), to: String::new(), refused: false }
        );
    }

    #[test]
    fn what_was_held_or_refused_at_data_was_asked_about() {
        let rest = "DATA from client.example.net[192.0.2.7]: 450 4.7.1 <DATA>: Data command rejected: Rate limit reached, retry \
            later.; from=<alice@example.com> to=<bob@example.org> proto=ESMTP helo=<x> sasl_method=PLAIN sasl_username=alice";
        for (word, refused) in [("reject", true), ("hold", false)] {
            let sent = Told::Sent { id: id(), from: "alice@example.com".into(), to: "bob@example.org".into(), refused };
            assert_eq!(read("smtpd", &format!("4XyZ12abcd: {word}: {rest}")), sent);
        }
        let milter = "4XyZ12abcd: milter-reject: END-OF-MESSAGE from x[192.0.2.7]: 5.7.1 spam; from=<a@b> to=<c@d>";
        assert_eq!(
            read("cleanup", milter),
            Told::Sent { id: id(), from: "a@b".into(), to: String::new(), refused: true }
        );
        for line in [
            "NOQUEUE: reject: RCPT from x[192.0.2.7]: 554 5.7.1 <a>: Relay access denied; from=<a> to=<b> proto=ESMTP",
            "4XyZ12abcd: reject: RCPT from x[192.0.2.7]: 550 5.1.1 <b>: Recipient address rejected; from=<a> to=<b>",
            "4XyZ12abcd: warn: DATA from x[192.0.2.7]: busy; from=<a>",
            "4XyZ12abcd: client=localhost[127.0.0.1], orig_queue_id=4XyZ12abcc, orig_client=x[192.0.2.7]",
            "warning: hostname x does not resolve to address 192.0.2.7",
            "connect from unknown[192.0.2.7]",
        ] {
            assert_eq!(read("smtpd", line), Told::Nothing, "{line}");
        }
        assert_eq!(read("smtp", "4XyZ12abcd: to=<b@c>, relay=x, status=sent (250 ok)"), Told::Nothing);
        assert_eq!(read("pickup", "4XyZ12abcd: uid=0 from=<root>"), Told::Nothing);
    }

    #[test]
    fn a_client_s_words_forge_nothing() {
        let forged = "4XyZ12abcd: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=mallory, sasl_username=boss";
        assert!(matches!(read("smtpd", forged), Told::Client { login, .. } if login == "mallory, sasl_username=boss"));
        let from = "4XyZ12abcd: from=<\">, size=1, nrcpt=1 (queue active)\"@x>, size=2, nrcpt=5 (queue active)";
        assert!(matches!(read("qmgr", from), Told::Active { size: 2, recipients: 5, .. }));
    }

    proptest! {
        #[test]
        fn any_text_tells_something_bounded_or_nothing(
            program in "smtpd|qmgr|cleanup|\\PC{0,5}",
            text in "(4XyZ12abcd: )?(client=|from=<|>, size=|, nrcpt=|reject: DATA from |[\\[\\]<>,:0-9 ]|\\PC){0,30}",
        ) {
            if let Told::Active { from, .. } = read(&program, &text) {
                prop_assert!(from.chars().count() <= super::super::MAX_SHOWN);
            }
        }
    }
}
