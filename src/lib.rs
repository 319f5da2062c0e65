//! policyd-rate-guard: a Postfix policy service that limits what each authenticated sender may send.

pub mod config;
pub mod protocol;
pub mod system;
