//! The outage journal: what was answered while the database was away, written down in a file before the answer, so that it can
//! be charged when the database is back, whatever happens to the daemon meanwhile.
//!
//! [`entry`] is one answered request as text; [`record`] its frame, with length and checksum, and the file's header; both are
//! pure. [`mod@file`] is the file itself, [`writer`] its use without blocking. When what is written and charged is decided in [`crate::commit`].

pub mod depth;
pub mod entry;
pub mod file;
pub mod record;
pub mod writer;
