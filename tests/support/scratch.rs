//! A private folder, owned by whom the process that works in it runs as.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use nix::unistd::{Gid, Uid, User};
use tempfile::TempDir;

use super::process::run;

/// Who a process runs as when the tests run as root; a mail server's daemons and databases never do.
#[derive(Debug, Clone)]
pub struct Account {
    pub name: String,
    pub uid: Uid,
    pub gid: Gid,
}

impl Account {
    /// The named account when the tests run as root, else none: the process then runs as whoever runs the tests.
    pub fn when_root(name: &str) -> Option<Account> {
        if !Uid::effective().is_root() {
            return None;
        }
        let user = User::from_name(name)
            .expect("the account database")
            .unwrap_or_else(|| panic!("there is no account '{name}'; run tests/dependencies"));
        Some(Account { name: user.name, uid: user.uid, gid: user.gid })
    }
}

/// Removed when dropped; if the test binary dies first, by the guard of the [`Process`](super::process::Process) in it.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    owner: Option<Account>,
}

impl Scratch {
    /// A new folder under TMPDIR, else under /var/tmp: by convention a disk, where a commit costs what it costs in
    /// production. Short names, because a unix socket's path ends at 107 bytes.
    pub fn new(owner: Option<Account>) -> Scratch {
        let parent = env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        // Other accounts' processes must reach the sockets in it.
        let access = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().prefix("prg-").permissions(access).tempdir_in(&parent);
        let folder = folder.unwrap_or_else(|error| panic!("a folder in {}: {error}", parent.display()));
        let scratch = Scratch { folder, owner };
        scratch.hand_over();
        scratch
    }

    /// For a daemon, a database server or a browser. Started as root they run as `nobody`, who is on every machine, as
    /// `postfix`, `mysql` and `postgres` are not.
    pub fn unprivileged() -> Scratch {
        Scratch::new(Account::when_root("nobody"))
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn owner(&self) -> Option<&Account> {
        self.owner.as_ref()
    }

    /// Gives all that is in the folder to its owner.
    pub fn hand_over(&self) {
        if let Some(owner) = &self.owner {
            run(Command::new("chown").arg("-R").arg(format!("{}:{}", owner.uid, owner.gid)).arg(self.path()));
        }
    }
}

/// Puts a finished folder at `place` in one step, so that tests which run at the same time, in this process or another,
/// never see half of it.
pub fn publish(folder: &Path, place: &Path) {
    let parent = place.parent().expect("a place in a folder");
    // Beside the place, because a folder is renamed within its file system only.
    let drafts = tempfile::tempdir_in(parent).expect("a folder for the draft");
    let draft = drafts.path().join("draft");
    run(Command::new("cp").arg("-a").arg(folder).arg(&draft));
    if let Err(error) = fs::rename(&draft, place) {
        assert!(place.is_dir(), "{}: {error}", place.display());
        // Another test was quicker; this draft is removed with its folder.
    }
}
