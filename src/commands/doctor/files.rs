//! Files that may not be there, or not to be looked at.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::doctor::access;

/// Whether a file exists. True also if the directory may not be entered: then it is not known.
pub fn is_there(path: &Path) -> bool {
    path.symlink_metadata().map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |_| true)
}

/// Owner, group and mode; `None` where that cannot be looked at.
pub fn permissions(path: &Path) -> Option<access::Permissions> {
    let metadata = path.metadata().ok()?;
    Some(access::Permissions { uid: metadata.uid(), gid: metadata.gid(), mode: metadata.mode() })
}
