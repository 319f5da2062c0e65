//! The README says what the program does: its table of settings is the table of settings. Its links lead somewhere.
use std::fs;
use std::path::Path;

use policyd_rate_guard::config::documents;

const BEGIN: &str = "<!-- settings: UPDATE=1 cargo test --test suite readme writes them anew -->\n";
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
    assert!(fs::read_to_string(&path).unwrap() == expected, "run: UPDATE=1 cargo test --test suite readme");
}

/// The packages have README.md, docs/*.md and docs/images/*.png, each in its place.
#[test]
fn links_lead_to_what_the_packages_have() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents: Vec<_> = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents.push(root.join("README.md"));
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if link.is_empty() || link.contains("://") {
                continue;
            }
            let target = document.parent().unwrap().join(link);
            let packaged = target.parent().unwrap();
            let packaged = packaged.ends_with("docs") || packaged.ends_with("docs/images");
            assert!(target.is_file() && packaged, "{}: {link}", document.display());
        }
    }
}
