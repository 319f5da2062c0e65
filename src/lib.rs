//! policyd-rate-guard: a Postfix policy service that limits what each authenticated sender may send.
//!
//! # The way of a request
//!
//! Postfix writes a policy request to a socket. [`server::listener`] has accepted the connection and [`server::connection`]
//! feeds its bytes to [`protocol::request`]. [`server::answer`] decides at once what needs no counting; everything else
//! becomes a charge in [`commit::queue`]. The one [`commit::committer`] takes all charges that wait, and carries out what
//! [`commit::rounds`] says: it has the [`store`] add the sums of what is new and read the rows in one transaction, in which
//! [`limiter::decide`] decides each request in the order of arrival. After the commit the verdicts go back to the connections,
//! [`protocol::reply`] writes them, and [`telemetry`] logs them.
//!
//! # The modules
//!
//! Below they stand in the order of that way, and then what stands beside it. docs/architecture.md draws which may use which,
//! and tests/layers.rs holds them to it. Nothing is `unsafe`, in any of them: what needs it is done by crates.

// The way of a request: sockets, connections and answers.
pub mod server;

// Pure, a crate of their own: bytes ↔ requests and replies, whose quota it is, what the operator allows, and the decision.
pub use rate_guard_core::{account, limiter, policy, protocol};

// From a charge to a committed verdict.
pub mod commit;

// What was answered while the database was away, written down until it is charged.
pub mod journal;

// All SQL.
pub mod store;

// The log and the counters.
pub mod telemetry;

// Telling people, off the mail path.
pub mod notify;

// Beside it: accounts and the daemon at a glance, for the page and the live screen.
pub mod status;

// Figures, health and the page, over METRICS_LISTEN.
pub mod http;

// Past mail, run through a policy.
pub mod replay;

// What is wrong with a set-up. Pure.
pub mod doctor;

// Postfix's queue, held against the audit log. Pure.
pub mod queue;

// What they stand on: the table of settings, the file they come from, the typed configuration.
pub mod config;

// The kernel and systemd.
pub mod system;

// The wall clock.
pub mod clock;

// How many connections are served at once, and which one goes when there are too many.
pub mod slots;

// The command line.
pub mod cli;

// One file per subcommand, `serve` among them.
pub mod commands;

// Exit statuses.
pub mod exit;
