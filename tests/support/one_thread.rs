//! A test runner for what must happen in a process with a single thread, as privileges are dropped: each case is this test
//! binary again, with the case on its main thread. Rust's own harness always has a second one.
//!
//! Takes a part of a case's name as its argument, as `cargo test NAME` passes it.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Set in the new process, to the name of its case.
const MARK: &str = "ONE_THREAD_CASE";
/// Set in the new process, to its folder.
const FOLDER: &str = "ONE_THREAD_FOLDER";

pub struct Case {
    name: &'static str,
    body: fn(),
    /// A program with arguments that starts the new process.
    wrapper: &'static [&'static str],
}

impl Case {
    pub const fn new(name: &'static str, body: fn()) -> Case {
        Case { name, body, wrapper: &[] }
    }

    pub const fn through(self, wrapper: &'static [&'static str]) -> Case {
        Case { wrapper, ..self }
    }

    fn run(&self) -> bool {
        let this = std::env::current_exe().unwrap();
        let mut words = self.wrapper.iter().map(std::ffi::OsString::from).chain([this.into()]);
        let mut command = Command::new(words.next().unwrap());
        // Made and removed here, since the case may have become a user who cannot.
        let folder = tempfile::tempdir().unwrap();
        let output = command.args(words).env(MARK, self.name).env(FOLDER, folder.path()).output().unwrap();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            eprintln!("---- {}: {}\n{said}", self.name, output.status);
        }
        output.status.success()
    }
}

/// An empty folder for the case that is running.
pub fn folder() -> PathBuf {
    std::env::var_os(FOLDER).unwrap().into()
}

/// Runs all cases, one after the other; or, in the new process, the one asked for.
pub fn main(cases: &[Case]) -> ExitCode {
    if let Ok(name) = std::env::var(MARK) {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        (case.body)();
        return ExitCode::SUCCESS;
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let mut failed = 0;
    for case in cases.iter().filter(|case| case.name.contains(&filter)) {
        let passed = case.run();
        println!("test {} ... {}", case.name, if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A case is named like its function.
#[macro_export]
macro_rules! case {
    ($function:ident) => {
        $crate::support::one_thread::Case::new(stringify!($function), $function)
    };
}
