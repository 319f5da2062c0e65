//! The command line. Manual page and completions are made from these definitions.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::civil::DateTime;

use crate::config::setting::Kind;
use crate::policy::duration;
use crate::policy::quota;

/// Postfix policy service that limits what each authenticated sender may send.
#[derive(Debug, Parser)]
#[command(name = "policyd-rate-guard", version, propagate_version = true)]
pub struct Cli {
    /// Settings file. Without it: /etc/policyd-rate-guard/policyd-rate-guard.env if that exists; else, unless started as
    /// root, ./.env. Environment variables win over the file.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer policy requests until told to stop.
    ///
    /// SIGHUP reads the settings again, SIGUSR1 reopens the logs, SIGTERM and SIGINT end the daemon after it has answered the
    /// requests that wait.
    Serve,

    /// Reset the counters and delete what is older than its retention.
    ///
    /// Sets every counter to 0 and every quota that is not locked back to its quota_reset, then deletes messages older than
    /// MESSAGE_RETENTION days, and rows of senders without a login that were not used for a week or a window, except locked
    /// ones. Works in small steps while mail goes on. The packaged timer runs it once a day.
    Cleanup(Cleanup),

    /// Bring the database's tables to this version of the program.
    ///
    /// The daemon does so itself when it starts, except for two steps that take minutes on large tables of PolicydRateGuard: an
    /// index, and the history of sliding windows. Mail goes on meanwhile.
    Migrate(Migrate),

    /// Check the settings and the lists that they name, and show the settings in effect.
    ///
    /// Exits with 78 if there is an error in them: the daemon would not start, and a reload would change nothing.
    Check(Check),

    /// Examine settings, database, sockets and Postfix's configuration, and say what to mend.
    ///
    /// Changes nothing and counts nothing. Run it as root on the mail server. Exits with 1 if there is a problem.
    Doctor(Doctor),

    /// Ask the running daemon as Postfix would, and print its answer.
    ///
    /// The request is counted like any other, unless --dry-run is given.
    Query(Query),

    /// Look at senders, and change their quotas.
    ///
    /// A sender is named by its login, or as `sender list` shows it. `@example.com` names the row with the quota that new
    /// logins of that domain begin with.
    #[command(subcommand)]
    Sender(Sender),

    /// Show the mail that this program has had Postfix hold on this host, and release or delete it.
    ///
    /// Without another word: how many messages of each sender are held, since when and why. Each queue id is compared with
    /// Postfix's queue before it is acted on, so that mail which a milter, a header check or a person has put on hold stays, and
    /// so does mail that has got the id of another one.
    Held(Held),

    /// Show the senders that sent most.
    Top(Top),

    /// Show live what senders send, which are blocked and why, and the state of the daemon and its database.
    ///
    /// Needs a terminal. `?` lists the keys: they sort, filter, and open a sender. `q` quits. Only reads, and never keeps mail
    /// waiting. NO_COLOR and CLICOLOR=0 in the environment leave the colours out.
    Watch(Watch),

    /// Try the policy on past mail: which senders would have been held or refused, when, and by which limit.
    ///
    /// Reads logs of Postfix, of policyd, of PolicydRateGuard and of this program, and judges each message by the settings as
    /// they are, at the log's own time and on an empty database in memory: nothing is counted, and no daemon is needed. To try
    /// other settings, name another file with --config. Exits with 1 if there is no message in the logs.
    Replay(Replay),

    /// Take over from another program.
    #[command(subcommand)]
    Import(Import),

    /// Print the completions for a shell.
    Completions { shell: Shell },

