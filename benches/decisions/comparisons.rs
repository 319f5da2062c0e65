//! One set-up beside another: what a policy, full tables or telling people costs, as ratios of the same run.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::attackers::{self, Guessers};
use crate::load::{Load, Measured, Traffic, sender};
use crate::report::{Comparison, median, microseconds};
use crate::servers::{Helper, Server, plain};
use crate::support::daemon::Setup;
use crate::support::http::get;
use crate::tables;
use crate::viewers::{self, Viewers};

const CONNECTIONS: usize = 64;

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub struct Rounds {
    pub rounds: u16,
    pub length: Duration,
}

/// Two daemons under the same load in turn.
struct Pair {
    servers: [Server; 2],
    traffic: Arc<Traffic>,
    connections: usize,
}

impl Pair {
    /// What each measured, round by round, the first daemon first.
    fn measure(&mut self, load: &Load, rounds: Rounds) -> anyhow::Result<Vec<[Measured; 2]>> {
        let mut measured = Vec::new();
        for round in 1..=rounds.rounds {
            let [first, second] = &mut self.servers;
            eprintln!("round {round} of {}: {}, then {}", rounds.rounds, first.name(), second.name());
            let one = |server: &mut Server| {
                server.load(load, &self.traffic, self.connections, rounds.length).map(|(measured, _)| measured)
            };
            measured.push([one(first)?, one(second)?]);
        }
        for server in &self.servers {
            server.verify()?;
        }
        Ok(measured)
    }

    /// The second's rate beside the first's.
    fn rates(mut self, load: &Load, rounds: Rounds, what: &str, aim: &'static str) -> anyhow::Result<Comparison> {
        let measured = self.measure(load, rounds)?;
        Ok(Comparison::of(what, "requests/s", aim, measured.iter().map(|pair| pair.map(|one| one.rate))))
    }

    /// The second's latency beside the first's, at some quantile.
    fn latencies(
        mut self,
        load: &Load,
        rounds: Rounds,
        what: &str,
        aim: &'static str,
        quantile: fn(Measured) -> Duration,
    ) -> anyhow::Result<Comparison> {
        let measured = self.measure(load, rounds)?;
        Ok(Comparison::of(what, "µs", aim, measured.iter().map(|pair| pair.map(|one| microseconds(quantile(one))))))
    }
}

/// Ten limits at once, beside the quota alone.
pub fn limits(load: &Load, setup: fn() -> Setup, rounds: Rounds) -> anyhow::Result<Comparison> {
    const TEN: &str = "4G bytes/5m; 900000000 recipients/1m; 900000000 recipients/5m; 900000000 recipients/1h; \
         900000000 recipients/24h; 900000000 messages/10m; 900000000 messages/1h; 1000 networks/1h; \
         1000 recipients/message; 100% recipients/10m";
    let servers = [
        Server::daemon("one quota", plain(setup())),
        Server::daemon("ten limits", plain(setup()).setting("LIMITS", TEN)),
    ];
    let pair = Pair { servers, traffic: Arc::new(Traffic::of(crate::load::SENDERS)), connections: CONNECTIONS };
    pair.rates(load, rounds, "ten limits beside one quota", "at least 0.40")
}

/// A million senders and five million messages in the tables, beside empty ones; the same thousand senders are active.
pub fn flat(load: &Load, setup: fn() -> Setup, rounds: Rounds) -> anyhow::Result<Comparison> {
    const SENDERS: u64 = 1_000_000;
    const MESSAGES: u64 = 5_000_000;
    let daemon = |name| Server::daemon(name, plain(setup()).setting("MESSAGE_LOG", "True"));
    let servers = [daemon("empty tables"), daemon("full tables")];
    eprintln!("filling tables with {SENDERS} senders and {MESSAGES} messages");
    if let Some(database) = servers[1].database() {
        tables::fill(database, SENDERS, MESSAGES);
    }
    let active: Vec<String> = (1..=1000).map(|number| sender(number * 997)).collect();
    let pair = Pair { servers, traffic: Arc::new(Traffic::by(&active)), connections: CONNECTIONS };
    pair.rates(load, rounds, "full tables beside empty ones", "at least 0.80")
}

/// A million senders of whom ten thousand others are blocked, beside the same without blocks; a thousand are active.
pub fn blocks(load: &Load, setup: fn() -> Setup, rounds: Rounds) -> anyhow::Result<Comparison> {
    const SENDERS: u64 = 1_000_000;
    const BLOCKS: u64 = 10_000;
    let servers = ["nobody is blocked", "10,000 are blocked"].map(|name| Server::daemon(name, plain(setup())));
    eprintln!("filling two tables with {SENDERS} senders, and one with {BLOCKS} blocks");
    for (server, blocks) in servers.iter().zip([0, BLOCKS]) {
        let Some(database) = server.database() else { continue };
        tables::fill(database, SENDERS, 0);
        tables::block(database, blocks);
    }
    let active: Vec<String> = (1..=1000).map(|number| sender(BLOCKS as usize + number * 987)).collect();
    let pair = Pair { servers, traffic: Arc::new(Traffic::by(&active)), connections: CONNECTIONS };
    pair.rates(load, rounds, "1,000,000 senders and 10,000 blocks, beside none", "at least 0.97")
}

