//! Senders and the daemon at a glance: the one source of figures for the page and for `watch`.
//!
//! `collector` reads the database and keeps what it may, so that a look costs little; `snapshot` is what it gives; `about`
//! has all about one sender, and `words` says it; `standing` says by what decisions are made; `quotas` says which accounts a new
//! QUOTA leaves as they are. Nothing here touches what the committer holds: a look has a connection of its own, and only reads.

pub mod about;
pub mod collector;
pub mod quotas;
pub mod snapshot;
pub mod standing;
pub mod words;

pub use collector::Collector;
pub use snapshot::{Sender, Snapshot, Sort};
