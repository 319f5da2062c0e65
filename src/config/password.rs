//! A file that holds a password and nothing else.

use std::fs::File;
use std::path::Path;

use super::secret::Secret;
use super::sources::{is_world_readable, read_bounded};
use super::values::MAX_SECRET;

/// The largest password file, in bytes.
const MAX_FILE: usize = 4096;

/// What was read.
#[derive(Debug)]
pub struct Password {
    pub secret: Secret,
    /// Everybody on this machine can read it as well.
    pub is_world_readable: bool,
}

/// The only line of the file, without its end.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the setting's name.
pub fn read(path: &Path) -> Result<Password, String> {
    let mut file = File::open(path).map_err(cannot_be_read)?;
    let bytes = read_bounded(&mut file, MAX_FILE).map_err(cannot_be_read)?;
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() || line.contains(['\n', '\0']) || line.len() > MAX_SECRET {
        return Err(format!("must have the password, at most {MAX_SECRET} bytes, on its only line"));
    }
    Ok(Password { secret: Secret::new(line.to_owned()), is_world_readable: is_world_readable(&file) })
}

fn cannot_be_read(error: std::io::Error) -> String {
    format!("cannot be read: {error}")
}
