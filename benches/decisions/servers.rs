//! What is measured: the null server, and the daemon in several set-ups.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;

use crate::load::{Load, Measured};
use crate::support::daemon::{Daemon, Setup};
use crate::support::process::Process;
use crate::support::scratch::Scratch;
use crate::support::wait;

/// A running server that is loaded round after round.
#[derive(Debug)]
pub struct Server {
    name: String,
    kind: Kind,
    socket: PathBuf,
    /// What it has answered so far.
    replies: u64,
    /// Takes the daemon's log lines.
    _log_reader: Option<Helper>,
}

#[derive(Debug)]
enum Kind {
    Null { _process: Helper },
    Daemon(Box<Daemon>),
}

/// This program again in one of its hidden modes, on a socket in a folder of its own.
#[derive(Debug)]
struct Helper {
    _process: Process,
    scratch: Scratch,
}

impl Helper {
    fn start(mode: &str) -> anyhow::Result<Helper> {
        let scratch = Scratch::new(None);
        let mut command = Command::new(env::current_exe()?);
        command.arg(mode).arg(scratch.join("socket"));
        let process = Process::spawn(&mut command, Signal::SIGKILL, scratch.path());
        let helper = Helper { _process: process, scratch };
        wait::until(Duration::from_secs(5), mode, || helper.socket().exists().then_some(()));
        Ok(helper)
    }

    fn socket(&self) -> PathBuf {
        self.scratch.join("socket")
    }
}

/// Counting alone: no audit rows, no line per decision.
pub fn plain(setup: Setup) -> Setup {
    setup
        .setting("QUOTA", "unlimited")
        .setting("MESSAGE_LOG", "False")
        .setting("LOG_LEVEL", "WARNING")
        // An answer that was not counted must not pass for one that was.
        .setting("ACTION_ON_ERROR", "WARN not counted")
}

impl Server {
    pub fn null() -> anyhow::Result<Server> {
        let process = Helper::start("--null-server")?;
        Ok(Server {
            name: "null server".to_owned(),
            socket: process.socket(),
            kind: Kind::Null { _process: process },
            replies: 0,
            _log_reader: None,
        })
    }

    pub fn daemon(name: &str, setup: Setup) -> Server {
        let daemon = setup.start();
        Server {
            name: name.to_owned(),
            socket: daemon.setup().unix_path(),
            kind: Kind::Daemon(Box::new(daemon)),
            replies: 0,
            _log_reader: None,
        }
    }

    /// With an audit row and a line to syslog for each message.
    pub fn everything_on(name: &str, setup: Setup) -> anyhow::Result<Server> {
        let log_reader = Helper::start("--log-reader")?;
        let socket = log_reader.socket();
        let setup = plain(setup)
            .without("LOG_CONSOLE")
            .setting("LOG_LEVEL", "INFO")
            .setting("SYSLOG", &socket.display().to_string())
            .setting("MESSAGE_LOG", "True");
        Ok(Server { _log_reader: Some(log_reader), ..Server::daemon(name, setup) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn load(&mut self, load: &Load, connections: usize, length: Duration) -> anyhow::Result<Measured> {
        let (measured, replies) = load.run(&self.socket, connections, length)?;
        self.replies += replies;
        Ok(measured)
    }

    /// A fast server that forgets is no server: the database must hold every message that was answered.
    pub fn verify(&self) -> anyhow::Result<()> {
        if let Kind::Daemon(daemon) = &self.kind {
            let counted = daemon.database().select(&["SUM(msg_total)"], "FROM ratelimits");
            let counted = counted.concat().concat();
            ensure!(counted == self.replies.to_string(), "{}: {} answered, {counted} counted", self.name, self.replies);
        }
        Ok(())
    }
}
