//! The progress of long work, on a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Between two updates.
const SHOWN_EVERY: Duration = Duration::from_millis(200);
const WIDTH: usize = 30;

/// A line on standard error that is written over and over. Nothing at all where that is no terminal.
pub struct Bar {
    terminal: bool,
    shown: Instant,
}

impl Bar {
    pub fn new() -> Bar {
        Bar { terminal: std::io::stderr().is_terminal(), shown: Instant::now() }
    }

    /// Shows how much is done; `whole` is None where it is not known how much there is.
    pub fn show(&mut self, done: u64, whole: Option<u64>, text: impl FnOnce() -> String) {
        if self.terminal && self.shown.elapsed() >= SHOWN_EVERY {
            self.shown = Instant::now();
            eprint!("\r{}", line(done, whole, &text()));
        }
    }

    /// Leaves the line empty, for other output.
    pub fn clear(&self) {
        if self.terminal {
            eprint!("\r{:70}\r", "");
        }
    }
}

fn line(done: u64, whole: Option<u64>, text: &str) -> String {
    let Some(whole) = whole.filter(|whole| *whole > 0) else { return text.to_owned() };
    let share = |of: u64| u128::from(done.min(whole)) * u128::from(of) / u128::from(whole);
    let full = usize::try_from(share(WIDTH as u64)).unwrap_or(0);
    let (full, rest) = ("#".repeat(full), " ".repeat(WIDTH.saturating_sub(full)));
    format!("[{full}{rest}] {:3} %  {text}", share(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills() {
        assert_eq!(line(50, Some(100), "7 lines"), "[###############               ]  50 %  7 lines");
        assert_eq!(line(50, None, "7 lines"), "7 lines");
    }
}
