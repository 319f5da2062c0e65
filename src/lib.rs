//! policyd-rate-guard: a Postfix policy service that limits what each authenticated sender may send.

pub mod commands;
pub mod commit;
pub mod config;
pub mod limiter;
pub mod protocol;
pub mod server;
pub mod store;
pub mod system;
pub mod telemetry;
