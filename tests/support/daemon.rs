//! The daemon under test: the real binary with a settings file, sockets and a log of its own, started until it says
//! READY=1 and ended with the value that stands for it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::client::Client;
use super::database::Database;
use super::port::Port;
use super::process::Process;
use super::scratch::Scratch;
use super::stream::Address;
use super::wait;

/// How long a start or an orderly end may take on a loaded machine.
const LIMIT: Duration = Duration::from_secs(20);

/// What a daemon is started with.
#[derive(Debug)]
pub struct Setup {
    scratch: Scratch,
    database: Database,
    port: Port,
    metrics: Option<Port>,
    program: PathBuf,
    settings: Vec<(String, String)>,
    environment: Vec<(OsString, OsString)>,
    wrapper: Vec<OsString>,
}

/// A running daemon, or one that was ended and may be started again.
#[derive(Debug)]
pub struct Daemon {
    // Before its folder, so that it ends first.
    process: Option<Process>,
    notifications: UnixDatagram,
    ready_after: Duration,
    setup: Setup,
}

impl Setup {
    /// On an SQLite file of its own that does not exist yet.
    pub fn sqlite() -> Setup {
        let scratch = Scratch::unprivileged();
        let database = Database::sqlite(&scratch.join("policyd-rate-guard.db"));
        Setup::new(scratch, database)
    }

    /// On a database that others may share.
    pub fn on(database: &Database) -> Setup {
        Setup::new(Scratch::unprivileged(), database.clone())
    }

    fn new(scratch: Scratch, database: Database) -> Setup {
        let setup = Setup {
            scratch,
            database,
            port: Port::free(),
            metrics: None,
            program: env!("CARGO_BIN_EXE_policyd-rate-guard").into(),
            settings: Vec::new(),
            environment: Vec::new(),
            wrapper: Vec::new(),
        };
        let sockets = format!("{} inet:{}", setup.unix_path().display(), setup.tcp_address());
        let setup = setup.setting("SOCKET", &sockets).setting("LOG_CONSOLE", "True");
        // Else a disk that is slow for a moment would turn a test of counting into one of the database's absence. It is the
        // longest that is below the timeout of Postfix.
        let setup = setup.setting("DECISION_TIMEOUT", "4s");
        match setup.scratch.owner().cloned() {
            Some(account) => setup.setting("USER", &account.name),
            None => setup,
        }
    }

    /// On another SQLite file.
    pub fn on_file(mut self, file: &Path) -> Setup {
        self.database = Database::sqlite(file);
        self
    }

    /// One line of the settings file; replaces what was set before.
    pub fn setting(mut self, name: &str, value: &str) -> Setup {
        self.set(name, value);
        self
    }

    /// Leaves a line out of the settings file.
    pub fn without(mut self, name: &str) -> Setup {
        self.settings.retain(|(known, _)| known != name);
        self
    }

    /// An environment variable; the daemon inherits none but these and PATH.
    pub fn environment(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Another build of the program.
    pub fn program(mut self, program: &Path) -> Setup {
        self.program = program.to_owned();
        self
    }

    /// A copy of the program in the private folder: the build may stand in a folder that is closed to its user.
    pub fn copied(mut self) -> Setup {
        let copy = self.scratch.join("policyd-rate-guard");
        fs::copy(&self.program, &copy).expect("a copy of the program");
        self.program = copy;
        self
    }

    /// A command that ends by executing the daemon, such as `setpriv …` or `prlimit …`.
    pub fn through<S: Into<OsString>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Setup {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// What a line of the settings file says.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The private folder, for files that a setting names.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    pub fn unix_path(&self) -> PathBuf {
        self.scratch.join("policy")
    }

    pub fn tcp_address(&self) -> SocketAddr {
        self.port.address()
    }

    /// With metrics and the page, on a port of its own.
    pub fn with_metrics(mut self) -> Setup {
        let port = Port::free();
        self.set("METRICS_LISTEN", &port.address().to_string());
        self.metrics = Some(port);
        self
    }

    /// Where [`Setup::with_metrics`] has it listen.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics.as_ref().expect("a setup with metrics").address()
    }

