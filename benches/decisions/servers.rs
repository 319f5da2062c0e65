//! What is measured: the null servers, and the daemon in several set-ups.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;

use crate::load::{Load, Measured, Traffic};
use crate::support::client::{Client, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::database::Database;
use crate::support::http::Receiver;
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
    Null { process: Helper },
    Daemon(Box<Daemon>),
}

/// This program again in one of its hidden modes, on a socket in a folder of its own.
#[derive(Debug)]
pub struct Helper {
    process: Process,
    scratch: Scratch,
}

impl Helper {
    fn start(mode: &str) -> anyhow::Result<Helper> {
        Helper::run(mode, Command::new(env::current_exe()?))
    }

    /// A receiver of webhooks. It stands for another host's, and so takes only what time of the processors nobody else wants.
    pub fn receiver() -> anyhow::Result<Helper> {
        let mut nice = Command::new("nice");
        nice.args(["-n", "19"]).arg(env::current_exe()?);
        Helper::run("--receiver", nice)
    }

    /// Where to call a receiver.
    pub fn url(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.socket())?)
    }

    fn run(mode: &str, mut command: Command) -> anyhow::Result<Helper> {
        let scratch = Scratch::new(None);
        command.arg(mode).arg(scratch.join("socket"));
        let process = Process::spawn(&mut command, Signal::SIGKILL, scratch.path());
        let helper = Helper { process, scratch };
        wait::until(Duration::from_secs(5), mode, || helper.socket().exists().then_some(()));
        Ok(helper)
    }

    fn socket(&self) -> PathBuf {
        self.scratch.join("socket")
    }
}

/// Receives webhooks until the process is killed, and writes into a file where.
pub fn receive(file: &Path) -> anyhow::Result<()> {
    let receiver = Receiver::start();
    let written = file.with_extension("new");
    fs::write(&written, receiver.url("/hook"))?;
    fs::rename(written, file)?;
    loop {
        thread::park();
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
    /// Answers at once and stores nothing.
    pub fn null() -> anyhow::Result<Server> {
        Server::helper("null server", "--null-server")
    }

    /// Stores what it is asked, and then answers.
    pub fn durable_null() -> anyhow::Result<Server> {
        Server::helper("durable null server", "--durable-null-server")
    }

    fn helper(name: &str, mode: &str) -> anyhow::Result<Server> {
        let process = Helper::start(mode)?;
        Ok(Server {
            name: name.to_owned(),
            socket: process.socket(),
            kind: Kind::Null { process },
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

    /// Also gives the processor time that the server took for a request.
    pub fn load(
        &mut self,
        load: &Load,
        traffic: &Arc<Traffic>,
        connections: usize,
        length: Duration,
    ) -> anyhow::Result<(Measured, Duration)> {
        let before = self.processor_time()?;
        let (measured, replies) = load.run(&self.socket, traffic, connections, length)?;
        let taken = self.processor_time()? - before;
        self.replies += replies;
        Ok((measured, taken.div_f64(replies as f64)))
    }

    /// What it has answered so far.
    pub fn replies(&self) -> u64 {
        self.replies
    }

    /// None of a null server.
    pub fn setup(&self) -> Option<&Setup> {
        match &self.kind {
            Kind::Null { .. } => None,
            Kind::Daemon(daemon) => Some(daemon.setup()),
        }
    }

    /// None of a null server.
    pub fn database(&self) -> Option<&Database> {
        self.setup().map(Setup::database)
    }

    /// A client of its own.
    pub fn connect(&self) -> Client {
        Client::unix(&self.socket)
    }

    /// Has a client ask about one message, and gives the time it took.
    pub fn ask(&mut self, client: &mut Client, login: &str) -> Duration {
        let asked = Instant::now();
        let reply = client.ask(&Request::data(login, 1));
        let taken = asked.elapsed();
        assert_eq!(reply, "DUNNO", "{}", self.name);
        self.replies += 1;
        taken
    }

    /// Resident memory in megabytes (10^6 bytes).
    pub fn resident(&self) -> anyhow::Result<f64> {
        let Kind::Daemon(daemon) = &self.kind else { bail!("only a daemon's memory is measured") };
        #[expect(clippy::cast_precision_loss, reason = "a memory size is far below 2^52")]
        Ok(daemon.resident() as f64 / 1e6)
    }

    /// All that the server's threads have taken so far, of user and system time.
    fn processor_time(&self) -> anyhow::Result<Duration> {
        let id = match &self.kind {
            Kind::Null { process } => process.process.id(),
            Kind::Daemon(daemon) => daemon.id(),
        };
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{id}/task"))? {
            // proc(5): its first number is the time spent on a processor.
            let times = fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += times.split(' ').next().context("schedstat is empty")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
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
