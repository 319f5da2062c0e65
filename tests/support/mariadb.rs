//! A private MariaDB server from Debian's package, as durable as shipped.

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
use super::process::{self, Process, run};
use super::scratch::{Account, Scratch, publish};

/// A start after SIGKILL replays the log first.
const START_LIMIT: Duration = Duration::from_secs(60);

const USER: &str = "policyd";
const PASSWORD: &str = "p$ss w#rd";

#[derive(Debug)]
pub struct MariaDb {
    // Before its folder, so that it ends first.
    process: Mutex<Option<Process>>,
    port: Port,
    arguments: Vec<String>,
    scratch: Scratch,
}

impl MariaDb {
    /// The server that all tests of a binary share. It goes when the binary does.
    pub fn shared() -> &'static MariaDb {
        static SERVER: OnceLock<MariaDb> = OnceLock::new();
        SERVER.get_or_init(MariaDb::start)
    }

    /// A server of one's own, to be killed and frozen.
    pub fn start() -> MariaDb {
        MariaDb::start_with(&[])
    }

    /// With more command line options, such as `--max-connections=5`.
    pub fn start_with(arguments: &[&str]) -> MariaDb {
        let account = Account::when_root("mysql");
        let scratch = Scratch::new(account);
        run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(template()).arg(scratch.join("data")));
        scratch.hand_over();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let server = MariaDb { process: Mutex::new(None), port: Port::free(), arguments, scratch };
        server.start_again();
        server.administer(&format!(
            "CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'%'"
        ));
        server
    }

    /// Starts the server again on the same data, socket and port.
    pub fn start_again(&self) {
        let mut process = self.process();
        assert!(process.is_none(), "MariaDB runs already");
        let log = File::options().create(true).append(true).open(self.scratch.join("log")).expect("the log file");
        let mut command = program("mariadbd", self.scratch.owner());
        command.arg(format!("--datadir={}", self.scratch.join("data").display()));
        command.arg(format!("--socket={}", self.socket().display()));
        command.arg(format!("--pid-file={}", self.scratch.join("pid").display()));
        command.args(["--bind-address=127.0.0.1", "--skip-name-resolve"]).arg(format!("--port={}", self.port.number()));
        // As in Debian's 50-server.cnf; all else is MariaDB's default, above all a commit that is on disk.
        command.args(["--character-set-server=utf8mb4", "--collation-server=utf8mb4_general_ci"]);
        command.args(&self.arguments).current_dir(self.scratch.path());
        command.stdout(log.try_clone().expect("the log file")).stderr(log);
        let mut started = Process::spawn(&mut command, Signal::SIGKILL, self.scratch.path());
        let since = Instant::now();
        while let Err(error) = self.administrator().try_session() {
            let ended = started.exited();
            assert!(
                ended.is_none() && since.elapsed() < START_LIMIT,
                "MariaDB does not answer ({error}; {ended:?}):\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        *process = Some(started);
    }

    /// A new, empty database.
    pub fn database(&self) -> Database {
        static DATABASES: AtomicU32 = AtomicU32::new(1);
        let name = format!("policyd_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        self.administer(&format!("CREATE DATABASE {name}"));
        Database::mysql(&self.socket(), Credentials { user: USER, password: PASSWORD, database: &name })
    }

    /// Runs statements as the server's administrator.
    pub fn administer(&self, sql: &str) {
        self.administrator().execute(sql);
    }

    /// Ends it as a power failure would.
    pub fn kill9(&self) {
        self.process().take().expect("a running server").kill();
    }

    /// Freezes it: connections stay open, nothing is answered.
    pub fn stop(&self) {
        self.process().as_ref().expect("a running server").stop();
    }

    /// Lets a frozen server go on.
    pub fn cont(&self) {
        self.process().as_ref().expect("a running server").signal(Signal::SIGCONT);
    }

    pub fn socket(&self) -> PathBuf {
        self.scratch.join("socket")
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn log(&self) -> String {
        fs::read(self.scratch.join("log")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn administrator(&self) -> Database {
        Database::mysql(&self.socket(), Credentials { user: "root", password: "", database: "mysql" })
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fresh data folder, made once and copied for each server.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(make_template)
}

fn make_template() -> PathBuf {
    let version = run(program("mariadbd", None).arg("--version"));
    let version = version.split_whitespace().nth(2).expect("mariadbd --version says 'Ver NUMBER'");
    let template = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mariadb-{version}"));
    if !template.exists() {
        let scratch = Scratch::new(Account::when_root("mysql"));
        let data = scratch.join("data");
        let mut install = program("mariadb-install-db", scratch.owner());
        install.arg(format!("--datadir={}", data.display())).args(["--skip-test-db", "--skip-name-resolve"]);
        run(install.arg("--auth-root-authentication-method=normal").current_dir(scratch.path()));
        publish(&data, &template);
    }
    template
}

fn program(name: &str, account: Option<&Account>) -> Command {
    let mut command = process::program(name, &["/usr/sbin".into()], account);
    // Nothing from /etc/mysql: the machine may have a server of its own.
    command.arg("--no-defaults");
    command
}
