//! Pure bytes ↔ types: no clock, no socket, no SQL.

pub mod queue_id;
pub mod reply;
pub mod request;