    /// Write the manual pages into a folder.
    #[command(hide = true)]
    Manual {
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
}

/// How to print.
#[derive(Debug, Args)]
pub struct Output {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Check {
    /// Print only what is wrong.
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Cleanup {
    /// Do not reset the counters if any host has reset them within this time: a duration like `20h`, or `today` for the time
    /// since this host's last midnight.
    #[arg(long, value_name = "DURATION", value_parser = parse_recent)]
    pub unless_within: Option<Recent>,

    #[command(flatten)]
    pub output: Output,
}

/// The time of --unless-within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recent {
    /// Since local midnight.
    Today,
    Within(Duration),
}

#[derive(Debug, Args)]
pub struct Migrate {
    /// Only list the migrations, whether the database has them, and what tables of PolicydRateGuard lack.
    #[arg(long)]
    pub status: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// The postconf program of the Postfix to look at.
    #[arg(long, value_name = "PROGRAM")]
    pub postconf: Option<PathBuf>,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Query {
    /// The daemon's socket, written as in SOCKET. Without it: the first address of SOCKET, or else the socket of the packaged
    /// systemd unit.
    #[arg(long, value_name = "ADDRESS")]
    pub socket: Option<String>,

    /// The login.
    #[arg(long, value_name = "LOGIN", default_value = "")]
    pub sasl_username: String,

    /// How many recipients the message has.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub recipients: u32,

    /// The envelope sender.
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    pub sender: String,

    /// The client's address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub client_address: String,

    /// An attribute of the request, as Postfix writes it. May be given several times, and wins over the other options.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_attribute)]
    pub attribute: Vec<(String, String)>,

    /// Ask what the answer would be, without counting anything.
    #[arg(long)]
    pub dry_run: bool,

    /// How long to wait for the answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub timeout: Duration,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum Sender {
    /// List senders.
    List(SenderList),
    /// Show everything about a sender: each limit with what is used and when there is room again, history, blocked messages.
    Show(SenderName),
    /// Change a sender's quota. Counts for the next message.
    Set(SenderSet),
    /// Let a sender send again at once: what was counted so far no longer counts. History stays.
    Reset(SenderName),
    /// Delete a sender's row and history. Blocks stay.
    Delete(SenderDelete),
    /// Stop a sender's mail, or that of all logins of a domain, until a time or until `sender unblock`.
    ///
    /// Counts for the next message on every host, before quotas, and also for senders that are unlimited or on the ALLOWLIST. Needs
    /// no row: it may be anybody who could log in. A block that is there already is replaced.
    Block(SenderBlock),
    /// End the block of a sender or of a domain, at once and on every host.
    Unblock(SenderUnblock),
}

#[derive(Debug, Args)]
pub struct SenderList {
    /// What to sort by.
    #[arg(long, value_enum, default_value_t = SenderOrder::Used)]
    pub sort: SenderOrder,

    /// Only senders whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,

    /// Only senders whose next message would be held or refused; first the blocks, with since when, until when and why.
    #[arg(long)]
    pub blocked: bool,

    /// The most senders to list.
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,

    #[command(flatten)]
    pub output: Output,
}

/// What `sender list` is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SenderOrder {
    Used,
    Name,
    Quota,
    /// When it last sent something.
    Last,
}

#[derive(Debug, Args)]
pub struct SenderName {
    /// The login, or the name as `sender list` shows it.
    #[arg(value_name = "NAME")]
    pub name: String,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = true, args = ["quota", "lock", "unlock"])]
pub struct SenderSet {
    #[command(flatten)]
    pub sender: SenderName,

    /// Recipients, and messages, per period; or `unlimited`.
    #[arg(long, value_name = "NUMBER", value_parser = parse_quota, allow_negative_numbers = true)]
    pub quota: Option<u32>,

    /// The quota is for this period only: the next cleanup restores the old one.
    #[arg(long, requires = "quota")]
    pub once: bool,

    /// Keep the present quota: cleanup does not restore the usual one.
    #[arg(long, conflicts_with = "unlock")]
    pub lock: bool,

    /// Let cleanup restore the usual quota again.
    #[arg(long)]
    pub unlock: bool,

    /// With `@domain`: existing logins of the domain get the quota too, except locked ones.
    #[arg(long, requires = "quota")]
    pub existing: bool,
}

#[derive(Debug, Args)]
pub struct SenderDelete {
    #[command(flatten)]
    pub sender: SenderName,