/// What is usual and new networks are looked at, beside a sliding day alone. Of so many senders, a thousand of whom are active, 35
/// days and their network are known.
pub fn usual(
    load: &Load,
    setup: fn() -> Setup,
    rounds: Rounds,
    senders: u64,
    aim: &'static str,
) -> anyhow::Result<Comparison> {
    const LEARNING: &str = "3x usual recipients/1h min 900000000; 3x usual messages/24h min 900000000; \
         900000000 recipients/1h from new networks";
    let sliding = || plain(setup()).setting("QUOTA_WINDOW", "24h");
    let servers = [
        Server::daemon("a sliding day", sliding()),
        Server::daemon("usual and new networks", sliding().setting("LIMITS", LEARNING)),
    ];
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    eprintln!("filling two tables with {senders} senders, and one with 35 days of each");
    for (server, days) in servers.iter().zip([0, 35]) {
        let Some(database) = server.database() else { continue };
        tables::fill(database, senders, 0);
        tables::teach(database, days, now);
    }
    let active: Vec<String> = (1..=1000).map(|number| sender(number * senders as usize / 1001)).collect();
    let pair = Pair { servers, traffic: Arc::new(Traffic::by(&active)), connections: CONNECTIONS };
    let what = format!("usual and new networks, 35 days of {senders} senders known, beside neither");
    pair.rates(load, rounds, &what, aim)
}

/// A sender with a million messages in the last day, beside one with none, under a sliding day: when he is decided about
/// again and again, and when the daemon has not seen him before.
pub fn history(load: &Load, setup: fn() -> Setup, rounds: Rounds) -> anyhow::Result<[Comparison; 2]> {
    const MESSAGES: u64 = 1_000_000;
    const AIM: &str = "at most 1.5, on a server 2";
    let daemon = |name| Server::daemon(name, plain(setup()).setting("QUOTA_WINDOW", "24h"));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let busy: Vec<String> = (0..101).map(|number| format!("busy{number}@example.com")).collect();
    let mut servers = [daemon("a new sender"), daemon("a sender with a million messages")];
    for server in &servers {
        if let Some(database) = server.database() {
            // The sender of the steady load has the same name on both, and the same row but for his usage.
            let sent = if server.name() == "a new sender" { 0 } else { MESSAGES };
            tables::fill_days(database, &busy[..1], 1, sent, now());
        }
    }
    let first = {
        eprintln!("first decisions about senders with and without a million messages");
        if let Some(database) = servers[1].database() {
            tables::fill_days(database, &busy[1..], 1, MESSAGES, now());
        }
        let mut client = servers[1].connect();
        let mut time = |login: &str| microseconds(servers[1].ask(&mut client, login));
        let pairs: Vec<[f64; 2]> = busy[1..].iter().map(|login| [time(&format!("new-{login}")), time(login)]).collect();
        Comparison::of("first decision about a sender with 1,000,000 messages, beside a new one", "µs", AIM, pairs)
    };
    let traffic = Arc::new(Traffic::by(&busy[..1]));
    let pair = Pair { servers, traffic, connections: 1 };
    let again = pair.latencies(
        load,
        rounds,
        "next decisions about a sender with 1,000,000 messages, beside a new one",
        AIM,
        |one| one.p50,
    )?;
    Ok([first, again])
}

/// Ten thousand blocked senders at once, with a webhook to call for each, beside none.
pub fn surge(load: &Load, setup: fn() -> Setup, rounds: Rounds) -> anyhow::Result<[Comparison; 2]> {
    const SENDERS: usize = 10_000;
    let receiver = Helper::receiver()?;
    let blocking = || plain(setup()).setting("QUOTA", "0");
    let told = blocking().setting("WEBHOOK_ENABLED", "True").setting("WEBHOOK_URL", &receiver.url()?).with_metrics();
    let metrics = told.metrics_address();
    let mut servers = [Server::daemon("nobody is told", blocking()), Server::daemon("a webhook is called", told)];
    let mut latencies = Vec::new();
    let mut memory = Vec::new();
    for round in 1..=rounds.rounds {
        eprintln!("round {round} of {}: {SENDERS} blocked senders", rounds.rounds);
        // New senders each time: each is told about once.
        let surge: Vec<String> = (0..SENDERS).map(|number| format!("surge{round}-{number}@example.com")).collect();
        let traffic = Arc::new(Traffic::by(&surge).deferred());
        let mut pair = Vec::new();
        for server in &mut servers {
            pair.push(server.load(load, &traffic, CONNECTIONS, rounds.length)?.0.p99);
        }
        latencies.push([microseconds(pair[0]), microseconds(pair[1])]);
        memory.push([servers[0].resident()?, servers[1].resident()?]);
    }
    for server in &servers {
        server.verify()?;
    }
    let figures = get(metrics, "/metrics").body;
    let delivered = figures.lines().find(|line| line.contains("channel=\"webhook\"") && line.contains("\"delivered\""));
    let delivered = delivered.and_then(|line| line.rsplit(' ').next()).unwrap_or("0");
    anyhow::ensure!(delivered != "0", "the webhook was never called:\n{figures}");
    Ok([
        Comparison::of(
            "p99 while 10,000 senders are blocked, with a webhook beside without",
            "µs",
            "about 1",
            latencies,
        ),
        Comparison::of("memory after it, with a webhook beside without", "MB", "bounded", memory.last().copied()),
    ])
}

