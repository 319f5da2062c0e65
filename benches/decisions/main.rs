//! How fast decisions are, beside what the machine can do at all: every rate is a ratio to a null server's, measured in the
//! same run by the same load, in interleaved rounds. `make bench`, or `cargo bench --bench decisions -- --help`.
//!
//! - `load`         asks and measures
//! - `attackers`    what others do to the daemon meanwhile
//! - `null_server`  the yardstick for rates
//! - `commit`       the yardstick for a lone request
//! - `log_reader`   takes the log lines
//! - `servers`      what is measured: the null server, and the daemon in several set-ups
//! - `comparisons`  one set-up of the daemon beside another
//! - `tables`       tables as they are on a large installation
//! - `viewers`      people who look at the daemon meanwhile
//! - `report`       the table and the JSON

// A benchmark that fails is to stop and say where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod attackers;
mod commit;
mod comparisons;
mod load;
mod log_reader;
mod null_server;
mod report;
mod servers;
#[path = "../../tests/support/mod.rs"]
mod support;
mod tables;
mod viewers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use commit::Commits;
use comparisons::Rounds;
use load::{Load, Measured, Traffic, sender};
use report::{Lone, Memory, Rate, Report, median, microseconds};
use servers::{Server, plain};
use support::client::{Client, Request};
use support::daemon::Setup;
use support::mariadb::MariaDb;
use support::postgres::Postgres;
use support::scratch::Scratch;

/// Decisions per second, latency, memory and start-up time, beside a server that does nothing.
#[derive(Debug, Parser)]
#[command(name = "decisions")]
struct Options {
    /// Measure on this database; a server's rates are shown beside SQLite's.
    #[arg(long, value_enum, default_value = "sqlite")]
    database: Kind,
    /// Only this part; may be given more than once.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// How often each measurement is repeated; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Length of each measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    connections: Vec<usize>,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Serve as the null server on this socket.
    #[arg(long, hide = true)]
    null_server: Option<PathBuf>,
    /// Serve as the log daemon on this socket.
    #[arg(long, hide = true)]
    log_reader: Option<PathBuf>,
    /// Receive webhooks, and write into this file where.
    #[arg(long, hide = true)]
    receiver: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Sqlite,
    Mariadb,
    Postgres,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Requests per second and latency at several numbers of connections.
    Rate,
    /// The latency of a lone connection beside the cost of a commit (SQLite).
    Lone,
    /// Resident memory with 1,000 open connections.
    Memory,
    /// Time from start to READY=1 on an existing database.
    Ready,
    /// Ten limits beside one quota.
    Limits,
    /// A sender with a million messages in the window beside a new one.
    History,
    /// Ten thousand blocked senders with a webhook beside without.
    Surge,
    /// With `watch` and the page open beside unseen.
    Watched,
    /// Under silent connections, guesses of the token and a flood of notices beside left alone.
    Attacked,
    /// A million senders and five million messages in the tables beside none. Takes minutes.
    Flat,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(socket) = &options.null_server {
        return Ok(null_server::run(socket)?);
    }
    if let Some(socket) = &options.log_reader {
        return Ok(log_reader::run(socket)?);
    }
    if let Some(file) = &options.receiver {
        return servers::receive(file);
    }
    raise_file_limit()?;
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    let mut report = Report {
        processors: thread::available_parallelism()?.get(),
        load_average: fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default().parse()?,
        folder: Scratch::new(None).path().parent().context("a temporary folder")?.display().to_string(),
        ..Report::default()
    };
    if wanted(Part::Rate) {
        report.rates = rates(&options)?;
    }
    if wanted(Part::Lone) && options.database == Kind::Sqlite {
        report.lone = Some(lone(&options)?);
    }
    if wanted(Part::Memory) {
        report.memory = Some(memory(options.database)?);
    }
    if wanted(Part::Ready) {
        report.ready_milliseconds = Some(ready(options.database));
    }
    let rounds = Rounds { rounds: options.rounds, length: Duration::from_secs_f64(options.seconds) };
    let load = Load::new()?;
    let setup: fn() -> Setup = match options.database {
        Kind::Sqlite => || setup(Kind::Sqlite),
        Kind::Mariadb => || setup(Kind::Mariadb),
        Kind::Postgres => || setup(Kind::Postgres),
    };
    if wanted(Part::Limits) {
        report.comparisons.push(comparisons::limits(&load, setup, rounds)?);
    }
    if wanted(Part::History) {
        report.comparisons.extend(comparisons::history(&load, setup, rounds)?);
    }
    if wanted(Part::Surge) {
        report.comparisons.extend(comparisons::surge(&load, setup, rounds)?);
    }
    if wanted(Part::Watched) {
        report.comparisons.push(comparisons::watched(&load, setup, rounds)?);
    }
    if wanted(Part::Attacked) {
        report.comparisons.extend(comparisons::attacked(&load, setup, rounds)?);
    }
    if wanted(Part::Flat) {
        report.comparisons.push(comparisons::flat(&load, setup, rounds)?);
    }
    println!("{}", report.table());
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_vec_pretty(&report)?).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// All servers in turn, again and again: whatever else the machine does then falls on all of them.
fn rates(options: &Options) -> anyhow::Result<Vec<Rate>> {
    let mut servers = vec![Server::null()?];
    if options.database != Kind::Sqlite {
        servers.push(Server::daemon("sqlite", plain(Setup::sqlite())));
    }
    let name = options.database.to_possible_value().context("a database's name")?.get_name().to_owned();
    servers.push(Server::daemon(&name, plain(setup(options.database))));
    servers.push(Server::everything_on(&format!("{name}, all on"), setup(options.database))?);
    let load = Load::new()?;
    let traffic = Arc::new(Traffic::of(load::SENDERS));
    let length = Duration::from_secs_f64(options.seconds);
    // By server, then by number of connections, then by round.
    let mut measured = vec![vec![Vec::<(Measured, Duration)>::new(); options.connections.len()]; servers.len()];
    for round in 1..=options.rounds {
        for (server, columns) in servers.iter_mut().zip(&mut measured) {
            eprintln!("round {round} of {}: {}", options.rounds, server.name());
            for (&connections, rounds) in options.connections.iter().zip(columns) {
                rounds.push(server.load(&load, &traffic, connections, length)?);
            }
        }
    }
    for server in &servers {
        server.verify()?;
    }
    let ratio = |of: &[(Measured, Duration)], to: &[(Measured, Duration)]| {
        median(of.iter().zip(to).map(|((of, _), (to, _))| of.rate / to.rate))
    };
    let mut rows = Vec::new();
    for (column, &connections) in options.connections.iter().enumerate() {
        for (server, columns) in servers.iter().zip(&measured) {
            let rounds = &columns[column];
            rows.push(Rate {
                server: server.name().to_owned(),
                connections,
                requests_per_second: median(rounds.iter().map(|(one, _)| one.rate)),
                p50_microseconds: median(rounds.iter().map(|(one, _)| microseconds(one.p50))),
                p99_microseconds: median(rounds.iter().map(|(one, _)| microseconds(one.p99))),
                processor_microseconds: median(rounds.iter().map(|(_, taken)| microseconds(*taken))),
                of_null: ratio(rounds, &measured[0][column]),
                of_sqlite: server.name().starts_with(&name).then(|| ratio(rounds, &measured[1][column])),
            });
        }
    }
    if options.database == Kind::Sqlite {
        rows.iter_mut().for_each(|row| row.of_sqlite = None);
    }
    Ok(rows)
}