    /// Delete the sender's rows in `messages` as well.
    #[arg(long)]
    pub messages: bool,

    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Held {
    #[command(subcommand)]
    pub verb: Option<HeldVerb>,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum HeldVerb {
    /// List held messages, the oldest first.
    List(HeldList),
    /// Release held messages: Postfix delivers them with its next run of the queue. Needs root.
    Release(HeldRelease),
    /// Delete held messages. Needs root.
    Delete(HeldDelete),
}

/// Which held mail is meant.
#[derive(Debug, Args)]
pub struct HeldChoice {
    /// Logins, or `@example.com` for all of a domain; without a name, everybody.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Only what arrived within this time.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub since: Option<Duration>,

    /// Only what was held for a reason in which this text occurs, as `held list` shows it.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,

    /// Also mail whose envelope sender Postfix has rewritten (canonical maps, masquerading): queue id, host and time of arrival
    /// must still fit.
    #[arg(long)]
    pub rewritten: bool,
}

#[derive(Debug, Args)]
pub struct HeldList {
    #[command(flatten)]
    pub choice: HeldChoice,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct HeldRelease {
    #[command(flatten)]
    pub choice: HeldChoice,

    /// Also the mail of accounts that are blocked as compromised, or were when it was held.
    #[arg(long)]
    pub even_compromised: bool,

    /// Only what the quota held, the oldest first, as far as the quota and the limits have room for it now; what is released is
    /// counted again, as sent now. Does nothing unless HELD=release. For the packaged timer, policyd-rate-guard-held.timer.
    #[arg(long, conflicts_with_all = ["dry_run", "even_compromised"])]
    pub by_quota: bool,

    #[command(flatten)]
    pub how: HeldHow,
}

#[derive(Debug, Args)]
pub struct HeldDelete {
    #[command(flatten)]
    pub choice: HeldChoice,

    #[command(flatten)]
    pub how: HeldHow,
}

/// How it is done.
#[derive(Debug, Args)]
pub struct HeldHow {
    /// Only say what would be done. Needs no root.
    #[arg(long)]
    pub dry_run: bool,

    /// Do not ask, which is done when no sender is named.
    #[arg(long)]
    pub yes: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct SenderBlock {
    #[command(flatten)]
    pub sender: SenderName,

    /// Also put on hold what it sent within this time and is still in this host's queue: incoming, active or deferred. Needs root.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub queue: Option<Duration>,

    /// For how long. Without it: until somebody ends it.
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub lasts: Option<Duration>,

    /// What is done with the mail: accepted and held back in Postfix's hold queue, refused for now, or refused.
    #[arg(long, value_enum, ignore_case = true, default_value_t = BlockAction::Hold)]
    pub action: BlockAction,

    /// What the sender is told. Without it: that the account is blocked.
    #[arg(long, value_name = "TEXT", value_parser = parse_note)]
    pub text: Option<String>,

    /// Why, in one word: `compromised`, `manual`, …. Without it: manual, or compromised in the place of such a block.
    #[arg(long, value_name = "WORD", value_parser = parse_reason)]
    pub reason: Option<String>,

    /// What the next admin should know.
    #[arg(long, value_name = "TEXT", value_parser = parse_note)]
    pub note: Option<String>,
}

/// What a block does with mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BlockAction {
    #[value(name = "HOLD")]
    Hold,
    #[value(name = "DEFER")]
    Defer,
    #[value(name = "REJECT")]
    Reject,
}

impl BlockAction {
    pub fn word(self) -> &'static str {
        match self {
            BlockAction::Hold => "HOLD",
            BlockAction::Defer => "DEFER",
            BlockAction::Reject => "REJECT",
        }
    }
}

#[derive(Debug, Args)]
pub struct SenderUnblock {
    #[command(flatten)]
    pub sender: SenderName,

    /// Forget its strikes too (STRIKES): the next one is the first again.
    #[arg(long)]
    pub forgive: bool,

    /// Release all of its mail that this program holds on this host. Needs root.
    #[arg(long)]
    pub release: bool,

    /// Delete all of its mail that this program holds on this host. Needs root.
    #[arg(long, conflicts_with = "release")]
    pub delete: bool,

    /// Release it although the block says that the account was compromised.
    #[arg(long, requires = "release")]
    pub even_compromised: bool,
}

#[derive(Debug, Args)]
pub struct Top {
    /// How many senders.
    #[arg(short = 'n', long = "number", value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub number: u32,

    /// How far to look back.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    pub since: Duration,

    /// What to rank by.
    #[arg(long, value_enum, default_value_t = TopBy::Recipients)]
    pub by: TopBy,

    #[command(flatten)]
    pub output: Output,
}

/// What `top` ranks by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TopBy {
    Recipients,
    Messages,
    /// Messages that were held or refused.
    Blocked,
    /// Networks that the sender was seen from.
    Networks,
}

#[derive(Debug, Args)]
pub struct Watch {
    /// How often to look, from 1s to 1h. A slow database is asked less often.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_interval)]
    pub interval: Duration,

