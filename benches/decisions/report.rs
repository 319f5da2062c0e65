//! The figures: as a table for people, as JSON for programs.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;

/// All that a run found. A part that was not asked for is left out.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub processors: usize,
    /// Over the minute before the run. Above a few tenths, something else ran too.
    pub load_average: f64,
    pub folder: String,
    pub rates: Vec<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_milliseconds: Option<f64>,
    pub comparisons: Vec<Comparison>,
    pub bounds: Vec<Bound>,
}

/// A figure with a bound of its own.
#[derive(Debug, Serialize)]
pub struct Bound {
    pub what: String,
    pub unit: &'static str,
    pub measured: f64,
    /// The most that it should be.
    pub aim: f64,
}

/// One set-up beside another: medians over the rounds.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub what: String,
    pub unit: &'static str,
    pub base: f64,
    pub measured: f64,
    /// Measured divided by base, round by round.
    pub ratio: f64,
    /// What the ratio should be.
    pub aim: &'static str,
}

/// One server at one number of connections: medians over the rounds.
#[derive(Debug, Serialize)]
pub struct Rate {
    pub server: String,
    pub connections: usize,
    pub requests_per_second: f64,
    pub p50_microseconds: f64,
    pub p99_microseconds: f64,
    /// What the server's process took of the processors for one request; a database server's share is not in it.
    pub processor_microseconds: f64,
    /// The rate divided by the durable null server's of the same round.
    pub of_durable: Ratio,
    /// The same of the median latency.
    pub p50_of_durable: Ratio,
    /// The rate divided by that of SQLite with the same work in the same round, for another database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_sqlite: Option<Ratio>,
}

/// Two figures of each round, one divided by the other.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ratio {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Ratio {
    pub fn of(rounds: impl Iterator<Item = f64> + Clone) -> Ratio {
        Ratio {
            least: rounds.clone().fold(f64::INFINITY, f64::min),
            most: rounds.clone().fold(0.0, f64::max),
            median: median(rounds),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ratio { median, least, most } = self;
        to.pad(&format!("{median:.2} ({least:.2}-{most:.2})"))
    }
}

/// Resident memory in megabytes (10^6 bytes).
#[derive(Debug, Serialize)]
pub struct Memory {
    pub connections: usize,
    pub at_start: f64,
    pub with_connections: f64,
    pub messages: u64,
    /// After so many messages, the connections still open.
    pub with_messages: f64,
}

impl Report {
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} processors, load average {:.1} before, databases in {}\n",
            self.processors, self.load_average, self.folder
        );
        if !self.rates.is_empty() {
            let width = self.rates.iter().map(|row| row.server.len()).max().unwrap_or(0);
            let _ = writeln!(
                text,
                "\n{:width$}  {:>11}  {:>10}  {:>9}  {:>9}  {:>9}  {:>18}  {:>18}  of SQLite",
                "server", "connections", "requests/s", "p50", "p99", "processor", "of durable null", "its p50"
            );
            for row in &self.rates {
                let _ = writeln!(
                    text,
                    "{:width$}  {:>11}  {:>10.0}  {:>6.0} µs  {:>6.0} µs  {:>6.1} µs  {:>18}  {:>18}  {}",
                    row.server,
                    row.connections,
                    row.requests_per_second,
                    row.p50_microseconds,
                    row.p99_microseconds,
                    row.processor_microseconds,
                    row.of_durable,
                    row.p50_of_durable,
                    row.of_sqlite.map_or_else(String::new, |ratio| ratio.to_string())
                );
            }
        }
        if let Some(memory) = &self.memory {
            let _ = writeln!(
                text,
                "memory: {:.1} MB at start, {:.1} MB with {} open connections, {:.1} MB after {} messages",
                memory.at_start, memory.with_connections, memory.connections, memory.with_messages, memory.messages
            );
        }
        if let Some(ready) = self.ready_milliseconds {
            let _ = writeln!(text, "ready {ready:.1} ms after the start, on an existing database");
        }
        for Comparison { what, unit, base, measured, ratio, aim } in &self.comparisons {
            let _ = writeln!(text, "{what}: {measured:.0} {unit} beside {base:.0} {unit}: {ratio:.2} (aim: {aim})");
        }
        for Bound { what, unit, measured, aim } in &self.bounds {
            let _ = writeln!(text, "{what}: {measured:.0} {unit} (aim: at most {aim:.0})");
        }
        text
    }
}

pub fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The middle value; NaN of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}
