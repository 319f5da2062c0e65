//! `completions`: what a shell needs to complete our command line.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::{Exit, Failed};

pub fn run(shell: Shell) -> Result<Exit, Failed> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "policyd-rate-guard", &mut script);
    super::output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
