//! `import`: taking over from other programs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::output::Output;

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

/// Into which file, whether it is done, and how that is printed.
#[derive(Debug, Args)]
pub struct TakeOver {
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
pub struct ImportIredapd {
    /// iRedAPD's own settings file; ours is --into.
    #[arg(long, value_name = "FILE", default_value = "/opt/iredapd/settings.py")]
    pub config: PathBuf,

    /// Take over what it has counted in periods that go on. Done once, however often it is asked for.
    #[arg(long)]
    pub counts: bool,

    #[command(flatten)]
    pub takeover: TakeOver,
}

#[derive(Debug, Args)]
pub struct ImportCluebringer {
    /// Cluebringer's own settings file; ours is --into.
    #[arg(long, value_name = "FILE", default_value = "/etc/cluebringer/cluebringer.conf")]
    pub config: PathBuf,

    /// Take over its counters, at their value now. Done once, however often it is asked for.
    #[arg(long)]
    pub counts: bool,

    #[command(flatten)]
    pub takeover: TakeOver,
}

#[derive(Debug, Args)]
pub struct ImportPolicydRateLimit {
    /// policyd-rate-limit's own settings file; ours is --into.
    #[arg(long, value_name = "FILE", default_value = "/etc/policyd-rate-limit.yaml")]
    pub config: PathBuf,

    #[command(flatten)]
    pub takeover: TakeOver,
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
