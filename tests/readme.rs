//! The README says what the program does: its table of settings is the table of settings.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use policyd_rate_guard::config::documents;

const BEGIN: &str = "<!-- settings: UPDATE=1 cargo test --test readme writes them anew -->\n";
const END: &str = "<!-- end of settings -->\n";

#[test]
fn the_table_of_settings_is_the_programs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}{}{END}{after}", documents::markdown_table());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap() == expected, "run: UPDATE=1 cargo test --test readme");
}
