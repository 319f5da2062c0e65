//! Lines that are JSON: the journal's (`journalctl -o json`), and those of Docker's log files. Pure.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::stamp::Milliseconds;

/// The fields that are looked at.
#[derive(Debug, Deserialize)]
struct Fields {
    /// The journal's, in microseconds since 1970.
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    at: Option<String>,
    #[serde(rename = "SYSLOG_IDENTIFIER")]
    identifier: Option<String>,
    #[serde(rename = "_COMM")]
    command: Option<String>,
    #[serde(rename = "MESSAGE")]
    message: Option<Message>,
    /// Docker's.
    time: Option<String>,
    log: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Message {
    Text(String),
    /// What is not UTF-8.
    Bytes(Vec<u8>),
    Other(IgnoredAny),
}

/// Reads when a line was written, and what would follow its time in a log of syslog's.
pub fn read(line: &str) -> Option<(Milliseconds, String)> {
    let fields: Fields = serde_json::from_str(line).ok()?;
    if let (Some(at), Some(log)) = (&fields.time, fields.log) {
        return Some((at.parse::<Timestamp>().ok()?.as_millisecond(), log));
    }
    let at = fields.at?.parse::<i64>().ok()? / 1000;
    let program = fields.identifier.or(fields.command)?;
    let text = match fields.message? {
        Message::Text(text) => text,
        Message::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Message::Other(_) => return None,
    };
    Some((at, format!("{program}: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_journal_s_and_docker_s_entries() {
        let read = |fields: &str| read(&format!("{{{fields}, \"_PID\": \"7\"}}"));
        let journal = r#""__REALTIME_TIMESTAMP": "1795262400123456", "_COMM": "smtpd", "#;
        let told = |text: &str| Some((1_795_262_400_123, text.to_owned()));
        let named = format!(r#"{journal} "SYSLOG_IDENTIFIER": "postfix/smtpd", "#);
        assert_eq!(read(&format!(r#"{named} "MESSAGE": "a \"b\"""#)), told("postfix/smtpd: a \"b\""));
        assert_eq!(read(&format!(r#"{named} "MESSAGE": [97, 255]"#)), told("postfix/smtpd: a\u{fffd}"));
        assert_eq!(read(&format!(r#"{journal} "MESSAGE": "a""#)), told("smtpd: a"));
        assert_eq!(read(&format!(r#"{named} "MESSAGE": null"#)), None);
        let docker =
            r#""log": "mx postfix/smtpd[1]: a\n", "stream": "stdout", "time": "2026-11-21T12:00:00.123456789Z""#;
        assert_eq!(read(docker), told("mx postfix/smtpd[1]: a\n"));
        for other in [r#""MESSAGE": "a""#, r#""time": "noon", "log": "a""#, r#""__REALTIME_TIMESTAMP": "x""#] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
