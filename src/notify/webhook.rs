//! The webhook: PolicydRateGuard's call, with `event` and `limit` added.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::sync::watch;
use ureq::Agent;

use super::courier::{Carrier, Undelivered};
use super::event::Notice;
use super::{Settings, https, token};
use crate::clock;
use crate::config::{self, Placeholder, TokenKey};
use crate::limiter::moment;

/// The body, with PolicydRateGuard's keys in its order, and then ours.
#[derive(Debug, Serialize)]
pub struct Payload<'a> {
    msgid: &'a str,
    sender: &'a str,
    client_address: &'a str,
    client_name: &'a str,
    rcpt_count: u32,
    from_addr: &'a str,
    to_addr: &'a str,
    /// Local time, `YYYY-MM-DD HH:MM:SS`.
    timestamp: String,
    quota: u32,
    quota_reset: u32,
    used: u64,
    event: &'static str,
    /// The step or the limit, as written; empty for the quota itself.
    limit: &'a str,
    /// Why somebody has blocked the sender, when that ends by itself (RFC 3339 in UTC; empty if it does not), and how many
    /// messages it has held; empty and 0 for other events.
    reason: &'a str,
    until: String,
    held: i64,
}

impl<'a> Payload<'a> {
    fn new(notice: &'a Notice, zone: &TimeZone) -> Payload<'a> {
        let event = &notice.event;
        let local = Timestamp::from_second(event.at).unwrap_or_default().to_zoned(zone.clone());
        Payload {
            msgid: &event.queue_id,
            sender: &event.sender,
            client_address: &event.client_address,
            client_name: &event.client_name,
            rcpt_count: event.recipients,
            from_addr: &event.from,
            to_addr: &event.to,
            timestamp: local.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            quota: event.quota,
            quota_reset: notice.quota_reset,
            used: event.used,
            event: event.kind.name(),
            limit: event.kind.limit(),
            reason: event.kind.reason(),
            until: event.until.map(moment::utc).unwrap_or_default(),
            held: event.held,
        }
    }

    /// What stands for a placeholder, as text.
    fn value(&self, placeholder: Placeholder, token: Option<&str>) -> String {
        match placeholder {
            Placeholder::MessageId => self.msgid.to_owned(),
            Placeholder::Sender => self.sender.to_owned(),
            Placeholder::ClientAddress => self.client_address.to_owned(),
            Placeholder::ClientName => self.client_name.to_owned(),
            Placeholder::Recipients => self.rcpt_count.to_string(),
            Placeholder::From => self.from_addr.to_owned(),
            Placeholder::To => self.to_addr.to_owned(),
            Placeholder::Timestamp => self.timestamp.clone(),
            Placeholder::Quota => self.quota.to_string(),
            Placeholder::QuotaReset => self.quota_reset.to_string(),
            Placeholder::Used => self.used.to_string(),
            Placeholder::Event => self.event.to_owned(),
            Placeholder::Limit => self.limit.to_owned(),
            Placeholder::Reason => self.reason.to_owned(),
            Placeholder::Until => self.until.clone(),
            Placeholder::Held => self.held.to_string(),
            Placeholder::Token => token.unwrap_or_default().to_owned(),
        }
    }
}

/// A call, ready to be made.
#[derive(PartialEq, Eq)]
struct Call {
    url: String,
    /// `Authorization`: the token if the URL has no place for it, else the user and password in the URL.
    authorization: Option<String>,
    body: String,
}

impl Call {
    /// `now`, in seconds since 1970, goes into a JSON web token.
    fn new(webhook: &config::Webhook, notice: &Notice, zone: &TimeZone, now: i64) -> Call {
        let payload = Payload::new(notice, zone);
        let token = match &webhook.token {
            None => None,
            Some(TokenKey::Simple(secret)) => Some(token::simple(secret.reveal(), payload.sender)),
            Some(TokenKey::Jwt(key)) => token::jwt(key.reveal(), payload.sender, now),
        };
        let url = webhook.url.fill(|placeholder| payload.value(placeholder, token.as_deref()));
        let in_url = webhook.url.has(Placeholder::Token);
        let bearer = token.filter(|_| !in_url).map(|token| format!("Bearer {token}"));
        let authorization = bearer.or_else(|| basic(&url));
        // Only a map with keys that are no text would fail.
        let body = serde_json::to_string(&payload).unwrap_or_default();
        Call { url, authorization, body }
    }
}

/// Makes the calls, by the settings as they are at the time.
#[derive(Debug)]
pub struct Caller {
    settings: watch::Receiver<Arc<Settings>>,
    /// The client, with what it was made for: after a reload it is made anew, since WEBHOOK_CA_FILE may have been renewed.
    agent: Option<(Arc<Settings>, Agent)>,
}

impl Caller {
    pub fn new(settings: watch::Receiver<Arc<Settings>>) -> Caller {
        Caller { settings, agent: None }
    }

