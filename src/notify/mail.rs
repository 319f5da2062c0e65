//! Mail: to NOTIFY_MAIL_TO about any sender, and to the sender itself if its key is a login that is an address.
//!
//! The mail server is this host's or network's own, which takes mail from here without a login; so what we send is never
//! counted. The envelope sender is null, and the mail says that no person wrote it: nothing answers it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lettre::address::{Address, Envelope};
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::{SmtpTransport, Transport};
use tokio::sync::watch;

use super::Settings;
use super::courier::{Carrier, Undelivered};
use super::event::{Event, Kind, Notice};
use crate::config::{self, Endpoint};
use crate::limiter::blocks::{argument, command_to_end};

/// The time that the mail server may take for each of its answers.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Who gets a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressee {
    /// NOTIFY_MAIL_TO.
    Admin,
    /// The sender whose quota it is.
    Sender,
}

/// Why there is no mail to be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    #[error("there is no {0} to write to or from")]
    NoAddress(&'static str),
    #[error("{0}")]
    Build(String),
}

/// The address of the sender, if it is one that we may write to: a login, never what a stranger wrote.
pub fn address_of(event: &Event) -> Option<Address> {
    event.sender.parse().ok().filter(|_| !event.login.is_empty())
}

/// Returns the mail's text and its envelope. Times are shown in `zone`.
pub fn letter(
    addressee: Addressee,
    notify: &config::Notify,
    notice: &Notice,
    zone: &TimeZone,
) -> Result<(Envelope, Message), LetterError> {
    let event = &notice.event;
    let parse = |written: &Option<String>| written.as_deref().and_then(|written| written.parse::<Address>().ok());
    let admin = parse(&notify.mail_to);
    let from = parse(&notify.mail_from).or(admin.clone()).ok_or(LetterError::NoAddress("NOTIFY_MAIL_FROM"))?;
    let (to, subject, body) = match addressee {
        Addressee::Admin => {
            let to = admin.ok_or(LetterError::NoAddress("NOTIFY_MAIL_TO"))?;
            (to, format!("{}: {event}", event.sender), for_admin(event, zone))
        }
        Addressee::Sender => {
            let to = address_of(event).ok_or(LetterError::NoAddress("sender's address"))?;
            (to, format!("Your mail account: {event}"), for_sender(event, zone))
        }
    };
    let build = |error: &dyn std::fmt::Display| LetterError::Build(error.to_string());
    let envelope = Envelope::new(None, vec![to.clone()]).map_err(|error| build(&error))?;
    let id = format!("<{:016x}.{:x}@{}>", fastrand::u64(..), event.at, from.domain());
    let mut message = Message::builder()
        .from(Mailbox::new(Some("policyd-rate-guard".to_owned()), from))
        .to(Mailbox::new(None, to))
        .subject(subject)
        .message_id(Some(id))
        .envelope(envelope.clone())
        .header(ContentType::TEXT_PLAIN)
        .body(body)
        .map_err(|error| build(&error))?;
    // RFC 3834: nobody answers with a vacation notice.
    message
        .headers_mut()
        .insert_raw(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()));
    Ok((envelope, message))
}

fn for_admin(event: &Event, zone: &TimeZone) -> String {
    if let Kind::Blocked(_) | Kind::Unblocked(_) | Kind::Strike(_) = &event.kind {
        return of_block(event, zone);
    }
    let recipients = if event.to.is_empty() { "several" } else { &event.to };
    format!(
        "{sender}: {event}. {used} of {quota} are used.\n\
         \n\
         When:       {when}\n\
         Client:     {client} [{address}]\n\
         From:       <{from}>\n\
         To:         {recipients} ({count})\n\
         Queue ID:   {queue_id}\n\
         \n\
         {advice}\n\
         See `policyd-rate-guard sender show` for where the sender stands, and `policyd-rate-guard sender reset` to let\n\
         it send again.\n",
        sender = event.sender,
        used = event.used,
        quota = event.quota,
        when = when(event.at, zone),
        client = event.client_name,
        address = event.client_address,
        from = event.from,
        count = event.recipients,
        queue_id = if event.queue_id.is_empty() { "none yet" } else { &event.queue_id },
        advice = match event.kind {
            Kind::QuotaNotice(_) => "Mail still goes out.",
            Kind::LeftOut(_) =>
                "Clients without a login, or one login under many envelope senders, reached limits more often within an\n\
                 hour than is told. This is the last time. If they are not to send here, have Postfix refuse them.",
            _ =>
                "If this is not the sender's usual mail, the account was probably taken over: change its password first.",
        },
    )
}

/// What was done, until when, and the command that undoes it.
fn of_block(event: &Event, zone: &TimeZone) -> String {
    let Event { sender, at, until, held, .. } = event;
    let end = match (&event.kind, until) {
        (Kind::Unblocked(_), _) => {
            "Its mail is counted and limited as before. What is still on hold stays there: `policyd-rate-guard held` lists it."
                .to_owned()
        }
        (Kind::Strike(_), _) => {
            let name = argument(sender);
            format!("policyd-rate-guard sender show {name}\nsays how many there are. To forget them: policyd-rate-guard sender unblock --forgive {name}")
        }
        (_, Some(until)) => format!("The block ends by itself: {}\nTo end it now: {}", when(*until, zone), command_to_end(sender)),
        (_, None) => format!("The block lasts until somebody ends it: {}", command_to_end(sender)),
    };
    let held = if *held > 0 { format!("On hold:    {held} messages since it was blocked\n") } else { String::new() };
    format!(
        "{sender}: {event}.\n\
         \n\
         When:       {when}\n\
         {held}\n\
         {end}\n",
        when = when(*at, zone),
    )
}

