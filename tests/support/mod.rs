//! What the integration tests and the benchmarks stand on: the real daemon, real database servers, and a client that talks
//! as Postfix does. Everything lives in private folders and on private sockets, and is gone when the test binary is,
//! however that ended.
//!
//! - `chromium`  a real browser without a screen
//! - `client`    a policy client that sends what Postfix 3.7 sends, in its order
//! - `clock`     where it is another time of day
//! - `daemon`    the daemon under test: settings, start until READY=1, signals, log, memory
//! - `database`  a test database of any kind: the settings to reach it, and its rows
//! - `examples`  a day of a mail server, for pictures
//! - `http`      asking the daemon's status page, and a receiver of its webhook
//! - `load`      many connections that ask at once
//! - `mariadb`   a private MariaDB or MySQL server
//! - `own_process` a process of its own for a test that changes its process for good
//! - `port`      a port that nobody else can take
//! - `postgres`  a private PostgreSQL server
//! - `programs`  where the programs of a database server are
//! - `proxy`     stands between daemon and database, and freezes, cuts or loses what passes
//! - `process`   a child process that never outlives the test binary
//! - `root`      tests that need to be root
//! - `scratch`   a private folder, owned by whom the process in it runs as
//! - `server`    what tests do with a database server, whichever it is
//! - `simulated` one of several daemons without sockets, whose clock is the test's
//! - `stream`    one name for TCP and unix connections
//! - `terminal`  a real terminal, whose screen is read as text
//! - `traffic`   connections that ask until they are stopped, and remember what they were told
//! - `wait`      waiting for something with a bound

// The benchmarks use a part of this.
#![allow(dead_code)]
// A tool that fails is a test that fails. Clippy knows `#[test]` functions as tests, but not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod chromium;
pub mod client;
pub mod clock;
pub mod daemon;
pub mod database;
pub mod examples;
pub mod http;
pub mod load;
pub mod mariadb;
pub mod own_process;
pub mod port;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod root;
pub mod scratch;
pub mod server;
pub mod simulated;
pub mod stream;
pub mod terminal;
pub mod traffic;
pub mod wait;
