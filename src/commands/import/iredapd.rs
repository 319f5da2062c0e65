//! iRedAPD's throttle plugin: its settings file `settings.py`, the tables `throttle` and `throttle_tracking`, and what they come
//! to here. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::translation::{Count, Translation, commonest, key, quota, shown};
use crate::account::LimitBy;
use crate::config::{Database, Driver, Secret};
use crate::policy::limit::MAX_AMOUNT;
use crate::policy::quota::UNLIMITED;

/// What the plugin answers.
const TOO_MUCH: &str = "REJECT Throttling quota exceeded";
const TOO_MANY: &str = "REJECT Too many recipients in single message";
/// The account that everybody is.
const EVERYBODY: &str = "@.";

/// The columns of `throttle` that are read, and those of `throttle_tracking`.
pub const THROTTLE: [&str; 9] =
    ["id", "account", "kind", "priority", "period", "msg_size", "max_msgs", "max_quota", "max_rcpts"];
pub const TRACKING: [&str; 4] = ["tid", "account", "cur_msgs", "init_time"];

/// Reads where the tables are out of `settings.py`.
///
/// # Errors
/// In words: what is missing or makes no sense.
pub fn database(text: &str) -> Result<Database, String> {
    let values: BTreeMap<&str, String> = text.lines().filter_map(assignment).collect();
    let value = |name: &str| values.get(name).filter(|value| !value.is_empty()).cloned();
    let need =
        |name: &str| value(name).ok_or_else(|| format!("there is no {name} in it, so its tables cannot be read"));
    let driver = match value("backend").as_deref() {
        Some("pgsql") => Driver::Postgres,
        // Of LDAP too: its throttle tables are in MySQL or MariaDB.
        _ => Driver::Mysql,
    };
    let port =
        value("iredapd_db_port").map(|port| port.parse().map_err(|_| format!("iredapd_db_port={port} is not a port")));
    Ok(Database {
        driver,
        hosts: vec![value("iredapd_db_server").unwrap_or_else(|| "127.0.0.1".to_owned())],
        port: port.transpose()?,
        user: need("iredapd_db_user")?,
        password: value("iredapd_db_password").map(Secret::new),
        tls: crate::config::Tls::Prefer,
        ..Database::sqlite(need("iredapd_db_name")?)
    })
}

/// A line of Python that gives a name a text or a number. None for every other line.
fn assignment(line: &str) -> Option<(&str, String)> {
    let (name, value) = line.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let quote = value.chars().next().filter(|first| ['\'', '"'].contains(first));
    let Some(quote) = quote else {
        return Some((name, value.split('#').next().unwrap_or_default().trim().to_owned()));
    };
    let mut text = String::new();
    let mut characters = value.chars().skip(1);
    while let Some(character) = characters.next().filter(|character| *character != quote) {
        text.push(if character == '\\' { characters.next()? } else { character });
    }
    Some((name, text))
}

/// A row of `throttle`. Of limits −1 leaves it to rows of lower priority, and 0 is unlimited.
#[derive(Debug, Clone)]
struct Throttle {
    id: i64,
    account: String,
    kind: String,
    priority: i64,
    /// In seconds. The plugin passes over rows without one.
    period: u64,
    msg_size: i64,
    max_msgs: i64,
    max_quota: i64,
    max_rcpts: i64,
}

impl Throttle {
    /// Reads the columns of [`THROTTLE`].
    fn read(row: &[String]) -> Option<Throttle> {
        let [id, account, kind, priority, period, msg_size, max_msgs, max_quota, max_rcpts] = row else { return None };
        let number = |text: &String| text.parse().unwrap_or(-1);
        Some(Throttle {
            id: number(id),
            account: account.trim().to_lowercase(),
            kind: kind.clone(),
            priority: number(priority),
            period: period.parse().unwrap_or(0),
            msg_size: number(msg_size),
            max_msgs: number(max_msgs),
            max_quota: number(max_quota),
            max_rcpts: number(max_rcpts),
        })
    }

