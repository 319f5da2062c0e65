//! `sender`: one sender, and all of them.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::output::Output;
use super::values::{parse_duration, parse_note, parse_quota, parse_reason};

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
