//! How fast decisions are, beside what the disk allows: every rate is a ratio to that of a server which stores what it is asked
//! and does nothing else, measured in the same run by the same load, in interleaved rounds. `make bench`, or `cargo bench --bench decisions -- --help`.
//!
//! - `load`         asks and measures
//! - `attackers`    what others do to the daemon meanwhile
//! - `null_server`  the yardsticks
//! - `log_reader`   takes the log lines
//! - `servers`      what is measured: the null servers, and the daemon in several set-ups
//! - `bounds`       what must come in time, or not grow
//! - `comparisons`  one set-up of the daemon beside another
//! - `tables`       tables as they are on a large installation
//! - `viewers`      people who look at the daemon meanwhile
//! - `report`       the table and the JSON

// A benchmark that fails is to stop and say where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod attackers;
mod bounds;
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

use comparisons::Rounds;
use load::{Load, Measured, Traffic, sender};
use report::{Memory, Rate, Ratio, Report, median, microseconds};
use servers::{Server, plain};
use support::client::{Client, Request};
use support::daemon::Setup;
use support::mariadb::MariaDb;
use support::postgres::Postgres;
use support::scratch::Scratch;

/// Decisions per second, latency, memory and start-up time, beside a server that only stores what it is asked.
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
    /// Also measure this other build of the daemon, in the same rounds.
    #[arg(long, value_name = "PROGRAM")]
    beside: Option<PathBuf>,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Serve as the null server on this socket.
    #[arg(long, hide = true)]
    null_server: Option<PathBuf>,
    /// Serve as the durable null server on this socket.
    #[arg(long, hide = true)]
    durable_null_server: Option<PathBuf>,
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
    /// Resident memory with 1,000 open connections, and after 100,000 messages.
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
    /// Limits by what is usual and on new networks beside a sliding day alone.
    Usual,
    /// The same with a million senders of which 35 days are known. Takes minutes.
    Learnt,
    /// Eighty senders with a month of every minute, all at once.
    Month,
    /// A million senders and ten thousand blocks beside none.
    Blocks,
    /// Resident memory after half a million senders.
    Crowd,
    /// A million senders and five million messages in the tables beside none. Takes minutes.
    Flat,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(socket) = &options.null_server {
        return Ok(null_server::run(socket)?);
    }
    if let Some(socket) = &options.durable_null_server {
        return Ok(null_server::run_durable(socket)?);
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
    if wanted(Part::Usual) {
        report.comparisons.push(comparisons::usual(&load, setup, rounds, 2000, "at least 0.95")?);
    }
    if wanted(Part::Learnt) {
        report.comparisons.push(comparisons::usual(&load, setup, rounds, 1_000_000, "at least 0.90")?);
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
    if wanted(Part::Blocks) {
        report.comparisons.push(comparisons::blocks(&load, setup, rounds)?);
    }
    if wanted(Part::Month) {
        report.bounds.extend(bounds::month(setup)?);
    }
    if wanted(Part::Crowd) {
        report.bounds.push(bounds::crowd(&load, setup)?);
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

/// A server, and the number of the SQLite one that does the same work.
struct Candidate {
    server: Server,
    sqlite: Option<usize>,
}

/// The null servers and all that is measured beside them.
fn candidates(options: &Options) -> anyhow::Result<Vec<Candidate>> {
    let mut candidates: Vec<Candidate> =
        [Server::null()?, Server::durable_null()?].map(|server| Candidate { server, sqlite: None }).into();
    let mut kinds = vec![Kind::Sqlite, options.database];
    kinds.dedup();
    for kind in kinds {
        let name = kind.to_possible_value().context("a database's name")?.get_name().to_owned();
        let builds = [None, options.beside.as_deref()];
        for program in builds.into_iter().take(1 + usize::from(options.beside.is_some())) {
            let name = if program.is_some() { format!("{name} (other build)") } else { name.clone() };
            let setup = || program.into_iter().fold(setup(kind), Setup::program);
            let sqlite = |place| (kind != Kind::Sqlite).then_some(place);
            let server = Server::daemon(&name, plain(setup()));
            candidates.push(Candidate { server, sqlite: sqlite(2) });
            let server = Server::everything_on(&format!("{name}, all on"), setup())?;
            candidates.push(Candidate { server, sqlite: sqlite(3) });
        }
    }
    Ok(candidates)
}

/// All servers in turn, again and again: whatever else the machine does then falls on all of them.
fn rates(options: &Options) -> anyhow::Result<Vec<Rate>> {
    let mut candidates = candidates(options)?;
    let load = Load::new()?;
    let traffic = Arc::new(Traffic::of(load::SENDERS));
    let length = Duration::from_secs_f64(options.seconds);
    // By server, then by number of connections, then by round.
    let mut measured = vec![vec![Vec::<(Measured, Duration)>::new(); options.connections.len()]; candidates.len()];
    for round in 1..=options.rounds {
        for (Candidate { server, .. }, columns) in candidates.iter_mut().zip(&mut measured) {
            eprintln!("round {round} of {}: {}", options.rounds, server.name());
            for (&connections, rounds) in options.connections.iter().zip(columns) {
                rounds.push(server.load(&load, &traffic, connections, length)?);
            }
        }
    }
    for Candidate { server, .. } in &candidates {
        server.verify()?;
    }
    let mut rows = Vec::new();
    for (column, &connections) in options.connections.iter().enumerate() {
        for (Candidate { server, sqlite }, columns) in candidates.iter().zip(&measured) {
            let rounds = &columns[column];
            let beside = |other: usize, figure: fn(&Measured) -> f64| {
                Ratio::of(
                    rounds
                        .iter()
                        .zip(&measured[other][column])
                        .map(|((one, _), (other, _))| figure(one) / figure(other)),
                )
            };
            rows.push(Rate {
                server: server.name().to_owned(),
                connections,
                requests_per_second: median(rounds.iter().map(|(one, _)| one.rate)),
                p50_microseconds: median(rounds.iter().map(|(one, _)| microseconds(one.p50))),
                p99_microseconds: median(rounds.iter().map(|(one, _)| microseconds(one.p99))),
                processor_microseconds: median(rounds.iter().map(|(_, taken)| microseconds(*taken))),
                of_durable: beside(1, |one| one.rate),
                p50_of_durable: beside(1, |one| microseconds(one.p50)),
                of_sqlite: sqlite.map(|sqlite| beside(sqlite, |one| one.rate)),
            });
        }
    }
    Ok(rows)
}

fn memory(kind: Kind) -> anyhow::Result<Memory> {
    const CONNECTIONS: usize = 1_000;
    const MESSAGES: u64 = 100_000;
    eprintln!("memory with {CONNECTIONS} connections and {MESSAGES} messages");
    let mut server = Server::everything_on("all on", setup(kind))?;
    let at_start = server.resident()?;
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        let mut client: Client = server.connect();
        server.ask(&mut client, &sender(number % load::SENDERS));
        clients.push(client);
    }
    let with_connections = server.resident()?;
    let (load, traffic) = (Load::new()?, Arc::new(Traffic::of(load::SENDERS)));
    while server.replies() < MESSAGES {
        server.load(&load, &traffic, 64, Duration::from_millis(100))?;
    }
    Ok(Memory {
        connections: clients.len(),
        at_start,
        with_connections,
        messages: server.replies(),
        with_messages: server.resident()?,
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
