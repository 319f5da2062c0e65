//! A private MariaDB or MySQL server, as durable as shipped.

use std::fmt::Debug;
use std::fs::{self, File};
use std::marker::PhantomData;
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
use super::scratch::{Scratch, publish};

/// A start after SIGKILL replays the log first.
const START_LIMIT: Duration = Duration::from_secs(60);

const USER: &str = "policyd";
const PASSWORD: &str = "p$ss w#rd";

/// What tells MariaDB and MySQL apart.
pub trait Flavour: Debug + Sized + 'static {
    /// As in the names of tests/servers/fetch.
    const NAME: &'static str;
    const PROGRAM: &'static str;
    /// Beside what both are started with.
    const OPTIONS: &'static [&'static str];
    const WITHOUT_TLS: &'static str;
    const COUNT_SESSIONS: &'static str;
    /// Where sessions are listed by id and user.
    const SESSIONS: &'static str;
    /// See `Server::COMMITS_APART`.
    const COMMITS_APART: bool;
    /// See `Server::ROWS_READ`.
    const ROWS_READ: &'static str;
    /// The rights by which a user writes although the server is set to read only.
    const WRITES_ALWAYS: &'static str;

    fn programs() -> &'static Programs;
    fn shared() -> &'static OnceLock<Mysqld<Self>>;
    /// Fills an empty data folder; its administrator is root, without a password.
    fn install(scratch: &Scratch, data: &Path);
}

pub type MariaDb = Mysqld<IsMariaDb>;
pub type MySql = Mysqld<IsMySql>;

#[derive(Debug)]
pub struct IsMariaDb;

impl Flavour for IsMariaDb {
    const NAME: &'static str = "mariadb";
    const PROGRAM: &'static str = "mariadbd";
    // As in Debian's 50-server.cnf, and what ROWS_READ counts; all else is MariaDB's default, above all a commit that is on disk.
    const OPTIONS: &'static [&'static str] =
        &["--character-set-server=utf8mb4", "--collation-server=utf8mb4_general_ci", "--userstat=1"];
    const WITHOUT_TLS: &'static str = "--skip-ssl";
    const COUNT_SESSIONS: &'static str = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()";
    const SESSIONS: &'static str = "SELECT id, user FROM information_schema.processlist";
    const COMMITS_APART: bool = false;
    const ROWS_READ: &'static str = "SELECT CAST(COALESCE(SUM(rows_read), 0) AS SIGNED) \
                                     FROM information_schema.table_statistics \
                                     WHERE table_schema = DATABASE() AND table_name = 'ratelimits'";
    const WRITES_ALWAYS: &'static str = "SUPER, READ_ONLY ADMIN";

    fn programs() -> &'static Programs {
        static PROGRAMS: OnceLock<Programs> = OnceLock::new();
        PROGRAMS.get_or_init(|| programs::installed_or_chosen(Self::NAME, &["/usr/sbin".into()]))
    }

    fn shared() -> &'static OnceLock<MariaDb> {
        static SERVER: OnceLock<MariaDb> = OnceLock::new();
        &SERVER
    }

    fn install(scratch: &Scratch, data: &Path) {
        let mut install = Self::programs().command("mariadb-install-db", scratch.owner());
        install.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
        install.args(["--skip-test-db", "--skip-name-resolve", "--auth-root-authentication-method=normal"]);
        run(install.current_dir(scratch.path()));
    }
}

#[derive(Debug)]
pub struct IsMySql;

impl Flavour for IsMySql {
    const NAME: &'static str = "mysql";
    const PROGRAM: &'static str = "mysqld";
    // A smaller log than shipped, since it is copied for each server.
    const OPTIONS: &'static [&'static str] =
        &["--mysqlx=OFF", "--secure-file-priv=NULL", "--innodb-redo-log-capacity=8M"];
    const WITHOUT_TLS: &'static str = "--tls-version=";
    const COUNT_SESSIONS: &'static str =
        "SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_db = DATABASE()";
    const SESSIONS: &'static str =
        "SELECT processlist_id AS id, processlist_user AS user FROM performance_schema.threads";
    const COMMITS_APART: bool = true;
    const ROWS_READ: &'static str = "SELECT CAST(COALESCE(SUM(count_fetch), 0) AS SIGNED) \
                                     FROM performance_schema.table_io_waits_summary_by_table \
                                     WHERE object_schema = DATABASE() AND object_name = 'ratelimits'";
    const WRITES_ALWAYS: &'static str = "SUPER, CONNECTION_ADMIN";

    fn programs() -> &'static Programs {
        static PROGRAMS: OnceLock<Programs> = OnceLock::new();
        PROGRAMS.get_or_init(|| programs::fetched(Self::NAME, "mysql-8.4"))
    }

    fn shared() -> &'static OnceLock<MySql> {
        static SERVER: OnceLock<MySql> = OnceLock::new();
        &SERVER
    }

    fn install(scratch: &Scratch, data: &Path) {
        let mut install = Self::programs().command("mysqld", scratch.owner());
        install.args(["--no-defaults", "--initialize-insecure"]).arg(format!("--datadir={}", data.display()));
        run(install.args(Self::OPTIONS).current_dir(scratch.path()));
    }
}

