//! Pure bytes ↔ types: no clock, no socket, no SQL.

pub mod reply;
pub mod request;