    /// Starts the daemon on tables that are there, so that it counts from the first request on, however slow the machine is.
    /// Returns when it has said that it can answer.
    pub fn start(self) -> Daemon {
        let output = self.run("migrate", &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.start_without_tables()
    }

    /// Starts the daemon on a database as it is: new, of another program, or out of reach. On a slow machine it may begin to
    /// answer before it counts.
    pub fn start_without_tables(self) -> Daemon {
        let path = self.scratch.join("notify");
        let notifications = UnixDatagram::bind(&path).expect("a notification socket");
        fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("access for the dropped daemon");
        notifications.set_read_timeout(Some(Duration::from_millis(20))).expect("a time-out");
        let mut daemon = Daemon { process: None, notifications, ready_after: Duration::ZERO, setup: self };
        daemon.start_again();
        daemon
    }

    /// Runs a command that ends by itself: its exit status and what it printed.
    pub fn run(&self, command: &str, arguments: &[&str]) -> Output {
        self.run_within(LIMIT, command, arguments)
    }

    /// The same for one that has much to do.
    pub fn run_within(&self, limit: Duration, command: &str, arguments: &[&str]) -> Output {
        self.write_settings();
        let (mut stdout, mut stderr) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
        let mut command = self.command(command);
        command.args(arguments);
        command.stdout(stdout.try_clone().expect("the file")).stderr(stderr.try_clone().expect("the file"));
        let status = Process::spawn(&mut command, Signal::SIGKILL, self.scratch.path()).wait(limit);
        let read = |file: &mut File| {
            let mut bytes = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("reading what was printed");
            bytes
        };
        Output { status, stdout: read(&mut stdout), stderr: read(&mut stderr) }
    }

    /// A command as it is typed into a shell.
    pub fn typed(&self, arguments: &str) -> String {
        self.write_settings();
        format!("{} --config {} {arguments}", self.program.display(), self.settings_path().display())
    }

    fn set(&mut self, name: &str, value: &str) {
        assert!(!value.contains(['\'', '\n']), "the value of {name} cannot be written between single quotes");
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    fn settings_path(&self) -> PathBuf {
        self.scratch.join("settings.env")
    }

    fn write_settings(&self) {
        let mut lines = self.database.settings();
        lines.retain(|(name, _)| !self.settings.iter().any(|(own, _)| own == name));
        lines.extend(self.settings.iter().cloned());
        let text: String = lines.iter().map(|(name, value)| format!("{name}='{value}'\n")).collect();
        fs::write(self.settings_path(), text).expect("writing the settings file");
        // It holds a password.
        fs::set_permissions(self.settings_path(), Permissions::from_mode(0o600)).expect("guarding the settings file");
        self.scratch.hand_over();
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut words = self.wrapper.iter().cloned().chain([self.program.clone().into()]);
        let mut command = Command::new(words.next().expect("at least the program"));
        command.args(words).arg("--config").arg(self.settings_path()).arg(subcommand);
        command.current_dir(self.scratch.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("STATE_DIRECTORY", self.scratch.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Daemon {
    /// Starts the daemon again in the same folder, on the same sockets and database.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the daemon runs already");
        self.setup.write_settings();
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).expect("the log file");
        let mut command = self.setup.command("serve");
        command.env("NOTIFY_SOCKET", self.setup.scratch.join("notify"));
        command.stdout(log.try_clone().expect("the log file")).stderr(log);
        while self.notification().is_some() {}
        let started = Instant::now();
        self.process = Some(Process::spawn(&mut command, Signal::SIGKILL, self.setup.scratch.path()));
        self.await_notification("READY=1");
        self.ready_after = started.elapsed();
    }

    /// Changes a line of the settings file, for a reload or the next start.
    pub fn change_setting(&mut self, name: &str, value: &str) {
        self.setup.set(name, value);
        self.setup.write_settings();
    }

    /// From the start of the process to its READY=1.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    pub fn database(&self) -> &Database {
        &self.setup.database
    }

    pub fn unix_address(&self) -> Address {
        Address::Unix(self.setup.unix_path())
    }

    /// A new connection over the unix socket.
    pub fn connect(&self) -> Client {
        Client::connect(&self.unix_address())
    }

    /// A new connection over TCP.
    pub fn connect_tcp(&self) -> Client {
        Client::tcp(self.setup.tcp_address())
    }

    /// All that the daemon has written to standard output and error, over all its starts.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until the log holds `text`.
    pub fn await_log(&mut self, text: &str) {
        let started = Instant::now();
        while !self.log().contains(text) {
            assert!(started.elapsed() < LIMIT, "the daemon's log never said {text:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until requests are counted in the database, be it from the start on or since it came back.
    pub fn await_counting(&self) {
        wait::until(LIMIT, "the daemon counts", || {
            let log = self.log();
            (log.contains("counting in ") || log.contains(" is back after ")).then_some(())
        });
    }

    /// Waits until the log holds `text` so many times, at the most for `limit`.
    pub fn await_log_times(&self, text: &str, times: usize, limit: Duration) {
        wait::until(limit, &format!("the log says {text:?} {times} times"), || {
            (self.log().matches(text).count() >= times).then_some(())
        });
    }

    /// The next message to systemd, if one comes at once.
    pub fn notification(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        loop {
            match self.notifications.recv(&mut buffer) {
                Ok(count) => return Some(String::from_utf8_lossy(&buffer[..count]).into_owned()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // The end of any child process may interrupt a read that has a time-out.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("the notification socket: {error}"),
            }
        }
    }

    /// Waits for a message to systemd that has `line` as one of its lines, and gives the whole message.
    pub fn await_notification(&mut self, line: &str) -> String {
        let started = Instant::now();
        loop {
            if let Some(message) = self.notification()
                && message.lines().any(|said| said == line)
            {
                return message;
            }
            let ended = self.process.as_mut().and_then(Process::exited);
            assert!(ended.is_none(), "the daemon ended before it said {line}: {ended:?}");
            assert!(started.elapsed() < LIMIT, "the daemon never said {line}");
        }
    }

    /// Fills the way to systemd, which then is one that does not read.
    pub fn jam_notifications(&self) {
        let other = UnixDatagram::unbound().expect("a socket");
        other.set_nonblocking(true).expect("a socket that does not wait");
        while other.send_to(b"X=1", self.setup.scratch.join("notify")).is_ok() {}
    }

    pub fn id(&self) -> u32 {
        self.running().id()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the status of a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kilobytes * 1024
    }

    /// Asks it to end, as systemd does, and waits until it has.
    pub fn term(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.process.as_mut().expect("a running daemon").wait(LIMIT);
        self.process = None;
        status
    }

    /// Ends it as a power failure would.
    pub fn kill9(&mut self) {
        self.process.as_mut().expect("a running daemon").kill();
        self.process = None;
    }

    /// Asks it to read its settings again; returns when it has said that it did.
    pub fn hup(&mut self) {
        while self.notification().is_some() {}
        self.signal(Signal::SIGHUP);
        self.await_notification("READY=1");
    }

    /// Asks it to reopen its log files.
    pub fn usr1(&self) {
        self.signal(Signal::SIGUSR1);
    }

    /// Freezes it: its sockets stay open, nothing is answered.
    pub fn stop(&self) {
        self.running().stop();
    }

    /// Lets a frozen daemon go on.
    pub fn cont(&self) {
        self.signal(Signal::SIGCONT);
    }

    pub fn signal(&self, signal: Signal) {
        self.running().signal(signal);
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("a running daemon")
    }

    fn log_path(&self) -> PathBuf {
        self.setup.scratch.join("daemon.log")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A failed test is explained by what the daemon said.
        if std::thread::panicking() {
            eprintln!("--- log of the daemon in {}\n{}---", self.setup.scratch.path().display(), self.log());
        }
    }
}
