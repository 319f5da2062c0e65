//! The figures: as a table for people, as JSON for programs.

use std::fmt::Write;
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
    pub lone: Option<Lone>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_milliseconds: Option<f64>,
    pub comparisons: Vec<Comparison>,
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
    /// The rate divided by the null server's of the same round.
    pub of_null: f64,
    /// The rate divided by SQLite's of the same round, for another database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_sqlite: Option<f64>,
}

/// A single connection beside the cost of a commit.
#[derive(Debug, Serialize)]
pub struct Lone {
    pub request_p50_microseconds: f64,
    pub commit_p50_microseconds: f64,
    /// The first divided by the second, median over the rounds.
    pub ratio: f64,
}

/// Resident memory in megabytes (10^6 bytes).
#[derive(Debug, Serialize)]
pub struct Memory {
    pub connections: usize,
    pub at_start: f64,
    pub with_connections: f64,
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
                "\n{:width$}  {:>11}  {:>10}  {:>9}  {:>9}  {:>9}  {:>7}{}",
                "server",
                "connections",
                "requests/s",
                "p50",
                "p99",
                "processor",
                "of null",
                if self.rates.iter().any(|row| row.of_sqlite.is_some()) { "  of SQLite" } else { "" }
            );
            for row in &self.rates {
                let of_sqlite = row.of_sqlite.map_or_else(String::new, |ratio| format!("  {ratio:>9.2}"));
                let _ = writeln!(
                    text,
                    "{:width$}  {:>11}  {:>10.0}  {:>6.0} µs  {:>6.0} µs  {:>6.1} µs  {:>7.2}{}",
                    row.server,
                    row.connections,
                    row.requests_per_second,
                    row.p50_microseconds,
                    row.p99_microseconds,
                    row.processor_microseconds,
                    row.of_null,
                    of_sqlite
                );
            }
        }
        if let Some(lone) = &self.lone {
            let _ = writeln!(
                text,
                "\nlone connection: p50 {:.0} µs, beside a commit of {:.0} µs: {:.2} of it",
                lone.request_p50_microseconds, lone.commit_p50_microseconds, lone.ratio
            );
        }
        if let Some(memory) = &self.memory {
            let _ = writeln!(
                text,
                "memory: {:.1} MB at start, {:.1} MB with {} open connections",
                memory.at_start, memory.with_connections, memory.connections
            );
        }
        if let Some(ready) = self.ready_milliseconds {
            let _ = writeln!(text, "ready {ready:.1} ms after the start, on an existing database");
        }
        for Comparison { what, unit, base, measured, ratio, aim } in &self.comparisons {
            let _ = writeln!(text, "{what}: {measured:.0} {unit} beside {base:.0} {unit}: {ratio:.2} (aim: {aim})");
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
