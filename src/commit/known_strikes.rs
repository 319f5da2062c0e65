//! The strikes that are known to be in the database, so that the retries of a client which is over a limit cost no question. Pure.

use lru::LruCache;

use crate::store::strikes::Struck;

/// The most accounts and limits: some 2 MB. Whoever is forgotten costs a question.
const MAX: usize = 10_000;

/// When each account last struck by each limit, in Unix seconds.
#[derive(Debug)]
pub struct KnownStrikes(LruCache<(String, String), i64>);

impl Default for KnownStrikes {
    fn default() -> KnownStrikes {
        KnownStrikes(LruCache::unbounded())
    }
}

impl KnownStrikes {
    /// Whether the account is known to have struck by this limit after a time.
    pub fn is_known(&self, account: &str, limit: &str, after: i64) -> bool {
        self.0.peek(&(account.to_owned(), limit.to_owned())).is_some_and(|&at| at > after)
    }

    /// Takes what was noted, or was found to be noted already.
    pub fn keep(&mut self, struck: Struck) {
        self.0.put((struck.account, struck.limit), struck.at);
        while self.0.len() > MAX {
            self.0.pop_lru();
        }
    }
}