    fn agent(&mut self, settings: &Arc<Settings>, webhook: &config::Webhook) -> Result<Agent, Undelivered> {
        if let Some((made_for, agent)) = &self.agent
            && Arc::ptr_eq(made_for, settings)
        {
            return Ok(agent.clone());
        }
        let agent = https::agent(webhook.ca_file.as_deref(), webhook.timeout)
            .map_err(|error| Undelivered::Later(format!("WEBHOOK_CA_FILE: {error}")))?;
        self.agent = Some((settings.clone(), agent.clone()));
        Ok(agent)
    }
}

impl Carrier for Caller {
    fn carry(&mut self, notice: &Notice) -> Result<(), Undelivered> {
        let settings = self.settings.borrow().clone();
        let Some(webhook) = &settings.notify.webhook else {
            return Err(Undelivered::Never("it was switched off meanwhile".to_owned()));
        };
        let call = Call::new(webhook, notice, &TimeZone::system(), clock::now());
        let mut request = self
            .agent(&settings, webhook)?
            .post(&call.url)
            .header("Content-Type", "application/json")
            .header("Accept", "application/json");
        if let Some(authorization) = &call.authorization {
            request = request.header("Authorization", authorization);
        }
        match request.send(&call.body) {
            Ok(response) => judge(response.status().as_u16()),
            Err(error) => Err(undelivered(&error)),
        }
    }
}

/// The user and password before a URL's host, percent-encoding undone, as Basic authentication sends them.
fn basic(url: &str) -> Option<String> {
    let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
    let (user, _host) = authority.rsplit_once('@')?;
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let plain = |written: &str| percent_decode_str(written).collect::<Vec<u8>>();
    let credentials = [plain(user), b":".to_vec(), plain(password)].concat();
    Some(format!("Basic {}", STANDARD.encode(credentials)))
}

/// What a status means: 5xx is the receiver's trouble, which passes, and so does having too much to do; what it refuses it
/// would refuse again.
fn judge(status: u16) -> Result<(), Undelivered> {
    match status {
        200..=299 => Ok(()),
        300..=399 => Err(Undelivered::Never(format!("the receiver answered {status}; redirections are not followed"))),
        // Request Timeout, Too Early, Too Many Requests.
        408 | 425 | 429 | 500..=599 => Err(Undelivered::Later(format!("the receiver answered {status}"))),
        _ => Err(Undelivered::Never(format!("the receiver answered {status}"))),
    }
}

/// An error without the URL, which may hold the token.
fn undelivered(error: &ureq::Error) -> Undelivered {
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => Undelivered::Never("WEBHOOK_URL is no URL".to_owned()),
        ureq::Error::Timeout(_) => Undelivered::Later("no answer in time (WEBHOOK_TIMEOUT)".to_owned()),
        error => Undelivered::Later(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, UrlTemplate};
    use crate::notify::event::{Kind, tests::event};
    use std::time::Duration;

    fn webhook(url: &str, token: Option<TokenKey>) -> config::Webhook {
        config::Webhook {
            url: UrlTemplate::parse(url).unwrap(),
            token,
            ca_file: None,
            timeout: Duration::from_secs(10),
        }
    }

    fn simple() -> Option<TokenKey> {
        Some(TokenKey::Simple(Secret::new("secret".to_owned())))
    }

    fn notice() -> Notice {
        Notice { event: event(Kind::QuotaReached, "alice@example.com"), quota_reset: 900 }
    }

    fn call(url: &str, token: Option<TokenKey>) -> Call {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        Call::new(&webhook(url, token), &notice(), &zone, 1_800_014_500)
    }

    #[test]
    fn the_payload_has_policyd_rate_guards_keys_in_its_order() {
        assert_eq!(
            call("https://h/", None).body,
            r#"{"msgid":"4XyZ12abcd","sender":"alice@example.com","client_address":"2001:db8::1","#.to_owned()
                + r#""client_name":"client.example.net","rcpt_count":3,"from_addr":"info@example.com","#
                + r#""to_addr":"bob@example.org","timestamp":"2027-01-15 14:00:00","quota":1000,"quota_reset":900,"#
                + r#""used":1003,"event":"quota_reached","limit":"","reason":"","until":"","held":0}"#
        );
    }

    #[test]
    fn every_key_of_the_payload_is_a_placeholder() {
        let notice = notice();
        let payload = Payload::new(&notice, &TimeZone::UTC);
        let json = serde_json::to_value(&payload).unwrap();
        let json = json.as_object().unwrap();
        assert_eq!(json.len() + 1, Placeholder::NAMES.len(), "and the token");
        for (key, placeholder) in &Placeholder::NAMES[..json.len()] {
            let value = json[*key].as_str().map_or_else(|| json[*key].to_string(), str::to_owned);
            assert_eq!(payload.value(*placeholder, Some("token")), value, "{key}");
        }
        assert_eq!(payload.value(Placeholder::Token, Some("token")), "token");
    }

    #[test]
    fn the_token_is_in_the_url_where_it_has_a_place_there() {
        let token = token::simple("secret", "alice@example.com");
        let in_url = call("https://h/{sender}?token={token}", simple());
        assert_eq!(in_url.url, format!("https://h/alice%40example.com?token={token}"));
        assert_eq!(in_url.authorization, None);
        let in_header = call("https://h/{event}", simple());
        assert_eq!(
            (in_header.url.as_str(), in_header.authorization),
            ("https://h/quota_reached", Some(format!("Bearer {token}")))
        );
        assert_eq!(call("https://h/", None).authorization, None);
        let key = TokenKey::Jwt(Secret::new(b"secret".to_vec()));
        let jwt = call("https://h/", Some(key)).authorization.unwrap();
        assert_eq!(jwt, format!("Bearer {}", token::jwt(b"secret", "alice@example.com", 1_800_014_500).unwrap()));
    }

    #[test]
    fn a_user_in_the_url_is_sent_where_no_token_is() {
        let sent = |url: &str, token| call(url, token).authorization;
        let basic = |user: &str| Some(format!("Basic {}", STANDARD.encode(user)));
        for (url, user) in [
            ("https://user:p%40ss@h/x?t={token}", "user:p@ss"),
            ("https://user@h/{token}", "user:"),
            ("https://us%3Aer:a:b%C3%A9@h/{token}", "us:er:a:bé"),
            ("https://:%25@h?t={token}", ":%"),
            ("https://h%2F@example@h/{token}", "h/@example:"),
        ] {
            assert_eq!(sent(url, simple()), basic(user), "{url}");
        }
        assert_eq!(sent("https://h/a@b:c?d@{token}", simple()), None);
        assert!(sent("https://user:p@h/", simple()).unwrap().starts_with("Bearer "));
        assert_eq!(sent("https://user:p@h/", None), basic("user:p"));
    }

    #[test]
    fn what_a_status_means() {
        assert_eq!(judge(204), Ok(()));
        for never in [301, 302, 307, 400, 401, 404] {
            assert!(matches!(judge(never), Err(Undelivered::Never(_))), "{never}");
        }
        for later in [408, 425, 429, 500, 502, 503, 599] {
            assert!(matches!(judge(later), Err(Undelivered::Later(_))), "{later}");
        }
    }
}
