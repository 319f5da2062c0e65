//! Named exit statuses, those of sysexits(3).

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Ok = 0,
    /// The command ran, and found something wrong (`doctor`) or nothing to judge (`replay`).
    Findings = 1,
    /// The command line makes no sense.
    Usage = 64,
    /// There is no such sender.
    NoUser = 67,
    /// A service that is needed (the daemon, the database) does not answer.
    Unavailable = 69,
    /// The program has a bug, or a part of it ended that never may.
    Software = 70,
    /// The operating system refuses something: a socket, a thread, a change of user.
    OsError = 71,
    /// Something cannot be read or written.
    IoError = 74,
    /// The settings are wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A command's failure: what to say on standard error, and the exit status.
#[derive(Debug)]
pub struct Failed {
    pub exit: Exit,
    pub message: String,
}

impl Failed {
    pub fn new(exit: Exit, message: impl std::fmt::Display) -> Failed {
        Failed { exit, message: message.to_string() }
    }

    /// With more to be said.
    #[must_use]
    pub fn and(self, more: &str) -> Failed {
        Failed { message: format!("{}; {more}", self.message), ..self }
    }
}
