//! Parses the command line, runs the command, and turns its result into an exit status.

use std::process::ExitCode;

use clap::Parser;
use policyd_rate_guard::cli::Cli;
use policyd_rate_guard::commands;

fn main() -> ExitCode {
    match commands::run(Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(failed) => {
            eprintln!("policyd-rate-guard: {}", failed.message);
            failed.exit.into()
        }
    }
}
