//! The table of settings for people: the commented settings file, and Markdown for the README.

use std::fmt::Write;

use super::env_file;
use super::setting::Setting;
use super::settings::SECTIONS;

/// The width of a comment's text in the settings file.
const WIDTH: usize = 98;

/// The packaged settings file: every setting with its help, commented out but for the packages' own choices.
pub fn settings_file() -> String {
    let mut file = String::from(
        "# Settings of policyd-rate-guard; policyd-rate-guard.env(5) has more about each.\n\
         #\n\
         # NAME=value, one on a line; quote a value that has a # or blanks at its ends. An environment variable of the\n\
         # same name wins, but for USER and GROUP. `policyd-rate-guard check` says what is wrong, and what is in effect;\n\
         # `systemctl reload policyd-rate-guard` applies a change, but where \"restart\" stands below.\n",
    );
    for section in SECTIONS {
        let _ = write!(file, "\n\n## {}\n", section.title);
        for setting in section.settings {
            file.push('\n');
            for line in [setting.help.to_owned(), allowed_and_default(setting)].iter().flat_map(|text| wrapped(text)) {
                let _ = writeln!(file, "# {line}");
            }
            let value = setting.packaged.unwrap_or(or_example(setting));
            let mark = if setting.packaged.is_some() { "" } else { "#" };
            let _ = writeln!(file, "{mark}{}", env_file::assignment(setting.name, value));
        }
    }
    file
}

/// A table of all settings: name, default, meaning.
pub fn markdown_table() -> String {
    let mut table = String::from("| setting | default | meaning |\n| --- | --- | --- |\n");
    for section in SECTIONS {
        let _ = writeln!(table, "| **{}** | | |", section.title);
        for setting in section.settings {
            let default = if setting.default.is_empty() { "none".into() } else { format!("`{}`", setting.default) };
            let allowed = setting.kind.allowed();
            let default = match setting.chosen() {
                Some(chosen) => format!("{default}; packaged: `{chosen}`"),
                None => default,
            };
            let note = note(setting);
            let meaning = format!("{} Allowed: {allowed}.{note}", setting.help).replace('|', "\\|");
            let _ = writeln!(table, "| `{}` | {default} | {meaning} |", setting.name);
        }
    }
    table
}

fn allowed_and_default(setting: &Setting) -> String {
    let default = if setting.default.is_empty() { "none".into() } else { env_file::written(setting.default) };
    format!("Allowed: {}. Default: {default}.{}", setting.kind.allowed(), note(setting))
}

/// Says if a change does not apply at once.
fn note(setting: &Setting) -> &'static str {
    if setting.reload { "" } else { " A change takes a restart." }
}

fn or_example(setting: &Setting) -> &'static str {
    if setting.default.is_empty() { setting.example } else { setting.default }
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}
