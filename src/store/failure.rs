//! How work on the database can fail.

/// Why a transaction did not come to a good end. What to do about it is the committer's business.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Rolled back by the database for a reason that passes: deadlock, serialization, busy. Trying again is right.
    #[error("the database asks to try again: {0}")]
    Transient(String),
    /// Rolled back because somebody holds a row that is needed.
    #[error("a row is locked by somebody else: {0}")]
    Locked(String),
    /// Rolled back because the database refuses a value.
    #[error("the database refuses a value: {0}")]
    Refused(String),
    /// The database cannot be reached or used; nothing was written.
    #[error("the database cannot be used: {0}")]
    Away(String),
    /// The connection was lost while COMMIT was under way: written or not. Not to be tried again before
    /// `Store::committed` has said which.
    #[error("the connection was lost while committing: {0}")]
    Unknown(String),
}

impl Failure {
    /// What was said, without what it means.
    pub fn words(&self) -> &str {
        match self {
            Failure::Transient(words) | Failure::Locked(words) | Failure::Refused(words) => words,
            Failure::Away(words) | Failure::Unknown(words) => words,
        }
    }

    /// Whether the database itself undid the work, and is there.
    pub fn rolled_back(&self) -> bool {
        matches!(self, Failure::Transient(_) | Failure::Locked(_) | Failure::Refused(_))
    }

    /// The same failure of a COMMIT. Only a deadlock or a failed certification mean that nothing was written, and a refused
    /// value where values are looked at by COMMIT too; after anything else (a lost connection, a server that ends, an
    /// interrupted statement) nobody knows.
    pub(super) fn of_commit(self, looks_at_values: bool) -> Failure {
        match self {
            Failure::Transient(_) => self,
            Failure::Refused(_) if looks_at_values => self,
            Failure::Refused(words) | Failure::Locked(words) | Failure::Away(words) | Failure::Unknown(words) => {
                Failure::Unknown(words)
            }
        }
    }
}
