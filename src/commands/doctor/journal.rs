//! The outage journal, as it lies there.

use std::path::Path;

use nix::unistd::{self, AccessFlags};

use super::files::is_there;
use crate::clock;
use crate::doctor::journal::Journal;
use crate::journal::entry::Entry;
use crate::journal::file::{self, JournalFile};

/// What there is to say of the journal in a state directory.
pub fn look_at(directory: &Path) -> Vec<Journal> {
    let mut oldest = None;
    let see = |payload: &[u8]| {
        oldest = oldest.or_else(|| Some(Entry::decode(payload)?.at));
    };
    let path = file::path(directory);
    // The daemon makes the file.
    let written = if is_there(&path) { path.as_path() } else { directory };
    let looked = unistd::access(written, AccessFlags::W_OK).map_err(|error| error.desc().to_owned());
    let found = match looked.and_then(|()| JournalFile::look(directory, see).map_err(|error| error.to_string())) {
        Ok(Some(held)) if held.records > 0 => {
            let oldest = oldest.map_or(0, |at| clock::now().saturating_sub(at));
            Some(Journal::Waiting { requests: held.records, oldest })
        }
        Ok(_) => None,
        Err(reason) => Some(Journal::Unusable(reason)),
    };
    let aside = Some(file::aside(directory)).filter(|aside| aside.exists());
    found.into_iter().chain(aside.map(Journal::Unreadable)).collect()
}
