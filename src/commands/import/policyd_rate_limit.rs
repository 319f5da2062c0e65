//! The settings file of policyd-rate-limit (nitmir, `policyd-rate-limit.yaml`) and what it comes to here. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::translation::{LARGEST, Translation, action, key as key_of, quota as quota_of, shown};
use crate::account::{LimitBy, network};
use crate::policy::quota::UNLIMITED;

/// `[number, seconds]`.
type Limit = (u64, u64);

/// The contents of the file, with the program's own defaults. What it has beside these concerns only the program itself.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct File {
    debug: bool,
    #[serde(rename = "SOCKET")]
    socket: Option<Socket>,
    limits: Vec<Limit>,
    limits_by_id: BTreeMap<String, Vec<Limit>>,
    sql_limits_by_id: Option<String>,
    limit_by_sasl: bool,
    limit_by_sender: bool,
    limit_by_ip: bool,
    limited_networks: Vec<String>,
    success_action: Option<String>,
    fail_action: Option<String>,
    db_error_action: Option<String>,
    count_mode: u8,
    report: bool,
    report_from: Option<String>,
    report_to: Option<OneOrMore>,
    smtp_server: Option<(String, u16)>,
    smtp_starttls: bool,
    smtp_credentials: Option<(String, String)>,
}

