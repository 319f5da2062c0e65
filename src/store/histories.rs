//! The histories that decisions need: what was let through, where senders were seen, and what was learnt about them.

use super::days;
use super::failure::Failure;
use super::handle::Store;
use super::lock_timeout::LockTimeout;
use super::script::Script;
use super::usage::{self, HistoryRows, Since};

/// Reads histories.
pub async fn read(script: &mut Script<'_>, since: Since) -> Result<HistoryRows, Failure> {
    let learnt = match &since.learnt {
        Some(wanted) => Some(days::learnt(script, &since, wanted).await?),
        None => None,
    };
    Ok(HistoryRows { learnt, ..usage::read(script, since).await? })
}

impl Store {
    /// Reads the histories of some senders.
    pub async fn histories(&mut self, since: Since) -> Result<HistoryRows, Failure> {
        self.run(async |connection| read(&mut Script::new(connection, LockTimeout::Server, false), since).await).await
    }
}
