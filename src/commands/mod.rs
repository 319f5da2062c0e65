//! The commands, a file or a folder each; and what several of them share: `scrape` reads the daemon's counters,
//! `database` opens the database as USER, `table` and `text` write for people.

pub mod check;
mod cleanup;
mod completions;
mod database;
mod doctor;
mod import;
mod manual;
mod migrate;
mod query;
mod replay;
mod scrape;
mod sender;
mod serve;
mod table;
mod text;
mod top;
pub mod watch;

use std::io::{self, Write};

use crate::cli::{Cli, Command, Import};
use crate::config::Sources;
use crate::exit::{Exit, Failed};
use crate::system::privileges;

/// Runs the command of this command line.
pub fn run(cli: Cli) -> Result<Exit, Failed> {
    let sources = Sources::from_process(cli.config, privileges::is_root());
    match cli.command {
        Command::Serve => serve::run(sources),
        Command::Cleanup(options) => cleanup::run(&sources, &options),
        Command::Migrate(options) => migrate::run(&sources, &options),
        Command::Check(options) => match check::run(&sources, &options, &mut io::stdout().lock()) {
            Ok(true) => Ok(Exit::Ok),
            Ok(false) => Ok(Exit::Config),
            Err(error) => Err(cannot_print(&error)),
        },
        Command::Doctor(options) => doctor::run(&sources, &options),
        Command::Query(options) => query::run(&sources, &options),
        Command::Sender(sender) => sender::run(&sources, &sender),
        Command::Top(options) => top::run(&sources, &options),
        Command::Watch(options) => watch::run(&sources, &options),
        Command::Replay(options) => replay::run(&sources, &options),
        Command::Import(Import::Policyd(options)) => import::run(&sources, &options),
        Command::Completions { shell } => completions::run(shell),
        Command::Manual { out } => manual::run(&out),
    }
}

/// Prints to standard output. A reader that went away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failed> {
    print_if_read(text).map(drop)
}

/// As [`print`], and says whether the reader is still there: whoever has much more to print may end when it is not.
fn print_if_read(text: &str) -> Result<bool, Failed> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(cannot_print(&error)),
    }
}

/// Prints a value as JSON, on lines of its own.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failed::new(Exit::Software, error))?;
    print(&(text + "\n"))
}

fn cannot_print(error: &io::Error) -> Failed {
    Failed::new(Exit::IoError, format_args!("cannot write to standard output: {error}"))
}
