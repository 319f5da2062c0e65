//! What is known of rows and tables that somebody else holds: whose they are, and who is settled apart because of it. One
//! sender's trouble must not be anybody else's. Pure.

use std::collections::{HashMap, HashSet};

use crate::store::counters::HeldRow;

/// So many unseen locks in a row are taken for a lock on the table. Where it is a single row that somebody holds unseen, one
/// of two halves of a part goes through, so there are no more than two in a row. Where nobody else sends there is no other
/// half: then the one account is decided from memory, which is better than not at all.
const UNSEEN_LOCKS_OF_A_TABLE: u32 = 3;

#[derive(Debug, Default)]
pub struct Locks {
    /// Accounts whose rows another session held when the database was last asked, with the totals of these rows.
    held: HashMap<String, Option<(i64, i64)>>,
    /// Accounts whose rows the database asked to try again when they were last settled.
    contended: HashSet<String>,
    /// How often in a row the database said that something is locked, and nobody was seen to hold it.
    unseen: u32,
}

impl Locks {
    pub fn is_held(&self, account: &str) -> bool {
        self.held.contains_key(account)
    }

    pub fn is_contended(&self, account: &str) -> bool {
        self.contended.contains(account)
    }

    /// Whether the locks that nobody is seen to hold are on the whole table.
    pub fn is_table_locked(&self) -> bool {
        self.unseen >= UNSEEN_LOCKS_OF_A_TABLE
    }

    /// Notes whose rows are held, of the accounts that the database was asked about.
    pub fn found<'a>(&mut self, asked: impl Iterator<Item = &'a str>, held: Vec<HeldRow>) {
        for account in asked {
            self.held.remove(account);
        }
        self.held.extend(held.into_iter().map(|row| (row.sender, row.totals)));
    }

    /// Whether a row that is held was charged since it was last found held: then other daemons hand it on from one to the
    /// next. Each of them waits for its turn; who only looks whether it is free never gets one.
    pub fn is_handed_on(&self, row: &HeldRow) -> bool {
        self.held.get(&row.sender).is_some_and(|totals| totals.is_some() && *totals != row.totals)
    }

    /// Notes a lock that nobody was seen to hold.
    pub fn found_nobody(&mut self) {
        self.unseen = self.unseen.saturating_add(1);
    }

    /// Notes that these accounts' charges were settled.
    pub fn settled<'a>(&mut self, accounts: impl Iterator<Item = &'a str>) {
        self.unseen = 0;
        for account in accounts {
            self.contended.remove(account);
        }
    }

    /// Notes that the database kept asking to try this account again.
    pub fn contended(&mut self, account: &str) {
        self.contended.insert(account.to_owned());
    }

    /// Forgets everything, as when the database is away.
    pub fn forget(&mut self) {
        *self = Locks::default();
    }
}
