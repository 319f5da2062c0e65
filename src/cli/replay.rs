//! `replay`: past logs.

use std::path::PathBuf;

use clap::Args;
use jiff::civil::DateTime;

use super::output::Output;
use super::values::parse_time;

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
