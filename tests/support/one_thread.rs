//! A test runner for what must happen in a process with a single thread, as privileges are dropped: each case is this test
//! binary again, with the case on its main thread. Rust's own harness always has a second one.
//!
//! Of Rust's own harness it takes the words that choose cases: parts of names, `--skip WORD` and `--exact`.

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
    let choice = Choice::read(std::env::args().skip(1));
    let chosen: Vec<&Case> = cases.iter().filter(|case| choice.takes(case.name)).collect();
    let mut failed = 0;
    for case in &chosen {
        let passed = case.run();
        println!("test {} ... {}", case.name, if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    println!("{} of {} cases, {failed} failed", chosen.len(), cases.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Which cases the arguments ask for: of none in particular, all.
#[derive(Default)]
struct Choice {
    wanted: Vec<String>,
    skipped: Vec<String>,
    exact: bool,
}

impl Choice {
    fn read(mut arguments: impl Iterator<Item = String>) -> Choice {
        let mut choice = Choice::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--exact" => choice.exact = true,
                "--skip" => choice.skipped.extend(arguments.next()),
                "--test-threads" | "--format" | "--color" => drop(arguments.next()),
                // What else there is says nothing of cases.
                option if option.starts_with('-') => {
                    choice.skipped.extend(option.strip_prefix("--skip=").map(Into::into))
                }
                _ => choice.wanted.push(argument),
            }
        }
        choice
    }

    fn takes(&self, name: &str) -> bool {
        let says = |word: &String| if self.exact { name == word } else { name.contains(word) };
        (self.wanted.is_empty() || self.wanted.iter().any(says)) && !self.skipped.iter().any(says)
    }
}

/// A case is named like its function.
#[macro_export]
macro_rules! case {
    ($function:ident) => {
        $crate::support::one_thread::Case::new(stringify!($function), $function)
    };
}
