//! The blocks as they were last read. Pure.
//!
//! A block counts for the next message on every host: so each transaction asks which revision the table has, and reads it anew
//! if that has changed. What was last read holds while the database is away, or does not answer in time.

use std::sync::Arc;

use crate::account::AccountRules;
use crate::limiter::blocks::{self, Block, Blocks};
use crate::store::blocks::{BlockRow, Revision};

#[derive(Debug, Default)]
pub struct KnownBlocks {
    /// None if they must be read in any case.
    revision: Option<Revision>,
    blocks: Arc<Blocks>,
}

impl KnownBlocks {
    pub fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// Those that were last read.
    pub fn blocks(&self) -> &Arc<Blocks> {
        &self.blocks
    }

    /// Takes what was read.
    pub fn take(&mut self, revision: Revision, rows: Vec<BlockRow>, rules: &AccountRules) {
        self.revision = Some(revision);
        self.blocks = Arc::new(Blocks::new(rows.into_iter().map(block), rules));
    }

    /// From now on they must be read anew, whatever their revision: it is another database, logins are counted otherwise, or
    /// somebody may have changed the table without raising its revision.
    pub fn doubt(&mut self) {
        self.revision = None;
    }
}

/// The block of a row.
pub fn block(row: BlockRow) -> Block {
    let BlockRow { id, account, since, until, action, text, reason, .. } = row;
    Block { id, account, since, until, action: blocks::action(&action, &text), reason }
}
