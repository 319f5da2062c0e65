//! A child process that never outlives the test binary, whether that returns, panics, is killed, or keeps the process in a
//! static that is never dropped.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{env, fs};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::scratch::Account;
use super::wait;

/// Waits until its standard input ends, which is when the test binary does; then ends the process `$2` with signal `$1` and
/// removes its folder `$3`. Death signals (`PR_SET_PDEATHSIG`) would not do: they are sent when the *thread* ends that
/// started the process, and are forgotten when it changes its user.
const GUARD: &str = r#"
    trap '' HUP INT TERM
    read -r _
    kill -s "$1" "$2"
    tries=50
    while kill -s 0 "$2" && [ "$tries" -gt 0 ]; do
        tries=$((tries - 1))
        sleep 0.1
    done
    kill -s KILL "$2"
    rm -rf -- "$3"
"#;

#[derive(Debug)]
pub struct Process {
    child: Child,
    guard: Child,
    ending: Signal,
}

impl Process {
    /// Starts `command`, which works in `folder`; `ending` is the signal at which it goes at once and leaves nothing.
    pub fn spawn(command: &mut Command, ending: Signal, folder: &Path) -> Process {
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}; run tests/dependencies"));
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard", ending.as_str().trim_start_matches("SIG")])
            .arg(child.id().to_string())
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        Process { child, guard, ending }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        signal::kill(pid, signal).unwrap_or_else(|error| panic!("{signal} to process {pid}: {error}"));
    }

    /// Freezes it, and returns when each of its threads has come to a halt.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let threads = format!("/proc/{}/task", self.id());
        let halted = |thread: fs::DirEntry| {
            // The state follows the program's name, which is in parentheses and may hold anything.
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        };
        let all_halted = || fs::read_dir(&threads).is_ok_and(|threads| threads.flatten().all(halted));
        wait::until(Duration::from_secs(5), "a stopped process halts", || all_halted().then_some(()));
    }

    /// How it ended, or none while it runs.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child process")
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("process {} ends", self.child.id());
        wait::until(limit, &what, || self.exited())
    }

    /// Leaves it to its guard, as the end of the test binary does.
    pub fn abandon(&mut self) {
        drop(self.guard.stdin.take());
    }

    /// Ends it as a power failure would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // A stopped process notices nothing but SIGKILL until it goes on.
            self.signal(self.ending);
            self.signal(Signal::SIGCONT);
            for _ in 0..500 {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        self.kill();
    }
}

/// The folders of PATH.
pub fn path() -> Vec<PathBuf> {
    env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect()
}

/// The program `name` from PATH or else from one of `folders`, to be run as `account` if there is one.
pub fn program(name: &str, folders: &[PathBuf], account: Option<&Account>) -> Command {
    program_in(&[path().as_slice(), folders].concat(), name, account)
}

/// The program `name` from one of `folders`.
pub fn program_in(folders: &[PathBuf], name: &str, account: Option<&Account>) -> Command {
    let found = folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
    let mut command =
        Command::new(found.unwrap_or_else(|| panic!("there is no program '{name}'; run tests/dependencies")));
    if let Some(account) = account {
        command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
    }
    command
}

/// Runs a command to its end; the test fails with its output unless it succeeds.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; run tests/dependencies"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}
