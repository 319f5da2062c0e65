//! Cluebringer (policyd v2): its settings file, the tables of policies and quotas, and what they come to here. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::translation::{Count, LARGEST, Translation, action, commonest, key, quota, shown};
use crate::account::{LimitBy, domain_key, network};
use crate::config::{Database, Driver, Secret, Tls};
use crate::policy::limit::MAX_AMOUNT;
use crate::policy::quota::UNLIMITED;

/// How deep groups may lie in groups: as deep as cluebringer looks.
const DEEPEST: usize = 5;

/// Where its tables are.
#[derive(Debug)]
pub struct Place {
    pub database: Database,
    /// Before each table's name. Letters, digits and `_` alone.
    pub prefix: String,
}

/// Reads where the tables are out of `cluebringer.conf`.
///
/// # Errors
/// In words: what is missing or makes no sense.
pub fn place(text: &str) -> Result<Place, String> {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.trim().to_lowercase();
        } else if let Some((name, value)) = line.split_once('=').filter(|_| section == "database") {
            values.insert(name.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    let value = |name: &str| values.get(name).filter(|value| !value.is_empty()).cloned();
    let dsn = value("dsn").ok_or("there is no DSN= below [database] in it, so its tables cannot be read")?;
    let mut parts = dsn.splitn(3, ':');
    let (dbi, driver, rest) =
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let driver = match driver.to_ascii_lowercase().as_str() {
        "mysql" | "mariadb" => Driver::Mysql,
        "pg" => Driver::Postgres,
        "sqlite" => Driver::Sqlite,
        _ => return Err(format!("DSN={dbi}:{driver}: is not DBI:mysql:, DBI:Pg: or DBI:SQLite:")),
    };
    let named = |wanted: &[&str]| {
        let pairs = rest.split(';').filter_map(|pair| pair.split_once('='));
        let mut found = pairs.filter(|(name, _)| wanted.contains(&name.trim().to_ascii_lowercase().as_str()));
        found.next().map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
    };
    let name = named(&["database", "dbname", "db"])
        .or_else(|| (!rest.is_empty() && !rest.contains('=')).then(|| rest.to_owned()));
    let name = name.ok_or_else(|| format!("DSN={dsn} names no database"))?;
    let prefix = value("table_prefix").unwrap_or_default();
    if !prefix.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!("table_prefix={prefix} cannot begin a table's name"));
    }
    let port = named(&["port"]).map(|port| port.parse().map_err(|_| format!("the port {port} in DSN is no port")));
    let database = Database {
        driver,
        hosts: vec![named(&["host"]).unwrap_or_else(|| "localhost".to_owned())],
        port: port.transpose()?,
        sockets: named(&["mysql_socket", "mariadb_socket"]).map(PathBuf::from).into_iter().collect(),
        user: value("username").unwrap_or_default(),
        password: value("password").map(Secret::new),
        tls: Tls::Prefer,
        ..Database::sqlite(name)
    };
    Ok(Place { database, prefix })
}

/// A part of the tables: what is read of it, each column as text.
pub struct Query {
    pub columns: &'static [&'static str],
    /// What stands behind FROM. `@` is the prefix.
    pub from: &'static str,
}

/// The quotas that are on, in the order in which they are looked at.
pub const QUOTAS: Query = Query {
    columns: &["q.ID", "q.PolicyID", "q.Name", "q.Track", "q.Period", "q.Verdict", "q.Data", "q.LastQuota"],
    from: "@quotas q JOIN @policies p ON p.ID = q.PolicyID WHERE q.Disabled = 0 AND p.Disabled = 0 \
           ORDER BY p.Priority, p.ID, q.ID",
};
pub const LIMITS: Query = Query {
    columns: &["ID", "QuotasID", "Type", "CounterLimit"],
    from: "@quotas_limits WHERE Disabled = 0 ORDER BY ID",
};
pub const MEMBERS: Query =
    Query { columns: &["PolicyID", "Source", "Destination"], from: "@policy_members WHERE Disabled = 0 ORDER BY ID" };
pub const GROUPS: Query = Query {
    columns: &["g.Name", "m.Member"],
    from: "@policy_groups g JOIN @policy_group_members m ON m.PolicyGroupID = g.ID WHERE g.Disabled = 0 AND m.Disabled = 0 \
           ORDER BY m.ID",
};
/// The counter has four digits behind its point.
pub const TRACKING: Query =
    Query { columns: &["QuotasLimitsID", "TrackKey", "LastUpdate", "Counter"], from: "@quotas_tracking" };

