//! The commands, a file or a folder each; and what several of them share: `scrape` reads the daemon's counters,
//! `database` opens the database as USER, `table` and `text` write for people, `output` prints, `programs` finds Postfix's.

pub mod check;
mod cleanup;
mod completions;
mod database;
mod doctor;
mod held;
mod import;
mod manual;
mod migrate;
mod output;
mod programs;
mod query;
mod replay;
mod scrape;
mod sender;
mod serve;
mod table;
mod text;
mod top;
pub mod watch;

use std::io;

use crate::cli::{Cli, Command, Import};
use crate::config::Sources;
use crate::exit::{Exit, Failed};
use crate::system::{self, privileges};

/// Runs the command of this command line.
pub fn run(cli: Cli) -> Result<Exit, Failed> {
    let sources = Sources::from_process(cli.config, privileges::is_root(), system::host_name());
    match cli.command {
        Command::Serve => serve::run(sources),
        Command::Cleanup(options) => cleanup::run(&sources, &options),
        Command::Migrate(options) => migrate::run(&sources, &options),
        Command::Check(options) => match check::run(&sources, &options, &mut io::stdout().lock()) {
            Ok(true) => Ok(Exit::Ok),
            Ok(false) => Ok(Exit::Config),
            Err(error) => Err(output::cannot_print(&error)),
        },
        Command::Doctor(options) => doctor::run(&sources, &options),
        Command::Query(options) => query::run(&sources, &options),
        Command::Held(options) => held::run(&sources, &options),
        Command::Sender(sender) => sender::run(&sources, &sender),
        Command::Top(options) => top::run(&sources, &options),
        Command::Watch(options) => watch::run(&sources, &options),
        Command::Replay(options) => replay::run(&sources, &options),
        Command::Import(Import::Policyd(options)) => import::policyd(&sources, &options),
        Command::Import(Import::PolicydRateLimit(options)) => import::policyd_rate_limit(&sources, &options),
        Command::Import(Import::Iredapd(options)) => import::iredapd(&sources, &options),
        Command::Import(Import::Cluebringer(options)) => import::cluebringer(&sources, &options),
        Command::Completions { shell } => completions::run(shell),
        Command::Manual { out } => manual::run(&out),
    }
}
