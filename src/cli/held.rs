//! `held`: mail on hold.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::output::Output;
use super::values::parse_duration;

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
