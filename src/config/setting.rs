//! What a row of the table of settings says: how a setting is written, its bounds, and what may be done with it.

use std::time::Duration;

use crate::policy::duration;

/// Settings that belong together, under one heading of the settings file and the manual.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    pub title: &'static str,
    pub settings: &'static [Setting],
}

/// One setting: how it is written, what it means, and what may be done with it.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub name: &'static str,
    pub kind: Kind,
    /// As it would be written; empty where there is none, or where `help` says how it is found.
    pub default: &'static str,
    /// A value to show where there is no default.
    pub example: &'static str,
    /// The value that the packaged settings file sets.
    pub packaged: Option<&'static str>,
    /// Never shown: not by `check`, not in an error.
    pub secret: bool,
    /// Whether SIGHUP applies a change; else a restart does.
    pub reload: bool,
    /// Whether an environment variable of this name is meant for us. Not so for USER and GROUP, which login shells and
    /// systemd set for reasons of their own.
    pub environment: bool,
    /// One or a few sentences of plain text.
    pub help: &'static str,
}

/// How a setting's value is written, and its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text on one line, of at most so many bytes.
    Text(usize),
    /// Any text without NUL.
    Secret,
    /// A file or a folder.
    Path,
    AbsolutePath,
    Flag,
    /// A whole number from the first to the second.
    Number(u64, u64),
    /// A length of time from the first to the second.
    Duration(Duration, Duration),
    /// A number of bytes from the first to the second, or 0 for none.
    Size(u64, u64),
    Driver,
    Tls,
    Listen,
    Mode,
    /// A name of the system's user or group database.
    Account,
    Attributes,
    Domain,
    Quota,
    /// `reset`, or a length of time from the first to the second.
    Window(Duration, Duration),
    Networks,
    Action,
    /// An action that lets the mail through.
    DeliveringAction,
    LogLevel,
    Syslog,
    Url,
    Endpoint,
    MailAddress,
    /// What becomes of held mail.
    Held,
}

impl Setting {
    /// What the packaged settings file sets, where that is not the default.
    pub fn chosen(&self) -> Option<&'static str> {
        self.packaged.filter(|&packaged| packaged != self.default)
    }
}

impl Kind {
    /// What may be written, as the end of "must be …".
    pub fn allowed(&self) -> String {
        match self {
            Kind::Text(longest) => format!("text on one line, at most {longest} bytes"),
            Kind::Secret => "text of at most 1024 bytes without NUL".into(),
            Kind::Path => "the path of a file".into(),
            Kind::AbsolutePath => "a path that begins with /".into(),
            Kind::Flag => "True or False (or yes, no, on, off, 1, 0)".into(),
            Kind::Number(least, most) => format!("a whole number from {least} to {most}"),
            Kind::Duration(least, most) => {
                format!("a duration from {} to {}", duration::show(*least), duration::show(*most))
            }
            Kind::Size(least, most) => format!("0, or a size from {} to {}", size(*least), size(*most)),
            Kind::Driver => "sqlite (sqlite3), mysql (pymysql, mariadb) or postgres (postgresql)".into(),
            Kind::Tls => "off, prefer, require or verify".into(),
            Kind::Listen => {
                "ip,port or [v6],port or /path or inet:host:port or unix:/path, several separated by blanks".into()
            }
            Kind::Mode => "an octal number from 0 to 0777".into(),
            Kind::Account => "a user's or group's name or number".into(),
            Kind::Attributes => "a list of sasl_username, sender, client_address, each at most once".into(),
            Kind::Domain => "a domain such as example.com".into(),
            Kind::Quota => "a whole number from 0 to 4294967294, or unlimited".into(),
            Kind::Window(least, most) => {
                format!("reset, or a duration from {} to {}", duration::show(*least), duration::show(*most))
            }
            Kind::Networks => "networks such as 192.0.2.0/24 or 2001:db8::/32, separated by blanks or commas".into(),
            Kind::Action => format!("one of {}", crate::protocol::reply::ALLOWED),
            Kind::DeliveringAction => "an action that lets mail through: DUNNO, OK, WARN text or INFO text".into(),
            Kind::LogLevel => {
                "DEBUG, INFO, WARNING, ERROR or CRITICAL (or off, error, warn, info, debug, trace)".into()
            }
            Kind::Syslog => "True, False, or the path of the log socket".into(),
            Kind::Url => "a URL that begins with https:// or http://".into(),
            Kind::Endpoint => "a host and a port such as 127.0.0.1:9464".into(),
            Kind::Held => "keep or release".into(),
            Kind::MailAddress => "a mail address such as postmaster@example.com".into(),
        }
    }
}

/// A number of bytes as it would be written.
fn size(bytes: u64) -> String {
    let units = [(30, "G"), (20, "M"), (10, "k")];
    let unit = units.into_iter().find(|(bits, _)| bytes > 0 && bytes.trailing_zeros() >= *bits);
    unit.map_or_else(|| bytes.to_string(), |(bits, unit)| format!("{}{unit}", bytes >> bits))
}