fn lone(options: &Options) -> anyhow::Result<Lone> {
    eprintln!("a lone connection beside the cost of a commit");
    let scratch = Scratch::new(None);
    let mut commits = Commits::new(&scratch.join("commits.db"))?;
    let mut server = Server::daemon("sqlite", plain(Setup::sqlite()));
    let load = Load::new()?;
    let traffic = Arc::new(Traffic::of(load::SENDERS));
    let length = Duration::from_secs_f64(options.seconds / 2.0);
    let mut pairs = Vec::new();
    for _ in 0..options.rounds + 2 {
        let commit = microseconds(commits.p50(length)?);
        let request = microseconds(server.load(&load, &traffic, 1, length)?.0.p50);
        pairs.push((request, commit));
    }
    server.verify()?;
    Ok(Lone {
        request_p50_microseconds: median(pairs.iter().map(|(request, _)| *request)),
        commit_p50_microseconds: median(pairs.iter().map(|(_, commit)| *commit)),
        ratio: median(pairs.iter().map(|(request, commit)| request / commit)),
    })
}

fn memory(kind: Kind) -> anyhow::Result<Memory> {
    const CONNECTIONS: usize = 1_000;
    eprintln!("memory with {CONNECTIONS} connections");
    let daemon = plain(setup(kind)).start();
    let at_start = daemon.resident();
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        let mut client: Client = daemon.connect();
        let reply = client.ask(&Request::data(&sender(number % load::SENDERS), 1));
        anyhow::ensure!(reply == "DUNNO", "the daemon answered {reply}");
        clients.push(client);
    }
    #[expect(clippy::cast_precision_loss, reason = "a memory size is far below 2^52")]
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    Ok(Memory {
        connections: clients.len(),
        at_start: megabytes(at_start),
        with_connections: megabytes(daemon.resident()),
    })
}

/// In milliseconds, median of five.
fn ready(kind: Kind) -> f64 {
    eprintln!("start-up");
    let mut daemon = plain(setup(kind)).start();
    for number in 0..load::SENDERS {
        daemon.connect().ask(&Request::data(&sender(number), 1));
    }
    let mut start = || {
        daemon.term();
        daemon.start_again();
        daemon.ready_after().as_secs_f64() * 1e3
    };
    median((0..5).map(|_| start()))
}

fn setup(kind: Kind) -> Setup {
    match kind {
        Kind::Sqlite => Setup::sqlite(),
        Kind::Mariadb => Setup::on(&MariaDb::shared().database()),
        Kind::Postgres => Setup::on(&Postgres::shared().database()),
    }
}

/// A thousand connections need more descriptors than a login session's soft limit; the daemon inherits ours.
fn raise_file_limit() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard)?;
    Ok(())
}
