//! The version is written in four places, since each packaging system wants it in its own words: they agree.
use std::fs;
use std::path::Path;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What stands between `before` and `after` where they first do.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap();
    rest.split_once(after).unwrap().0
}

#[test]
fn every_package_has_the_programs_version() {
    let changelog = text("CHANGELOG.md");
    assert_eq!(between(&changelog, "\n## ", " - "), VERSION, "CHANGELOG.md: the newest version stands first");
    let debian = text("debian/changelog");
    let (upstream, _revision) = between(&debian, "policyd-rate-guard (", ")").rsplit_once('-').unwrap();
    // Debian sorts 1.0.0~rc.1 before 1.0.0, as the others sort 1.0.0-rc.1.
    assert_eq!(upstream.replace('~', "-"), VERSION, "debian/changelog: the newest version stands first");
    let spec = text("rpm/policyd-rate-guard.spec");
    assert_eq!(between(&spec, "%{!?package_version:", "}"), VERSION, "rpm/policyd-rate-guard.spec");
}
