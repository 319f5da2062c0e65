//! The line that a decision of ours or of PolicydRateGuard leaves in the log: see `telemetry::decision`. Pure.

use super::{PastRequest, bounded};
use crate::protocol::request::MAX_RECIPIENTS;

/// A decision as it was logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Empty if Postfix had not given one yet.
    pub queue_id: String,
    pub asked: PastRequest,
}

/// The names of the fields in their order, each with the comma before it.
const FIELDS: [&str; 7] =
    [", helo=", ", sasl_method=", ", sasl_username=", ", from=", ", to=", ", recipient_count=", ", curr_count="];

/// Reads a decision. `escaped` says whether its values are escaped as ours are; PolicydRateGuard writes them unchanged.
///
/// Before the queue id may stand the place in the code, which PolicydRateGuard writes with LOG_MSG_PREFIX.
pub fn read(text: &str, escaped: bool) -> Option<Decided> {
    let (head, mut rest) = text.split_once("client=")?;
    let head = head.trim_end();
    let named = head.strip_suffix(':').map(|head| head.rsplit(' ').next().unwrap_or(head));
    if named.is_none() && !head.is_empty() && !head.ends_with('-') {
        return None;
    }
    let mut values = [""; FIELDS.len()];
    for (value, name) in values.iter_mut().zip(FIELDS) {
        (*value, rest) = rest.split_once(name)?;
    }
    let [client, _helo, _method, login, from, to, recipients] = values;
    let (_, status) = rest.split_once(", status=")?;
    if !["ACCEPTED", "BLOCKED"].iter().any(|known| status.starts_with(known)) {
        return None;
    }
    let (name, address) = client.strip_suffix(']')?.rsplit_once('[')?;
    let plain = |value: &str| if escaped { unescaped(value) } else { value.to_owned() };
    // Python's word for an attribute that Postfix left out.
    let unless_none = |value: &str| if !escaped && value == "None" { String::new() } else { bounded(&plain(value)) };
    let recipients: u32 = recipients.parse().ok().filter(|count| *count <= MAX_RECIPIENTS)?;
    let to = unless_none(to);
    Some(Decided {
        queue_id: bounded(named.filter(|id| *id != "NOQUEUE").unwrap_or_default()),
        asked: PastRequest {
            queue_id: String::new(),
            message: String::new(),
            login: plain(login),
            from: unless_none(from),
            client_name: unless_none(name),
            client_address: unless_none(address),
            // At RCPT recipient_count is 0, and the recipient is named.
            recipients: (recipients > 0 || to.is_empty()).then_some(recipients),
            to,
            size: 0,
            stopped: status.starts_with("BLOCKED"),
        },
    })
}

/// Returns how many refusals were left out of the log, if a line of ours says so.
pub fn left_out(text: &str) -> Option<u64> {
    if let Some((_, count)) = text.rsplit_once(", suppressed=") {
        return count.parse().ok();
    }
    let (count, rest) = text.split_once(' ')?;
    // LOG_MSG_PREFIX may stand before it.
    let (count, _) = match rest.strip_prefix("- ") {
        Some(rest) => rest.split_once(' ')?,
        None => (count, rest),
    };
    (text.contains(" more refusals of ") && text.ends_with(" were not logged")).then(|| count.parse().ok())?
}

/// Undoes the escaping of `telemetry::decision`. What is no escape stays as it is.
fn unescaped(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let (character, after) = one_escape(after);
        plain.push(character);
        rest = after;
    }
    plain.push_str(rest);
    plain
}