    /// No colours.
    #[arg(long)]
    pub no_color: bool,
}

#[derive(Debug, Args)]
pub struct Replay {
    /// Logs, gzip'd or not, in any order; `-` is standard input.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Only mail from this time on, in the server's time: `2026-11-14`, `2026-11-14T08:00`.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<DateTime>,

    /// Only mail before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<DateTime>,

    /// Use the senders' own quotas from the configured database. Without it, every sender has QUOTA.
    #[arg(long)]
    pub quotas: bool,

    /// How many senders to show.
    #[arg(short = 'n', long = "number", value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub number: u32,

    /// Instead of a summary, print the line that the daemon would have logged for each message.
    #[arg(long, conflicts_with = "json")]
    pub each: bool,

    /// Find the settings that fit: the tightest limits that would have touched nobody, one in a thousand and one in a hundred
    /// senders a month, and how much a stolen account would have sent under each. Prints lines for the settings file.
    #[arg(long, conflicts_with_all = ["each", "quotas"])]
    pub suggest: bool,

    /// With --suggest: a number that says at which times accounts are stolen.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "suggest")]
    pub seed: u64,

    /// Teach the database what is usual for each sender, and where it was seen, from the last 35 days of these logs: then limits
    /// that learn act at once. Safe to repeat.
    #[arg(long, conflicts_with_all = ["each", "quotas", "suggest"])]
    pub learn: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum Import {
    /// Take over settings, lists and the last 24 hours from policyd (thc2cat/go-policyd).
    ///
    /// Only shows what it would do, unless --apply is given. Safe to repeat.
    Policyd(ImportPolicyd),
    /// Take over settings and the limits of accounts from policyd-rate-limit (nitmir).
    ///
    /// Only shows what it would do, unless --apply is given. Safe to repeat. Exits with 1 if something has no like here, and names
    /// it. What it has counted is not taken over.
    PolicydRateLimit(ImportPolicydRateLimit),
    /// Take over the limits of iRedAPD's throttle plugin.
    ///
    /// Reads the tables `throttle` and `throttle_tracking`, where iRedAPD's settings say. Only shows what it would do, unless --apply
    /// is given. Safe to repeat. Exits with 1 if something has no like here, and names it.
    Iredapd(ImportIredapd),
    /// Take over the quotas of Cluebringer (policyd v2, cbpolicyd).
    ///
    /// Reads its policies and quotas in MySQL, MariaDB, PostgreSQL or SQLite, where its settings say. Only shows what it would do,
    /// unless --apply is given. Safe to repeat. Exits with 1 if something has no like here, and names it.
    Cluebringer(ImportCluebringer),
}

#[derive(Debug, Args)]
pub struct ImportIredapd {
    /// iRedAPD's own settings file; ours is --into.
    #[arg(long, value_name = "FILE", default_value = "/opt/iredapd/settings.py")]
    pub config: PathBuf,

    /// Our settings file, to be written.
    #[arg(long, value_name = "FILE", default_value = crate::config::SYSTEM_FILE)]
    pub into: PathBuf,

    /// Take over what it has counted in periods that go on. Done once, however often it is asked for.
    #[arg(long)]
    pub counts: bool,