#[derive(Debug)]
pub struct Mysqld<F> {
    // Before its folder, so that it ends first.
    process: Mutex<Option<Process>>,
    port: Port,
    arguments: Vec<String>,
    scratch: Scratch,
    flavour: PhantomData<F>,
}

impl<F: Flavour> Mysqld<F> {
    /// The server that all tests of a binary share. It goes when the binary does.
    pub fn shared() -> &'static Mysqld<F> {
        F::shared().get_or_init(Mysqld::start)
    }

    /// A server of one's own, to be killed and frozen.
    pub fn start() -> Mysqld<F> {
        Mysqld::start_with(&[])
    }

    /// With more command line options, such as `--max-connections=5`.
    pub fn start_with(arguments: &[&str]) -> Mysqld<F> {
        let scratch = Scratch::unprivileged();
        run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(template::<F>()).arg(scratch.join("data")));
        scratch.hand_over();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let process = Mutex::new(None);
        let server = Mysqld { process, port: Port::free(), arguments, scratch, flavour: PhantomData };
        server.start_again();
        server.administer(&format!(
            "CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'%'"
        ));
        server
    }

    /// Starts the server again on the same data, socket and port.
    pub fn start_again(&self) {
        let mut process = self.process();
        assert!(process.is_none(), "{} runs already", F::PROGRAM);
        let log = File::options().create(true).append(true).open(self.scratch.join("log")).expect("the log file");
        let mut command = F::programs().command(F::PROGRAM, self.scratch.owner());
        // Nothing from /etc/mysql: the machine may have a server of its own.
        command.arg("--no-defaults").arg(format!("--datadir={}", self.scratch.join("data").display()));
        command.arg(format!("--socket={}", self.socket().display()));
        command.arg(format!("--pid-file={}", self.scratch.join("pid").display()));
        command.args(["--bind-address=127.0.0.1", "--skip-name-resolve"]).arg(format!("--port={}", self.port.number()));
        // Of its own: a server that starts removes the temporary tables that it finds there, those of another one too.
        command.arg(format!("--tmpdir={}", self.scratch.path().display()));
        command.args(F::OPTIONS).args(&self.arguments).current_dir(self.scratch.path());
        command.stdout(log.try_clone().expect("the log file")).stderr(log);
        let mut started = Process::spawn(&mut command, Signal::SIGKILL, self.scratch.path());
        let since = Instant::now();
        while let Err(error) = self.administrator().try_session() {
            let ended = started.exited();
            assert!(
                ended.is_none() && since.elapsed() < START_LIMIT,
                "{} does not answer ({error}; {ended:?}):\n{}",
                F::PROGRAM,
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

    /// Ends all sessions of the daemon's user.
    pub fn end_sessions(&self) {
        let administrator = self.administrator().session();
        for session in administrator.select(&["id"], &format!("FROM ({}) AS s WHERE user = '{USER}'", F::SESSIONS)) {
            // It may have ended by itself.
            let _ = administrator.try_execute(&format!("KILL {}", session[0]));
        }
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

/// A fresh data folder, made once for each version and copied for each server.
fn template<F: Flavour>() -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let version = run(F::programs().command(F::PROGRAM, None).args(["--no-defaults", "--version"]));
    let (_, version) = version.split_once("Ver ").expect("it says 'Ver NUMBER'");
    let version = version.split_whitespace().next().expect("a number after 'Ver'");
    let template = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{version}", F::NAME));
    if !template.exists() {
        let scratch = Scratch::unprivileged();
        let data = scratch.join("data");
        F::install(&scratch, &data);
        publish(&data, &template);
    }
    template
}
