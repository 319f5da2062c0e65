//! A private PostgreSQL server from Debian's package, as durable as shipped.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::database::{Credentials, Database};
use super::port::Port;
use super::process::{Process, run};
use super::programs::{self, Programs};
use super::scratch::{Account, Scratch, publish};

/// A start after SIGKILL replays the log first, and waits for the last of the old processes to go.
const START_LIMIT: Duration = Duration::from_secs(60);

const ADMINISTRATOR: &str = "postgres";
const USER: &str = "policyd";
const PASSWORD: &str = "p$ss w#rd";

#[derive(Debug)]
pub struct Postgres {
    // Before its folder, so that it ends first.
    process: Mutex<Option<Process>>,
    port: Port,
    arguments: Vec<String>,
    scratch: Scratch,
}

impl Postgres {
    /// The server that all tests of a binary share. It goes when the binary does.
    pub fn shared() -> &'static Postgres {
        static SERVER: OnceLock<Postgres> = OnceLock::new();
        SERVER.get_or_init(Postgres::start)
    }

    /// A server of one's own, to be killed and frozen.
    pub fn start() -> Postgres {
        Postgres::start_with(&[])
    }

    /// With more command line options, such as `["-c", "max_connections=5"]`.
    pub fn start_with(arguments: &[&str]) -> Postgres {
        let scratch = Scratch::unprivileged();
        run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(template()).arg(scratch.join("data")));
        scratch.hand_over();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let server = Postgres { process: Mutex::new(None), port: Port::free(), arguments, scratch };
        server.start_again();
        server.administer(&format!("CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'"));
        server
    }

    /// Starts the server again on the same data, socket and port.
    pub fn start_again(&self) {
        let mut process = self.process();
        assert!(process.is_none(), "PostgreSQL runs already");
        let since = Instant::now();
        let mut started = self.spawn();
        while let Err(error) = self.administrator().try_session() {
            assert!(since.elapsed() < START_LIMIT, "PostgreSQL does not answer ({error}):\n{}", self.log());
            if started.exited().is_some() {
                // It refuses to start while a child of the killed server still holds the shared memory.
                started = self.spawn();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        *process = Some(started);
    }

    fn spawn(&self) -> Process {
        let log = File::options().create(true).append(true).open(self.scratch.join("log")).expect("the log file");
        let mut command = program("postgres", self.scratch.owner());
        command.arg("-D").arg(self.scratch.join("data")).arg("-k").arg(self.scratch.path());
        command.arg("-p").arg(self.port.number().to_string()).args(["-c", "listen_addresses=127.0.0.1"]);
        command.args(&self.arguments).current_dir(self.scratch.path());
        command.stdout(log.try_clone().expect("the log file")).stderr(log);
        // SIGQUIT is PostgreSQL's immediate shutdown: at once, but without leaving shared memory behind.
        Process::spawn(&mut command, Signal::SIGQUIT, self.scratch.path())
    }

    /// A new, empty database that belongs to the daemon's user.
    pub fn database(&self) -> Database {
        self.database_with("")
    }

    /// The same, with more words for CREATE DATABASE.
    pub fn database_with(&self, words: &str) -> Database {
        static DATABASES: AtomicU32 = AtomicU32::new(1);
        let name = format!("policyd_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        self.administer(&format!("CREATE DATABASE {name} OWNER {USER} {words}"));
        Database::postgres(
            self.folder(),
            self.port.number(),
            Credentials { user: USER, password: PASSWORD, database: &name },
        )
    }

    /// Runs one statement as the server's administrator.
    pub fn administer(&self, sql: &str) {
        self.administrator().execute(sql);
    }

    /// Ends it as a power failure would.
    pub fn kill9(&self) {
        self.process().take().expect("a running server").kill();
    }

    /// The folder that holds the unix socket, which is how PostgreSQL's clients name it.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.scratch.join(&format!(".s.PGSQL.{}", self.port.number()))
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn log(&self) -> String {
        fs::read(self.scratch.join("log")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn administrator(&self) -> Database {
        let credentials = Credentials { user: ADMINISTRATOR, password: "", database: "postgres" };
        Database::postgres(self.folder(), self.port.number(), credentials)
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fresh data folder, made once and copied for each server. Over TCP it asks for passwords.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(make_template)
}

fn make_template() -> PathBuf {
    let version = run(program("postgres", None).arg("--version"));
    let version = version.split_whitespace().nth(2).expect("postgres --version says 'postgres (PostgreSQL) NUMBER'");
    let template = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres-{version}"));
    if !template.exists() {
        let scratch = Scratch::unprivileged();
        let data = scratch.join("data");
        let mut install = program("initdb", scratch.owner());
        install.arg("-D").arg(&data).args(["-U", ADMINISTRATOR, "--auth-local=trust", "--auth-host=scram-sha-256"]);
        run(install.args(["--encoding=UTF8", "--locale=C.UTF-8"]).current_dir(scratch.path()));
        publish(&data, &template);
    }
    template
}

fn program(name: &str, account: Option<&Account>) -> Command {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    let programs = PROGRAMS.get_or_init(|| {
        // Debian keeps each version's programs in a folder of its own; the newest is taken.
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let number = |folder: &PathBuf| folder.file_name()?.to_str()?.parse::<u32>().ok();
        let newest = versions.map(|entry| entry.path()).max_by_key(number);
        programs::installed_or_chosen("postgres", newest.map(|folder| folder.join("bin")).as_slice())
    });
    programs.command(name, account)
}
