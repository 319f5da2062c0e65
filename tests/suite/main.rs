//! The tests of the program as a whole, in one binary: what they share is compiled and linked once, and so is a database server
//! started once for all that need one. What must change its whole process starts a new one by `support::own_process`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod adoption;
mod blocks;
mod browser;
mod commands;
mod counting;
mod database_connections;
mod database_failures;
mod database_hosts;
mod databases;
mod doctor;
mod failures;
mod harness;
mod held;
mod import;
mod journal;
mod learn;
mod lifecycle;
mod logging;
mod logs;
mod metrics;
mod notify;
mod page;
mod panics;
mod policies;
mod power_loss;
mod protocol;
mod readme;
mod replay;
mod schemas;
mod screens;
mod sender;
mod settings;
mod several_daemons;
mod sockets;
mod store;
mod strikes;
mod systemd;
mod top;
mod usual;
mod version;
mod watch;
