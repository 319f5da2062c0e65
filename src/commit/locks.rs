//! Rows and tables that somebody else holds: whose they are, and who is tried apart for it. One sender's trouble must be
//! nobody else's.

use std::collections::HashSet;
use std::time::Duration;

use super::batch::Due;
use crate::store::{Failure, Store};

/// So many unseen locks in a row are taken for a table's. Where it is a single row that somebody holds unseen, one of two
/// halves of a part goes through, so there are no more than two in a row. Where nobody else sends there is no other half:
/// then the one sender is judged from memory, which is better than not at all.
const UNSEEN_LOCKS_OF_A_TABLE: u32 = 3;

/// What is known of others' locks.
#[derive(Debug, Default)]
pub struct Locks {
    /// Senders whose rows somebody else held when last looked at.
    held: HashSet<String>,
    /// Senders whose rows could not be written in peace when last tried.
    contended: HashSet<String>,
    /// How often in a row the database said that something is locked, and nobody was seen to hold it.
    unseen: u32,
}

/// What a look at a lock found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Somebody holds the whole table, or the connection is gone: the database is away.
    Away(String),
    /// Somebody holds these senders' rows.
    Held(HashSet<String>),
    /// Nobody was seen to hold anything: the lock is gone, or it is one that cannot be seen.
    Unseen,
}

impl Locks {
    /// Whether the sender's row was held when last looked at.
    pub fn holds(&self, sender: &str) -> bool {
        self.held.contains(sender)
    }

    /// Whether the sender's row could not be written in peace when last tried.
    pub fn contends(&self, sender: &str) -> bool {
        self.contended.contains(sender)
    }

    /// Whether the locks that nobody is seen to hold are a table's.
    pub fn are_a_tables(&self) -> bool {
        self.unseen >= UNSEEN_LOCKS_OF_A_TABLE
    }

    /// Notes that these charges were settled.
    pub fn settled(&mut self, part: &[Due]) {
        self.unseen = 0;
        if !self.contended.is_empty() {
            for due in part {
                self.contended.remove(&due.charge.sender);
            }
        }
    }

    /// Notes that the rows of these charges' senders could not be written in peace.
    pub fn contended(&mut self, part: &[Due]) {
        self.contended.extend(part.iter().map(|due| due.charge.sender.clone()));
    }

    /// Forgets everything, as when the database is away.
    pub fn forget(&mut self) {
        *self = Locks::default();
    }

    /// Looks again at those of the senders whose rows were held. Where that fails nobody counts as held: whatever ails the
    /// database shows when the batch is settled.
    pub async fn look_again(&mut self, store: &mut Store, senders: &[String], limit: Duration) {
        let look = async {
            let still = store.locked(senders).await?;
            if !still.is_empty() {
                // Where somebody holds the whole table every row seems held: that is for [`Locks::find`] to say.
                store.table_is_free().await?;
            }
            Ok::<_, Failure>(still)
        };
        match tokio::time::timeout(limit, look).await {
            Ok(Ok(still)) => self.held.retain(|sender| still.contains(sender) || !senders.contains(sender)),
            Ok(Err(_)) => self.held.clear(),
            Err(_) => {
                store.abandon();
                self.held.clear();
            }
        }
    }

    /// Finds out who is behind a lock that kept these senders' charges from being settled.
    pub async fn find(&mut self, store: &mut Store, senders: &[String], limit: Duration) -> Found {
        let look = async {
            store.table_is_free().await?;
            store.locked(senders).await
        };
        let held: HashSet<String> = match tokio::time::timeout(limit, look).await {
            Ok(Ok(held)) => held.into_iter().collect(),
            Ok(Err(Failure::Away(reason))) => return Found::Away(reason),
            Ok(Err(_)) => HashSet::new(),
            Err(_) => {
                store.abandon();
                HashSet::new()
            }
        };
        if held.is_empty() {
            self.unseen += 1;
            return Found::Unseen;
        }
        self.held.extend(held.iter().cloned());
        Found::Held(held)
    }
}
