//! Who may know whom: the table of docs/architecture.md, held against the source. There is one way down: no two modules, and no two
//! files of a module, know each other, not even through a third.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each file, or each module, with those that it uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// The code of the program and its core by file, which has its module's name: `config::check`. Tests and comments are left out.
fn files() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    let mut tests = Vec::new();
    for source in ["src", "core/src"].map(|source| root.join(source)) {
        for path in below(&source) {
            let name = path.strip_prefix(&source).unwrap().with_extension("");
            let parts: Vec<&str> =
                name.iter().map(|part| part.to_str().unwrap()).filter(|part| *part != "mod").collect();
            let module = parts.join("::");
            let text = fs::read_to_string(&path).unwrap();
            let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap()).collect();
            let code = code.join("\n");
            let mut parts = code.split("#[cfg(test)]\n");
            let mut program = parts.next().unwrap().to_owned();
            for part in parts {
                let (test, rest) = part.split_once('\n').unwrap_or((part, ""));
                match test.split_once("mod ").and_then(|(_, name)| name.strip_suffix(';')) {
                    Some(name) => tests.push(format!("{module}::{name}")),
                    None => break,
                }
                program.push_str(rest);
            }
            files.insert(module, program);
        }
    }
    for other in ["lib".to_owned(), "main".to_owned()].iter().chain(&tests) {
        files.remove(other).unwrap();
    }
    files
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

/// The other files that each file names.
fn uses_of_files(files: &BTreeMap<String, String>) -> Uses {
    let used = |file: &String, code: &String| {
        let paths = paths(code).into_iter().map(|path| from_root(file, &path));
        let named = paths.filter_map(|path| {
            // The longest beginning that is a file; the rest is an item in it.
            let ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]);
            ends.filter_map(|end| files.get_key_value(&path[..end])).last().map(|(used, _)| used.clone())
        });
        named.filter(|used| used != file).collect()
    };
    files.iter().map(|(file, code)| (file.clone(), used(file, code))).collect()
}

/// The paths in the code: `a::{b, c::{d, e}}` is `a::b`, `a::c::d` and `a::c::e`.
fn paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    // What stands before the braces that are open; nothing before those of a block.
    let mut prefixes = vec![String::new()];
    for word in code.split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        let end = word.chars().next_back().unwrap();
        let path = prefixes.last().unwrap().clone() + word.trim_end_matches(end);
        match end {
            '{' if path.ends_with("::") => prefixes.push(path),
            '{' => prefixes.push(String::new()),
            _ if path.contains("::") && !path.ends_with("::") => paths.push(path),
            _ => {}
        }
        if end == '}' {
            prefixes.pop();
        }
    }
    paths
}

/// A path as it begins at the crate's root.
fn from_root(file: &str, path: &str) -> String {
    if let Some(path) = path.strip_prefix("crate::") {
        return path.to_owned();
    }
    let (mut module, mut path) = (file, path.strip_prefix("self::").unwrap_or(path));
    while let Some(rest) = path.strip_prefix("super::") {
        module = module.rsplit_once("::").map_or("", |(parent, _)| parent);
        path = rest;
    }
    format!("{module}::{path}").trim_start_matches("::").to_owned()
}

fn module_of(file: &str) -> &str {
    file.split("::").next().unwrap()
}

/// The modules, each with those that it uses.
fn uses_of_modules(files: &Uses) -> Uses {
    let mut modules = Uses::new();
    for (file, used) in files {
        let others = used.iter().map(|used| module_of(used)).filter(|used| *used != module_of(file));
        modules.entry(module_of(file).to_owned()).or_default().extend(others.map(str::to_owned));
    }
    modules
}

/// Those that know each other, however many others are between them.
fn circles(uses: &Uses) -> Vec<String> {
    let mut rest = uses.clone();
    loop {
        // What uses nothing that is left is in no circle, and neither is what nothing uses.
        let used: BTreeSet<String> = rest.values().flatten().cloned().collect();
        let before = rest.len();
        rest.retain(|one, uses| !uses.is_empty() && used.contains(one));
        let left: BTreeSet<String> = rest.keys().cloned().collect();
        rest.values_mut().for_each(|uses| uses.retain(|one| left.contains(one)));
        if rest.len() == before {
            return rest.iter().map(|(one, uses)| format!("{one} uses {uses:?}")).collect();
        }
    }
}

