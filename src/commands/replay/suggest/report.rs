//! What past mail suggests, for people and for programs.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::commands::replay::coverage::Coverage;
use crate::commands::table::{Screen, clean, table};
use crate::commands::text::{shortened, width};
use crate::limiter::moment;
use crate::policy::duration;
use crate::replay::suggest::form::QUOTA;
use crate::replay::suggest::proposal::Proposal;
use crate::replay::suggest::sweep::Log;
use crate::replay::suggest::wave::WAVES;

/// How wide a table may be if there is no terminal.
const WIDTH: usize = 132;
/// The least for the names of senders, however narrow the terminal is.
const MIN_NAMES: usize = 16;
const DAY: i64 = 24 * 60 * 60;

/// How many recipients of waves pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    pub median: u32,
    /// 95 of 100 are not above it.
    pub high: u32,
}

impl Spread {
    pub fn of(passed: impl Iterator<Item = u32>) -> Spread {
        let mut passed = Vec::from_iter(passed);
        passed.sort_unstable();
        let part = |of_100: usize| {
            let place = (passed.len() * of_100).div_ceil(100).saturating_sub(1);
            passed.get(place).copied().unwrap_or(0)
        };
        Spread { median: part(50), high: part(95) }
    }
}

/// A limit, or a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub written: String,
    /// How many sender-months it touches, of how many.
    pub touched: usize,
    pub of: usize,
    /// The senders that it touches, and how much each would need; 0 where that is not known.
    pub senders: Vec<(u32, u64)>,
    /// In the order of [`WAVES`].
    pub passed: [Spread; WAVES.len()],
}

/// What was found in mail.
pub struct Found {
    pub log: Log,
    /// By their numbers.
    pub senders: Vec<String>,
    pub sender_months: usize,
    /// In how many of these an account was stolen.
    pub stolen: usize,
    pub rows: Vec<Row>,
    pub as_set: Row,
    pub proposed: Row,
    pub proposal: Proposal,
}

/// All that was found.
pub struct Report {
    pub coverage: Coverage,
    pub messages: u64,
    pub recipients: u64,
    /// Of so many senders one was looked at.
    pub one_in: u64,
    /// Requests without a login, and those that the lists decide.
    pub nobody: u64,
    pub listed: u64,
    /// Whether the settings have limits on bytes, which are not judged here.
    pub bytes_left_out: bool,
    /// None without any mail.
    pub found: Option<Found>,
    /// How many senders to name.
    pub number: usize,
    /// Of the times for people.
    pub zone: TimeZone,
}

impl Report {
    /// Whether there is a result, and not of a part of the mail only.
    pub fn is_whole(&self) -> bool {
        self.found.is_some() && !self.coverage.is_incomplete()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let mut report = json!({
            "messages": self.messages,
            "recipients": self.recipients,
            "one_sender_in": self.one_in,
            "without_login": self.nobody,
            "listed": self.listed,
            "lines": self.coverage.json(),
            "incomplete": self.coverage.is_incomplete(),
            "hints": self.hints(),
        });
        if let (Some(found), Some(report)) = (&self.found, report.as_object_mut()) {
            report.insert("found".to_owned(), found.json());
        }
        report
    }

    /// For people: on a terminal as wide as that is.
    pub fn shown(&self, screen: Option<Screen>) -> String {
        let mut text = String::new();
        if let Some(found) = &self.found {
            let cells = screen.map_or(WIDTH, |screen| screen.width);
            text.push_str(&found.summary(self.messages, self.recipients, &self.zone));
            text.push_str(&found.table(cells));
            text.push_str(&found.settings(self.number));
            text.push('\n');
        }
        text.push_str(&self.coverage.shown(self.messages));
        for hint in self.own_hints() {
            text.extend([hint.as_str(), "\n"]);
        }
        text
    }

    fn hints(&self) -> Vec<String> {
        let mut hints = self.coverage.hints(self.messages);
        hints.extend(self.own_hints());
        hints
    }

    fn own_hints(&self) -> Vec<String> {
        let mut hints = Vec::new();
        if self.one_in > 1 {
            hints.push(format!(
                "There is more mail than is kept at once: one sender in {} was looked at, chosen by a hash of the name. Names of \
                 others are missing here; --since takes a shorter time, and all senders.",
                self.one_in
            ));
        }
        if self.found.as_ref().is_some_and(|found| found.log.acts_from().is_none()) {
            let advice = "What is usual for a sender takes 14 days to learn, and these logs are shorter: no limit of that kind is tried.";
            hints.push(advice.to_owned());
        }
        if self.nobody + self.listed > 0 {
            let (nobody, listed) = (self.nobody, self.listed);
            hints.push(format!(
                "Left out: {nobody} requests without a login, {listed} that ALLOWLIST or DENYLIST decide."
            ));
        }
        if self.bytes_left_out {
            hints.push("Limits on bytes are not judged here.".to_owned());
        }
        hints
    }
}

