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

/// The folders of the modules: the program's and the core's.
const SOURCES: [&str; 2] = ["src", "core/src"];

/// The module files and folders of both, but for the two `lib.rs` and `main.rs`.
fn places() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = SOURCES.iter().flat_map(|source| {
        let names =
            fs::read_dir(root.join(source)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !["lib.rs", "main.rs"].contains(&name.as_str())).map(move |name| format!("{source}/{name}"))
    });
    places.collect()
}

/// The lines of the program in these places that have one of these words, comments left out. Tests in the file's own module may
/// do more.
fn lines_with<S: AsRef<str>>(places: &[S], words: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files: Vec<PathBuf> = places.iter().flat_map(|place| sources(&root.join(place.as_ref()))).collect();
    assert!(!files.is_empty());
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let program = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in program.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            if words.iter().any(|word| code.contains(word)) {
                found.push(format!("{}:{}: {}", file.strip_prefix(root).unwrap().display(), number + 1, line.trim()));
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
    let used = |place: &str| {
        let lines = lines_with(&[place], &["crate::"]);
        let paths = lines.iter().flat_map(|line| line.split("crate::").skip(1));
        let names = paths.map(|path| path.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap());
        names.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let modules = places().into_iter().filter(|place| place != "src/commands").map(|place| {
        let module = place.rsplit('/').next().unwrap().trim_end_matches(".rs").to_owned();
        let mut uses = used(&place);
        uses.remove(&module);
        (module, uses)
    });
    modules.collect()
}

#[test]
fn modules_use_each_other_as_the_architecture_draws_it() {
    assert_eq!(there(), drawn(), "left the source, right docs/architecture.md");
}

#[test]
fn what_is_decided_needs_no_crate_that_does_io() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("core/Cargo.toml")).unwrap();
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let lines = dependencies.lines().take_while(|line| !line.is_empty());
    let names: Vec<&str> = lines.map(|line| line.split(['.', ' ']).next().unwrap()).collect();
    assert_eq!(
        names,
        ["ipnet", "jiff", "memchr", "sha2", "strsim", "thiserror"],
        "the core is pure; give it what it needs"
    );
}

#[test]
fn only_the_store_speaks_sql() {
    let others: Vec<String> = places().into_iter().filter(|place| place != "src/store").collect();
    let words = ["sqlx", "SELECT ", "INSERT INTO ", "UPDATE ratelimits", "DELETE FROM ", "CREATE TABLE "];
    let found = lines_with(&others, &words);
    assert!(found.is_empty(), "SQL belongs into src/store:\n{}", found.join("\n"));
}

#[test]
fn the_wall_clock_is_read_in_one_place() {
    let found = lines_with(&places(), &["SystemTime::now", "Timestamp::now", "Zoned::now"]);
    let elsewhere: Vec<_> = found.iter().filter(|line| !line.starts_with("src/system/clock.rs")).collect();
    assert!(elsewhere.is_empty(), "ask system::clock, or better be given the time:\n{elsewhere:#?}");
}

#[test]
fn what_the_committer_does_next_needs_no_runtime_and_no_clock() {
    let pure = ["batch", "breaker", "charge", "deduplication", "histories", "locks", "memory", "rounds"];
    let files: Vec<String> = pure.iter().map(|file| format!("src/commit/{file}.rs")).collect();
    let found = lines_with(&files, &["tokio", "async ", "await", "Instant", "clock::", "Store,", "store::Store"]);
    assert!(found.is_empty(), "the committer's task does that:\n{}", found.join("\n"));
}
