//! What is written behind options: parsed, with an error that says what to write.

use std::time::Duration;

use jiff::civil::DateTime;

use crate::config::setting::Kind;
use crate::policy::duration;
use crate::policy::quota;

/// The time of --unless-within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recent {
    /// Since local midnight.
    Today,
    Within(Duration),
}

pub fn parse_quota(written: &str) -> Result<u32, String> {
    quota::read(written).ok_or_else(|| format!("write {}", Kind::Quota.allowed()))
}

pub fn parse_duration(written: &str) -> Result<Duration, String> {
    duration::parse(written).ok_or_else(|| "write a number and a unit: 90s, 5m, 20h, 7d".to_owned())
}

pub fn parse_reason(written: &str) -> Result<String, String> {
    let is_word =
        !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    match is_word && written.len() <= 32 {
        true => Ok(written.to_ascii_lowercase()),
        false => Err("write one word of at most 32 letters, digits, `-` and `_`: compromised".to_owned()),
    }
}

pub fn parse_note(written: &str) -> Result<String, String> {
    let text = written.replace(char::is_control, " ").trim().to_owned();
    if text.chars().count() <= 255 { Ok(text) } else { Err("write at most 255 characters".to_owned()) }
}

pub fn parse_recent(written: &str) -> Result<Recent, String> {
    if written.eq_ignore_ascii_case("today") {
        return Ok(Recent::Today);
    }
    parse_duration(written).map(Recent::Within).map_err(|advice| format!("{advice}; or today"))
}

pub fn parse_interval(written: &str) -> Result<Duration, String> {
    let interval = parse_duration(written)?;
    let allowed = Duration::from_secs(1)..=Duration::from_secs(3600);
    if allowed.contains(&interval) { Ok(interval) } else { Err("write a time from 1s to 1h".to_owned()) }
}

pub fn parse_time(written: &str) -> Result<DateTime, String> {
    written.parse().map_err(|_| "write a date, or a date and a time: 2026-11-14, 2026-11-14T08:00".to_owned())
}

pub fn parse_attribute(written: &str) -> Result<(String, String), String> {
    match written.split_once('=') {
        Some((name, value)) if !name.is_empty() && !written.contains(['\n', '\0']) => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write NAME=VALUE, on one line".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_may_hold_equals_signs() {
        assert_eq!(parse_attribute("sender=a+b=c@x"), Ok(("sender".into(), "a+b=c@x".into())));
        assert!(
            parse_attribute("=x").is_err() && parse_attribute("x").is_err() && parse_attribute("a=b\nc=d").is_err()
        );
    }
}
