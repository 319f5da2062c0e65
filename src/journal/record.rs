//! The bytes of a journal: a header that names it, then records, each with its length and checksum. What a power cut leaves of
//! the last record is known for what it is. Pure.

/// What a journal begins with. The number is the version of all that follows.
const MAGIC: &[u8; 29] = b"policyd-rate-guard journal 1\n";
/// In bytes: the magic, the journal's number, a checksum of both.
pub const HEADER: usize = MAGIC.len() + 8 + 4;
/// The longest payload, in bytes: an entry whose every character is escaped is shorter.
pub const MAX_PAYLOAD: usize = 1 << 15;
/// Before a payload, in bytes: its length and a checksum.
const FRAME: usize = 8;
/// The longest record, in bytes.
pub const MAX_RECORD: usize = FRAME + MAX_PAYLOAD;

/// What the beginning of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// It is a journal of this number, which is above 0.
    Journal(i64),
    /// Its header was never written to the end: there is nothing in it.
    Unfinished,
    /// It is something else, or of another version.
    Foreign,
}

/// What comes next in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// A record's payload, and how many bytes the record takes.
    Record { payload: &'a [u8], length: usize },
    /// There are more bytes of it to be read, if there are any.
    Unfinished,
    /// No record was ever written here in one piece.
    Broken,
}

/// The header of a journal.
pub fn header(journal: i64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(journal.to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Reads the first [`HEADER`] bytes of a file, or all that there are.
pub fn read_header(bytes: &[u8]) -> Header {
    let Some((magic, rest)) = bytes.split_first_chunk::<{ MAGIC.len() }>() else {
        return if MAGIC.starts_with(bytes) { Header::Unfinished } else { Header::Foreign };
    };
    if magic != MAGIC {
        return Header::Foreign;
    }
    let Some((number, _)) = rest.split_first_chunk() else { return Header::Unfinished };
    let journal = i64::from_le_bytes(*number);
    match bytes.get(..HEADER) {
        Some(bytes) if journal > 0 && bytes == header(journal) => Header::Journal(journal),
        Some(_) => Header::Foreign,
        None => Header::Unfinished,
    }
}

/// Appends a record to `bytes`. False, and nothing is appended, if the payload is empty or too long.
pub fn write(bytes: &mut Vec<u8>, journal: i64, payload: &[u8]) -> bool {
    let Some(length) = u32::try_from(payload.len()).ok().filter(|&length| is_length(length)) else { return false };
    bytes.extend(length.to_le_bytes());
    bytes.extend(checksum(journal, length, payload).to_le_bytes());
    bytes.extend(payload);
    true
}

/// Reads the record that `bytes` begin with.
pub fn read(bytes: &[u8], journal: i64) -> Found<'_> {
    let Some((length, rest)) = bytes.split_first_chunk() else { return Found::Unfinished };
    let length = u32::from_le_bytes(*length);
    if !is_length(length) {
        return Found::Broken;
    }
    let Some((sum, rest)) = rest.split_first_chunk() else { return Found::Unfinished };
    let Some(payload) = rest.get(..length as usize) else { return Found::Unfinished };
    match u32::from_le_bytes(*sum) == checksum(journal, length, payload) {
        true => Found::Record { payload, length: FRAME + payload.len() },
        false => Found::Broken,
    }
}

/// Whether a whole record begins anywhere in these bytes.
pub fn is_any_in(bytes: &[u8], journal: i64) -> bool {
    let begins = |at: usize| bytes.get(at..).is_some_and(|rest| matches!(read(rest, journal), Found::Record { .. }));
    (0..bytes.len()).any(begins)
}

/// Zeros, as a file system may leave them behind the end, are no record.
fn is_length(length: u32) -> bool {
    (1..=MAX_PAYLOAD as u32).contains(&length)
}

/// With the journal's number: what an earlier one left on the disk is none of this one's records.
fn checksum(journal: i64, length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&journal.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The payloads up to what is no whole record, and where that begins.
    fn records(mut bytes: &[u8], journal: i64) -> (Vec<Vec<u8>>, usize) {
        let (mut payloads, whole) = (Vec::new(), bytes.len());
        while let Found::Record { payload, length } = read(bytes, journal) {
            payloads.push(payload.to_vec());
            bytes = &bytes[length..];
        }
        (payloads, whole - bytes.len())
    }

    proptest! {
        #[test]
        fn whatever_a_power_cut_leaves_the_whole_records_before_it_are_read(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..20),
            journal in 1..i64::MAX,
            cut in any::<prop::sample::Index>(),
            junk in prop::collection::vec(any::<u8>(), 0..30),
            flipped in any::<Option<prop::sample::Index>>(),
        ) {
            let (mut bytes, mut ends) = (Vec::new(), vec![0]);
            for payload in &payloads {
                prop_assert!(write(&mut bytes, journal, payload));
                ends.push(bytes.len());
            }
            prop_assert_eq!(records(&bytes, journal), (payloads.clone(), bytes.len()));
            prop_assert_eq!(records(&bytes, journal ^ 1).0.len(), 0, "another journal's");
            let cut = cut.index(bytes.len() + 1);
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            bytes.truncate(cut);
            prop_assert_eq!(records(&bytes, journal), (payloads[..whole].to_vec(), ends[whole]));
            if let Some(flipped) = flipped.filter(|_| cut > 0) {
                let at = flipped.index(cut);
                bytes[at] ^= 0x10;
                let before = ends.iter().filter(|end| **end <= at).count() - 1;
                prop_assert_eq!(records(&bytes, journal), (payloads[..before].to_vec(), ends[before]));
                prop_assert_eq!(is_any_in(&bytes[at..], journal), before + 1 < whole, "behind it");
            }
            records(&junk, journal);
        }

        #[test]
        fn a_header_is_whole_or_none(journal in 1..i64::MAX, cut in 0..HEADER, at in 0..HEADER) {
            let mut bytes = header(journal);
            prop_assert_eq!(read_header(&bytes), Header::Journal(journal));
            prop_assert_eq!(read_header(&bytes[..cut]), Header::Unfinished);
            bytes[at] ^= 1;
            prop_assert_eq!(read_header(&bytes), Header::Foreign);
        }
    }

    #[test]
    fn zeros_and_what_is_too_long_are_no_records() {
        assert_eq!(read(&[0; 100], 1), Found::Broken);
        let mut bytes = Vec::new();
        assert!(!write(&mut bytes, 1, &[]) && !write(&mut bytes, 1, &vec![1; MAX_PAYLOAD + 1]) && bytes.is_empty());
        assert!(write(&mut bytes, 1, &vec![1; MAX_PAYLOAD]));
        assert_eq!(read(&bytes[..bytes.len() - 1], 1), Found::Unfinished);
        assert_eq!(read(&[255; 100], 1), Found::Broken);
        assert_eq!(read_header(b""), Header::Unfinished);
        assert_eq!(read_header(b"policyd-rate-guard journal 2\nand more"), Header::Foreign);
    }
}
