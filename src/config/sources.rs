//! Where settings come from: a settings file, and the environment, which wins.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::env_file::{self, Content};
use super::finding::{Finding, Origin, Severity, shown};
use super::settings;

/// The settings file of the packages.
pub const SYSTEM_FILE: &str = "/etc/policyd-rate-guard/policyd-rate-guard.env";

/// The settings file of PolicydRateGuard, read from the current folder unless started as root.
pub const LOCAL_FILE: &str = "./.env";

/// The most unknown names that are warned about one by one; a file with more is not a settings file of this program.
const NAMED_UNKNOWN: usize = 20;

/// Where to look for settings. It is kept for reloads: it stays true after privileges were dropped.
#[derive(Clone)]
pub struct Sources {
    /// The file named on the command line; it must exist.
    pub explicit: Option<PathBuf>,
    /// Without `explicit`, the first of these that exists is read, if one does.
    pub search: Vec<PathBuf>,
    /// The real environment variables.
    pub environment: Vec<(OsString, OsString)>,
    /// Whether the program was *started* as root.
    pub is_root: bool,
    /// The system's name, which is this mail server's where HOST_NAME is not set.
    pub host: String,
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub text: String,
    pub origin: Origin,
}

/// The given values, by name.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub file: Option<PathBuf>,
    /// Whether every user can read the file.
    pub world_readable: bool,
    pub given: BTreeMap<String, Given>,
    /// The environment, for variables that are no settings (STATE_DIRECTORY). Values that are not UTF-8 are left out.
    pub environment: HashMap<String, String>,
}

/// Without the environment, which may hold DB_PASSWORD.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("explicit", &self.explicit)
            .field("search", &self.search)
            .field("is_root", &self.is_root)
            .finish_non_exhaustive()
    }
}

impl Sources {
    /// Returns the sources of a program started with these environment variables and, if given, `--config FILE`.
    pub fn new<N, V>(explicit: Option<PathBuf>, environment: impl IntoIterator<Item = (N, V)>, is_root: bool) -> Sources
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let mut search = vec![PathBuf::from(SYSTEM_FILE)];
        // Root's current folder may be another user's.
        search.extend((!is_root).then(|| PathBuf::from(LOCAL_FILE)));
        let environment = environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Sources { explicit, search, environment, is_root, host: String::new() }
    }

    /// Returns the sources of this process. To be called before privileges are dropped.
    pub fn from_process(explicit: Option<PathBuf>, is_root: bool, host: String) -> Sources {
        Sources { host, ..Sources::new(explicit, std::env::vars_os(), is_root) }
    }

    /// Reads file and environment. What cannot be read is added to the findings.
    pub(super) fn read(&self, findings: &mut Vec<Finding>) -> Values {
        let mut values = Values::default();
        let mut not_utf8 = Vec::new();
        for (name, value) in &self.environment {
            match (name.to_str(), value.to_str()) {
                (Some(name), Some(value)) => {
                    values.environment.insert(name.to_owned(), value.to_owned());
                }
                (Some(name), None) => not_utf8.push(name),
                (None, _) => {}
            }
        }
        self.read_file(&mut values, findings);
        for setting in settings::all().filter(|setting| setting.environment) {
            if let Some(text) = values.environment.get(setting.name) {
                let given = Given { text: text.clone(), origin: Origin::Environment };
                values.given.insert(setting.name.to_owned(), given);
            }
            if not_utf8.contains(&setting.name) {
                findings.push(Finding {
                    severity: Severity::Error,
                    origin: Some(Origin::Environment),
                    name: Some(setting.name.to_owned()),
                    value: None,
                    message: "is not UTF-8".to_owned(),
                });
            }
        }
        values
    }

    fn read_file(&self, values: &mut Values, findings: &mut Vec<Finding>) {
        let (path, opened) = match self.open() {
            Some(found) => found,
            None => return,
        };
        let error_on = |line: usize, message: String| Finding {
            severity: Severity::Error,
            origin: Some(Origin::File { path: path.clone(), line }),
            name: None,
            value: None,
            message,
        };
        let content = opened.and_then(|mut file| {
            values.world_readable = is_world_readable(&file);
            if let Some(others) = file.metadata().ok().and_then(|metadata| who_else_writes(&metadata)) {
                let message = format!("the settings file can be changed by {others}; chmod go-w it");
                findings.push(Finding { severity: Severity::Warning, ..error_on(0, message) });
            }
            read_bounded(&mut file, env_file::MAX_FILE)
        });
        values.file = Some(path.clone());
        let bytes = match content {
            Ok(bytes) => bytes,
            Err(error) => {
                let advice = match error.kind() {
                    io::ErrorKind::PermissionDenied => "; run this as root or postfix, or name a file with --config",
                    io::ErrorKind::NotFound => "; name an existing file with --config",
                    _ => "",
                };
                return findings.push(error_on(0, format!("the settings file cannot be read: {error}{advice}")));
            }
        };
        match env_file::parse(&bytes, &values.environment) {
            Ok(statements) => take_statements(statements, &path, values, findings),
            Err(error) => findings.push(error_on(error.line(), format!("the settings file {error}"))),
        }
    }

    /// Opens the file to be read. None if none was named and none exists.
    fn open(&self) -> Option<(PathBuf, io::Result<File>)> {
        if let Some(path) = &self.explicit {
            return Some((path.clone(), File::open(path)));
        }
        // A file that exists but cannot be opened is not skipped: other settings than the operator's would apply.
        self.search
            .iter()
            .map(|path| (path.clone(), File::open(path)))
            .find(|(_, opened)| !matches!(opened, Err(error) if error.kind() == io::ErrorKind::NotFound))
    }
}

