//! The file of a journal, in memory.

use crate::commit::journaling::Journaling;
use crate::commit::memory::MemoryFallback;
use crate::journal::entry::Entry;
use crate::journal::file::{CHUNK, Held};
use crate::journal::record::{self, Found, HEADER};
use crate::limiter::terms::Terms;

/// The file of the journal.
#[derive(Default)]
pub struct File {
    pub bytes: Vec<u8>,
    pub broken: bool,
    pub journal: i64,
}

impl File {
    pub fn begin_anew(&mut self, journal: i64) {
        self.journal = journal;
        self.bytes = record::header(journal);
    }

    pub fn append(&mut self, journal: Option<i64>, offset: u64, records: &[u8]) -> Result<(), String> {
        if self.broken {
            return Err("scripted".to_owned());
        }
        if let Some(journal) = journal {
            self.begin_anew(journal);
        }
        self.bytes.resize(offset as usize, 0);
        self.bytes.extend(records);
        Ok(())
    }

    pub fn read(&self, offset: u64) -> Vec<u8> {
        self.bytes[offset as usize..].iter().copied().take(CHUNK).collect()
    }

    /// What a new daemon finds in it.
    pub fn opened(&self, terms: &Terms, size: u64) -> (Journaling, MemoryFallback) {
        let mut held = Held { journal: self.journal, end: HEADER as u64, ..Held::default() };
        let (mut memory, mut oldest) = (MemoryFallback::default(), None);
        while let Found::Record { payload, length } = record::read(&self.bytes[held.end as usize..], self.journal) {
            let entry = Entry::decode(payload).unwrap();
            oldest.get_or_insert(entry.at);
            memory.restore(&terms.policy, &entry);
            held = Held { records: held.records + 1, end: held.end + length as u64, ..held };
        }
        held.damaged = record::is_any_in(&self.bytes[held.end as usize..], self.journal);
        (Journaling::new(size, held, oldest), memory)
    }
}
