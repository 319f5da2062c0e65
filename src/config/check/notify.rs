//! SENTRY_*, WEBHOOK_*, NOTIFY_*: who is told.

use super::{Checked, Checker};
use crate::config::{Notify, Webhook, values};
use crate::notify::{crash, template, token, webhook};

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
        if sentry_dsn.as_ref().is_some_and(|dsn| !crash::is_dsn(dsn.reveal())) {
            return self.fail("SENTRY_DSN", "must be a DSN such as https://key@sentry.example.com/1");
        }
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
        let written = url.reveal();
        if written.starts_with("http:") {
            self.warn("WEBHOOK_URL", "is not https, so senders and the token can be read on the way");
        }
        if template::names_host(written) {
            return self.fail("WEBHOOK_URL", "has a placeholder in the host's name, which a sender must not choose");
        }
        let known = |name: &&str| *name == webhook::TOKEN || webhook::Payload::KEYS.contains(name);
        if let Some(unknown) = template::names(written).find(|name| !known(name)) {
            self.warn("WEBHOOK_URL", format!("has {{{unknown}}}, which is no key of the payload and stays as it is"));
        }
        if secret.is_none() && (jwt || template::names(written).any(|name| name == webhook::TOKEN)) {
            return self.fail("WEBHOOK_SECRET", "is not set, and the token is made with it");
        }
        if jwt && secret.as_ref().is_some_and(|secret| !token::is_key(secret.reveal())) {
            return self.fail("WEBHOOK_SECRET", token::NotBase64.to_string());
        }
        Ok(Some(Webhook { url, secret, jwt, ca_file, timeout: timeout? }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::{errors, good};

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
}
