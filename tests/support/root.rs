//! Tests that need to be root.

use std::io::Write;

/// Says who is not root and has asked for less.
const WITHOUT_ROOT: &str = "TEST_WITHOUT_ROOT";

/// Whether `test` can run. Not to be root is a failure, unless the environment asks for less: then it is said aloud.
pub fn is_root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os(WITHOUT_ROOT).is_some(), "{test} needs root; set {WITHOUT_ROOT}=1 to go without it");
    // Not eprintln!: what a passing test prints by it is not shown.
    writeln!(std::io::stderr(), "NOT RUN, needs root: {test}").ok();
    false
}