    fn named(&self) -> String {
        format!("throttle {} ({} {})", self.id, self.kind, self.account)
    }

    /// The domain that its account is, or is in. None for addresses and patterns of clients, and for everybody.
    fn domain(&self) -> Option<&str> {
        let (user, domain) = self.account.rsplit_once('@')?;
        let domain = domain.strip_prefix('.').filter(|_| user.is_empty()).unwrap_or(domain);
        let is_domain = !domain.is_empty() && !domain.contains('*') && (domain != "ip" || !user.is_empty());
        is_domain.then_some(domain)
    }

    /// Whether it is for mail of this address, or of every address of this `@domain`.
    fn is_for(&self, address: &str) -> bool {
        let Some((user, domain)) = address.rsplit_once('@') else { return false };
        let of_domain = self.account.strip_prefix("@.").is_some_and(|above| {
            above.is_empty() || domain.strip_suffix(above).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        of_domain || self.account.strip_prefix('@') == Some(domain) || !user.is_empty() && self.account == address
    }
}

/// The rows for senders, those first that the plugin looks at first.
struct Rows(Vec<Throttle>);

impl Rows {
    /// The row that decides about a limit, as the plugin finds it. None where nothing limits.
    fn deciding(&self, address: &str, limit: impl Fn(&Throttle) -> i64) -> Option<&Throttle> {
        self.0.iter().find(|row| row.is_for(address) && limit(row) >= 0)
    }

    /// The same for an address that no row but everybody's is for.
    fn usual(&self, limit: impl Fn(&Throttle) -> i64) -> Option<&Throttle> {
        self.0.iter().find(|row| row.account == EVERYBODY && limit(row) >= 0)
    }

    /// The period that most limits on the number of mails have, unless everybody's has one.
    fn window(&self) -> Option<u64> {
        let usual = self.usual(|row| row.max_msgs).filter(|row| row.max_msgs > 0).map(|row| row.period);
        usual.or_else(|| commonest(self.0.iter().filter(|row| row.max_msgs > 0).map(|row| row.period)))
    }
}

/// Translates rows of [`THROTTLE`] and of [`TRACKING`], at a time in seconds since 1970.
pub fn translate(throttle: &[Vec<String>], tracking: &[Vec<String>], now: i64) -> Translation {
    let mut translation = Translation::default();
    let mut rows = Vec::new();
    for row in throttle.iter().filter_map(|row| Throttle::read(row)) {
        let limits = [row.msg_size, row.max_msgs, row.max_quota, row.max_rcpts].iter().any(|limit| *limit > 0);
        if row.period == 0 {
            translation.notes.push(format!("{} has no period: iRedAPD does not look at it", row.named()));
        } else if row.kind == "outbound" {
            rows.push(row);
        } else if limits {
            let why = "only what your own users send is counted here";
            translation.lost.push(format!("{}: {why}", row.named()));
        }
    }
    // Of one priority the most exact first; the plugin leaves that to the database.
    rows.sort_by_key(|row| (Reverse(row.priority), row.account == EVERYBODY, Reverse(row.account.len()), row.id));
    let rows = Rows(rows);
    let window = rows.window();
    settings(&rows, window, &mut translation);
    let Some(window) = window.filter(|window| shown(*window).is_some()) else { return translation };
    accounts(&rows, window, &mut translation);
    losses(&rows, window, &mut translation);
    counts(&rows, window, tracking, now, &mut translation);
    translation.notes.push(
        "iRedAPD's period begins with the first mail and then anew; a window here slides, so that no moment lets twice as much through"
            .to_owned(),
    );
    translation
}

fn settings(rows: &Rows, window: Option<u64>, translation: &mut Translation) {
    translation.settings.push(("LIMIT_BY", LimitBy::SaslUsername.name().to_owned()));
    let usual = rows.usual(|row| row.max_msgs).filter(|row| row.max_msgs > 0);
    let written = usual.map_or_else(|| "unlimited".to_owned(), |row| quota(row.max_msgs.unsigned_abs()).to_string());
    translation.settings.push(("QUOTA", written));
    if let Some(window) = window {
        match shown(window) {
            Some(shown) => translation.settings.push(("QUOTA_WINDOW", shown)),
            None => translation.lost.push(format!("max_msgs in {window} s: a window here is from 1m to 31d")),
        }
        translation.settings.push(("QUOTA_STEPS", format!("1x {TOO_MUCH}")));
    }
    let mut limits = Vec::new();
    if let Some(row) = rows.usual(|row| row.max_rcpts).filter(|row| row.max_rcpts > 0) {
        limits.push(format!("{} recipients/message {TOO_MANY}", row.max_rcpts));
    }
    if let Some(row) = rows.usual(|row| row.max_quota).filter(|row| row.max_quota > 0) {
        match shown(row.period).filter(|_| row.max_quota.unsigned_abs() <= MAX_AMOUNT) {
            Some(window) => {
                limits.push(format!("{} bytes/{window} {TOO_MUCH}", row.max_quota));
                let where_to = "max_quota needs the check in smtpd_end_of_data_restrictions, where iRedAPD's is";
                translation.notes.push(where_to.to_owned());
            }
            None => translation.lost.push(format!("{} max_quota: a window here is from 1m to 31d", row.named())),
        }
    }
    if !limits.is_empty() {
        translation.settings.push(("LIMITS", limits.join("; ")));
    }
}

/// The quotas of domains and of addresses that have another one than they would have anyway.
fn accounts(rows: &Rows, window: u64, translation: &mut Translation) {
    let max_msgs = |row: &Throttle| row.max_msgs;
    let mut own = |key: Option<String>, row: Option<&Throttle>, else_from: Option<&Throttle>| {
        let same = row.map(|row| row.id) == else_from.map(|row| row.id);
        let (Some(key), false) = (key, same) else { return };
        match row {
            Some(row) if row.max_msgs > 0 && row.period != window => {}
            Some(row) if row.max_msgs > 0 => translation.quotas.push((key, quota(row.max_msgs.unsigned_abs()))),
            _ => translation.quotas.push((key, UNLIMITED)),
        }
    };
    let domains: BTreeSet<&str> =
        rows.0.iter().filter_map(Throttle::domain).filter(|name| name.contains('.')).collect();
    for domain in domains {
        let at = format!("@{domain}");
        own(Some(at.clone()), rows.deciding(&at, max_msgs), rows.usual(max_msgs));
    }
    let addresses: BTreeSet<&str> = rows
        .0
        .iter()
        .filter(|row| row.domain().is_some() && !row.account.starts_with('@'))
        .map(|row| row.account.as_str())
        .collect();
    for address in addresses {
        let at = address.rfind('@').and_then(|at| address.get(at..)).unwrap_or_default();
        own(key(address, LimitBy::SaslUsername), rows.deciding(address, max_msgs), rows.deciding(at, max_msgs));
    }
}

/// Names what has no like here.
fn losses(rows: &Rows, window: u64, translation: &mut Translation) {
    for row in &rows.0 {
        let named = row.named();
        let mut lose = |what: &str| translation.lost.push(format!("{named}: {what}"));
        if row.msg_size > 0 {
            lose("msg_size: set message_size_limit in main.cf, which is the same for everybody");
        }
        if row.account == EVERYBODY {
            continue;
        }
        let Some(domain) = row.domain() else {
            lose("a login's quota is the same here from every address; put the check only where these clients come in");
            continue;
        };
        if row.account.starts_with("@.") && row.max_msgs >= 0 {
            lose(&format!(
                "of all domains below {domain} only those that other rows name get its quota; set @domain rows for more"
            ));
        }
        if row.max_msgs > 0 && row.period != window {
            lose(&format!("its period is {} s, and the quota's here {window} s for everybody", row.period));
        }
        let same = "LIMITS are the same for everybody";
        let usual = |limit: fn(&Throttle) -> i64| rows.usual(limit).map(limit).unwrap_or(0);
        if row.max_rcpts >= 0 && row.max_rcpts != usual(|row| row.max_rcpts) {
            lose(&format!("max_rcpts {}: {same}", row.max_rcpts));
        }
        if row.max_quota >= 0 && row.max_quota != usual(|row| row.max_quota) {
            lose(&format!("max_quota {}: {same}", row.max_quota));
        }
    }
}

/// What was counted in periods that are not over, at their beginning: it leaves our window when they end.
fn counts(rows: &Rows, window: u64, tracking: &[Vec<String>], now: i64, translation: &mut Translation) {
    for row in tracking {
        let [tid, account, cur_msgs, init_time] = row.as_slice() else { continue };
        let (Ok(tid), Ok(recipients), Ok(at)) = (tid.parse::<i64>(), cur_msgs.parse::<u64>(), init_time.parse::<i64>())
        else {
            continue;
        };
        let address = account.to_lowercase();
        let decides =
            rows.deciding(&address, |row| row.max_msgs).is_some_and(|row| row.id == tid && row.period == window);
        let ends = at.saturating_add_unsigned(window);
        let key = key(&address, LimitBy::SaslUsername)
            .filter(|_| decides && (now..=now.saturating_add_unsigned(window)).contains(&ends));
        if let Some(key) = key.filter(|_| recipients > 0) {
            translation.count(Count { key, recipients: quota(recipients), at });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, account: &str, kind: &str, priority: i64, period: u64, limits: [i64; 4]) -> Vec<String> {
        let [msg_size, max_msgs, max_quota, max_rcpts] = limits.map(|limit| limit.to_string());
        let [id, priority, period] = [id.to_string(), priority.to_string(), period.to_string()];
        vec![id, account.to_owned(), kind.to_owned(), priority, period, msg_size, max_msgs, max_quota, max_rcpts]
    }

    fn outbound(id: i64, account: &str, priority: i64, max_msgs: i64) -> Vec<String> {
        row(id, account, "outbound", priority, 3600, [-1, max_msgs, -1, -1])
    }

    #[test]
    fn settings_py_says_where_the_tables_are() {
        let file = "from libs.default_settings import *\nbackend = 'pgsql' # or ldap\niredapd_db_server = \"db.example.com\"\n\
                    iredapd_db_port = 5433\niredapd_db_name = 'iredapd'\niredapd_db_user = 'i'\niredapd_db_password = 'it\\'s=#1'\n";
        let database = super::database(file).unwrap();
        assert_eq!((database.driver, database.port, database.name.as_str()), (Driver::Postgres, Some(5433), "iredapd"));
        assert_eq!(database.password.unwrap().reveal(), "it's=#1");
        assert_eq!(database.hosts, ["db.example.com"]);
        assert!(super::database("backend = 'mysql'\n").unwrap_err().contains("iredapd_db_user"));
        let port = file.replace("5433", "many");
        assert!(super::database(&port).unwrap_err().contains("iredapd_db_port=many is not a port"));
    }

    #[test]
    fn minus_one_inherits_and_zero_is_unlimited() {
        let rows = [
            row(1, "@.", "outbound", 0, 3600, [-1, 100, 5000, 20]),
            outbound(2, "@example.com", 60, 300),
            outbound(3, "alice@example.com", 100, -1),
            outbound(4, "Boss@Example.com", 100, 0),
            outbound(5, "news@example.org", 100, 5000),
            outbound(6, "@example.net", 60, 0),
            outbound(7, "small@example.net", 100, 5),
        ];
        let translation = translate(&rows, &[], 0);
        assert_eq!(
            translation.written(),
            [
                "LIMIT_BY=sasl_username",
                "QUOTA=100",
                "QUOTA_WINDOW=1h",
                "QUOTA_STEPS=1x REJECT Throttling quota exceeded",
                "LIMITS=20 recipients/message REJECT Too many recipients in single message; \
                 5000 bytes/1h REJECT Throttling quota exceeded",
            ]
        );
        assert_eq!(
            translation.own_quotas(),
            [
                ("@example.com", 300),
                ("@example.net", UNLIMITED),
                ("boss@example.com", UNLIMITED),
                ("news@example.org", 5000),
                ("small@example.net", 5)
            ]
        );
        assert_eq!(translation.lost, Vec::<String>::new());
        let limits = &translation.settings.iter().find(|(name, _)| *name == "LIMITS").unwrap().1;
        assert_eq!(crate::policy::limits::parse(limits, "x").unwrap().len(), 2);
    }

    #[test]
    fn the_priority_decides_and_not_what_an_account_looks_like() {
        let rows = [
            outbound(1, "@.", 0, 100),
            outbound(2, "@example.com", 110, 300),
            outbound(3, "alice@example.com", 100, 7),
            outbound(4, "@.example.org", 50, 9),
            outbound(5, "bob@mail.example.org", 100, -1),
        ];
        let translation = translate(&rows, &[], 0);
        assert_eq!(translation.own_quotas(), [("@example.com", 300), ("@example.org", 9), ("@mail.example.org", 9)]);
        assert_eq!(translation.lost.len(), 1);
        assert!(translation.lost[0].contains("throttle 4 (outbound @.example.org): of all domains below"));
    }

    #[test]
    fn nobodys_limit_is_everybodys_and_what_has_no_like_here_is_named() {
        let rows = [
            outbound(1, "a@example.com", 100, 10),
            row(2, "b@example.com", "outbound", 100, 60, [-1, 10, -1, -1]),
            outbound(3, "c@example.com", 100, 20),
            row(4, "@.", "inbound", 0, 60, [-1, 10, -1, -1]),
            row(5, "@.", "external", 0, 60, [-1, -1, -1, -1]),
            row(6, "192.0.2.1", "outbound", 80, 3600, [-1, 10, -1, -1]),
            row(7, "@ip", "outbound", 0, 3600, [-1, 10, -1, -1]),
            row(8, "@.", "outbound", 0, 3600, [1000, -1, -1, -1]),
            row(9, "d@example.com", "outbound", 100, 3600, [-1, -1, 77, 8]),
            row(10, "e@example.com", "outbound", 100, 0, [-1, 1, -1, -1]),
        ];
        let translation = translate(&rows, &[], 0);
        assert!(translation.written().contains(&"QUOTA=unlimited".to_owned()), "{:?}", translation.settings);
        assert_eq!(translation.own_quotas(), [("a@example.com", 10), ("c@example.com", 20)]);
        let lost = translation.lost.join("\n");
        for text in [
            "throttle 2 (outbound b@example.com): its period is 60 s",
            "throttle 4 (inbound @.)",
            "throttle 6 (outbound 192.0.2.1)",
            "throttle 7 (outbound @ip)",
            "throttle 8 (outbound @.): msg_size",
            "throttle 9 (outbound d@example.com): max_rcpts 8",
            "throttle 9 (outbound d@example.com): max_quota 77",
        ] {
            assert!(lost.contains(text), "{text} is not in\n{lost}");
        }
        assert_eq!(translation.lost.len(), 7, "{lost}");
        assert!(translation.notes[0].contains("throttle 10"), "{:?}", translation.notes);
    }

    #[test]
    fn what_is_counted_in_a_period_that_goes_on_is_taken() {
        let rows = [outbound(1, "@.", 0, 100), outbound(2, "a@example.com", 100, 10)];
        let tracked = |tid: i64, account: &str, messages: i64, begun: i64| {
            [tid.to_string(), account.to_owned(), messages.to_string(), begun.to_string()].to_vec()
        };
        let tracking = [
            tracked(2, "a@example.com", 4, 9_000),
            // Of a row that does not decide.
            tracked(1, "a@example.com", 50, 9_000),
            tracked(1, "B@example.com", 7, 8_000),
            // Over.
            tracked(1, "c@example.com", 9, 6_000),
            tracked(1, "192.0.2.1", 9, 9_000),
        ];
        let counts = translate(&rows, &tracking, 10_000).counts;
        let count = |key: &str, recipients, at| Count { key: key.to_owned(), recipients, at };
        assert_eq!(counts, [count("a@example.com", 4, 9_000), count("b@example.com", 7, 8_000)]);
    }
}