/// The table in docs/architecture.md; without `commands`, which may use all.
fn drawn() -> Uses {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, table) = page.split_once("| module | uses |\n| --- | --- |\n").unwrap();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.trim_matches('|').split_once('|').unwrap());
    let modules = cells.map(|(module, uses)| (quoted(module).pop_first().unwrap(), quoted(uses)));
    modules.filter(|(module, _)| module != "commands").collect()
}

/// The lines of these files that have one of these words.
fn lines_with(words: &[&str], of: impl Fn(&str) -> bool) -> Vec<String> {
    let files = files();
    let read = files.iter().filter(|(file, _)| of(file));
    let lines = read.flat_map(|(file, code)| code.lines().map(move |line| format!("{file}: {}", line.trim())));
    lines.filter(|line| words.iter().any(|word| line.contains(word))).collect()
}

#[test]
fn modules_use_each_other_as_the_architecture_draws_it() {
    let mut modules = uses_of_modules(&uses_of_files(&files()));
    modules.remove("commands").unwrap();
    assert_eq!(modules, drawn(), "left the source, right docs/architecture.md");
}

#[test]
fn no_modules_know_each_other() {
    let circles = circles(&uses_of_modules(&uses_of_files(&files())));
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn no_files_of_a_module_know_each_other() {
    let files = uses_of_files(&files());
    let modules: BTreeSet<&str> = files.keys().map(|file| module_of(file)).collect();
    for module in modules {
        let within = |file: &String| module_of(file) == module;
        let uses = |used: &BTreeSet<String>| used.iter().filter(|used| within(used)).cloned().collect();
        let inner = files.iter().filter(|(file, _)| within(file)).map(|(file, used)| (file.clone(), uses(used)));
        let circles = circles(&inner.collect());
        assert!(circles.is_empty(), "{module}: {circles:#?}");
    }
}

#[test]
fn a_circle_is_found_whatever_leads_to_it() {
    let used = |used: &[&str]| used.iter().map(|used| (*used).to_owned()).collect::<BTreeSet<_>>();
    let mut uses = Uses::from([
        ("top".to_owned(), used(&["a"])),
        ("a".to_owned(), used(&["b", "bottom"])),
        ("b".to_owned(), used(&["bottom"])),
        ("bottom".to_owned(), used(&[])),
    ]);
    assert_eq!(circles(&uses), Vec::<String>::new());
    uses.insert("b".to_owned(), used(&["a", "bottom"]));
    assert_eq!(circles(&uses), [r#"a uses {"b"}"#, r#"b uses {"a"}"#]);
    let code = "use super::{x::Y, z};\nuse crate::a::{self, b::{C, d}};\nfn f(g: u8) { e::f(g); if h { own::i() } }";
    let found: Vec<String> = paths(code).iter().map(|path| from_root("m::file", path)).collect();
    assert_eq!(found, ["m::x::Y", "m::z", "a::self", "a::b::C", "a::b::d", "m::file::e::f", "m::file::own::i"]);
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
    let words = ["sqlx", "SELECT ", "INSERT INTO ", "UPDATE ratelimits", "DELETE FROM ", "CREATE TABLE "];
    let found = lines_with(&words, |file| module_of(file) != "store");
    assert!(found.is_empty(), "SQL belongs into src/store: {found:#?}");
}

#[test]
fn the_wall_clock_is_read_in_one_place() {
    let found = lines_with(&["SystemTime::now", "Timestamp::now", "Zoned::now"], |file| file != "clock");
    assert!(found.is_empty(), "ask clock, or better be given the time: {found:#?}");
}

#[test]
fn what_the_committer_does_next_needs_no_runtime_and_no_clock() {
    let pure = [
        "batch",
        "breaker",
        "charge",
        "deduplication",
        "deduplication::kept",
        "locks",
        "memory",
        "rounds",
        "standings",
    ];
    let is_pure = |file: &str| file.strip_prefix("commit::").is_some_and(|file| pure.contains(&file));
    let found = lines_with(&["tokio", "async ", "await", "Instant", "clock::", "Store,", "store::Store"], is_pure);
    assert!(found.is_empty(), "the committer's task does that: {found:#?}");
}
