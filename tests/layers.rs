//! Who may know whom: the layers that docs/architecture.md draws, read off the source.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Every source file below a folder, or the file itself.
fn sources(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    fs::read_dir(place).unwrap().flat_map(|entry| sources(&entry.unwrap().path())).collect()
}

/// The lines of the program under `src/` and one of these places that have one of these words, comments left out. Tests in the
/// file's own module may do more.
fn lines_with(places: &[&str], words: &[&str]) -> Vec<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files: Vec<PathBuf> = places.iter().flat_map(|place| sources(&src.join(place))).collect();
    assert!(!files.is_empty());
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let program = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in program.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            if words.iter().any(|word| code.contains(word)) {
                found.push(format!("{}:{}: {}", file.strip_prefix(&src).unwrap().display(), number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn what_is_decided_needs_no_runtime_and_no_database() {
    let impure = lines_with(
        &["protocol", "limiter"],
        &["tokio", "sqlx", "std::net::Tcp", "std::os::unix::net", "SystemTime::now", "Instant::now", "crate::store"],
    );
    assert!(impure.is_empty(), "protocol and limiter are pure; give them what they need:\n{}", impure.join("\n"));
}

#[test]
fn only_the_store_speaks_sql() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let all = fs::read_dir(src).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let others: Vec<String> = all.filter(|name| name != "store").collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let words = ["sqlx", "SELECT ", "INSERT INTO ", "UPDATE ratelimits", "DELETE FROM ", "CREATE TABLE "];
    let found = lines_with(&others, &words);
    assert!(found.is_empty(), "SQL belongs into src/store:\n{}", found.join("\n"));
}

#[test]
fn the_wall_clock_is_read_in_one_place() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let all: Vec<String> =
        fs::read_dir(src).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let found = lines_with(&all, &["SystemTime::now", "Timestamp::now", "Zoned::now"]);
    let elsewhere: Vec<_> = found.iter().filter(|line| !line.starts_with("system/clock.rs")).collect();
    assert!(elsewhere.is_empty(), "ask system::clock, or better be given the time:\n{elsewhere:#?}");
}