/// Returns the character that an escape without its backslash stands for, and what follows it.
fn one_escape(after: &str) -> (char, &str) {
    let number = after.strip_prefix("u{").and_then(|rest| rest.split_once('}')).and_then(|(digits, rest)| {
        let number = (digits.len() <= 6).then(|| u32::from_str_radix(digits, 16).ok())??;
        Some((char::from_u32(number)?, rest))
    });
    if let Some(number) = number {
        return number;
    }
    let known = [('n', '\n'), ('t', '\t'), ('r', '\r'), ('\\', '\\'), ('"', '"'), ('\'', '\'')];
    for (letter, character) in known {
        if let Some(rest) = after.strip_prefix(letter) {
            return (character, rest);
        }
    }
    ('\\', after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::decision::{DecisionLine, MAX_VALUE};
    use proptest::prelude::*;

    const PLAIN: &str = "4XyZ12abcd: client=mx.example.net[192.0.2.7], helo=[10.0.0.1], sasl_method=PLAIN, \
        sasl_username=alice@example.com, from=alice@example.com, to=, recipient_count=3, curr_count=7/1000, status=ACCEPTED";

    #[test]
    fn reads_policyd_rate_guard_s_lines_with_and_without_its_prefix() {
        let plain = read(PLAIN, false).unwrap();
        assert_eq!(plain.queue_id, "4XyZ12abcd");
        assert_eq!(plain.asked.client_address, "192.0.2.7");
        assert_eq!((plain.asked.login.as_str(), plain.asked.recipients), ("alice@example.com", Some(3)));
        assert_eq!(read(&format!("handler.py Handler.handle() - {PLAIN}"), false).unwrap(), plain);
        let (_, without_id) = PLAIN.split_once(": ").unwrap();
        let prefixed = format!("handler.py Handler.handle() - {without_id}");
        assert_eq!(read(&prefixed, false).unwrap(), Decided { queue_id: String::new(), ..plain });
        let blocked = PLAIN.replace("to=, ", "to=None, ").replace("ACCEPTED", "BLOCKED (QUOTA_LIMIT_REACHED)");
        assert_eq!(read(&blocked, false).unwrap().asked.to, "");
        let backslash = PLAIN.replace("sasl_username=alice", "sasl_username=DOMAIN\\nancy");
        assert_eq!(read(&backslash, false).unwrap().asked.login, "DOMAIN\\nancy@example.com");
    }

    #[test]
    fn a_request_at_rcpt_is_of_one_recipient() {
        let at_rcpt =
            PLAIN.replace("4XyZ12abcd", "NOQUEUE").replace("to=", "to=bob@example.org").replace("count=3", "count=0");
        let decided = read(&at_rcpt, true).unwrap();
        assert_eq!((decided.queue_id.as_str(), decided.asked.recipients), ("", None));
        assert_eq!(decided.asked.to, "bob@example.org");
    }

    #[test]
    fn what_is_no_decision_is_none() {
        for line in [
            "",
            "client=",
            "4Xy: client=x[1.2.3.4], sasl_method=PLAIN, sasl_username=a",
            &PLAIN.replace("count=3", "count=x"),
            &PLAIN.replace("count=3", "count=4000000000"),
            &PLAIN.replace("ACCEPTED", "MAYBE"),
            &PLAIN.replace("[192.0.2.7]", ""),
            &PLAIN.replace("4XyZ12abcd: ", "somebody said "),
        ] {
            assert_eq!(read(line, true), None, "{line}");
        }
    }

    #[test]
    fn says_what_was_left_out() {
        assert_eq!(left_out(&format!("{PLAIN}, suppressed=7")), Some(7));
        assert_eq!(left_out("12 more refusals of sender alice@example.com were not logged"), Some(12));
        assert_eq!(left_out("telemetry/limited.rs:81 - 12 more refusals of various senders were not logged"), Some(12));
        assert_eq!(left_out(PLAIN), None);
        assert_eq!(left_out("x more refusals of sender a were not logged"), None);
    }

    proptest! {
        #[test]
        fn what_we_log_is_read_as_it_was_asked(values in prop::collection::vec(
            prop_oneof!["[a-z@.]{0,20}", "(.|[,= \n\\\\\"]){0,40}"], 8,
        ), count in 0..=MAX_RECIPIENTS) {
            let values: Vec<String> = values;
            let line = DecisionLine {
                queue_id: "4XyZ12abcd",
                client_name: &values[0],
                client_address: "192.0.2.7",
                helo_name: &values[1],
                sasl_method: &values[2],
                sasl_username: &values[3],
                from: &values[4],
                to: &values[5],
                recipient_count: count,
                ..DecisionLine::default()
            }
            .to_string();
            let short = values.iter().all(|value| value.chars().map(|c| c.escape_default().len()).sum::<usize>() < MAX_VALUE);
            let Decided { asked, .. } = read(&line, true).unwrap();
            if short {
                prop_assert_eq!(&asked.client_name, &values[0]);
                prop_assert_eq!(&asked.login, &values[3]);
                prop_assert_eq!((&asked.from, &asked.to), (&values[4], &values[5]));
            }
            prop_assert_eq!(asked.recipients.unwrap_or(0), count);
        }

        #[test]
        fn any_text_is_a_bounded_decision_or_none(text in "(client=|, helo=|, sasl_username=|, status=ACCEPTED|\\\\u\\{|[}0-9,:\\[\\] -]|\\PC){0,40}", escaped: bool) {
            if let Some(decided) = read(&text, escaped) {
                prop_assert!(decided.asked.from.chars().count() <= super::super::MAX_SHOWN);
            }
            let _ = left_out(&text);
        }
    }
}
