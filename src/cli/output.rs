//! How a command prints.

use clap::Args;

/// How to print.
#[derive(Debug, Args)]
pub struct Output {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