fn for_sender(event: &Event, zone: &TimeZone) -> String {
    let (what, advice) = match event.kind {
        Kind::QuotaNotice(_) => (
            "has used much of what it may send",
            "Mail still goes out. When nothing is left, further mail is held back or refused for some time.",
        ),
        _ => ("has sent more than it may", "Further mail is held back or refused until there is room again."),
    };
    format!(
        "Your mail account {sender} {what}: {used} of {quota}, on {when}.\n\
         \n\
         {advice}\n\
         \n\
         If you did not send so much, somebody else may know your password: change it now, and tell your administrator.\n",
        sender = event.sender,
        used = event.used,
        quota = event.quota,
        when = when(event.at, zone),
    )
}

fn when(at: i64, zone: &TimeZone) -> String {
    let local = Timestamp::from_second(at).unwrap_or_default().to_zoned(zone.clone());
    local.strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// Writes to one kind of addressee, by the settings as they are at the time.
#[derive(Debug)]
pub struct MailSender {
    addressee: Addressee,
    settings: watch::Receiver<Arc<Settings>>,
}

impl MailSender {
    pub fn new(addressee: Addressee, settings: watch::Receiver<Arc<Settings>>) -> MailSender {
        MailSender { addressee, settings }
    }
}

impl Carrier for MailSender {
    fn carry(&mut self, notice: &Notice) -> Result<(), Undelivered> {
        let settings = self.settings.borrow().clone();
        let (envelope, message) = letter(self.addressee, &settings.notify, notice, &TimeZone::system())
            .map_err(|error| Undelivered::Never(error.to_string()))?;
        match server(&settings.notify.mail_server).send_raw(&envelope, &message.formatted()) {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => Err(Undelivered::Never(describe(&error))),
            Err(error) => Err(Undelivered::Later(describe(&error))),
        }
    }
}

/// A name is looked up for each mail, and all its addresses are tried.
fn server(endpoint: &Endpoint) -> SmtpTransport {
    let (host, port) = match endpoint {
        Endpoint::Address(address) => (address.ip().to_string(), address.port()),
        Endpoint::Name(name, port) => (name.clone(), *port),
    };
    SmtpTransport::builder_dangerous(host).port(port).timeout(Some(TIMEOUT)).build()
}

fn describe(error: &lettre::transport::smtp::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("the mail server: {error}: {source}"),
        None => format!("the mail server: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::event::tests::event;

    fn notify() -> config::Notify {
        config::Notify {
            sentry_dsn: None,
            sentry_environment: String::new(),
            webhook: None,
            mail_to: Some("postmaster@example.com".into()),
            mail_from: None,
            mail_sender: true,
            mail_server: Endpoint::Address("127.0.0.1:25".parse().unwrap()),
        }
    }

    fn sent(addressee: Addressee, notice: &Notice) -> Result<String, LetterError> {
        letter(addressee, &notify(), notice, &TimeZone::UTC)
            .map(|(_, message)| String::from_utf8(message.formatted()).unwrap())
    }

    fn notice(sender: &str) -> Notice {
        Notice { event: event(Kind::QuotaReached, sender), quota_reset: 1000 }
    }

    #[test]
    fn no_person_wrote_it_and_nothing_answers_it() {
        let (envelope, message) =
            letter(Addressee::Admin, &notify(), &notice("alice@example.com"), &TimeZone::UTC).unwrap();
        assert_eq!(envelope.from(), None);
        assert_eq!(envelope.to(), ["postmaster@example.com".parse().unwrap()]);
        let text = String::from_utf8(message.formatted()).unwrap();
        for line in [
            "Auto-Submitted: auto-generated\r\n",
            "From: policyd-rate-guard <postmaster@example.com>\r\n",
            "To: postmaster@example.com\r\n",
            "Subject: alice@example.com: the quota is reached\r\n",
            "1003 of 1000 are used.\r\n",
            "When:       2027-01-15 12:00:00 +00:00\r\n",
            "Client:     client.example.net [2001:db8::1]\r\n",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn only_a_login_that_is_an_address_is_written_to() {
        assert!(
            sent(Addressee::Sender, &notice("alice@example.com")).unwrap().contains("\r\nTo: alice@example.com\r\n")
        );
        for none in
            ["alice", "<alice@example.com>", "[192.0.2.1]", "alice@example.com, bob@example.com", "a b@example.com"]
        {
            assert_eq!(
                sent(Addressee::Sender, &notice(none)),
                Err(LetterError::NoAddress("sender's address")),
                "{none}"
            );
        }
        let mut stranger = notice("alice@example.com");
        stranger.event.login.clear();
        assert!(sent(Addressee::Sender, &stranger).is_err());
    }

    #[test]
    fn the_commands_about_a_strike_are_safe_in_a_shell() {
        let told = |sender: &str| for_admin(&event(Kind::Strike("quota".into()), sender), &TimeZone::UTC);
        for (sender, argument) in [("alice@example.com", "alice@example.com"), ("$(reboot)", "-- '$(reboot)'")] {
            for command in ["sender show", "sender unblock --forgive"] {
                let line = format!("policyd-rate-guard {command} {argument}\n");
                assert!(told(sender).contains(&line), "{line} is missing in\n{}", told(sender));
            }
        }
    }

    #[test]
    fn a_login_cannot_write_headers() {
        let mut forged = notice("x\r\nBcc: victim@example.org");
        forged.event.client_name = "y\r\n.\r\nMAIL FROM:<z>".into();
        let text = sent(Addressee::Admin, &forged).unwrap();
        let (headers, _) = text.split_once("\r\n\r\n").unwrap();
        assert!(!headers.lines().any(|line| line.starts_with("Bcc")), "{headers}");
    }
}
