//! Postfix's queue, and what this program knows of the mail in it. Pure: no process, no clock, no database.
//!
//! [`listing`] reads what postqueue(1) tells; [`matching`] compares it with the audit log and says which queue ids may be acted
//! on. Nothing else ever hands an id to postsuper(1).

pub mod listing;
pub mod matching;
