//! policyd-rate-guard: a Postfix policy service that limits what each authenticated sender may send.
//!
//! # The journey of a request
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
//! Who may know whom is drawn in docs/architecture.md, and held by tests/layers.rs.
//!
//! - [`cli`], [`exit`], [`commands`]: the command line, exit statuses, one file per subcommand.
//! - [`config`]: the table of settings, the file they come from, the typed configuration.
//! - [`doctor`]: what is wrong with a set-up. Pure.
//! - [`protocol`], [`account`], [`policy`], [`limiter`]: requests and replies, whose quota, how much, and what then. Pure: a crate
//!   of their own, `rate_guard_core`.
//! - [`commit`]: from a charge to a committed verdict.
//! - [`store`]: all SQL.
//! - [`replay`]: past mail, run through a policy.
//! - [`server`]: sockets, connections, signals.
//! - [`notify`]: telling people, off the mail path.
//! - [`telemetry`]: the log and the figures.
//! - [`http`]: figures, health and the page, over METRICS_LISTEN.
//! - [`status`]: senders and the daemon at a glance, for the page and the live screen.
//! - [`slots`]: how many connections are served at once, and which one goes when there are too many.
//! - [`system`]: the kernel and systemd. Nothing is `unsafe`, here or elsewhere: what needs it is done by crates.

pub mod cli;
pub mod commands;
pub mod commit;
pub mod config;
pub mod doctor;
pub mod exit;
pub mod http;
pub mod notify;
pub mod replay;
pub mod server;
pub mod slots;
pub mod status;
pub mod store;
pub mod system;
pub mod telemetry;

pub use rate_guard_core::{account, limiter, policy, protocol};
