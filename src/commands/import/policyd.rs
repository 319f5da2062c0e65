//! policyd's settings file (thc2cat/go-policyd, `policyd.cfg`) and what its lines come to here. Pure.

use std::net::Ipv6Addr;

use crate::account::AccountRules;
use crate::account::network;
use crate::config::Secret;
use crate::policy::lists::{List, Which};
use crate::store::policyd::Place;

/// When policyd's whitelist holds: `time.Now().Clock()` from 7 to 19 o'clock, on days that are not Sunday. (It was meant to
/// leave out Saturday too, but asks for a seventh day that Go does not have.)
const WHITELIST_HOURS: &str = "hours=Mon-Sat,07:00-19:59";
/// policyd's ladder.
const STEPS: &str = "1x HOLD quota exceeded; 2x REJECT max quota exceeded";
const DENYLIST_ACTION: &str = "HOLD blacklisted";
/// Keys of the file that have a meaning.
const KNOWN: [&str; 9] =
    ["port", "bind", "defaultquota", "dbuser", "dbpass", "dbhost", "dbport", "dbname", "policy_table"];

/// The contents of the file.
#[derive(Debug, Default)]
pub struct Policyd {
    values: Vec<(String, String)>,
    whitelist: Vec<String>,
    blacklist: Vec<String>,
    /// What the operator should know about it.
    pub notes: Vec<String>,
}

