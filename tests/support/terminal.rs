//! A real terminal: a tmux of the test's own, with a shell in it, whose screen is read as text.

use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::process::{Process, program, run};
use super::scratch::Scratch;
use super::wait;

/// How long a screen may take to show something on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Terminal {
    // Before its folder, so that it ends first.
    _server: Process,
    scratch: Scratch,
}

impl Terminal {
    /// A shell in a terminal of this size, with these environment variables.
    pub fn open(width: u16, height: u16, environment: &[(&str, &str)]) -> Terminal {
        let scratch = Scratch::new(None);
        let socket = scratch.join("tmux");
        let mut server = program("tmux", &[], None);
        // In the foreground, so that it ends with the test.
        server.args(["-D", "-f", "/dev/null", "-S"]).arg(&socket).stdout(Stdio::null()).stderr(Stdio::null());
        server.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
        server.env("LC_ALL", "C.UTF-8").env("SHELL", "/bin/sh").env("PS1", "$ ").env("HOME", scratch.path());
        server.envs(environment.iter().copied()).current_dir(scratch.path());
        let server = Process::spawn(&mut server, Signal::SIGTERM, scratch.path());
        wait::until(LIMIT, "tmux listens", || socket.exists().then_some(()));
        let terminal = Terminal { _server: server, scratch };
        let (width, height) = (width.to_string(), height.to_string());
        let folder = terminal.scratch.path().display().to_string();
        terminal.tmux(&["new-session", "-d", "-x", &width, "-y", &height, "-c", &folder, "exec /bin/sh"]);
        terminal.wait_for("the prompt", |screen| screen.starts_with('$'));
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = program("tmux", &[], None);
        command.env_clear().env("LC_ALL", "C.UTF-8");
        run(command.arg("-S").arg(self.scratch.join("tmux")).args(arguments))
    }

    /// Types a text as it is.
    pub fn text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", "--", text]);
    }

    /// Presses a key, by tmux' name for it: `Enter`, `Escape`, `C-c`.
    pub fn key(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Types a line.
    pub fn line(&self, line: &str) {
        self.text(line);
        self.key("Enter");
    }

    pub fn resize(&self, width: u16, height: u16) {
        self.tmux(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    /// What is on the screen, without blanks at the ends of lines.
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The same, with escape sequences for colours and the like.
    pub fn screen_with_colours(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Waits until the screen is as it should be, and gives it. One that is just being drawn is not taken.
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        let mut before = String::new();
        loop {
            let screen = self.screen();
            if is_so(&screen) && screen == before {
                return screen;
            }
            assert!(begun.elapsed() < LIMIT, "waited {LIMIT:?} in vain: {what}. The screen:\n{screen}");
            before = screen;
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether a program has the screen for itself, and whether the cursor is seen.
    pub fn modes(&self) -> (bool, bool) {
        let modes = self.tmux(&["display-message", "-p", "#{alternate_on}#{cursor_flag}"]);
        (modes.starts_with('1'), modes.trim_end().ends_with('1'))
    }

    /// The process that the shell has started.
    pub fn child(&self) -> Pid {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        wait::until(LIMIT, "the shell's child", || {
            let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).expect("the shell runs");
            children.split_whitespace().next().map(|pid| Pid::from_raw(pid.parse().expect("a process id")))
        })
    }

    pub fn signal_child(&self, signal: Signal) {
        signal::kill(self.child(), signal).expect("the child runs");
    }

    /// A file in the folder that the shell works in.
    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }
}