/// Rows of the five queries.
#[derive(Debug, Default)]
pub struct Tables {
    pub quotas: Vec<Vec<String>>,
    pub limits: Vec<Vec<String>>,
    pub members: Vec<Vec<String>>,
    pub groups: Vec<Vec<String>>,
    pub tracking: Vec<Vec<String>>,
}

/// A quota, and whom its policy is for.
#[derive(Debug)]
struct Quota {
    id: String,
    name: String,
    by: Option<LimitBy>,
    track: String,
    /// In seconds.
    period: u64,
    action: Option<String>,
    is_last: bool,
    /// Recipients, each limit with its number.
    recipients: Vec<(String, u64)>,
    /// In KiB.
    sizes: Vec<u64>,
    whom: Whom,
}

/// Whom a policy is for.
#[derive(Debug, Clone, Default)]
struct Whom {
    everybody: bool,
    /// `@domain`, and keys of accounts.
    named: BTreeSet<String>,
}

impl Whom {
    fn has(&self, key: &str) -> bool {
        self.everybody || self.named.contains(key) || domain_key(key).is_some_and(|domain| self.named.contains(domain))
    }
}

/// Translates the tables, at a time in seconds since 1970.
pub fn translate(tables: &Tables, now: i64) -> Translation {
    let mut translation = Translation::default();
    let tracks: Vec<Option<LimitBy>> =
        tables.quotas.iter().filter_map(|row| row.get(3)).map(|track| limit_by(track)).collect();
    let order = [LimitBy::SaslUsername, LimitBy::Sender, LimitBy::ClientAddress];
    let by = order.into_iter().find(|by| tracks.contains(&Some(*by))).unwrap_or(LimitBy::SaslUsername);
    let mut whom = BTreeMap::new();
    for policy in tables.quotas.iter().filter_map(|row| row.get(1)) {
        whom.entry(policy.clone()).or_insert_with(|| Policy { by, tables }.whom(policy, &mut translation));
    }
    let read = |row: &Vec<String>, translation: &mut Translation| {
        let quota = Quota::read(row, tables, &whom, translation)?;
        if quota.by == Some(by) {
            return Some(quota);
        }
        translation.lost.push(format!(
            "{}: it counts by {}; one mail is counted for one account here",
            quota.named(),
            quota.track
        ));
        None
    };
    let quotas: Vec<Quota> = tables.quotas.iter().filter_map(|row| read(row, &mut translation)).collect();
    translation.settings.push(("LIMIT_BY", by.name().to_owned()));
    if by == LimitBy::Sender {
        let forged =
            "it counts by the envelope sender, which the client chooses: LIMIT_BY=sasl_username counts by login";
        translation.notes.push(forged.to_owned());
    }
    Translator { by, quotas }.translate(tables, now, &mut translation);
    translation
        .notes
        .push("of cluebringer only the quotas are taken over; its other modules are others' work".to_owned());
    translation
}

/// What a track counts by. None if there is nothing like it here: an address has no other length of its network, for one.
fn limit_by(track: &str) -> Option<LimitBy> {
    match track.trim().to_lowercase().as_str() {
        "sender:user@domain" => Some(LimitBy::Sender),
        "senderip:/32" => Some(LimitBy::ClientAddress),
        // What stands behind the name is not looked at.
        login if login.split(':').next() == Some("saslusername") => Some(LimitBy::SaslUsername),
        _ => None,
    }
}

/// Finds out whom a policy is for.
struct Policy<'a> {
    by: LimitBy,
    tables: &'a Tables,
}

