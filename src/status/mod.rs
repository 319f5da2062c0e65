//! Senders and the daemon at a glance: the one source of figures for the page and for `watch`.
//!
//! `collector` reads the database, rarely if that takes long; `snapshot` is what it returns; `about` has everything about one
//! sender, `story` what happened to it, and `words` puts it into text; `standing` reads what decisions depend on; `quotas`
//! counts the accounts that a new QUOTA does not change. Nothing here touches what the committer holds: a look has a connection of its own, and only reads.

pub mod about;
pub mod collector;
pub mod quotas;
pub mod snapshot;
pub mod standing;
pub mod story;
pub mod words;

pub use collector::Collector;
pub use snapshot::{Sender, Snapshot, Sort};
