//! SQLite's write-ahead log goes back into the database only as far as nobody reads what was there before. A process that
//! reads for long (a shell with an open transaction, a slow backup) lets it grow with each batch, and SQLite has no bound for
//! that. So it is said before the disk is full.

/// In bytes: four times what the log is let grow to otherwise.
pub const LONG: u64 = 256 << 20;

/// When it is said next. Pure.
#[derive(Debug, Default)]
pub struct LongLog {
    /// How long the log was when that was last said; 0 if it is short.
    told: u64,
}

impl LongLog {
    /// Whether a log of so many bytes is worth a line: a long one, and then each time that it has doubled.
    pub fn is_news(&mut self, bytes: u64) -> bool {
        if bytes < LONG {
            self.told = 0;
            return false;
        }
        let is_news = self.told == 0 || bytes >= self.told.saturating_mul(2);
        if is_news {
            self.told = bytes;
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_grows_is_told_when_it_has_doubled_and_again_after_it_was_short() {
        let mut log = LongLog::default();
        let news: Vec<bool> = [0, LONG - 1, LONG, LONG + 1, 2 * LONG, 3 * LONG, 4 * LONG, LONG, LONG / 4, LONG]
            .map(|bytes| log.is_news(bytes))
            .into();
        assert_eq!(news, [false, false, true, false, true, false, true, false, false, true]);
        assert!(!LongLog { told: u64::MAX }.is_news(LONG));
    }
}