impl Policy<'_> {
    fn whom(&self, policy: &str, translation: &mut Translation) -> Whom {
        let mut whom = Whom::default();
        for member in &self.tables.members {
            let [of, source, destination] = member.as_slice() else { continue };
            if of != policy {
                continue;
            }
            let said = format!("policy {policy}, {} to {}", any(source), any(destination));
            if any(destination) != "any" {
                let why = "mail counts here whomever it goes to";
                translation.lost.push(format!("{said}: {why}"));
            }
            match any(source) {
                "any" => whom.everybody = true,
                several if several.contains(',') => {
                    translation.lost.push(format!("{said}: one source that must meet several conditions"))
                }
                item => self.add(item, 0, &said, &mut whom, translation),
            }
        }
        whom
    }

    /// Adds those that an item of a source names.
    fn add(&self, item: &str, depth: usize, said: &str, whom: &mut Whom, translation: &mut Translation) {
        if let Some(group) = item.strip_prefix('%').filter(|_| depth < DEEPEST) {
            let members = self.tables.groups.iter().filter(|row| row.first().is_some_and(|name| name == group));
            for member in members.filter_map(|row| row.get(1)) {
                self.add(member.trim(), depth + 1, said, whom, translation);
            }
            return;
        }
        let is_login = self.by == LimitBy::SaslUsername;
        let plain = !item.starts_with(['!', '%', '[']) && (!item.contains('*') || item == "$*");
        let found = match item.strip_prefix('$') {
            _ if !plain => None,
            Some("*") if is_login => {
                whom.everybody = true;
                return;
            }
            Some("-") => None,
            Some(login) if is_login => key(login, self.by),
            Some(_) => None,
            None if item.starts_with('@') => Some(item.to_lowercase()).filter(|domain| is_login && domain.len() > 1),
            None if item.contains('@') => {
                Some(item).filter(|_| self.by != LimitBy::ClientAddress).and_then(|item| key(item, self.by))
            }
            None => {
                network::address(item).filter(|_| self.by == LimitBy::ClientAddress).and_then(|_| key(item, self.by))
            }
        };
        match found {
            Some(found) => drop(whom.named.insert(found)),
            None => translation.lost.push(format!("{said}: the source {item} is nobody who has a quota here")),
        }
    }
}

/// What a member's source or destination says; nothing is anything.
fn any(written: &str) -> &str {
    let written = written.trim();
    if written.is_empty() || written.eq_ignore_ascii_case("any") { "any" } else { written }
}

impl Quota {
    /// None if it has no effect, or none here.
    fn read(
        row: &[String],
        tables: &Tables,
        whom: &BTreeMap<String, Whom>,
        translation: &mut Translation,
    ) -> Option<Quota> {
        let [id, policy, name, track, period, verdict, data, last] = row else { return None };
        let mut quota = Quota {
            id: id.clone(),
            name: name.clone(),
            by: limit_by(track),
            track: track.clone(),
            period: period.parse().unwrap_or(0),
            action: None,
            is_last: last == "1",
            recipients: Vec::new(),
            sizes: Vec::new(),
            whom: whom.get(policy).cloned().unwrap_or_default(),
        };
        for row in &tables.limits {
            let [id, of, kind, limit] = row.as_slice() else { continue };
            let Some(limit) = limit.parse().ok().filter(|_| *of == quota.id) else { continue };
            match kind.to_lowercase().as_str() {
                "messagecount" => quota.recipients.push((id.clone(), limit)),
                "messagecumulativesize" => quota.sizes.push(limit),
                _ => translation.lost.push(format!("{}: a limit of {kind}", quota.named())),
            }
        }
        let named = quota.named();
        if verdict.trim().is_empty() {
            translation.notes.push(format!("{named} has no verdict: it does nothing"));
            return None;
        }
        if shown(quota.period).is_none() {
            translation.lost.push(format!("{named}: its period is {period} s; a window here is from 1m to 31d"));
            return None;
        }
        let word = match verdict.trim().to_uppercase().as_str() {
            // So it answers Postfix.
            "DEFER" => Some("DEFER_IF_PERMIT"),
            "HOLD" => Some("HOLD"),
            "REJECT" => Some("REJECT"),
            _ => None,
        };
        let text = if data.trim().is_empty() { "Policy rejection, quota exceeded" } else { data.trim() };
        quota.action = word.and_then(|word| action(&format!("{word} {}", text.replace(['{', '}'], ""))));
        if quota.action.is_none() {
            translation
                .lost
                .push(format!("{named}: {verdict} is no action for a limit here; DEFER_IF_PERMIT is taken"));
        }
        Some(quota)
    }

    fn named(&self) -> String {
        format!("quota {} ({})", self.id, self.name)
    }

    /// Its action with a blank before it, as it stands behind a limit.
    fn behind(&self) -> String {
        self.action.as_ref().map(|action| format!(" {action}")).unwrap_or_default()
    }