impl Default for File {
    fn default() -> File {
        File {
            debug: true,
            socket: None,
            limits: vec![(10, 60), (150, 86400)],
            limits_by_id: BTreeMap::new(),
            sql_limits_by_id: None,
            limit_by_sasl: true,
            limit_by_sender: false,
            limit_by_ip: false,
            limited_networks: Vec::new(),
            success_action: None,
            fail_action: Some("defer_if_permit Rate limit reach, retry later".to_owned()),
            db_error_action: None,
            count_mode: 0,
            report: false,
            report_from: None,
            report_to: None,
            smtp_server: None,
            smtp_starttls: false,
            smtp_credentials: None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Socket {
    Path(String),
    Address((String, u16)),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// Reads the file and translates it.
///
/// # Errors
/// In words: why the file cannot be read.
pub fn translate(text: &str) -> Result<Translation, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut translation = Translation::default();
    let mut longest_first = file.limits.clone();
    longest_first.sort_by_key(|&(_, seconds)| std::cmp::Reverse(seconds));
    let Some((&quota, others)) = longest_first.split_first() else {
        return Err("its limits are empty: it limits nobody".to_owned());
    };
    file.quota(quota, others, &mut translation);
    file.subjects(&mut translation);
    file.actions(&mut translation);
    file.reports(&mut translation);
    file.accounts(quota, others, &mut translation);
    if let Some(asks) = &file.sql_limits_by_id
        && !asks.trim().is_empty()
    {
        translation.lost.push(
            "sql_limits_by_id: quotas are in our table ratelimits (quota, quota_reset), where your panel may write them"
                .to_owned(),
        );
    }
    match &file.socket {
        Some(Socket::Path(path)) => translation.notes.push(format!("Postfix asks it at unix:{path}; ours is unix:rateguard/policyd")),
        Some(Socket::Address((host, port))) => translation.notes.push(format!(
            "Postfix asks it at {host}:{port}: let the socket unit listen there, by ListenStream={host}:{port} in a drop-in, see \
             \"A TCP port\" in docs/migrating.md"
        )),
        None => {}
    }
    translation.notes.push("its counts are not taken over: a window is right again after its length".to_owned());
    Ok(translation)
}

impl File {
    /// The longest window is the quota's, which an account may have a value of its own for; the others are limits of all.
    fn quota(&self, (number, seconds): Limit, others: &[Limit], translation: &mut Translation) {
        let mut usable = |(number, seconds): Limit| match shown(seconds) {
            Some(window) => Some((number.min(LARGEST), window)),
            None => {
                translation.lost.push(format!("limit [{number}, {seconds}]: a window here is from 1m to 31d"));
                None
            }
        };
        let measure = if self.count_mode == 2 { "messages" } else { "recipients" };
        let others: Vec<String> = others
            .iter()
            .filter_map(|&limit| usable(limit))
            .map(|(number, window)| format!("{number} {measure}/{window}{}", self.fail_text().unwrap_or_default()))
            .collect();
        if let Some((number, window)) = usable((number, seconds)) {
            translation.settings.push(("QUOTA", number.to_string()));
            translation.settings.push(("QUOTA_WINDOW", window));
        }
        if !others.is_empty() {
            translation.settings.push(("LIMITS", others.join("; ")));
        }
        if self.count_mode == 2 {
            translation
                .notes
                .push("count_mode 2 counts messages; a quota here is for recipients and messages alike".to_owned());
        }
        if self.count_mode == 0 {
            translation.notes.push(
                "count_mode 0 asks at RCPT; the check in smtpd_data_restrictions counts the same, and is asked less"
                    .to_owned(),
            );
        }
    }

    fn subjects(&self, translation: &mut Translation) {
        let by: Vec<&str> = self.limit_by().into_iter().map(LimitBy::name).collect();
        if by.is_empty() {
            translation
                .lost
                .push("limit_by_sasl, limit_by_sender and limit_by_ip are all off: it limits nobody".to_owned());
        } else {
            translation.settings.push(("LIMIT_BY", by.join(",")));
        }
        let everywhere = ["0.0.0.0/0", "::/0"];
        if self.limit_by_ip && self.limited_networks.iter().any(|network| !everywhere.contains(&network.as_str())) {
            let networks = self.limited_networks.join(", ");
            translation
                .lost
                .push(format!("limited_networks {networks}: put the check only where these clients come in"));
        }
    }

    /// In the order in which the program looks.
    fn limit_by(&self) -> Vec<LimitBy> {
        // An empty list of networks is the same as no limit by address.
        let by_ip = self.limit_by_ip && !self.limited_networks.is_empty();
        let asked = [
            (self.limit_by_sasl, LimitBy::SaslUsername),
            (self.limit_by_sender, LimitBy::Sender),
            (by_ip, LimitBy::ClientAddress),
        ];
        asked.into_iter().filter(|(on, _)| *on).map(|(_, by)| by).collect()
    }

    /// The action of a limit, with a blank before it. None if there is none, or Postfix would not take it.
    fn fail_text(&self) -> Option<String> {
        action(self.fail_action.as_deref()?).map(|action| format!(" {action}"))
    }

    fn actions(&self, translation: &mut Translation) {
        match (&self.fail_action, self.fail_text()) {
            (_, Some(action)) => translation.settings.push(("QUOTA_STEPS", format!("1x{action}"))),
            (Some(written), None) => {
                translation.lost.push(format!("fail_action {written:?} is no action for a limit here"))
            }
            (None, None) => {}
        }
        for (name, ours, written) in [
            ("success_action", "ACTION_ACCEPTED", &self.success_action),
            ("db_error_action", "ACTION_ON_ERROR", &self.db_error_action),
        ] {
            let Some(written) = written else { continue };
            match action(written) {
                Some(action) if action == "DUNNO" => {}
                Some(action) => translation.settings.push((ours, action)),
                None => translation.lost.push(format!("{name} {written:?} is no action that is possible here")),
            }
        }
    }

    fn reports(&self, translation: &mut Translation) {
        if !self.report {
            return;
        }
        let to = match &self.report_to {
            Some(OneOrMore::One(address)) => Some(address),
            Some(OneOrMore::More(addresses)) => addresses.first().filter(|_| addresses.len() == 1),
            None => None,
        };
        match to {
            Some(to) => translation.settings.push(("NOTIFY_MAIL_TO", to.clone())),
            None => translation.lost.push("report_to: NOTIFY_MAIL_TO takes one address".to_owned()),
        }
        if let (Some(_), Some(from)) = (to, &self.report_from) {
            translation.settings.push(("NOTIFY_MAIL_FROM", from.clone()));
        }
        if self.smtp_starttls || self.smtp_credentials.is_some() {
            translation
                .lost
                .push("smtp_starttls, smtp_credentials: mails here go to a server that takes them without".to_owned());
        } else if let (Some(_), Some((host, port))) = (to, &self.smtp_server) {
            translation.settings.push(("NOTIFY_MAIL_SERVER", format!("{host}:{port}")));
        }
    }

    /// limits_by_id: the quota is each account's own, LIMITS are the same for all.
    fn accounts(&self, quota: Limit, others: &[Limit], translation: &mut Translation) {
        let by = self.limit_by();
        for (id, limits) in &self.limits_by_id {
            let Some(key) = key(id, &by) else {
                translation.lost.push(format!("limits_by_id {id}: it is nobody that LIMIT_BY counts"));
                continue;
            };
            let own = limits.iter().find(|(_, seconds)| *seconds == quota.1);
            match own {
                _ if limits.is_empty() => {
                    translation.quotas.push((key.clone(), UNLIMITED));
                    if !others.is_empty() {
                        translation.notes.push(format!(
                            "{key} is unlimited, but LIMITS hold; a line in ALLOWLIST exempts it from these too"
                        ));
                    }
                    continue;
                }
                Some(&(number, _)) => translation.quotas.push((key.clone(), quota_of(number))),
                None => translation
                    .lost
                    .push(format!("limits_by_id {id}: it has no limit for {} s, as the quota here is", quota.1)),
            }
            for (number, seconds) in limits.iter().filter(|limit| limit.1 != quota.1 && !others.contains(limit)) {
                translation
                    .lost
                    .push(format!("limits_by_id {id} [{number}, {seconds}]: LIMITS are the same for everybody"));
            }
        }
    }
}

/// The key that an id is counted by. The program does not say what an id is: an address first, then a login, then an envelope
/// sender.
fn key(id: &str, by: &[LimitBy]) -> Option<String> {
    let is_address = network::address(id).is_some();
    let found = by.iter().find(|by| (**by == LimitBy::ClientAddress) == is_address)?;
    key_of(id, *found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_as_it_is_shipped_becomes_settings() {
        let shipped = "debug: True\nuser: \"policyd-rate-limit\"\nbackend: 0\nSOCKET: \"/var/spool/postfix/ratelimit/policy\"\n\
            socket_permission: 0666\nmysql_config:\n    user: \"username\"\n    passwd: \"*****\"\n\
            limits:\n    - [10, 60] # by minutes\n    - [150, 86400]\nlimit_by_sasl: True\nlimit_by_ip: False\n\
            limited_netword: []\nsuccess_action: \"dunno\"\nfail_action: \"defer_if_permit Rate limit reach, retry later\"\n\
            report: False\nreport_from: null\nreport_to: null\nreport_limits: [86400]\nsmtp_server: [\"localhost\", 25]\n\
            smtp_credentials: null\n";
        let translation = translate(shipped).unwrap();
        assert_eq!(
            translation.written(),
            [
                "QUOTA=150",
                "QUOTA_WINDOW=24h",
                "LIMITS=10 recipients/1m DEFER_IF_PERMIT Rate limit reach, retry later",
                "LIMIT_BY=sasl_username",
                "QUOTA_STEPS=1x DEFER_IF_PERMIT Rate limit reach, retry later",
            ]
        );
        assert_eq!((translation.quotas.len(), translation.lost.len()), (0, 0), "{:?}", translation.lost);
    }

    #[test]
    fn accounts_get_the_quota_of_its_window() {
        let file = concat!(
            "limits: [[10, 60], [150, 86400]]\nlimit_by_ip: true\nlimited_networks: [\"0.0.0.0/0\", \"::/0\"]\n",
            "limits_by_id:\n  Shop@Example.com: [[10, 60], [5000, 86400]]\n  boss: []\n  192.0.2.1: [[7, 86400]]\n",
            "  \"2001:db8::1\": [[8, 86400]]\n  odd: [[5, 60], [9, 86400]]\n  hourly: [[9, 3600]]\n",
        );
        let translation = translate(file).unwrap();
        assert_eq!(
            translation.own_quotas(),
            [("[192.0.2.1]", 7), ("[2001:db8::/64]", 8), ("shop@example.com", 5000), ("boss", UNLIMITED), ("odd", 9),]
        );
        let lost = translation.lost.join("\n");
        for text in ["odd [5, 60]: LIMITS are the same", "hourly: it has no limit for 86400 s", "hourly [9, 3600]"] {
            assert!(lost.contains(text), "{lost}");
        }
        assert_eq!(translation.lost.len(), 3, "{lost}");
    }

    #[test]
    fn what_has_no_like_here_is_named() {
        let file = "limits: [[1, 30], [100, 86400]]\nsql_limits_by_id: SELECT 1\nlimit_by_ip: true\nlimited_networks: [192.0.2.0/24]\n\
            fail_action: filter x\ndb_error_action: reject later\nreport: true\nreport_to: [a@example.com, b@example.com]\n\
            smtp_starttls: true\n";
        let lost = translate(file).unwrap().lost.join("\n");
        for text in ["[1, 30]", "sql_limits_by_id", "limited_networks", "filter x", "report_to", "smtp_starttls"] {
            assert!(lost.contains(text), "{text} is not in\n{lost}");
        }
        assert!(translate("limits: []").unwrap_err().contains("limits nobody"));
        assert!(translate("limits: [2, 500]").is_err() && translate("limits: [[a, b]]").is_err());
    }

    #[test]
    fn every_setting_is_one_that_check_takes() {
        let file = "limits: [[10, 90], [40, 3600], [150, 86400], [900, 2592000]]\nfail_action: \"reject 5.7.1 too; much\"\n\
            limit_by_sender: true\nsuccess_action: OK\ndb_error_action: \"450 later\"\nreport: true\nreport_to: a@example.com\n\
            report_from: b@example.com\nsmtp_server: [localhost, 25]\n";
        let translation = translate(file).unwrap();
        assert!(translation.lost.is_empty(), "{:?}", translation.lost);
        let limits = &translation.settings.iter().find(|(name, _)| *name == "LIMITS").unwrap().1;
        assert_eq!(crate::policy::limits::parse(limits, "x").unwrap().len(), 3, "{limits}");
        let steps = &translation.settings.iter().find(|(name, _)| *name == "QUOTA_STEPS").unwrap().1;
        crate::policy::steps::Steps::parse(steps, "x").unwrap();
        let lines: Vec<String> = translation.written();
        assert!(
            lines.contains(&"QUOTA_WINDOW=30d".to_owned()) && lines.contains(&"ACTION_ON_ERROR=450 later".to_owned()),
            "{lines:?}"
        );
    }
}
