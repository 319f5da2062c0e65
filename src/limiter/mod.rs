//! Pure decisions: no clock, no I/O, no SQL. Time is an argument.

pub mod network;
pub mod subject;