    /// Its limit on recipients.
    fn number(&self) -> Option<u64> {
        self.recipients.iter().map(|(_, limit)| *limit).min()
    }
}

struct Translator {
    by: LimitBy,
    /// All that count by the same, in the order in which they are looked at.
    quotas: Vec<Quota>,
}

impl Translator {
    /// The least number of recipients that the quotas of one period let an account send. All are looked at, until one is the last.
    fn least(&self, period: u64, is_for: impl Fn(&Whom) -> bool) -> Option<&Quota> {
        let mut least: Option<&Quota> = None;
        for quota in self.quotas.iter().filter(|quota| is_for(&quota.whom)) {
            if quota.period == period
                && let Some(number) = quota.number()
                && least.and_then(Quota::number).is_none_or(|known| number < known)
            {
                least = Some(quota);
            }
            if quota.is_last {
                break;
            }
        }
        least
    }

    fn translate(&self, tables: &Tables, now: i64, translation: &mut Translation) {
        let counting = || self.quotas.iter().filter(|quota| quota.number().is_some());
        let usual = counting().filter(|quota| quota.whom.everybody).map(|quota| quota.period).max();
        let Some(window) =
            usual.or_else(|| commonest(counting().map(|quota| quota.period).collect::<Vec<_>>().into_iter()))
        else {
            translation.settings.push(("QUOTA", "unlimited".to_owned()));
            self.limits(None, translation);
            return;
        };
        let default = self.least(window, |whom| whom.everybody);
        let number = default.and_then(Quota::number);
        translation
            .settings
            .push(("QUOTA", number.map_or_else(|| "unlimited".to_owned(), |number| number.min(LARGEST).to_string())));
        translation.settings.extend(shown(window).map(|window| ("QUOTA_WINDOW", window)));
        let steps = default.or_else(|| counting().find(|quota| quota.period == window));
        if let Some(action) = steps.and_then(|quota| quota.action.as_ref()) {
            translation.settings.push(("QUOTA_STEPS", format!("1x {action}")));
        }
        self.limits(Some(window), translation);
        self.accounts(window, number, translation);
        for quota in &self.quotas {
            let named = quota.named();
            let mut lose = |what: &str| translation.lost.push(format!("{named}: {what}"));
            if quota.period == window
                && quota.number().is_some()
                && quota.action != steps.and_then(|quota| quota.action.clone())
            {
                lose("its verdict; what happens above a quota is the same for everybody");
            }
            if !quota.whom.everybody
                && (!quota.sizes.is_empty() || quota.period != window)
                && !quota.whom.named.is_empty()
            {
                lose("it is for some only, and LIMITS are the same for everybody");
            }
            if quota.is_last && !quota.whom.everybody {
                lose("LastQuota: LIMITS hold for everybody all the same");
            }
        }
        self.counts(window, tables, now, translation);
    }

    /// What everybody may send beside the quota.
    fn limits(&self, window: Option<u64>, translation: &mut Translation) {
        let mut limits = Vec::new();
        for quota in self.quotas.iter().filter(|quota| quota.whom.everybody) {
            let Some(period) = shown(quota.period) else { continue };
            if let Some(number) = quota.number().filter(|_| Some(quota.period) != window) {
                limits.push(format!("{} recipients/{period}{}", number.clamp(1, MAX_AMOUNT), quota.behind()));
            }
            if let Some(size) = quota.sizes.iter().min() {
                limits.push(format!("{}k bytes/{period}{}", size.clamp(&1, &(MAX_AMOUNT >> 10)), quota.behind()));
                let where_to = "MessageCumulativeSize needs the check in smtpd_end_of_data_restrictions; a mail's size counts once here, \
                                not for each recipient";
                if !translation.notes.iter().any(|note| note == where_to) {
                    translation.notes.push(where_to.to_owned());
                }
            }
        }
        if !limits.is_empty() {
            translation.settings.push(("LIMITS", limits.join("; ")));
        }
    }

