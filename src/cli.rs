//! The command line. Manual page and completions are made from these definitions.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::limiter::duration;

/// Postfix policy service that limits what each authenticated sender may send.
#[derive(Debug, Parser)]
#[command(name = "policyd-rate-guard", version, propagate_version = true)]
pub struct Cli {
    /// Settings file. Without it: /etc/policyd-rate-guard/policyd-rate-guard.env if that exists; else, unless started as
    /// root, ./.env. Environment variables win over the file.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer policy requests until told to stop.
    ///
    /// SIGHUP reads the settings again, SIGUSR1 reopens the logs, SIGTERM and SIGINT end the daemon after it has answered
    /// what was asked.
    Serve,

    /// Reset the counters and delete what is older than its retention.
    ///
    /// Sets every counter to 0 and every quota that is not locked back to its quota_reset, then deletes messages older than
    /// MESSAGE_RETENTION days. Works in small steps while mail goes on. To be run once a day, by the packaged timer.
    Cleanup(Cleanup),

    /// Bring the database's tables to this version of the program.
    Migrate(Migrate),

    /// Check the settings and show them as they are in effect.
    ///
    /// Exits with 78 if there is an error in them.
    Check(Check),

    /// Look at settings, database, sockets and Postfix's configuration, and say what to mend.
    ///
    /// Changes nothing and counts nothing. Run it as root on the mail server. Exits with 1 if there is a problem.
    Doctor(Doctor),

    /// Ask the running daemon as Postfix would, and print its answer.
    ///
    /// The request is counted like any other, unless --dry-run is given.
    Query(Query),

    /// Print the completions for a shell.
    Completions { shell: Shell },

    /// Write the manual pages into a folder.
    #[command(hide = true)]
    Manual {
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
}

/// How to print.
#[derive(Debug, Args)]
pub struct Output {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Check {
    /// Print only what is wrong.
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Cleanup {
    /// Do not reset counters that were reset within this time, by any host: `20h`.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub unless_within: Option<Duration>,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Migrate {
    /// Only list the migrations and whether the database has them.
    #[arg(long)]
    pub status: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// The postconf program of the Postfix to look at.
    #[arg(long, value_name = "PROGRAM")]
    pub postconf: Option<PathBuf>,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Query {
    /// The daemon's socket, as SOCKET writes it. Without it, the first address of SOCKET, or else the socket of the packaged
    /// systemd unit.
    #[arg(long, value_name = "ADDRESS")]
    pub socket: Option<String>,

    /// The login.
    #[arg(long, value_name = "LOGIN", default_value = "")]
    pub sasl_username: String,

    /// How many recipients the message has.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub recipients: u32,

    /// The envelope sender.
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    pub sender: String,

    /// The client's address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub client_address: String,

    /// Any attribute of the request, as Postfix writes it. May be given several times, and wins over the other options.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_attribute)]
    pub attribute: Vec<(String, String)>,

    /// Ask what the answer would be, without counting anything.
    #[arg(long)]
    pub dry_run: bool,

    /// How long to wait for the answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub timeout: Duration,

    #[command(flatten)]
    pub output: Output,
}

fn parse_duration(written: &str) -> Result<Duration, String> {
    duration::parse(written).ok_or_else(|| "write a number and a unit: 90s, 5m, 20h, 7d".to_owned())
}

fn parse_attribute(written: &str) -> Result<(String, String), String> {
    match written.split_once('=') {
        Some((name, value)) if !name.is_empty() && !written.contains(['\n', '\0']) => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write NAME=VALUE, on one line".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn attributes_may_hold_equals_signs() {
        assert_eq!(parse_attribute("sender=a+b=c@x"), Ok(("sender".into(), "a+b=c@x".into())));
        assert!(
            parse_attribute("=x").is_err() && parse_attribute("x").is_err() && parse_attribute("a=b\nc=d").is_err()
        );
    }
}
