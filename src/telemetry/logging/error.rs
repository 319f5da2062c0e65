//! Why the log cannot start.

use std::io;
use std::path::PathBuf;

/// Why the log cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "cannot open the log file {}: {source}; its lines go to the other logs, or to standard error; make its directory \
         writable for the daemon's user and reload, or change LOG_FILE and restart",
        path.display()
    )]
    File { path: PathBuf, source: io::Error },
    #[error("cannot start a thread for the log: {0}; raise the limit on tasks (TasksMax=, ulimit -u)")]
    Thread(io::Error),
    #[error("the log was started already")]
    Started,
}