    /// The quotas of domains and accounts that have another one than they would have anyway.
    fn accounts(&self, window: u64, default: Option<u64>, translation: &mut Translation) {
        let named: BTreeSet<&String> = self.quotas.iter().flat_map(|quota| &quota.whom.named).collect();
        let of = |key: &str| self.least(window, |whom| whom.has(key)).and_then(Quota::number);
        for account in named {
            let anyway = match domain_key(account) {
                Some(domain) => of(domain),
                None => default,
            };
            if of(account) != anyway {
                translation.quotas.push((account.clone(), of(account).map_or(UNLIMITED, quota)));
            }
        }
    }

    /// What was counted, as it is now: a counter falls to nothing evenly within its period.
    fn counts(&self, window: u64, tables: &Tables, now: i64, translation: &mut Translation) {
        let limits: BTreeSet<&String> = (self.quotas.iter())
            .filter(|quota| quota.period == window)
            .flat_map(|quota| quota.recipients.iter().map(|(id, _)| id))
            .collect();
        let begins = match self.by {
            LimitBy::SaslUsername => "SASLUsername:",
            LimitBy::Sender => "Sender:",
            LimitBy::ClientAddress => "SenderIP:",
        };
        for row in &tables.tracking {
            let [limit, track_key, last_update, counter] = row.as_slice() else { continue };
            let id = track_key
                .strip_prefix(begins)
                .filter(|id| limits.contains(limit) && !["-", "<>", "@", ""].contains(id));
            let (Some(id), Ok(last_update)) = (id, last_update.parse::<i64>()) else { continue };
            let recipients = left(counter, now.saturating_sub(last_update), window);
            if let Some(key) = key(id.split('/').next().unwrap_or(id), self.by).filter(|_| recipients > 0) {
                translation.count(Count { key, recipients: quota(recipients), at: now });
            }
        }
    }
}

