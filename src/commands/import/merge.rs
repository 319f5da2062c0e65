//! Puts settings into an operator's settings file: each in its place, everything else unchanged. Pure.

use std::collections::HashMap;

use crate::config::env_file::{self, Content, Statement};

/// A settings file with new values, and what was changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Merged {
    pub text: String,
    pub changes: Vec<Change>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    pub name: String,
    /// None if the file did not set it.
    pub old: Option<String>,
    pub new: String,
}

/// Returns the values in an existing file by name; the last line of a name counts.
///
/// # Errors
/// In words: why the file cannot be read.
pub fn values(text: &str) -> Result<HashMap<String, String>, String> {
    let statements = env_file::parse(text.as_bytes(), &HashMap::new()).map_err(|error| error.to_string())?;
    let mut values = HashMap::new();
    for statement in statements {
        if let Content::Value { name, value } = statement.content {
            values.insert(name, value);
        }
    }
    Ok(values)
}

/// Sets these values in a file: in the line that sets one already, else after the line that shows it commented out, else at
/// the end.
///
/// # Errors
/// In words: why that cannot be done.
pub fn merge(text: &str, settings: &[(&'static str, String)]) -> Result<Merged, String> {
    let known = values(text)?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut changes = Vec::new();
    for (name, value) in settings {
        if known.get(*name) == Some(value) {
            continue;
        }
        put(&mut lines, name, &env_file::assignment(name, value))?;
        changes.push(Change { name: (*name).to_owned(), old: known.get(*name).cloned(), new: value.clone() });
    }
    let mut merged = lines.join("\n");
    if !merged.is_empty() {
        merged.push('\n');
    }
    let after = values(&merged)?;
    match settings.iter().find(|(name, value)| after.get(*name) != Some(value)) {
        Some((name, _)) => Err(format!("{name} cannot be written so that it is read back; set it by hand")),
        None => Ok(Merged { text: merged, changes }),
    }
}

fn put(lines: &mut Vec<String>, name: &str, line: &str) -> Result<(), String> {
    let statements =
        env_file::parse(lines.join("\n").as_bytes(), &HashMap::new()).map_err(|error| error.to_string())?;
    let of_name =
        |statement: &&Statement| matches!(&statement.content, Content::Value { name: known, .. } if known == name);
    if let Some(statement) = statements.iter().rfind(of_name) {
        let spans = matches!(&statement.content, Content::Value { value, .. } if value.contains('\n'));
        let place = statement.line.checked_sub(1).and_then(|place| lines.get_mut(place)).filter(|_| !spans);
        let place = place.ok_or_else(|| format!("{name} spans several lines; take it out of the file first"))?;
        *place = line.to_owned();
        return Ok(());
    }
    let shown = format!("#{name}=");
    match lines.iter().position(|known| known.starts_with(&shown)) {
        Some(place) => lines.insert(place + 1, line.to_owned()),
        None => lines.push(line.to_owned()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_setting_goes_to_its_place() {
        let file = "# mine\nQUOTA=1000 # old\n\n# Allowed: text.\n#LIMITS=x\n\nexport SOCKET=/run/x\nKEEP=1\n";
        let settings = [
            ("QUOTA", "1500".to_owned()),
            ("LIMITS", "3 messages/1h".to_owned()),
            ("SOCKET", "127.0.0.1,9093".to_owned()),
            ("NEW", "a".to_owned()),
        ];
        let merged = merge(file, &settings).unwrap();
        assert_eq!(
            merged.text,
            "# mine\nQUOTA=1500\n\n# Allowed: text.\n#LIMITS=x\nLIMITS='3 messages/1h'\n\nSOCKET=127.0.0.1,9093\nKEEP=1\nNEW=a\n"
        );
        assert_eq!(merged.changes[0], Change { name: "QUOTA".into(), old: Some("1000".into()), new: "1500".into() });
        let again = merge(&merged.text, &settings).unwrap();
        assert!(again.changes.is_empty() && again.text == merged.text, "the second time nothing changes");
    }

    #[test]
    fn a_value_over_several_lines_is_left_to_the_operator() {
        let error = merge("QUOTA='1\n2'\nX=1\n", &[("QUOTA", "3".to_owned())]).unwrap_err();
        assert!(error.contains("QUOTA spans several lines"), "{error}");
    }

    #[test]
    fn a_value_that_looks_like_anothers_name_is_read_back_too() {
        for value in ["${}", "p${HOME}s", "$${KEEP}", "${KEEP:-x}", "${${KEEP}}", "${"] {
            let merged = merge("KEEP=1\n", &[("DB_PASSWORD", value.to_owned())]).unwrap();
            assert_eq!(values(&merged.text).unwrap()["DB_PASSWORD"], value, "{}", merged.text);
        }
    }

    proptest! {
        #[test]
        fn any_value_is_read_back_and_nothing_else_changes(value in "[ -~äß€]{0,40}", before in "[a-z# =']{0,30}") {
            let file = format!("# {before}\nKEEP='x y'\n#DB_PASSWORD='a secret'\n");
            let merged = merge(&file, &[("DB_PASSWORD", value.clone())]).unwrap();
            let read = values(&merged.text).unwrap();
            prop_assert_eq!(read.get("DB_PASSWORD"), Some(&value));
            prop_assert_eq!(read.get("KEEP").map(String::as_str), Some("x y"));
            prop_assert!(merged.text.starts_with(&file[..file.find("#DB").unwrap()]));
        }
    }
}
