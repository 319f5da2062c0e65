//! Where Postfix's commands are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Returns the path of one of Postfix's commands.
pub fn find(name: &str) -> PathBuf {
    find_in(name, &std::env::var_os("PATH").unwrap_or_default())
}

/// Looks for a program in the folders of `path`, then in sbin, which is not in every PATH. Passes over folders that depend on the
/// working directory, which may be another user's: the program is run as root. Returns an absolute path in any case.
fn find_in(name: &str, path: &OsStr) -> PathBuf {
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    let sbin = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut paths = folders.chain(sbin).map(|folder| folder.join(name));
    paths.find(|path| path.is_file()).unwrap_or_else(|| Path::new("/usr/sbin").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_program_of_the_working_directory_is_run() {
        // The tests run in the folder of the sources.
        assert!(Path::new("Cargo.toml").is_file() && Path::new("src/lib.rs").is_file());
        for (name, path) in [("Cargo.toml", ""), ("Cargo.toml", ".:/usr/bin"), ("lib.rs", "src:/usr/bin:")] {
            assert_eq!(find_in(name, OsStr::new(path)), Path::new("/usr/sbin").join(name), "{path}");
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(find_in("Cargo.toml", here.as_os_str()), here.join("Cargo.toml"));
    }
}
