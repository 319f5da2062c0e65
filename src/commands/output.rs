//! Standard output, and a question on the terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::exit::{Exit, Failed};

/// Prints to standard output. A closed pipe (`| head`) is no failure.
pub fn print(text: &str) -> Result<(), Failed> {
    print_if_read(text).map(drop)
}

/// As [`print`]; returns whether the output is still read, so that a long output can end early.
pub fn print_if_read(text: &str) -> Result<bool, Failed> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(cannot_print(&error)),
    }
}

/// Prints a value as JSON over several lines.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failed::new(Exit::Software, error))?;
    print(&(text + "\n"))
}

/// Asks on the terminal, and returns whether the answer is yes.
pub fn confirmed(question: &str) -> Result<bool, Failed> {
    if !io::stdin().is_terminal() {
        return Err(Failed::new(
            Exit::Usage,
            "standard input is no terminal to ask on: --yes does it without a question",
        ));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    let read = io::stderr().flush().and_then(|()| io::stdin().lock().read_line(&mut answer));
    read.map_err(|error| Failed::new(Exit::IoError, format_args!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

pub fn cannot_print(error: &io::Error) -> Failed {
    Failed::new(Exit::IoError, format_args!("cannot write to standard output: {error}"))
}