impl Policyd {
    /// Reads the file as policyd does: the last line of a name counts, and what is no `name=value` is passed over.
    pub fn parse(text: &str) -> Policyd {
        let mut policyd = Policyd::default();
        for (number, line) in text.lines().enumerate() {
            let Some((name, value)) = line.trim_matches([' ', '\n', '\r']).split_once('=') else { continue };
            match name {
                "whitelist" => policyd.whitelist.push(value.to_owned()),
                "blacklist" => policyd.blacklist.push(value.to_owned()),
                name if KNOWN.contains(&name) => {
                    policyd.values.retain(|(known, _)| known != name);
                    policyd.values.push((name.to_owned(), value.to_owned()));
                }
                name => policyd.notes.push(format!("line {}: {name} means nothing to policyd either", number + 1)),
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            policyd.notes.push("policyd never read the last line, which has no line end; it is taken over".to_owned());
        }
        policyd
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns a host and its port. Forks of policyd write both in one value, `127.0.0.1:9093`; a port of its own wins, since
    /// policyd reads that.
    fn host_and_port(&self, host: &str, port: &str) -> (Option<String>, Option<String>) {
        let host = self.value(host).filter(|host| !host.is_empty());
        let with_port = host.filter(|host| host.parse::<Ipv6Addr>().is_err()).and_then(|host| host.rsplit_once(':'));
        let with_port =
            with_port.filter(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
        let (host, own) = with_port.map_or((host, None), |(host, port)| (Some(host), Some(port)));
        let host = host.map(|host| host.trim_matches(['[', ']']).to_owned()).filter(|host| !host.is_empty());
        (host, self.value(port).filter(|port| !port.is_empty()).or(own).map(str::to_owned))
    }

    /// Returns our settings of the same meaning, without the lists' files.
    ///
    /// # Errors
    /// In words: what cannot be taken over.
    pub fn settings(&mut self) -> Result<Vec<(&'static str, String)>, String> {
        let mut settings = Vec::new();
        if let Some(quota) = self.value("defaultquota") {
            let quota: u32 = quota
                .parse()
                .map_err(|_| format!("defaultquota={quota} is not a whole number; mend it or leave it out"))?;
            settings.push(("QUOTA", quota.to_string()));
        }
        settings.push(("QUOTA_WINDOW", "24h".to_owned()));
        settings.push(("QUOTA_STEPS", STEPS.to_owned()));
        settings.push(("SENDER_STRIP_DOMAIN", "True".to_owned()));
        let (host, port) = self.host_and_port("bind", "port");
        match (host, port) {
            (_, None) if self.value("bind").is_some() => {
                self.notes.push("bind= without a port is left out; SOCKET stays as it is".to_owned());
            }
            (_, None) => {}
            (host, Some(port)) => {
                let port: u16 =
                    port.parse().map_err(|_| format!("port={port} is not a port; mend it or leave it out"))?;
                let host = host.unwrap_or_else(|| "0.0.0.0".to_owned());
                let host = if host.contains(':') { format!("[{host}]") } else { host };
                // Opened by the daemon itself, any user of the host could take it during a restart.
                self.notes.push(format!(
                    "Postfix asks policyd at {host}:{port}: let the socket unit listen there, by ListenStream={host}:{port} \
                     in a drop-in, see \"A TCP port\" in docs/migrating.md; without systemd set SOCKET={host},{port}"
                ));
            }
        }
        if !self.blacklist.is_empty() {
            settings.push(("DENYLIST_ACTION", DENYLIST_ACTION.to_owned()));
        }
        Ok(settings)
    }

    /// Returns our settings for its database.
    pub fn database(&self) -> Vec<(&'static str, String)> {
        let (host, port) = self.host_and_port("dbhost", "dbport");
        let value = |name| self.value(name).map(str::to_owned);
        let values = [
            ("DB_DRIVER", Some("mysql".to_owned())),
            ("DB_HOST", host),
            ("DB_PORT", port),
            ("DB_USER", value("dbuser")),
            ("DB_PASSWORD", value("dbpass")),
            ("DB_DATABASE", value("dbname")),
        ];
        values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Returns where its events are.
    ///
    /// # Errors
    /// In words: what is missing or makes no sense.
    pub fn place(&self) -> Result<Place, String> {
        let need = |name: &str| {
            let value = self.value(name).filter(|value| !value.is_empty());
            value.map(str::to_owned).ok_or_else(|| format!("there is no {name}= in it, so its events cannot be read"))
        };
        let table = self.value("policy_table").unwrap_or("events").to_owned();
        if table.is_empty() || !table.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("policy_table={table} is not a table's name"));
        }
        let (host, port) = self.host_and_port("dbhost", "dbport");
        let port = port.unwrap_or_else(|| "3306".to_owned());
        Ok(Place {
            host: host.unwrap_or_else(|| "127.0.0.1".to_owned()),
            port: port.parse().map_err(|_| format!("dbport={port} is not a port"))?,
            user: need("dbuser")?,
            password: Secret::new(self.value("dbpass").unwrap_or_default().to_owned()),
            database: need("dbname")?,
            table,
        })
    }

    /// Returns the lines of the allow list and the deny list. What cannot be an entry becomes a note.
    pub fn lists(&mut self, subject: &AccountRules) -> (Vec<String>, Vec<String>) {
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        for entry in std::mem::take(&mut self.whitelist) {
            let line = format!("{} {WHITELIST_HOURS}", named(&entry));
            take(&mut allow, &mut self.notes, line, Which::Allow, &entry, subject);
        }
        for entry in std::mem::take(&mut self.blacklist) {
            // Our deny list looks at logins, senders and addresses, as policyd's does.
            take(&mut deny, &mut self.notes, entry.clone(), Which::Deny, &entry, subject);
        }
        if allow.iter().any(|line| line.starts_with("sender:")) {
            let forged = "the whitelist names envelope senders, which the client chooses: whoever knows one is not counted. \
                          Better name logins";
            self.notes.push(forged.to_owned());
        }
        (allow, deny)
    }
}

/// An entry of the whitelist as our allow list names it. policyd compares it with the login (cut at the @), the envelope sender
/// and the address: one with an @ can only ever have been a sender.
fn named(entry: &str) -> String {
    if network::address(entry).is_none() && entry.contains('@') { format!("sender:{entry}") } else { entry.to_owned() }
}

fn take(
    lines: &mut Vec<String>,
    notes: &mut Vec<String>,
    line: String,
    which: Which,
    entry: &str,
    subject: &AccountRules,
) {
    match List::parse(&line, which, subject) {
        Ok(list) if list.is_empty() => {}
        Ok(_) if lines.contains(&line) => {}
        Ok(_) => lines.push(line),
        Err(mistakes) => {
            let why: Vec<String> = mistakes.iter().map(|found| found.mistake.problem.to_string()).collect();
            let list = if which == Which::Allow { "whitelist" } else { "blacklist" };
            notes.push(format!("{list}={entry} is left out: {}", why.join("; ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::LimitBy;

    const FILE: &str = "port=9093\nbind=127.0.0.1\ndefaultquota=1500\ndbuser=policyd_daemon\ndbpass=a=b'c\\d\n\
        dbhost=127.0.0.1\ndbport=3306\ndbname=policyd\npolicy_table=events\nwhitelist=boss\nwhitelist=192.0.2.7\n\
        whitelist=news@example.com\nwhitelist=boss\nblacklist=mallory\nblacklist=.example.org\ncolour=blue\n# a comment\n";

    fn subject() -> AccountRules {
        AccountRules { limit_by: vec![LimitBy::SaslUsername], login_domain: None, strip_domain: true }
    }

    #[test]
    fn a_file_becomes_settings_and_lists() {
        let mut policyd = Policyd::parse(FILE);
        let settings: Vec<String> =
            policyd.settings().unwrap().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            settings,
            [
                "QUOTA=1500",
                "QUOTA_WINDOW=24h",
                "QUOTA_STEPS=1x HOLD quota exceeded; 2x REJECT max quota exceeded",
                "SENDER_STRIP_DOMAIN=True",
                "DENYLIST_ACTION=HOLD blacklisted",
            ]
        );
        assert_eq!(policyd.database()[4], ("DB_PASSWORD", "a=b'c\\d".to_owned()));
        let (allow, deny) = policyd.lists(&subject());
        assert_eq!(
            allow,
            [
                "boss hours=Mon-Sat,07:00-19:59",
                "192.0.2.7 hours=Mon-Sat,07:00-19:59",
                "sender:news@example.com hours=Mon-Sat,07:00-19:59",
            ]
        );
        assert_eq!(deny, ["mallory"]);
        let notes = policyd.notes.join("\n");
        for note in [
            "by ListenStream=127.0.0.1:9093 in a drop-in",
            "line 16: colour",
            "blacklist=.example.org is left out",
            "whoever knows one is not counted",
        ] {
            assert!(notes.contains(note), "{notes}");
        }
    }

    #[test]
    fn a_port_may_stand_behind_its_host() {
        for (lines, socket) in [
            ("bind=127.0.0.1:9093", Some("127.0.0.1,9093")),
            ("bind=:9093", Some("0.0.0.0,9093")),
            ("bind=[::1]:9093", Some("[::1],9093")),
            ("bind=::1\nport=9093", Some("[::1],9093")),
            ("bind=[::1]\nport=9093", Some("[::1],9093")),
            ("bind=127.0.0.1:1\nport=9093", Some("127.0.0.1,9093")),
            ("port=9093", Some("0.0.0.0,9093")),
            ("bind=\nport=9093", Some("0.0.0.0,9093")),
            ("bind=127.0.0.1", None),
            ("bind=::1", None),
        ] {
            let mut policyd = Policyd::parse(&format!("{lines}\n"));
            policyd.settings().unwrap();
            let note = policyd.notes.concat();
            assert_eq!(note.split_once("set SOCKET=").map(|(_, named)| named), socket, "{lines}");
            assert_eq!(note.contains("bind= without a port"), socket.is_none(), "{lines}");
        }
        for (lines, host, port) in [
            ("dbhost=127.0.0.1:3307", "127.0.0.1", "3307"),
            ("dbhost=[2001:db8::1]:3307", "2001:db8::1", "3307"),
            ("dbhost=db\ndbport=3307", "db", "3307"),
            ("dbhost=db:1\ndbport=3307", "db", "3307"),
        ] {
            let policyd = Policyd::parse(&format!("dbuser=u\ndbname=d\n{lines}\n"));
            let database = policyd.database();
            assert!(database.contains(&("DB_HOST", host.to_owned())), "{lines}");
            assert!(database.contains(&("DB_PORT", port.to_owned())), "{lines}");
            let place = policyd.place().unwrap();
            assert_eq!((place.host, place.port.to_string()), (host.to_owned(), port.to_owned()));
        }
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        assert!(Policyd::parse("port=x\n").settings().unwrap_err().contains("port=x is not a port"));
        assert!(Policyd::parse("defaultquota=0x10\n").settings().unwrap_err().contains("0x10"));
        assert!(Policyd::parse("dbname=x\n").place().unwrap_err().contains("dbuser"));
        let injected = "dbuser=u\ndbname=d\npolicy_table=events`; DROP\n";
        assert!(Policyd::parse(injected).place().unwrap_err().contains("table"));
        let last = Policyd::parse("port=1\nwhitelist=boss");
        assert!(last.notes[0].contains("last line") && last.whitelist == ["boss"]);
    }
}
