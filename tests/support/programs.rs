//! Where the programs of a database server are: as installed on this machine, or one of those that tests/servers/fetch has.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{self, run};
use super::scratch::Account;

/// Names the server to test with, as `mariadb-10.5`; servers of another kind are what they are without it.
const CHOICE: &str = "TEST_SERVER";

/// Folders that are looked into, in this order.
#[derive(Debug)]
pub struct Programs(Vec<PathBuf>);

impl Programs {
    /// To be run as `account` if there is one.
    pub fn command(&self, name: &str, account: Option<&Account>) -> Command {
        process::program_in(&self.0, name, account)
    }
}

/// The programs on PATH or else in one of `folders`, unless TEST_SERVER names a server of this kind.
pub fn installed_or_chosen(kind: &str, folders: &[PathBuf]) -> Programs {
    match chosen(kind) {
        Some(name) => Programs(vec![fetch(&name)]),
        None => Programs([process::path().as_slice(), folders].concat()),
    }
}

/// The server that TEST_SERVER names, if it is of this kind, or else the one named `usual`.
pub fn fetched(kind: &str, usual: &str) -> Programs {
    Programs(vec![fetch(&chosen(kind).unwrap_or_else(|| usual.to_owned()))])
}

fn chosen(kind: &str) -> Option<String> {
    env::var(CHOICE).ok().filter(|name| name.split('-').next() == Some(kind))
}

fn fetch(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/fetch");
    run(Command::new(script).arg(name)).trim_end().into()
}
