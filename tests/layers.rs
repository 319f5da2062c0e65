//! Who may know whom: the table of docs/architecture.md, held against the source.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
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

/// The modules of the table in docs/architecture.md, each with those that it uses; without `commands`, which may use all.
fn drawn() -> BTreeMap<String, BTreeSet<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, table) = page.split_once("| module | uses |\n| --- | --- |\n").unwrap();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.trim_matches('|').split_once('|').unwrap());
    let modules = cells.map(|(module, uses)| (quoted(module).pop_first().unwrap(), quoted(uses)));
    modules.filter(|(module, _)| module != "commands").collect()
}

/// The modules of the source, each with those that it uses.
fn there() -> BTreeMap<String, BTreeSet<String>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let places = fs::read_dir(src).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let modules = places.filter(|place| !["lib.rs", "main.rs", "commands"].contains(&place.as_str()));
    let used = |place: &str| {
        let lines = lines_with(&[place], &["crate::"]);
        let paths = lines.iter().flat_map(|line| line.split("crate::").skip(1));
        let names = paths.map(|path| path.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap());
        names.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    modules
        .map(|place| {
            let module = place.trim_end_matches(".rs").to_owned();
            let mut uses = used(&place);
            uses.remove(&module);
            (module, uses)
        })
        .collect()
}

#[test]
fn modules_use_each_other_as_the_architecture_draws_it() {
    assert_eq!(there(), drawn(), "left the source, right docs/architecture.md");
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