/// Puts the file's statements into the values; the last one of a name wins.
fn take_statements(
    statements: Vec<env_file::Statement>,
    path: &Path,
    values: &mut Values,
    findings: &mut Vec<Finding>,
) {
    let mut unknown = 0;
    for env_file::Statement { line, content } in statements {
        let origin = Origin::File { path: path.to_owned(), line };
        let mut tell = |severity, name: Option<&str>, message: String| {
            let (origin, name) = (Some(origin.clone()), name.map(shown));
            findings.push(Finding { severity, origin, name, value: None, message });
        };
        let (name, text) = match content {
            Content::Value { name, value } => (name, Some(value)),
            Content::CommentForValue { name } => {
                let message = "has no value: what follows the blank is a comment; quote it if it is meant";
                tell(Severity::Warning, Some(&name), message.to_owned());
                (name, Some(String::new()))
            }
            Content::NoValue { name } => {
                tell(Severity::Warning, Some(&name), "has no `=`, so it is not set".to_owned());
                (name, None)
            }
            Content::Broken => {
                let message = "cannot be understood: write NAME=value, and a quote at both ends of a quoted value";
                tell(Severity::Error, None, message.to_owned());
                continue;
            }
        };
        if settings::find(&name).is_none() {
            unknown += 1;
            if unknown <= NAMED_UNKNOWN {
                let guess = settings::nearest(&name).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                tell(Severity::Warning, Some(&name), format!("is not a setting, so it has no effect{guess}"));
            } else if unknown == NAMED_UNKNOWN + 1 {
                tell(Severity::Warning, Some(&name), "is not a setting either, nor may be what follows".to_owned());
            }
        } else if let Some(text) = text {
            values.given.insert(name, Given { text, origin });
        } else {
            values.given.remove(&name);
        }
    }
}

/// Reads at most `limit` bytes and one more, so that the caller can see that it is too much.
pub(super) fn read_bounded(file: &mut File, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether a file's permissions let every user read it.
/// Who may write a file beside its owner, in words; `None` if nobody. Root's group, and one with the number of the owner, as
/// every user has one on many systems, are as good as the owner.
pub(super) fn who_else_writes(file: &Metadata) -> Option<&'static str> {
    let group_is_another = ![0, file.uid()].contains(&file.gid());
    match file.mode() {
        mode if mode & 0o002 != 0 => Some("everybody on this machine"),
        mode if mode & 0o020 != 0 && group_is_another => Some("everybody in its group"),
        _ => None,
    }
}

pub(super) fn is_world_readable(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::examples::load_all;
    use crate::config::load;

    #[test]
    fn a_debug_print_shows_no_secret_of_the_environment() {
        let sources = Sources::new(None, [("DB_PASSWORD", "hunter2")], false);
        let shown = format!("{sources:?}");
        assert!(!shown.contains("hunter2") && shown.contains(SYSTEM_FILE), "{shown}");
    }

    #[test]
    fn the_environment_wins_but_for_what_login_shells_set() {
        let file = [("QUOTA", "1"), ("LOG_LEVEL", "DEBUG"), ("USER", "mail")];
        let environment = [("QUOTA", "2"), ("LOG_LEVEL", ""), ("USER", "root"), ("GROUP", "wheel")];
        let config = load_all(&file, &environment, false).unwrap().config;
        assert_eq!(config.quota.default, 2);
        assert_eq!(config.logging.level, log::LevelFilter::Info, "an empty variable wins too, and means the default");
        assert_eq!((config.sockets.user.as_str(), config.sockets.group), ("mail", None));
    }

    #[test]
    fn the_first_file_that_exists_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("b"), "QUOTA=2\n").unwrap();
        std::fs::write(path("c"), "QUOTA=3\n").unwrap();
        let mut sources = Sources::new(None, [("", ""); 0], false);
        assert_eq!(
            sources.search,
            ["/etc/policyd-rate-guard/policyd-rate-guard.env", "./.env"].map(std::path::PathBuf::from)
        );
        assert_eq!(Sources::new(None, [("", ""); 0], true).search.len(), 1, "root reads no file of the current folder");
        sources.search = vec![path("a"), path("b"), path("c")];
        let config = load(&sources).unwrap().config;
        assert_eq!((config.quota.default, config.file), (2, Some(path("b"))));
        sources.search = vec![path("a")];
        assert_eq!(load(&sources).unwrap().config.file, None);
        sources.search = vec![folder.path().to_owned(), path("b")];
        assert!(load(&sources).unwrap_err().to_string().contains("the settings file cannot be read: Is a directory"));
        std::fs::write(path("b"), b"QUOTA=2\nGROUP=\xff\n").unwrap();
        sources.search = vec![path("b")];
        assert!(load(&sources).unwrap_err().to_string().contains("b:2: error: the settings file is not UTF-8 here"));
        sources.explicit = Some(path("a"));
        let missing = load(&sources).unwrap_err().to_string();
        assert!(missing.ends_with("No such file or directory (os error 2); name an existing file with --config"));
    }
}
