//! The files that an import writes: whole or not at all, and readable for the daemon.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use crate::config::{self, Sources};
use crate::exit::{Exit, Failed};
use crate::system::privileges::{self, Identity};

/// A new file's permissions: it may hold a password, and the daemon reads it through its group.
const MODE: u32 = 0o640;

/// A file as it is to be.
#[derive(Debug)]
pub struct Planned {
    pub path: PathBuf,
    pub text: String,
    /// One for each line that is added or changed; empty where the file is good as it is.
    pub changes: Vec<String>,
    /// The settings file that it is, or belongs to.
    pub settings: PathBuf,
}

/// A file's contents; empty where there is none.
pub fn read(path: &Path) -> Result<String, Failed> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Failed::new(Exit::IoError, format_args!("cannot read {}: {error}", path.display()))),
    }
}

impl Planned {
    /// A list file with these lines beside those that it has.
    pub fn list(path: PathBuf, lines: &[String], settings: &Path) -> Result<Planned, Failed> {
        let mut text = read(&path)?;
        let missing: Vec<String> =
            lines.iter().filter(|line| !text.lines().any(|known| known == *line)).cloned().collect();
        if !missing.is_empty() && !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        missing.iter().for_each(|line| text.extend([line.as_str(), "\n"]));
        Ok(Planned { path, text, changes: missing, settings: settings.to_owned() })
    }

    /// Writes the file beside its place, checks it if it is a settings file, keeps a copy of the old one, and puts it there.
    pub fn write(&self) -> Result<(), Failed> {
        let failed = |path: &Path, error: io::Error| {
            Failed::new(Exit::IoError, format_args!("cannot write {}: {error}", path.display()))
        };
        let draft = beside(&self.path, "new");
        let written = self.write_draft(&draft).map_err(|error| failed(&draft, error)).and_then(|()| self.check(&draft));
        if let Err(error) = written {
            let _ = fs::remove_file(&draft);
            return Err(error);
        }
        if self.path.exists() {
            let kept = beside(&self.path, "before-import");
            // Of several imports the first one's copy is the operator's own file.
            if !kept.exists() {
                fs::copy(&self.path, &kept).map_err(|error| failed(&kept, error))?;
            }
        }
        fs::rename(&draft, &self.path).map_err(|error| failed(&self.path, error))
    }

    fn write_draft(&self, draft: &Path) -> io::Result<()> {
        if let Err(error) = fs::remove_file(draft)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(draft)?;
        match fs::metadata(&self.path) {
            Ok(known) => {
                file.set_permissions(known.permissions())?;
                if privileges::is_root() {
                    chown(draft, Some(known.uid()), Some(known.gid()))?;
                }
            }
            Err(_) if privileges::is_root() => {
                // Whoever reads the settings reads the lists; USER's group, where there are no settings yet.
                let settings = fs::metadata(&self.settings).ok().map(|settings| settings.gid());
                let user = || Identity::resolve("postfix", None).ok().map(|identity| identity.gid.as_raw());
                chown(draft, Some(0), settings.or_else(user))?;
            }
            Err(_) => {}
        }
        file.write_all(self.text.as_bytes())?;
        file.sync_all()
    }

    /// A settings file that cannot be used is none to put in place.
    fn check(&self, draft: &Path) -> Result<(), Failed> {
        if self.path == self.settings {
            config::load(&Sources::from_process(Some(draft.to_owned()), privileges::is_root()))
                .map_err(|error| Failed::new(Exit::Config, error))?;
        }
        Ok(())
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}