impl Found {
    fn json(&self) -> Value {
        let sender = |(account, needed): &(u32, u64)| json!({"sender": self.name(*account), "needs": Some(needed).filter(|needed| **needed > 0)});
        let row = |row: &Row| {
            let [fast, networks, slow] =
                row.passed.map(|Spread { median, high }| json!({"median": median, "p95": high}));
            json!({
                "limit": row.written,
                "touched": row.touched,
                "of": row.of,
                "senders": row.senders.iter().map(sender).collect::<Vec<_>>(),
                "passed": {"fast": fast, "networks": networks, "slow": slow},
            })
        };
        let proposal = &self.proposal;
        let own = |(account, quota): &(u32, u64)| json!({"sender": self.name(*account), "quota": quota});
        json!({
            "first": moment::utc(self.log.begin),
            "last": moment::utc(self.log.end),
            "learnt_from": self.log.acts_from().map(moment::utc),
            "senders": self.senders.len(),
            "sender_months": self.sender_months,
            "stolen": self.stolen,
            "limits": self.rows.iter().map(row).collect::<Vec<_>>(),
            "as_set": row(&self.as_set),
            "proposed": row(&self.proposed),
            "settings": {
                "QUOTA": proposal.quota,
                "QUOTA_WINDOW": duration::show(QUOTA.window),
                "LIMITS": proposal.limits_written(),
            },
            "own_quotas": proposal.own_quotas.iter().map(own).collect::<Vec<_>>(),
        })
    }

    fn name(&self, account: u32) -> &str {
        usize::try_from(account).ok().and_then(|account| self.senders.get(account)).map_or("", String::as_str)
    }

    fn summary(&self, messages: u64, recipients: u64, zone: &TimeZone) -> String {
        let Log { begin, end } = self.log;
        let days = (end - begin).div_euclid(DAY) + 1;
        format!(
            "From {} to {}, {days} days: {messages} messages to {recipients} recipients, of {} senders.\n\
             TOUCHED: in how many sender-months (30 days in which a sender sent something) mail would have been held or refused.\n\
             The other columns: how many recipients somebody who steals an account reaches within 24 hours, median and 95 of 100, with\n\
             60 recipients a minute; with 60 a minute from 200 networks; with 20 an hour. Stolen in {} sender-months.\n\n",
            moment::local(begin, zone),
            moment::local(end, zone),
            self.senders.len(),
            self.stolen,
        )
    }

    fn table(&self, cells: usize) -> String {
        let rows = || self.rows.iter().chain([&self.as_set, &self.proposed]);
        let longest = rows().map(|row| width(&row.written)).max().unwrap_or(0);
        // The columns of numbers, with their gaps.
        const FIXED: usize = 60;
        let room = cells.saturating_sub(longest + FIXED).max(MIN_NAMES);
        let row = |row: &Row| {
            let [fast, networks, slow] = row.passed.map(|Spread { median, high }| format!("{median} {high:>6}"));
            let names = row.senders.iter().map(|(account, _)| clean(self.name(*account)));
            let names = names.take(room).collect::<Vec<_>>().join(" ");
            let touched = format!("{} of {}", row.touched, row.of);
            [row.written.clone(), touched, fast, networks, slow, shortened(&names, room, true)]
        };
        table(["LIMIT", ">TOUCHED", ">60/MIN", ">200 NETWORKS", ">20/H", "WHO"], rows().map(row))
    }

    /// Lines to paste.
    fn settings(&self, number: usize) -> String {
        let Proposal { quota, own_quotas, .. } = &self.proposal;
        let window = duration::show(QUOTA.window);
        let mut text = format!(
            "\nProposed, in round numbers: for the settings file, then `policyd-rate-guard check` and a reload:\n\n\
             QUOTA={quota}\nQUOTA_WINDOW={window}\nLIMITS={}\n",
            self.proposal.limits_written()
        );
        if !own_quotas.is_empty() {
            text.push_str("\nThese stand out. If what they sent was theirs to send, give them what fits:\n\n");
            for (account, quota) in own_quotas.iter().take(number) {
                let name = shell_word(&clean(self.name(*account)));
                text.push_str(&format!("policyd-rate-guard sender set --quota {quota} -- {name}\n"));
            }
            if let Some(more) = own_quotas.len().checked_sub(number).filter(|more| *more > 0) {
                text.push_str(&format!("({more} more, with -n {} or --json)\n", own_quotas.len()));
            }
        }
        text
    }
}

/// Returns a name as one word for a shell, whatever a client chose to log in as.
fn shell_word(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@._+-".contains(&byte);
    if !name.is_empty() && name.bytes().all(is_plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_to_a_shell() {
        for (name, word) in [
            ("a.b+c-d_e@example.com", "a.b+c-d_e@example.com"),
            ("", "''"),
            ("$(reboot)", "'$(reboot)'"),
            ("it's; x", r"'it'\''s; x'"),
        ] {
            assert_eq!(shell_word(name), word);
        }
    }

    #[test]
    fn half_are_not_above_the_median_and_95_of_100_not_above_the_other() {
        assert_eq!(Spread::of(1..=100), Spread { median: 50, high: 95 });
        assert_eq!(Spread::of([7, 3].into_iter()), Spread { median: 3, high: 7 });
        assert_eq!(Spread::of(std::iter::empty()), Spread::default());
    }
}