/// What is left of a counter such as `12.5000` so many seconds after it was written; what is begun counts as whole.
fn left(counter: &str, elapsed: i64, period: u64) -> u64 {
    let Ok(counter) = counter.parse::<f64>() else { return 0 };
    let elapsed = u64::try_from(elapsed).unwrap_or(0).min(period);
    let rest = counter * (period - elapsed) as f64 / period.max(1) as f64;
    if rest > 0.0 { rest.min(LARGEST as f64).ceil() as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Vec<String>> {
        text.lines().map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
    }

    #[test]
    fn the_file_says_where_the_tables_are() {
        let file = "[server]\nhost=*\n[database]\n#DSN=DBI:SQLite:dbname=x\nDSN=DBI:mysql:database=policyd;host=db;port=3307\n\
                    Username=u\nPassword=a=b\ntable_prefix=cb_\n[Quotas]\nenable=1\n";
        let place = super::place(file).unwrap();
        assert_eq!(
            (place.database.driver, place.database.port, place.prefix.as_str()),
            (Driver::Mysql, Some(3307), "cb_")
        );
        assert_eq!(place.database.password.unwrap().reveal(), "a=b");
        let at = |dsn: &str| super::place(&format!("[database]\nDSN={dsn}\n"));
        assert_eq!(at("DBI:SQLite:dbname=/var/lib/c.db").unwrap().database.name, "/var/lib/c.db");
        assert_eq!(at("dbi:Pg:dbname=p;host=h").unwrap().database.driver, Driver::Postgres);
        assert_eq!(at("DBI:mysql:policyd").unwrap().database.name, "policyd");
        assert!(at("DBI:Oracle:x").unwrap_err().contains("DBI:Oracle"));
        assert!(at("DBI:mysql:host=h").unwrap_err().contains("names no database"));
        assert!(super::place("[database]\nDSN=DBI:mysql:x\ntable_prefix=a;b\n").unwrap_err().contains("table_prefix"));
        assert!(super::place("[server]\nDSN=DBI:mysql:x\n").unwrap_err().contains("no DSN="));
    }

    #[test]
    fn the_least_of_all_that_are_for_an_account_is_its_quota() {
        let tables = Tables {
            quotas: rows(
                "1|1|all|SASLUsername|3600|REJECT|Too much; really|0\n2|1|short|SASLUsername|60|DEFER||0\n\
                          3|2|small|SASLUsername|3600|REJECT|Too much; really|0\n4|0|vip|SASLUsername|3600|REJECT|Too much; really|1",
            ),
            limits: rows(
                "1|1|MessageCount|100\n2|1|MessageCumulativeSize|8000\n3|2|MessageCount|10\n4|3|MessageCount|20\n\
                          5|4|MessageCount|5000",
            ),
            members: rows("1||any\n2|@small.example|\n2|%few|any\n0|$boss@small.example|"),
            groups: rows("few|$alice\nfew|%more\nmore|bob@example.com"),
            tracking: Vec::new(),
        };
        // cluebringer reads by priority: vip first.
        let mut tables = tables;
        tables.quotas.rotate_right(1);
        let translation = translate(&tables, 0);
        assert_eq!(
            translation.written(),
            [
                "LIMIT_BY=sasl_username",
                "QUOTA=100",
                "QUOTA_WINDOW=1h",
                "QUOTA_STEPS=1x REJECT Too much, really",
                "LIMITS=8000k bytes/1h REJECT Too much, really; 10 recipients/1m DEFER_IF_PERMIT Policy rejection, quota exceeded",
            ]
        );
        assert_eq!(
            translation.own_quotas(),
            [("@small.example", 20), ("alice", 20), ("bob@example.com", 20), ("boss@small.example", 5000)]
        );
        assert_eq!(translation.lost, ["quota 4 (vip): LastQuota: LIMITS hold for everybody all the same"]);
        let limits = &translation.settings.iter().find(|(name, _)| *name == "LIMITS").unwrap().1;
        assert_eq!(crate::policy::limits::parse(limits, "x").unwrap().len(), 2);
    }

    #[test]
    fn what_has_no_like_here_is_named() {
        let tables = Tables {
            quotas: rows(
                "1|1|in|Recipient:user@domain|3600|REJECT||0\n2|1|net|SenderIP:/24|3600|REJECT||0\n\
                          3|1|filtered|SASLUsername|3600|FILTER|x|0\n4|1|short|SASLUsername|5|REJECT||0\n\
                          5|1|mute|SASLUsername|3600|||0\n6|2|some|SASLUsername|60|REJECT||0",
            ),
            limits: rows(
                "1|1|MessageCount|1\n3|3|MessageCount|30\n4|4|MessageCount|1\n6|6|MessageCount|5\n7|6|Megabytes|5",
            ),
            members: rows(
                "1|any|!%internal_domains\n2|$a@example.com|\n2|!@example.com|\n2|192.0.2.0/24|\n2|@b.example,$b|\n2|%none|",
            ),
            ..Tables::default()
        };
        let translation = translate(&tables, 0);
        let lost = translation.lost.join("\n");
        for text in [
            "policy 1, any to !%internal_domains: mail counts here whomever it goes to",
            "the source !@example.com is nobody",
            "the source 192.0.2.0/24 is nobody",
            "policy 2, @b.example,$b to any: one source that must meet several conditions",
            "quota 1 (in): it counts by Recipient:user@domain",
            "quota 2 (net): it counts by SenderIP:/24",
            "quota 3 (filtered): FILTER is no action",
            "quota 4 (short): its period is 5 s",
            "quota 6 (some): a limit of Megabytes",
            "quota 6 (some): it is for some only",
        ] {
            assert!(lost.contains(text), "{text} is not in\n{lost}");
        }
        assert_eq!(translation.lost.len(), 10, "{lost}");
        assert!(translation.notes.iter().any(|note| note.contains("quota 5 (mute) has no verdict")));
        assert!(translation.written().contains(&"QUOTA=30".to_owned()));
    }

    #[test]
    fn counters_are_taken_at_their_value_now() {
        let tables = Tables {
            quotas: rows("1|1|all|Sender:user@domain|100|REJECT||0"),
            limits: rows("1|1|MessageCount|50\n2|1|MessageCumulativeSize|50"),
            members: rows("1||"),
            groups: Vec::new(),
            tracking: rows(
                "1|Sender:A@Example.com|9950|20.5000\n1|Sender:gone@example.com|9000|20\n1|Sender:<>|10000|9\n\
                            2|Sender:big@example.com|10000|9\n1|Sender:late@example.com|10007|3.2",
            ),
        };
        let translation = translate(&tables, 10_000);
        let counts: Vec<(&str, u32, i64)> =
            translation.counts.iter().map(|count| (count.key.as_str(), count.recipients, count.at)).collect();
        assert_eq!(counts, [("<a@example.com>", 11, 10_000), ("<late@example.com>", 4, 10_000)]);
        assert!(translation.notes[0].contains("which the client chooses"), "{:?}", translation.notes);
    }
}
