//! Parses the command line, runs the command, and turns its result into an exit status.

use std::process::ExitCode;

use clap::Parser;
use policyd_rate_guard::cli::Cli;
use policyd_rate_guard::commands;
use policyd_rate_guard::exit::Exit;

/// A request is some thirty small allocations, made on one thread and often freed on another: with the C library's own
/// allocator they were a sixth of all processor time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version come this way too, for standard output.
        Err(instead) => {
            let exit = if instead.use_stderr() { Exit::Usage } else { Exit::Ok };
            return if instead.print().is_ok() { exit.into() } else { Exit::IoError.into() };
        }
    };
    match commands::run(cli) {
        Ok(exit) => exit.into(),
        Err(failed) => {
            eprintln!("policyd-rate-guard: {}", failed.message);
            failed.exit.into()
        }
    }
}
