//! What policyd-rate-guard decides, apart from everything that it does: no clock, no socket, no file, no SQL. Time is an
//! argument.
//!
//! The crate has no dependency that could do I/O; `clippy.toml` beside it refuses what the standard library could.
//! Each module uses only those above it:
//!
//! - [`protocol`]: bytes ↔ policy requests and replies.
//! - [`account`]: whose quota a request is charged to, and the addresses and networks of clients.
//! - [`policy`]: what an operator writes of quotas, limits and lists.
//! - [`limiter`]: the decision on a request.

pub mod account;
pub mod limiter;
pub mod policy;
pub mod protocol;
