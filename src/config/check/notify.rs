//! SENTRY_*, WEBHOOK_*, NOTIFY_*: notifications and error reports.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use sentry::types::{Dsn, Scheme};

use super::checker::{Checked, Checker};
use crate::config::secret::Secret;
use crate::config::typed::{Notify, SentryDsn, TokenKey, Webhook};
use crate::config::url_template::{Placeholder, UrlTemplate};
use crate::config::values;

/// With or without padding: both are in use.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Checker<'_> {
    pub fn notify(&mut self) -> Checked<Notify> {
        let sentry_dsn = self.optional("SENTRY_DSN", values::secret_url);
        let sentry_environment = self.get("SENTRY_ENVIRONMENT", values::text);
        let webhook = self.webhook();
        let mail_to = self.optional("NOTIFY_MAIL_TO", values::mail_address);
        let mail_from = self.optional("NOTIFY_MAIL_FROM", values::mail_address);
        let mail_server = self.get("NOTIFY_MAIL_SERVER", values::endpoint);
        let mail_sender = self.get("NOTIFY_SENDER", values::flag);
        let (sentry_dsn, mail_to, mail_from, mail_sender) = (sentry_dsn?, mail_to?, mail_from?, mail_sender?);
        let sentry_dsn = match sentry_dsn.map(|dsn| dsn.reveal().parse::<Dsn>()).transpose() {
            Ok(dsn) => dsn,
            Err(_) => return self.fail("SENTRY_DSN", "must be a DSN such as https://key@sentry.example.com/1"),
        };
        if sentry_dsn.as_ref().is_some_and(|dsn| dsn.scheme() == Scheme::Http) {
            self.warn("SENTRY_DSN", "is not https, so the key and what went wrong here can be read on the way");
        }
        let sentry_dsn = sentry_dsn.map(SentryDsn);
        if mail_sender && mail_to.is_none() && mail_from.is_none() {
            return self.fail("NOTIFY_SENDER", "needs NOTIFY_MAIL_FROM or NOTIFY_MAIL_TO, which the mail is from");
        }
        Ok(Notify {
            sentry_dsn,
            sentry_environment: sentry_environment?,
            webhook: webhook?,
            mail_to,
            mail_from,
            mail_sender,
            mail_server: mail_server?,
        })
    }

    fn webhook(&mut self) -> Checked<Option<Webhook>> {
        let enabled = self.get("WEBHOOK_ENABLED", values::flag);
        let url = self.optional("WEBHOOK_URL", values::secret_url);
        let secret = self.optional("WEBHOOK_SECRET", values::secret);
        let jwt = self.get("WEBHOOK_USE_JWT", values::flag);
        let ca_file = self.optional("WEBHOOK_CA_FILE", values::path);
        let timeout = self.get("WEBHOOK_TIMEOUT", values::duration);
        let (enabled, url, secret, jwt, ca_file) = (enabled?, url?, secret?, jwt?, ca_file?);
        if !enabled {
            return Ok(None);
        }
        let Some(url) = url else {
            return self.fail("WEBHOOK_ENABLED", "needs WEBHOOK_URL, which is not set");
        };
        if url.reveal().starts_with("http:") {
            self.warn("WEBHOOK_URL", "is not https, so senders and the token can be read on the way");
        }
        let url = UrlTemplate::parse(url.reveal()).or_else(|error| self.fail("WEBHOOK_URL", error.to_string()))?;
        if !is_callable(&url.fill(|_| String::new())) {
            return self.fail("WEBHOOK_URL", "is no URL that can be called; see its host and port");
        }
        if let Some(unknown) = url.unknown() {
            self.warn("WEBHOOK_URL", format!("has {{{unknown}}}, which is no key of the payload and stays as it is"));
        }
        if secret.is_none() && (jwt || url.has(Placeholder::Token)) {
            return self.fail("WEBHOOK_SECRET", "is not set, and the token is made with it");
        }
        let token = secret.map(|secret| if jwt { self.jwt_key(&secret) } else { Ok(TokenKey::Simple(secret)) });
        Ok(Some(Webhook { url, token: token.transpose()?, ca_file, timeout: timeout? }))
    }

    fn jwt_key(&mut self, secret: &Secret) -> Checked<TokenKey> {
        match BASE64.decode(secret.reveal().trim()) {
            Ok(key) if !key.is_empty() => Ok(TokenKey::Jwt(Secret::new(key))),
            _ => self.fail("WEBHOOK_SECRET", "must be base64, since WEBHOOK_USE_JWT is on"),
        }
    }
}

/// As the client reads it when it is called.
fn is_callable(url: &str) -> bool {
    let Ok(uri) = url.parse::<hyper::Uri>() else { return false };
    uri.authority().is_some_and(|authority| {
        let (_, host) = authority.as_str().rsplit_once('@').unwrap_or(("", authority.as_str()));
        !authority.host().is_empty() && (host == authority.host() || authority.port_u16().is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::super::examples::{errors, good};
    use super::*;

    #[test]
    fn what_is_set_without_what_it_needs_is_an_error() {
        assert_eq!(errors(&[("WEBHOOK_ENABLED", "1")]), ["WEBHOOK_ENABLED needs WEBHOOK_URL, which is not set"]);
        let url = ("WEBHOOK_URL", "https://a.example/?t={token}");
        let no_secret = ["WEBHOOK_SECRET is not set, and the token is made with it"];
        assert_eq!(errors(&[("WEBHOOK_ENABLED", "1"), url]), no_secret);
        assert!(good(&[url]).config.notify.webhook.is_none());
        let jwt = [("WEBHOOK_ENABLED", "1"), url, ("WEBHOOK_USE_JWT", "1"), ("WEBHOOK_SECRET", "not base64!")];
        assert_eq!(errors(&jwt), ["WEBHOOK_SECRET must be base64, since WEBHOOK_USE_JWT is on"]);
        let host = [("WEBHOOK_ENABLED", "1"), ("WEBHOOK_URL", "https://a{sender}/")];
        assert_eq!(errors(&host), ["WEBHOOK_URL has a placeholder in the host's name, which a sender must not choose"]);
        assert_eq!(errors(&[("NOTIFY_SENDER", "1")]).len(), 1);
        good(&[("NOTIFY_SENDER", "1"), ("NOTIFY_MAIL_TO", "a@b.example")]);
        assert!(errors(&[("SENTRY_DSN", "https://s.example/1")])[0].starts_with("SENTRY_DSN must be a DSN"));
        // A window's history is kept in any case.
        good(&[("QUOTA_WINDOW", "30d"), ("USAGE_RETENTION", "1")]);
    }
    #[test]
    fn the_key_of_a_json_web_token_is_read_with_and_without_padding() {
        let key = |secret| {
            let jwt = [("WEBHOOK_ENABLED", "1"), ("WEBHOOK_URL", "https://a.example/"), ("WEBHOOK_USE_JWT", "1")];
            good(&[&jwt[..], &[("WEBHOOK_SECRET", secret)]].concat()).config.notify.webhook.unwrap().token
        };
        let read = Some(TokenKey::Jwt(Secret::new(b"secret key".to_vec())));
        assert_eq!((key("c2VjcmV0IGtleQ=="), key("c2VjcmV0IGtleQ")), (read.clone(), read));
    }
}
