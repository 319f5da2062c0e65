//! The network side: accepting, conversations with Postfix, and the signals that end or reload all of it.

pub mod answer;
pub mod connection;
pub mod listener;
pub mod signals;
pub mod stream;