    /// Do it.
    #[arg(long)]
    pub apply: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct ImportCluebringer {
    /// Cluebringer's own settings file; ours is --into.
    #[arg(long, value_name = "FILE", default_value = "/etc/cluebringer/cluebringer.conf")]
    pub config: PathBuf,

    /// Our settings file, to be written.
    #[arg(long, value_name = "FILE", default_value = crate::config::SYSTEM_FILE)]
    pub into: PathBuf,

    /// Take over its counters, at their value now. Done once, however often it is asked for.
    #[arg(long)]
    pub counts: bool,

    /// Do it.
    #[arg(long)]
    pub apply: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct ImportPolicydRateLimit {
    /// policyd-rate-limit's own settings file; ours is --into.
    #[arg(long, value_name = "FILE", default_value = "/etc/policyd-rate-limit.yaml")]
    pub config: PathBuf,

    /// Our settings file, to be written.
    #[arg(long, value_name = "FILE", default_value = crate::config::SYSTEM_FILE)]
    pub into: PathBuf,

    /// Do it.
    #[arg(long)]
    pub apply: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct ImportPolicyd {
    /// policyd's own settings file; ours is --into.
    #[arg(long, value_name = "FILE", default_value = "/etc/postfix/policyd.cfg")]
    pub config: PathBuf,

    /// Our settings file, to be written; the lists go into its folder.
    #[arg(long, value_name = "FILE", default_value = crate::config::SYSTEM_FILE)]
    pub into: PathBuf,

    /// Take over what policyd has counted in the last 24 hours. What was taken over once is not taken over again.
    #[arg(long)]
    pub events: bool,

    /// Do it.
    #[arg(long)]
    pub apply: bool,

    #[command(flatten)]
    pub output: Output,
}

fn parse_quota(written: &str) -> Result<u32, String> {
    quota::read(written).ok_or_else(|| format!("write {}", Kind::Quota.allowed()))
}

fn parse_duration(written: &str) -> Result<Duration, String> {
    duration::parse(written).ok_or_else(|| "write a number and a unit: 90s, 5m, 20h, 7d".to_owned())
}

fn parse_reason(written: &str) -> Result<String, String> {
    let is_word =
        !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    match is_word && written.len() <= 32 {
        true => Ok(written.to_ascii_lowercase()),
        false => Err("write one word of at most 32 letters, digits, `-` and `_`: compromised".to_owned()),
    }
}

fn parse_note(written: &str) -> Result<String, String> {
    let text = written.replace(char::is_control, " ").trim().to_owned();
    if text.chars().count() <= 255 { Ok(text) } else { Err("write at most 255 characters".to_owned()) }
}

fn parse_recent(written: &str) -> Result<Recent, String> {
    if written.eq_ignore_ascii_case("today") {
        return Ok(Recent::Today);
    }
    parse_duration(written).map(Recent::Within).map_err(|advice| format!("{advice}; or today"))
}

fn parse_interval(written: &str) -> Result<Duration, String> {
    let interval = parse_duration(written)?;
    let allowed = Duration::from_secs(1)..=Duration::from_secs(3600);
    if allowed.contains(&interval) { Ok(interval) } else { Err("write a time from 1s to 1h".to_owned()) }
}

fn parse_time(written: &str) -> Result<DateTime, String> {
    written.parse().map_err(|_| "write a date, or a date and a time: 2026-11-14, 2026-11-14T08:00".to_owned())
}

fn parse_attribute(written: &str) -> Result<(String, String), String> {
    match written.split_once('=') {
        Some((name, value)) if !name.is_empty() && !written.contains(['\n', '\0']) => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write NAME=VALUE, on one line".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn attributes_may_hold_equals_signs() {
        assert_eq!(parse_attribute("sender=a+b=c@x"), Ok(("sender".into(), "a+b=c@x".into())));
        assert!(
            parse_attribute("=x").is_err() && parse_attribute("x").is_err() && parse_attribute("a=b\nc=d").is_err()
        );
    }
}
