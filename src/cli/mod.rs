//! The command line. Manual page and completions are made from these definitions.
//!
//! The large commands have files of their own, of which `output` and `values` serve all.

mod held;
mod import;
mod output;
mod replay;
mod sender;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use values::{parse_attribute, parse_duration, parse_interval, parse_recent};

pub use held::{Held, HeldChoice, HeldDelete, HeldHow, HeldList, HeldRelease, HeldVerb};
pub use import::{Import, ImportCluebringer, ImportIredapd, ImportPolicyd, ImportPolicydRateLimit, TakeOver};
pub use output::Output;
pub use replay::Replay;
pub use sender::{
    BlockAction, Sender, SenderBlock, SenderDelete, SenderList, SenderName, SenderOrder, SenderSet, SenderUnblock,
};
pub use values::Recent;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