/// With `watch` and the page open, beside nobody looking.
pub fn watched(load: &Load, setup: fn() -> Setup, rounds: Rounds) -> anyhow::Result<Comparison> {
    let setup = plain(setup()).with_metrics().setting("MESSAGE_LOG", "True").setting("STATUS_TOKEN", viewers::TOKEN);
    let address = setup.metrics_address();
    let mut server = Server::daemon("a daemon with a page", setup);
    let traffic = Arc::new(Traffic::of(crate::load::SENDERS));
    let mut rates = Vec::new();
    for round in 1..=rounds.rounds {
        eprintln!("round {round} of {}: unseen, then with watch and the page open", rounds.rounds);
        let unseen = server.load(load, &traffic, CONNECTIONS, rounds.length)?.0.rate;
        let viewers = server.setup().map(|setup| Viewers::open(setup, address));
        let seen = server.load(load, &traffic, CONNECTIONS, rounds.length)?.0.rate;
        drop(viewers);
        rates.push([unseen, seen]);
    }
    server.verify()?;
    Ok(Comparison::of("with watch and the page open, beside unseen", "requests/s", "at least 0.95", rates))
}

/// While strangers do their worst, beside left alone: 16,000 silent connections, which fill all slots; 100 guessers of the token;
/// and 100,000 strangers who reach their quota, with a webhook beside without.
pub fn attacked(load: &Load, setup: fn() -> Setup, rounds: Rounds) -> anyhow::Result<[Comparison; 3]> {
    const SILENT: usize = 16_000;
    const GUESSERS: usize = 100;
    const STRANGERS: usize = 100_000;
    const AIM: &str = "about 1";
    let limit = format!("--nofile={0}:{0}", SILENT + 128);
    let attacked = plain(setup()).with_metrics().setting("STATUS_TOKEN", viewers::TOKEN).through(["prlimit", &limit]);
    let (mail, page) = (attacked.tcp_address(), attacked.metrics_address());
    let mut server = Server::daemon("a daemon among strangers", attacked);
    let traffic = Arc::new(Traffic::of(crate::load::SENDERS));
    let (mut silent, mut guessed) = (Vec::new(), Vec::new());
    for round in 1..=rounds.rounds {
        eprintln!("round {round} of {}: alone, among guessers, among silent connections", rounds.rounds);
        let mut p99 = || server.load(load, &traffic, CONNECTIONS, rounds.length).map(|(one, _)| microseconds(one.p99));
        let alone = p99()?;
        let guessers = Guessers::start(page, GUESSERS);
        guessed.push([alone, p99()?]);
        drop(guessers);
        let connections = attackers::silent(mail, SILENT);
        silent.push([alone, p99()?]);
        drop(connections);
        attackers::await_end(page);
    }
    server.verify()?;

    let receiver = Helper::receiver()?;
    let blocking = || plain(setup()).setting("QUOTA", "0").setting("LIMIT_BY", "sasl_username, sender");
    let told = blocking().setting("WEBHOOK_ENABLED", "True").setting("WEBHOOK_URL", &receiver.url()?);
    let mut servers = [Server::daemon("nobody is told", blocking()), Server::daemon("a webhook is called", told)];
    let mut flooded = Vec::new();
    for round in 1..=rounds.rounds {
        eprintln!("round {round} of {}: {STRANGERS} strangers reach their quota", rounds.rounds);
        let strangers: Vec<String> = (0..STRANGERS).map(|number| format!("a{round}-{number}@example.net")).collect();
        let traffic = Arc::new(Traffic::by_strangers(&strangers).deferred());
        let [alone, told] = &mut servers;
        let p99 = |server: &mut Server| {
            server.load(load, &traffic, CONNECTIONS, rounds.length).map(|(one, _)| microseconds(one.p99))
        };
        flooded.push([p99(alone)?, p99(told)?]);
    }
    Ok([
        Comparison::of("p99 among 16,000 silent connections, beside without", "µs", AIM, silent),
        Comparison::of("p99 while 100 guess the token, beside without", "µs", AIM, guessed),
        Comparison::of("p99 while strangers reach quotas, with a webhook beside without", "µs", AIM, flooded),
    ])
}

impl Comparison {
    fn of(what: &str, unit: &'static str, aim: &'static str, pairs: impl IntoIterator<Item = [f64; 2]>) -> Comparison {
        let pairs: Vec<[f64; 2]> = pairs.into_iter().collect();
        Comparison {
            what: what.to_owned(),
            unit,
            aim,
            base: median(pairs.iter().map(|pair| pair[0])),
            measured: median(pairs.iter().map(|pair| pair[1])),
            ratio: median(pairs.iter().map(|pair| pair[1] / pair[0])),
        }
    }
}
