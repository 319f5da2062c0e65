//! What the running daemon has open, as the kernel tells it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use super::database::SERVICE_UNIT;
use crate::config;
use crate::doctor::Finding;
use crate::doctor::counts_in::{Open, judge};

/// The files that the daemon which systemd runs has open. None where that cannot be seen: of a process that has changed its user
/// only root may see it.
pub fn open_files() -> Option<Vec<Open>> {
    let shown = Command::new("systemctl").args(["show", "--value", "-p", "MainPID", SERVICE_UNIT]).output().ok()?;
    // 0 if it does not run.
    let process: u32 = String::from_utf8_lossy(&shown.stdout).trim().parse().ok().filter(|&process| process > 0)?;
    let files = fs::read_dir(format!("/proc/{process}/fd")).ok()?.flatten().map(|file| file.path());
    Some(files.filter_map(|file| Some(Open { path: file.read_link().ok()?, inode: inode(&file)? })).collect())
}

/// Finds that a daemon which has these files open counts in another SQLite file than the one that is meant.
pub fn look_at(database: &config::Database, open: &[Open]) -> Option<Finding> {
    let is_file = database.driver == config::Driver::Sqlite && !database.is_in_memory();
    let path = Some(Path::new(&database.name)).filter(|_| is_file)?;
    judge(path, inode(path)?, open)
}

/// Device and inode.
fn inode(file: &Path) -> Option<(u64, u64)> {
    file.metadata().ok().map(|file| (file.dev(), file.ino()))
}
