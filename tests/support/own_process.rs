//! A process of its own for what changes a whole process for good: its user, its environment, its descriptors.
//!
//! The test runs this test binary again, with only itself in it and on the main thread:
//!
//! ```ignore
//! let Some(mut command) = own_process::command("module::name_of_this_test", &[]) else { return in_the_new_process() };
//! own_process::succeeds(&mut command);
//! ```

use std::process::Command;

/// Set in the new process, to the name of the test.
const MARK: &str = "OWN_PROCESS_OF_TEST";

/// The command for the new process; none inside it. `wrapper` is a program with arguments that starts it.
pub fn command(test: &str, wrapper: &[&str]) -> Option<Command> {
    if std::env::var(MARK).is_ok_and(|mark| mark == test) {
        return None;
    }
    let this = std::env::current_exe().unwrap();
    let mut words = wrapper.iter().map(std::ffi::OsString::from).chain([this.into()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args([test, "--exact", "--nocapture", "--test-threads=1"]).env(MARK, test);
    // It talks to servers of its own, not through the machine's proxy.
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_ascii_lowercase().as_encoded_bytes().ends_with(b"_proxy"))
    {
        command.env_remove(name);
    }
    Some(command)
}

/// Runs it to its end. A name that is no test's is a failure too.
pub fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(" 1 passed"), "{command:?}: {}\n{said}", output.status);
}
